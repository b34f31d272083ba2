"""Run records for the tests of the tracker, made up but consistent: scores follow from episodes by the protocol."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from repro.evaluation import protocols
from repro.tracker import records


def make_record(
    scores: Sequence[float],
    *,
    paper: str = "dreamerv3",
    suite: str = "dmc_proprio",
    task: str = "walker_walk",
    method: str | None = None,
    seeds: Sequence[int] | None = None,
    used: float | None = None,
    budget: float = 500_000,
    rise: Callable[[float], float] = lambda fraction: fraction,
    protocol: protocols.Protocol | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """A record whose seeds end at `scores` after `used` steps, on the way there at `rise(step / used)` times that."""
    protocol = protocol or protocols.of(paper, suite)
    used = used or budget
    seeds = list(seeds) if seeds is not None else list(range(len(scores)))
    width = protocol.curve_width or protocol.bin_width or used
    steps = [width * k for k in range(1, int(used / width) + 1)]
    episodes = [
        {
            "step": [float(s) for s in steps],
            "return": [score * (rise(s / used) if s < used else 1.0) for s in steps],
            "length": [1000.0] * len(steps),
        }
        for score in scores
    ]
    record = {
        "schema": 1,
        "paper": paper,
        "suite": suite,
        "task": task,
        "method": method or paper,
        "preset": "paper",
        "protocol": protocols.to_dict(protocol),
        "metric": "episode_return",
        "step_unit": protocol.step_unit,
        "seeds": seeds,
        "scores": protocols.final_scores(protocol, episodes, min(used, budget)),
        "episodes": episodes,
        "curve": protocols.learning_curve(protocol, episodes, used),
        "budget": {"used": used, "paper": budget, "unit": protocol.step_unit},
        "budget_fraction": min(1.0, used / budget),
        "deviations": {},
        "config": {"agent": {"lr": 4e-5}},
        "config_hash": "0123456789ab",
        "code": {"commit": "c" * 40, "dirty": False},
        "versions": {"python": "3.11.9", "jax": "0.10.2"},
        "hardware": {
            "platform": "cpu",
            "device_kind": "cpu",
            "device_count": 1,
            "cpu": "Example CPU",
            "cpu_cores": 2,
        },
        "seconds": {"compile": 20.0, "train": 3600.0, "evaluate": 10.0, "total": 3630.0},
        "throughput": {"env_steps_per_s": 140.0, "updates_per_s": 3.5},
        "updates": 12_500,
        "resumed": 0,
        "checkpoint_digest": None,
        "created": "2026-01-02T03:04:05Z",
        "command": f"repro reproduce {paper} --task {suite}/{task} --preset paper --seeds {len(seeds)}",
        "extra": {},
    }
    return {**record, **fields}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty results folder that the commands use; published tables come from the checkout."""
    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setenv("REPRO_RESULTS", str(folder))
    return folder


@pytest.fixture
def sample(results: Path) -> SimpleNamespace:
    """`record(scores, ...)` makes one, `save(scores, ...)` also writes it under `results` and returns its path."""
    return SimpleNamespace(
        record=make_record,
        save=lambda scores, **fields: records.save(make_record(scores, **fields), results),
        results=results,
    )
