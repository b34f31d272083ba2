"""All stages from the command line to the verdicts, in a small game; resumption; bad input; imported weights."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from papers.world_models import evolve, jobs, real
from papers.world_models.config import CAR, DOOM, cpu, paper
from papers.world_models.pipeline import in_order, stages_of
from repro.cli import main
from repro.config import override
from repro.envs.base import EnvironmentInfo, Space
from repro.envs.python_env import PythonVectorEnv, pack_random_state, unpack_random_state
from repro.pipeline.run import Run
from repro.pipeline.stages import Together, run_stages
from repro.registry import find
from repro.tracker import records

SMALL = {
    "collect.episodes": 9, "collect.min_frames": 4, "collect.envs": 2, "vae.encoder_filters": "2,2,2,2",
    "vae.decoder_filters": "2,2,2", "vae.decoder_width": 4, "latent": 3, "vae.batch": 8, "vae.updates": 6,
    "rnn.hidden": 4, "rnn.batch": 3, "rnn.length": 5, "rnn.updates": 7, "es.population": 4,
    "es.rollouts": 2, "es.generations": 3, "es.evaluate_every": 2, "es.evaluation_rollouts": 4, "es.envs": 2,
    "evaluation.episodes": 5, "evaluation.envs": 2, "dream.max_steps": 9, "env.time_limit": 12,
    "vae.learning_rate": 1e-3, "evaluation.many": 6,
}  # fmt: skip


MODELS = ("collect", "vae", "encode", "rnn")


class Game:
    """A square that the actions move; 3 to 12 steps long."""

    def __init__(self, seed: int, car: bool) -> None:
        self.random, self.car = np.random.RandomState(seed), car
        self.obs_spaces = {"image": Space((64, 64, 3), "uint8")}
        self.action_spaces = {"action": Space((3,)) if car else Space((), "int32", classes=3)}

    def origin(self) -> dict[str, np.ndarray]:
        return pack_random_state(self.random)

    def return_to(self, origin: Mapping[str, np.ndarray]) -> None:
        unpack_random_state(self.random, origin)

    def reset(self) -> None:
        self.length, self.steps, self.place = (12 if self.car else self.random.randint(3, 12)), 0, 30

    def step(self, action: Mapping[str, np.ndarray]) -> tuple[float, bool, bool]:
        self.steps += 1
        self.place = int(np.clip(self.place + np.sum(action["action"]), 0, 60))
        return 1.0, self.steps >= self.length, True

    def observe(self) -> dict[str, np.ndarray]:
        image = np.zeros((64, 64, 3), np.uint8)
        image[self.steps : self.steps + 5, self.place : self.place + 4] = 255
        return {"image": image}

    def close(self) -> None:
        pass

    def info(self) -> EnvironmentInfo:
        return EnvironmentInfo({"game": "1.0"}, {})


@pytest.fixture(autouse=True)
def games(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def make(suite: str, task: str, seeds: list[int], settings: Any) -> PythonVectorEnv:
        return PythonVectorEnv([Game(seed, suite == CAR) for seed in seeds])

    for module in (jobs, real):
        monkeypatch.setattr(module, "make", make)
    monkeypatch.setattr("papers.world_models.policies.for_environment", for_environment)
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path / "cache"))


def for_environment(config: Any, actions: np.ndarray) -> dict[str, np.ndarray]:
    if not config.doom:
        return {"action": actions}
    return {"action": np.select([actions[:, 0] > 0.3333, actions[:, 0] < -0.3333], [1, 2], 0).astype(np.int32)}


def go(folder: Path, task: str = "take_cover", *more: str, **of: Any) -> int:
    settings = [f"{name}={value}" for name, value in {**SMALL, **of}.items()]
    options = [word for setting in settings for word in ("--set", setting)]
    return main(
        [
            "reproduce",
            "world_models",
            "--task",
            task,
            "--preset",
            "cpu",
            "--out",
            str(folder),
            "--quiet",
            *options,
            *more,
        ]
    )


def found(folder: Path) -> dict[tuple[str, str, str], Any]:
    return {(r["task"], r["method"], r["metric"]): r for r in records.load_all(folder, "world_models")}


def test_take_cover_from_collecting_to_the_table_of_temperatures(tmp_path: Path, capsys: Any) -> None:
    assert go(tmp_path, **{"dream.table": "0.5", "stages.log_seconds": 5}) == 0
    made = found(tmp_path)
    assert set(made) == {
        ("take_cover", "world_models_tau1.15", "episode_return"),
        ("take_cover_dream", "world_models_tau1.15", "episode_return"),
        ("take_cover", "world_models_tau0.50", "episode_return"),
        ("take_cover_dream", "world_models_tau0.50", "episode_return"),
        ("take_cover_dream", "random", "episode_return"),
        ("take_cover_dream", "world_models_tau1.15", "episode_return_1024_rollouts"),
        ("take_cover", "world_models_tau1.15", "episode_return_consecutive_rollouts"),
        ("take_cover", "random", "episode_return"),
    }
    assert "random" in capsys.readouterr().out
    record = made["take_cover", "world_models_tau1.15", "episode_return"]
    assert record["seeds"] == [0, 1] and [len(e["return"]) for e in record["episodes"]] == [5, 5]
    assert record["budget"] == {"used": 3, "paper": 1800, "unit": "generations"}
    assert {"collect", "vae", "encode", "rnn", "controller_tau1.15", "evaluate_tau1.15"} <= set(record["seconds"])
    assert "stages.log_seconds" not in record["deviations"], "it changes no number"
    assert record["deviations"]["vae.updates"] == {"paper": 308_090, "used": 6} and record["versions"]["game"] == "1.0"
    curve = made["take_cover_dream", "world_models_tau1.15", "episode_return_1024_rollouts"]["curve"][0]
    assert [step for step, _ in curve] == [2, 3] and curve[1][1] >= curve[0][1]
    assert [picture.suffix for picture in records.pictures(record, tmp_path).values()] == [".gif", ".gif"]
    capsys.readouterr()
    assert main(["evaluate", record["id"], "--episodes", "3", "--json"]) == 0
    returns = json.loads(capsys.readouterr().out)["returns"]
    assert [len(r) for r in returns] == [3, 3] and all(3 <= value <= 12 for r in returns for value in r)


@pytest.mark.parametrize("features", ["zh", "z"])
def test_carracing_trains_its_controller_in_the_real_environment(tmp_path: Path, features: str, capsys: Any) -> None:
    more = {"controller.features": features, "controller.hidden": 0 if features == "zh" else 40}
    assert go(tmp_path, "carracing_v0", "--seeds", "1", **more) == 0
    method = "world_models" if features == "zh" else "world_models_v_only_hidden"
    made = found(tmp_path)
    assert ("carracing_v0", method, "episode_return") in made and ("carracing_v0", "random", "episode_return") in made
    assert not any(
        name.startswith("controller") for name in made["carracing_v0", method, "episode_return"]["deviations"]
    )
    record = made["carracing_v0", method, "episode_return"]
    remembers = features == "zh"
    assert ("rnn" in record["seconds"]) == ("encode" in record["seconds"]) == remembers, "without h there is no M"
    assert bool(records.pictures(record, tmp_path)) == remembers, "nothing dreams without M"
    assert main(["evaluate", record["id"], "--episodes", "2", "--json"]) == 0
    if not remembers:
        assert main(["play", "world_models", "--run", record["id"]]) == 2
        assert "its C sees z alone; take a run with controller.features=zh" in capsys.readouterr().err


def test_a_run_stopped_in_every_stage_ends_with_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    one = ("--seeds", "1")
    assert go(tmp_path / "whole", "take_cover", *one) == 0
    stopped = []
    for kind, at in (
        (jobs.Collect, 1), (jobs.TrainVAE, 2), (jobs.TrainRNN, 4), (evolve.DreamController, 1), (evolve.Evaluate, 0)
    ):  # fmt: skip
        plain = kind.step

        def step(self: Any, index: int, plain: Any = plain, at: int = at, kind: type = kind) -> Any:
            metrics = plain(self, index)
            if index == at and kind not in stopped:
                stopped.append(kind)
                os.kill(os.getpid(), signal.SIGTERM)
            return metrics

        monkeypatch.setattr(kind, "step", step)
    # Short stretches of work, so that there is something left to stop.
    monkeypatch.setattr(jobs, "STEPS", 9)
    monkeypatch.setattr(evolve, "STEPS", 9)
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path / "other"))
    codes = [go(tmp_path / "cut", "take_cover", *one)]
    while codes[-1] != 0 and len(codes) < 9:
        codes.append(go(tmp_path / "cut", "take_cover", "--resume", *one))
    assert codes == [1] * len(stopped) + [0] and len(stopped) == 5
    whole, cut = found(tmp_path / "whole"), found(tmp_path / "cut")
    assert {k: r["episodes"] for k, r in whole.items()} == {k: r["episodes"] for k, r in cut.items()}
    assert capsys.readouterr().err.count("stopped by SIGTERM in stage seed0/") == 5


def test_m_of_two_seeds_together_is_that_of_each_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {}
    for together in ("no", "yes"):
        monkeypatch.setenv("REPRO_CACHE", str(tmp_path / together))
        settings = [f"{name}={value}" for name, value in SMALL.items()]
        config = override(cpu(DOOM, "take_cover"), [*settings, f"stages.together={together}"])
        run = Run(find("world_models"), config, config, "", tmp_path, quiet=True)
        # Up to M: what comes after takes its artefacts, however they were made.
        stages = in_order(config, range(2))
        first = stages[:7] if together == "yes" else [s for s in stages if s.name.split("/")[1] in MODELS]
        made[together] = run_stages(run, first)
    assert made["no"].keys() == made["yes"].keys() == {f"seed{i}/{name}" for i in (0, 1) for name in MODELS}
    for seed in ("seed0", "seed1"):
        apart, joined = (made[how][f"{seed}/rnn"].arrays() for how in ("no", "yes"))
        assert all(np.allclose(apart[name], joined[name], atol=1e-5) for name in apart)
    kernels = [made["yes"][f"seed{i}/rnn"].arrays()["head/kernel"] for i in (0, 1)]
    assert not np.allclose(*kernels, atol=1e-3)


def test_seeds_share_a_program_for_m_alone() -> None:
    def order(config: Any, seeds: range = range(2)) -> list[str | tuple[str, ...]]:
        items = in_order(config, seeds)
        return [tuple(s.name for s in x.stages) if isinstance(x, Together) else x.name for x in items]

    config = override(paper(DOOM, "take_cover"), ["stages.together=yes"])
    names = order(config)
    assert names[6] == ("seed0/rnn", "seed1/rnn") and names[:2] == ["seed0/collect", "seed0/vae"]
    assert len(names) == 2 * len(stages_of(config, 0)) - 1
    assert order(config, range(1)) == [stage.name for stage in stages_of(config, 0)]
    blind = override(paper(CAR, "carracing_v0"), ["stages.together=yes", "controller.features=z"])
    apart = override(paper(DOOM, "take_cover"), ["stages.together=no"])
    for config in (blind, apart):
        assert order(config) == [stage.name for seed in (0, 1) for stage in stages_of(config, seed)]


def test_games_are_not_chosen_for_being_short() -> None:
    config = paper(DOOM, "take_cover")
    games = real.Games(config, 7, 3, 5, lambda episode, step, timestep: np.zeros((3, 1)))
    real.play(games)
    lengths = []
    for i in range(3):
        game = Game(5 + i, False)
        for episode in range(i, 7, 3):
            game.reset()
            lengths.append((episode, game.length))
    assert games.lengths.tolist() == [length for _, length in sorted(lengths)] == games.returns.tolist()


BAD = {
    "dream.temperature=0": "temperatures must be above 0",
    "dream.table=1.0,-1": "temperatures must be above 0",
    "es.population=1": "population must be at least 4",
    "es.rollouts=0": "rollouts must be above 0",
    "vae.latent=16": "vae.latent and rnn.latent must be equal",
    "controller.features=zx": "is not one of z, zc, zh, zch",
    "weights=nowhere": "no vae.npz there",
    "stages.reuse=nowhere": "no stages there",
}


@pytest.mark.parametrize("setting", BAD)
def test_a_mistake_is_one_line(setting: str, capsys: Any, tmp_path: Path) -> None:
    code = main(["reproduce", "world_models", "--preset", "cpu", "--out", str(tmp_path), "--set", setting])
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and BAD[setting] in lines[-1] and "Traceback" not in "\n".join(lines)


def test_too_few_frames_and_damaged_artefacts_are_one_line(tmp_path: Path, capsys: Any) -> None:
    assert go(tmp_path, "take_cover", "--seeds", "1", **{"rnn.batch": 500}) == 1
    assert "too few for rnn.batch=500 sequences of rnn.length=5" in capsys.readouterr().err.strip().splitlines()[-1]
    file = next((tmp_path / "cache").rglob("vae/artefact/arrays.npz"))
    file.write_bytes(b"nothing")
    assert go(tmp_path, "take_cover", "--resume", "--seeds", "1", **{"rnn.batch": 500}) == 1
    assert "vae/artefact is damaged (arrays.npz" in capsys.readouterr().err.strip().splitlines()[-1]


def test_another_runs_models_are_taken_for_a_longer_training_of_c(tmp_path: Path, capsys: Any) -> None:
    assert go(tmp_path / "a", "take_cover", "--seeds", "1") == 0
    folder = next((tmp_path / "cache").rglob("stages")).parent
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("arrays.npz")}
    assert go(tmp_path / "b", "take_cover", "--seeds", "1", **{"stages.reuse": folder, "es.generations": 4}) == 0
    record = found(tmp_path / "b")["take_cover", "world_models_tau1.15", "episode_return"]
    assert record["budget"]["used"] == 4 and before == {p: p.stat().st_mtime_ns for p in folder.rglob("arrays.npz")}
    runs = sorted((tmp_path / "cache").rglob("rnn/artefact/manifest.json"))
    assert len({json.loads(p.read_text())["digest"] for p in runs}) == 1


def test_stages_depend_on_nothing_they_do_not_use() -> None:
    config = paper(DOOM, "take_cover")
    names = [stage.name for stage in stages_of(config, 0)]
    assert names[:4] == ["seed0/collect", "seed0/vae", "seed0/encode", "seed0/rnn"]
    assert [name for name in names if "/controller" in name] == ["seed0/controller_tau1.15", "seed0/controllers"]
    assert sum("/evaluate_tau" in name for name in names) == 5 and names.count("seed0/random") == 1


def test_the_weights_of_a_finished_run_score_as_they_did(tmp_path: Path) -> None:
    one = ("--seeds", "1")
    assert go(tmp_path / "trained", "take_cover", *one) == 0
    stages = next((tmp_path / "cache").rglob("stages/seed0"))
    weights = tmp_path / "weights"
    weights.mkdir()
    for name, stage in (("vae", "vae"), ("rnn", "rnn"), ("controller", "controller_tau1.15")):
        (weights / f"{name}.npz").write_bytes((stages / stage / "artefact" / "arrays.npz").read_bytes())
    assert go(tmp_path / "given", "take_cover", *one, weights=weights) == 0
    trained, given = found(tmp_path / "trained"), found(tmp_path / "given")
    assert {method for _, method, _ in given} == {"world_models_released_controller", "random"}
    for metric in ("episode_return", "episode_return_consecutive_rollouts"):
        before = trained["take_cover", "world_models_tau1.15", metric]["episodes"][0]["return"]
        assert given["take_cover", "world_models_released_controller", metric]["episodes"][0]["return"] == before


class Quadratic(evolve.TrainController):
    """The nearer the weights to a number of the label's own, the better."""

    def rollouts(self, controllers: Any, each: int, key: Any, number: int) -> Any:
        goals = np.array([float(label) for label in self.labels])[:, None, None]
        return np.repeat(-np.square(np.asarray(controllers) - goals).sum(-1)[..., None], each, -1)


def test_controllers_trained_side_by_side_are_those_trained_alone() -> None:
    config = override(paper(DOOM, "take_cover"), ["latent=3", "rnn.hidden=4", "es.evaluate_every=2", "es.population=8"])
    jobs_of = [Quadratic(config, 0, {}, labels) for labels in (["0.5", "-0.2"], ["0.5"], ["-0.2"])]
    for job in jobs_of:
        for index in range(12):
            job.step(index)
    (both, *alone), of = jobs_of, lambda job, i: (job.state[1][i], job.state[2][i], np.array(job.history)[:, i])
    for i, job in enumerate(alone):
        for x, y in zip(of(both, i), of(job, 0), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    assert float(both.state[2][0]) > float(np.array(both.evaluations)[0, 0, 1])
