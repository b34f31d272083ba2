"""The training driver: seeds side by side, two drivers, exact resumption, failures."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from repro.errors import RunError
from repro.pipeline import train as training
from repro.pipeline.config import LoopConfig
from repro.pipeline.train import train
from repro.registry import Paper
from tests.toys import HostLineWorld, LinearAgent, LineWorld

LOOP = LoopConfig(
    steps=240, envs=2, train_ratio=4, batch_size=2, batch_length=4, replay_context=1, online_queue=True,
    log_seconds=1e9, checkpoint_minutes=1e9, fused_iterations=4,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
    seeds: int = 3
    first_seed: int = 0
    suite: str = "line"
    task: str = "line"
    preset: str = "cpu"
    loop: LoopConfig = LOOP


def run_of(config: Any, monkeypatch: Any, folder: Path, resume: bool = False) -> Any:
    from repro.pipeline.run import Run

    monkeypatch.setenv("REPRO_CACHE", str(folder))
    paper = Paper("line", "Line", "", {}, ("line", "line"), {}, reproduce="")
    return Run(paper, config, config, "repro reproduce line", folder, resume=resume, quiet=True)


def environment(seeds: list[int], host: bool, envs: int = 2, **options: Any) -> Any:
    numbers = [10 * s + i for s in seeds for i in range(envs)]
    return HostLineWorld(numbers, **options) if host else LineWorld(numbers)


def trained(config: Config, monkeypatch: Any, folder: Path, host: bool, **options: Any) -> training.Trained:
    run = run_of(config, monkeypatch, folder)
    env = environment(run.seeds, host, **options)
    return train(run, LinearAgent(env.obs_spaces, env.action_spaces), env, config.loop, step_scale=2)


def assert_same(a: Any, b: Any, **tolerance: float) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


@pytest.mark.parametrize("host", [True, False], ids=["host", "fused"])
def test_a_seed_among_others_equals_the_seed_alone(host: bool, monkeypatch: Any, tmp_path: Path) -> None:
    together = trained(Config(seeds=3), monkeypatch, tmp_path / "together", host)
    alone = trained(Config(seeds=1, first_seed=2), monkeypatch, tmp_path / "alone", host)
    assert together.episodes[2] == alone.episodes[0] and len(alone.episodes[0]["step"]) > 20
    assert_same(jax.tree.map(lambda x: x[2:], together.agent), alone.agent, rtol=1e-5, atol=1e-6)
    assert together.updates == alone.updates > 50


def test_both_drivers_collect_the_same_experience_and_keep_the_train_ratio(monkeypatch: Any, tmp_path: Path) -> None:
    loop = dataclasses.replace(LOOP, train_ratio=0)
    host = trained(Config(loop=loop), monkeypatch, tmp_path / "host", True)
    fused = trained(Config(loop=loop), monkeypatch, tmp_path / "fused", False)
    assert host.episodes == fused.episodes and host.updates == fused.updates == 0
    assert host.steps == fused.steps == 480, "agent steps times the action repeat"
    # One update per two agent steps once the replay holds batch_size * batch_length start positions.
    learning = trained(Config(), monkeypatch, tmp_path / "learning", False)
    before = learning.online.steps_before_learning() * 2
    assert abs(learning.updates - (240 - before) / 2) <= 2


@pytest.mark.parametrize("host", [True, False], ids=["host", "fused"])
def test_an_interrupted_run_continues_as_if_nothing_had_happened(host: bool, monkeypatch: Any, tmp_path: Path) -> None:
    whole = trained(Config(), monkeypatch, tmp_path / "whole", host)

    class Stopped(training._Trainer):
        def _housekeeping(self, state: Any, begin: Any, memory: Any = None) -> None:
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls == (50 if host else 3):
                self._on_signal(15, None)
            super()._housekeeping(state, begin, memory)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_Trainer", Stopped)
        with pytest.raises(RunError, match="stopped by SIGTERM at step .*; continue with --resume"):
            trained(Config(), monkeypatch, tmp_path / "cut", host)
    run = run_of(Config(), monkeypatch, tmp_path / "cut", resume=True)
    env = environment(run.seeds, host)
    resumed = train(run, LinearAgent(env.obs_spaces, env.action_spaces), env, LOOP, step_scale=2)
    assert resumed.resumed == 1 and resumed.updates == whole.updates
    assert resumed.digest == whole.digest and resumed.episodes == whole.episodes


def test_replay_on_the_host_keeps_seeds_apart_and_resumes(monkeypatch: Any, tmp_path: Path) -> None:
    config = Config(seeds=2, loop=dataclasses.replace(LOOP, replay_storage="host"))
    whole = trained(config, monkeypatch, tmp_path / "whole", True)
    device = trained(Config(seeds=2), monkeypatch, tmp_path / "device", True)
    assert whole.updates == device.updates
    alone = trained(dataclasses.replace(config, seeds=1, first_seed=1), monkeypatch, tmp_path / "alone", True)
    assert alone.episodes[0] == whole.episodes[1]

    class Stopped(training._Trainer):
        def _housekeeping(self, state: Any, begin: Any, memory: Any = None) -> None:
            if self.step == 60:
                self._on_signal(15, None)
            super()._housekeeping(state, begin, memory)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_Trainer", Stopped)
        with pytest.raises(RunError, match="stopped by SIGTERM"):
            trained(config, monkeypatch, tmp_path / "cut", True)
    run = run_of(config, monkeypatch, tmp_path / "cut", resume=True)
    env = environment(run.seeds, True)
    resumed = train(run, LinearAgent(env.obs_spaces, env.action_spaces), env, config.loop, step_scale=2)
    assert resumed.updates == whole.updates and resumed.resumed == 1


def test_the_replay_holds_what_was_written_back(monkeypatch: Any, tmp_path: Path) -> None:
    done = trained(Config(), monkeypatch, tmp_path, False)
    ages = np.asarray(done.state.buffer.storage.extras["age"])
    assert (ages >= 100).any(), "learn added 100 to the ages of trained steps"


def test_a_dying_environment_and_a_loss_that_is_not_finite_are_one_line(monkeypatch: Any, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="environment died at step 60 .OSError: emulator gone.*--resume"):
        trained(Config(), monkeypatch, tmp_path / "a", True, dies_at=30)
    run = run_of(Config(), monkeypatch, tmp_path / "b")
    env = environment(run.seeds, False)
    with pytest.raises(RunError, match="loss/total of seed 0 is not finite after .* updates"):
        train(run, LinearAgent(env.obs_spaces, env.action_spaces, lr=1e30), env, LOOP)


def test_damaged_missing_and_foreign_checkpoints_are_named(monkeypatch: Any, tmp_path: Path) -> None:
    from repro.pipeline.checkpoint import Checkpoints

    tree = {"w": np.arange(6.0)}
    kept = Checkpoints(tmp_path / "c", "aaaa")
    with pytest.raises(RunError, match="no checkpoint in"):
        kept.restore(tree)
    kept.save(5, tree, {"log": np.zeros(0)}, {"note": "x"})
    kept.save(9, {"w": tree["w"] + 1}, {}, {"note": "y"})
    step, found, loose, meta = kept.restore(tree)
    assert step == 9 and meta["note"] == "y" and loose == {}
    np.testing.assert_array_equal(found["w"], tree["w"] + 1)
    with pytest.raises(RunError, match="belongs to configuration aaaa, this run has bbbb"):
        Checkpoints(tmp_path / "c", "bbbb").restore(tree)
    for file in (tmp_path / "c" / "9").rglob("*"):
        if file.is_file() and file.stat().st_size > 10 and "metadata" not in file.name.lower():
            file.write_bytes(file.read_bytes()[:5])
    with pytest.raises(RunError, match="cannot be read .*; delete .* to fall back to the one before it"):
        Checkpoints(tmp_path / "c", "aaaa").restore(tree)
