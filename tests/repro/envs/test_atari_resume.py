"""Runs on Atari that are interrupted and resumed give the same numbers as uninterrupted ones, in both drivers."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from repro.envs import atari
from repro.envs import settings as sets
from repro.envs.atari import AtariEnv
from repro.envs.atari_jax import AtariJaxEnv
from repro.envs.base import Space, TimeStep
from repro.errors import RunError
from repro.pipeline import train as training
from repro.pipeline.config import LoopConfig
from repro.pipeline.run import Run
from repro.registry import Paper
from tests.toys import LinearAgent

SETTINGS = dataclasses.replace(sets.dreamerv3_2023_atari100k(), size=(8, 8), time_limit=60)
LOOP = LoopConfig(
    steps=160, envs=2, train_ratio=4, batch_size=2, batch_length=4, replay_context=1, online_queue=True,
    log_seconds=1e9, checkpoint_minutes=1e9, fused_iterations=4,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
    seeds: int = 2
    first_seed: int = 0
    suite: str = "atari100k"
    task: str = "breakout"
    preset: str = "cpu"
    loop: LoopConfig = LOOP


class Shrunk:
    """Breakout as the toy agent can play it: two numbers to see, three moves."""

    def __init__(self, env: Any) -> None:
        self.env, self.num_envs = env, env.num_envs
        self.obs_spaces, self.action_spaces = {"position": Space((2,))}, {"move": Space((), "int32", 3)}
        shared = ("state", "save", "load", "close") if hasattr(env, "init") else ("state", "close")
        for name in shared:
            setattr(self, name, getattr(env, name, None))
        if hasattr(env, "init"):
            self.init, self.step = self._init, self._step
        else:
            self.reset = lambda: self._see(env.reset())
            self.restore = lambda state: self._see(env.restore(state))
            self.step = lambda actions: self._see(env.step({"action": actions["move"]}))

    def _see(self, timestep: TimeStep) -> TimeStep:
        image = timestep.obs["image"] / jnp.float32(255)
        means = (image[:, 4:].mean((1, 2, 3)), image[:, :, 4:].mean((1, 2, 3)))
        return timestep._replace(obs={"position": jnp.stack(means, -1)})

    def _init(self) -> tuple[Any, TimeStep]:
        state, timestep = self.env.init()
        return state, self._see(timestep)

    def _step(self, state: Any, actions: Any) -> tuple[Any, TimeStep]:
        state, timestep = self.env.step(state, {"action": actions["move"]})
        return state, self._see(timestep)


def trained(kind: type, monkeypatch: Any, folder: Path, resume: bool = False) -> training.Trained:
    monkeypatch.setenv("REPRO_CACHE", str(folder))
    paper = Paper("toy", "Toy", "", {}, ("atari100k", "breakout"), {}, reproduce="")
    run = Run(paper, Config(), Config(), "repro reproduce toy", folder, resume=resume, quiet=True)
    env = Shrunk(kind("breakout", [1, 2, 3, 4], SETTINGS))
    return training.train(run, LinearAgent(env.obs_spaces, env.action_spaces), env, LOOP, step_scale=4)


@pytest.mark.parametrize("kind", [AtariEnv, AtariJaxEnv])
def test_an_interrupted_run_continues_as_if_nothing_had_happened(kind: type, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(atari, "RESEED_AFTER", 25)
    whole = trained(kind, monkeypatch, tmp_path / "whole")

    class Stopped(training._Trainer):
        def _housekeeping(self, state: Any, begin: Any, memory: Any = None) -> None:
            if self.step >= 50:
                self._on_signal(15, None)
            super()._housekeeping(state, begin, memory)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_Trainer", Stopped)
        with pytest.raises(RunError, match="stopped by SIGTERM"):
            trained(kind, monkeypatch, tmp_path / "cut")
    resumed = trained(kind, monkeypatch, tmp_path / "cut", resume=True)
    assert resumed.resumed == 1 and resumed.updates == whole.updates > 20
    assert resumed.episodes == whole.episodes and len(whole.episodes[0]["step"]) > 4
    assert resumed.digest == whole.digest
    assert jax.tree.leaves(resumed.agent)
