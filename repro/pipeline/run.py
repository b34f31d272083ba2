"""A run: what was asked for, where it writes, what came out, and the record made of it."""

import dataclasses
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repro import config as configuration
from repro import paths, platform
from repro.errors import UsageError
from repro.pipeline.log import Logger
from repro.registry import Paper

PACKAGES = ("jax", "jaxlib", "flax", "optax", "chex", "numpy", "orbax-checkpoint")
"""Versions of these stand in every record, besides the environment's own packages."""

IDENTITY = (
    *("suite", "task", "preset", "seeds", "first_seed", "release"),
    *(f"loop.{name}" for name in ("steps", "max_minutes", "log_seconds", "checkpoint_minutes", "predictions")),
    *(f"loop.{name}" for name in ("driver", "seeds_map", "fused_iterations", "replay_storage", "data_parallel")),
)
"""Config fields that do not make a run deviate from the paper's settings; `Paper.neutral` names its own."""


@dataclass
class Run:
    """What a paper's `reproduce` function gets: the request and the services (folder, log)."""

    paper: Paper
    config: Any
    """The resolved configuration; every paper's has `suite`, `task`, `preset`, `seeds`, `first_seed`."""
    reference: Any
    """The paper's own configuration for the same task (its `paper` preset)."""
    command: str
    """The exact command line that makes this run again."""
    results: Path
    """Root that the record goes under (holds `runs/`)."""
    resume: bool = False
    quiet: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall-clock seconds by phase; see `phase`."""
    made_on: dict[str, Any] = field(default_factory=dict)
    """Hardware of phases that may have been worked off elsewhere; the record names those that were."""

    def __post_init__(self) -> None:
        self.folder = _folder(self.paper.name, self.config, self.resume)
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {
            "paper": self.paper.name,
            "command": self.command,
            "config": configuration.to_json(self.config),
            "config_hash": self.config_hash,
        }
        (self.folder / "run.json").write_text(json.dumps(about, indent=1))
        self.log = Logger(self.folder, self.quiet)

    @property
    def config_hash(self) -> str:
        """Digest of the resolved configuration."""
        return configuration.digest(self.config)

    @property
    def seeds(self) -> list[int]:
        """The seeds of this run."""
        return list(range(self.config.first_seed, self.config.first_seed + self.config.seeds))

    def phase(self, name: str) -> "_Phase":
        """Context manager that adds its wall-clock seconds to `seconds[name]`."""
        return _Phase(self.seconds, name)


class _Phase:
    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self.seconds, self.name = seconds, name

    def __enter__(self) -> None:
        self.begin = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.name] = self.seconds.get(self.name, 0.0) + time.monotonic() - self.begin


def _folder(paper: str, config: Any, resume: bool) -> Path:
    """A new folder for every run; with `resume` the newest one of the same configuration that has no record yet."""
    base = paths.cache() / "runs" / paper / config.suite / config.task
    digest = configuration.digest(config)
    same = sorted(base.glob(f"{digest}-*"), key=lambda p: int(p.name.rsplit("-", 1)[1]))
    if resume:
        open_runs = [p for p in same if not (p / "record.json").exists()]
        if open_runs:
            return open_runs[-1]
        raise UsageError(
            f"nothing to resume for {paper} {config.suite}/{config.task} with these settings; "
            "leave out --resume, or give the same --preset, --seeds, --budget and --set values as the interrupted run"
        )
    return base / f"{digest}-{int(same[-1].name.rsplit('-', 1)[1]) + 1 if same else 0}"


@dataclass
class Result:
    """What came out of training and evaluation, ready for the record. Lists are per seed."""

    protocol: Any
    """`repro.evaluation.protocols.Protocol`."""
    episodes: list[dict[str, list[float]]]
    """`{"step": [...], "return": [...], "length": [...]}`, step in `step_unit`."""
    budget_used: float
    budget_paper: float
    step_unit: str
    updates: int = 0
    throughput: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    """Packages of the environment."""
    method: str = ""
    """Published method to compare with; the paper's own by default."""
    metric: str = "episode_return"
    suite: str = ""
    task: str = ""
    """Where a run yields several records: the published row this one belongs to (the config's by default)."""
    resumed: int = 0
    checkpoint_digest: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, Path] = field(default_factory=dict)
    """Caption -> PNG or GIF file, to be kept beside the record and shown in the report."""


def record(run: Run, result: Result) -> dict[str, Any]:
    """The run record (see `repro.tracker.records`) without its id."""
    from repro.evaluation import protocols

    # A run longer than the paper's is scored where the paper's ended.
    scored = min(result.budget_used, result.budget_paper)
    ignored = (*IDENTITY, *run.paper.neutral)
    hardware = platform.describe_hardware()
    extra = dict(result.extra)
    if elsewhere := {phase: of for phase, of in run.made_on.items() if of != hardware}:
        extra["made_on"] = elsewhere
    if result.pictures:
        extra["pictures"] = list(result.pictures)
    return {
        "schema": 1,
        "paper": run.paper.name,
        "suite": result.suite or run.config.suite,
        "task": result.task or run.config.task,
        "method": result.method or run.paper.method,
        "preset": run.config.preset,
        "protocol": dataclasses.asdict(result.protocol),
        "metric": result.metric,
        "step_unit": result.step_unit,
        "seeds": run.seeds,
        "scores": protocols.final_scores(result.protocol, result.episodes, scored),
        "episodes": result.episodes,
        "curve": protocols.learning_curve(result.protocol, result.episodes, scored),
        "budget": {"used": result.budget_used, "paper": result.budget_paper, "unit": result.step_unit},
        "budget_fraction": min(1.0, result.budget_used / result.budget_paper),
        "deviations": json.loads(json.dumps(configuration.deviations(run.config, run.reference, ignore=ignored))),
        "config": configuration.to_json(run.config),
        "config_hash": run.config_hash,
        "code": platform.code_version(),
        "versions": {**platform.versions(PACKAGES), **result.versions},
        "hardware": hardware,
        "seconds": {name: round(value, 2) for name, value in run.seconds.items()},
        "throughput": dict(result.throughput),
        "updates": result.updates,
        "resumed": result.resumed,
        "checkpoint_digest": result.checkpoint_digest,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": run.command,
        "extra": extra,
    }


def finish(run: Run, results: Result | Sequence[Result]) -> list[Path]:
    """Writes the records of a finished run and notes them in its folder; returns their paths."""
    from repro.tracker import records

    results = [results] if isinstance(results, Result) else list(results)
    written = [records.save(record(run, result), run.results) for result in results]
    for result, path in zip(results, written, strict=True):
        for number, picture in enumerate(result.pictures.values()):
            kept = records.picture_path(run.results, run.paper.name, path.stem, number, picture.suffix)
            records.write_new(kept, picture.read_bytes())
    (run.folder / "record.json").write_text(json.dumps([str(path) for path in written]))
    # Only the trained agent is kept: the loop's checkpoints hold the whole replay.
    for name in ("checkpoints", "replay"):
        shutil.rmtree(run.folder / name, ignore_errors=True)
    run.log.close()
    return written
