"""Stages: exact resumption after a stop and after a kill, artefacts verified, failures in one line."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repro import platform
from repro.errors import RunError
from repro.pipeline.artefacts import MANIFEST, Artefact, save_arrays
from repro.pipeline.run import Run
from repro.pipeline.stages import MADE_ON, Job, Joined, Stage, Together, run_stages
from repro.registry import Paper


class Growing:
    """A data source whose position is a list of unknown length."""

    def __init__(self) -> None:
        self.drawn: list[int] = []

    def next(self) -> int:
        self.drawn.append(3 * len(self.drawn) + 1)
        return self.drawn[-1]


class Sum(Job):
    """Adds what its source gives and noise from the step's index, times what the stage before left."""

    def __init__(self, scale: float, at: Mapping[int, Any]) -> None:
        self.state, self.source, self.scale, self.at = {"total": jnp.zeros(())}, Growing(), scale, at
        self.update = jax.jit(lambda state, x, key: {"total": state["total"] + scale * x + jax.random.normal(key)})

    def step(self, index: int) -> Mapping[str, Any]:
        self.state = self.update(self.state, self.source.next(), jax.random.key(index))
        if index in self.at:
            self.at[index]()
        return {"total": self.state["total"] if not np.isnan(self.scale) else jnp.nan}

    def loose(self) -> dict[str, np.ndarray]:
        return {"drawn": np.array(self.source.drawn)}

    def restore(self, loose: Mapping[str, np.ndarray]) -> None:
        self.source.drawn = list(loose["drawn"])

    def write(self, folder: Path) -> None:
        save_arrays(folder, {**self.state, "drawn": self.source.drawn})


@dataclasses.dataclass(frozen=True)
class Config:
    seeds: int = 1
    first_seed: int = 0
    suite: str = "toy"
    task: str = "toy"
    preset: str = "cpu"


def two_stages(at: Mapping[int, Any], scale: float = 2.0, steps: int = 20) -> list[Stage]:
    def second(inputs: Mapping[str, Artefact], scratch: Path) -> Job:
        return Sum(float(inputs["first"].arrays()["total"]), at)

    return [
        Stage("first", 5, "updates", {"scale": scale}, lambda inputs, scratch: Sum(scale, {})),
        Stage("seed0/second", steps, "updates", {"steps": steps}, second, ("first",)),
    ]


def go(folder: Path, at: Mapping[int, Any] | None = None, resume: bool = False, minutes: float = 1e9, **of: Any) -> Any:
    os.environ["REPRO_CACHE"] = str(folder)
    paper = Paper("toy", "Toy", "", {}, ("toy", "toy"), {}, reproduce="")
    run = Run(paper, Config(), Config(), "repro reproduce toy", folder, resume=resume, quiet=True)
    reuse = of.pop("reuse", None)
    found = run_stages(run, two_stages(at or {}, **of), log_seconds=0, checkpoint_minutes=minutes, reuse=reuse)
    return run, found["seed0/second"].arrays()


@pytest.fixture(autouse=True)
def cache(monkeypatch: Any) -> None:
    monkeypatch.setenv("REPRO_CACHE", os.environ.get("REPRO_CACHE", ""))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_stage_continues_with_the_same_numbers(number: int, tmp_path: Path) -> None:
    _, whole = go(tmp_path / "whole")
    name, before = signal.Signals(number).name, signal.getsignal(number)
    with pytest.raises(RunError, match=f"stopped by {name} in stage seed0/second at 8 updates"):
        go(tmp_path / "cut", {3: lambda: time.sleep(0.3), 7: lambda: os.kill(os.getpid(), number)})
    run, cut = go(tmp_path / "cut", resume=True)
    assert whole.keys() == cut.keys() and all(np.array_equal(whole[k], cut[k]) for k in whole)
    assert not (run.folder / "stages" / "seed0" / "second" / "scratch").exists()
    assert run.seconds.keys() == {"first", "second"}
    assert run.seconds["second"] > 0.3, "the seconds before the stop count too"
    assert signal.getsignal(number) == before


def test_after_a_kill_the_last_checkpoint_counts(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); import test_stages as t\n"
        "t.go(Path(sys.argv[1]), {11: lambda: os.kill(os.getpid(), signal.SIGKILL)}, minutes=0)"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "cut"), str(Path(__file__).parent)]
    child = subprocess.run(arguments, env={**os.environ, "PYTHONPATH": os.getcwd()}, capture_output=True, timeout=120)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    seen: list[int] = []
    _, cut = go(tmp_path / "cut", {i: lambda i=i: seen.append(i) for i in range(20)}, resume=True)
    assert seen[0] == 11  # the checkpoint after step 10 was the last
    _, whole = go(tmp_path / "whole")
    assert all(np.array_equal(whole[k], cut[k]) for k in whole)


def test_finished_stages_are_verified_and_not_repeated(tmp_path: Path) -> None:
    run, first = go(tmp_path)
    seen: list[int] = []
    _, again = go(tmp_path, {i: lambda i=i: seen.append(i) for i in range(20)}, resume=True)
    assert not seen and np.array_equal(first["total"], again["total"])

    file = run.folder / "stages" / "first" / "artefact" / "arrays.npz"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(RunError, match=r"damaged \(arrays.npz .*delete .*first/artefact and run again"):
        go(tmp_path, resume=True)


def test_artefacts_of_other_settings_are_refused(tmp_path: Path) -> None:
    run, _ = go(tmp_path)
    with pytest.raises(RunError, match="first/artefact was made otherwise .it differs in scale: 2.0 for 3.0"):
        go(tmp_path, resume=True, scale=3.0)
    manifest = run.folder / "stages" / "first" / "artefact" / MANIFEST
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "settings": {"scale": 3.0}}))
    with pytest.raises(RunError, match="manifest.json does not match its digest"):
        go(tmp_path, resume=True, scale=3.0)
    manifest.write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        go(tmp_path, resume=True)


def test_another_runs_artefacts_are_taken_where_they_fit(tmp_path: Path) -> None:
    run, first = go(tmp_path / "a")
    seen: list[int] = []
    at = {i: lambda i=i: seen.append(i) for i in range(30)}
    (run.folder / "stages" / "first" / MADE_ON).write_text('{"platform": "abacus"}')
    second, longer = go(tmp_path / "b", at, reuse=run.folder, steps=30)
    assert second.made_on["first"] == {"platform": "abacus"}
    assert second.made_on["second"] == platform.describe_hardware()
    assert len(seen) == 30 and longer["total"] != first["total"]  # the first stage fits, the second is made anew
    other = Artefact(run.folder / "stages" / "first" / "artefact")
    assert other.digest == Artefact(next((tmp_path / "b").rglob("first/artefact"))).digest


class Sums(Joined):
    """The sums of several seeds, a step of each after the other."""

    def step(self, index: int) -> Mapping[str, Any]:
        totals = []
        for i, part in enumerate(self.parts):
            part.state = jax.tree.map(lambda x, i=i: x[i], self.state)
            totals.append(part.step(index)["total"])
        self.state = jax.tree.map(lambda *x: jnp.stack(x), *[part.state for part in self.parts])
        return {"total": jnp.stack(totals)}


def go_with_seeds(folder: Path, together: bool, at: Mapping[int, Any] | None = None, **of: Any) -> Any:
    os.environ["REPRO_CACHE"] = str(folder)
    scales = of.pop("scales", (2.0, 5.0))
    seeds = [
        Stage(
            f"seed{i}/sum",
            9,
            "updates",
            {"scale": x},
            lambda inputs, scratch, i=i, x=x: Sum(x, (at or {}) if i else {}),
        )
        for i, x in enumerate(scales)
    ]
    run = Run(Paper("toy", "Toy", "", {}, ("toy", "toy"), {}, reproduce=""), Config(), Config(), "", folder, **of)
    found = run_stages(run, [Together(tuple(seeds), Sums)] if together else seeds, log_seconds=0)
    return run, found


def test_seeds_together_leave_what_each_leaves_alone(tmp_path: Path) -> None:
    _, alone = go_with_seeds(tmp_path / "alone", False, quiet=True)
    with pytest.raises(RunError, match="stopped by SIGTERM in stage seed0/sum, seed1/sum at 5 updates"):
        stop = {4: lambda: (time.sleep(0.3), os.kill(os.getpid(), signal.SIGTERM))}
        go_with_seeds(tmp_path / "joined", True, stop, quiet=True)
    first = next((tmp_path / "joined").rglob("seed0/sum"))
    assert (first / "together").is_dir()
    run, joined = go_with_seeds(tmp_path / "joined", True, resume=True, quiet=True)
    assert sorted(path.name for path in first.iterdir()) == ["artefact", "made_on.json", "seconds"]
    assert alone.keys() == joined.keys() == {"seed0/sum", "seed1/sum"}
    assert [alone[name].digest for name in alone] == [joined[name].digest for name in alone]
    assert alone["seed0/sum"].digest != alone["seed1/sum"].digest
    # Half of the time counts for each seed.
    seconds = [float((run.folder / "stages" / name / "seconds").read_text()) for name in joined]
    assert seconds[0] == pytest.approx(seconds[1], abs=0.1) and 0.3 < run.seconds["sum"]
    assert run.seconds["sum"] == pytest.approx(sum(seconds))
    scalars = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    last = {name: line[name] for line in scalars for name in line if name.endswith("/total")}
    assert last == {f"{name}/total": float(joined[name].arrays()["total"]) for name in joined}


def test_of_seeds_together_only_what_is_missing_is_made(tmp_path: Path) -> None:
    run, first = go_with_seeds(tmp_path, True, quiet=True)
    shutil.rmtree(run.folder / "stages" / "seed1")
    seen: list[int] = []
    _, again = go_with_seeds(tmp_path, True, {i: lambda i=i: seen.append(i) for i in range(9)}, resume=True, quiet=True)
    assert seen == list(range(9)) and {n: a.digest for n, a in again.items()} == {n: a.digest for n, a in first.items()}
    with pytest.raises(RunError, match="total of stage seed0/sum, seed1/sum is not finite at step 1;"):
        go_with_seeds(tmp_path / "other", True, scales=(1.0, float("nan")), quiet=True)


def test_a_metric_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="total of stage first is not finite at step 1;"):
        go(tmp_path, scale=float("nan"))
