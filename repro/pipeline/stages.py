"""A pipeline of named stages (World Models: collect, V, M, C; I-JEPA: pre-train, probe) and the one way they all run.

A stage works in steps until its stopping rule says so and leaves an artefact: a folder of files with their digests, the
settings they were made with and the digests of the artefacts they were made from. A stage that was interrupted goes on
from its checkpoint with the same numbers; one that was finished is verified and taken as it is.
"""

import hashlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np

from repro import platform
from repro.errors import RunError, UsageError
from repro.pipeline.checkpoint import Checkpoints
from repro.pipeline.log import Progress, duration
from repro.pipeline.run import Run

MANIFEST = "manifest.json"
SECONDS = "seconds"
"""File with the wall-clock seconds that a stage has taken so far, all starts together."""
MADE_ON = "made_on.json"
"""File with the hardware that a stage was finished on; an artefact may be taken from a run on another machine."""


class Job:
    """A stage at work. Everything that changes is in `state` (a pytree of arrays with fixed shapes) and in what
    `loose` returns, so that both together continue exactly; random numbers come from the step's index."""

    state: Any = None

    def step(self, index: int) -> Mapping[str, Any]:
        """One step: takes its data from its source, runs the jitted update, returns scalar metrics (not waited for)."""
        raise NotImplementedError

    def done(self, steps: int) -> int:
        """Units of work done after `steps` steps; the stage ends when they reach its `total`."""
        return steps

    def loose(self) -> dict[str, np.ndarray]:
        """Position of the data source and whatever else has no fixed shape, for the checkpoint."""
        return {}

    def restore(self, loose: Mapping[str, np.ndarray]) -> None:
        """Puts back what `loose` returned; `state` has been put back before."""

    def write(self, folder: Path) -> None:
        """Writes the artefact's files into an empty folder."""
        raise NotImplementedError

    def close(self) -> None:
        """Frees environments, threads and files."""


class Artefact:
    """What a finished stage left in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        self.digest: str = self.manifest["digest"]

    def arrays(self, name: str = "arrays.npz") -> dict[str, np.ndarray]:
        """The arrays written by `save_arrays`."""
        with np.load(self.folder / name, allow_pickle=False) as archive:
            return dict(archive)


def save_arrays(folder: Path, arrays: Mapping[str, Any], name: str = "arrays.npz") -> None:
    """Writes named arrays as one file of the artefact."""
    np.savez(folder / name, **{key: np.asarray(value) for key, value in arrays.items()})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Stage:
    """One stage: what it is called, how much work it is, and how to begin it."""

    name: str
    """Also its folder; "seed0/vae" is fine."""
    total: int | Callable[[Mapping[str, Artefact]], int]
    """Work to be done, or a function of the artefacts of `needs` that tells."""
    unit: str
    """What `total` counts, in the plural: "updates", "episodes"."""
    settings: Mapping[str, Any]
    """All that its artefact depends on besides `needs` (JSON); another value makes another artefact."""
    start: Callable[[Mapping[str, Artefact], Path], Job]
    """Called with the artefacts of `needs` and a scratch folder that lives until the stage is finished."""
    needs: tuple[str, ...] = ()
    """Names of earlier stages."""


def run_stages(
    run: Run,
    stages: Sequence[Stage],
    *,
    log_seconds: float = 10.0,
    checkpoint_minutes: float = 5.0,
    reuse: Path | None = None,
) -> dict[str, Artefact]:
    """Runs the stages in order below `run.folder/stages`; returns their artefacts by name.

    With `run.resume` finished stages are taken and the interrupted one continues. `reuse` is the folder of another run:
    of its artefacts those are taken that were made with the same settings from the same inputs. The seconds that a
    stage took, all starts together, and its hardware are noted under its name without its folder. Raises `RunError`
    when a metric is not finite, an artefact is damaged or was made otherwise, the disk is full, or the process is told
    to stop (after a checkpoint).
    """
    finished: dict[str, Artefact] = {}
    for stage in stages:
        home = run.folder / "stages" / stage.name
        inputs = {name: finished[name] for name in stage.needs}
        identity = {"stage": stage.name, "settings": json.loads(json.dumps(dict(stage.settings)))}
        identity["inputs"] = {name: artefact.digest for name, artefact in inputs.items()}
        found = _take_over(run, stage.name, home, identity, reuse)
        if not found:
            total = stage.total(inputs) if callable(stage.total) else stage.total
            _Runner(run, stage, total, home, identity, log_seconds, checkpoint_minutes).to_the_end(inputs)
        finished[stage.name] = load_artefact(home / "artefact", identity)
        phase = stage.name.rsplit("/", 1)[-1]
        run.seconds[phase] = run.seconds.get(phase, 0.0) + _seconds(home)
        if (home / MADE_ON).is_file():
            run.made_on[phase] = json.loads((home / MADE_ON).read_text())
    return finished


def _seconds(home: Path) -> float:
    try:
        return float((home / SECONDS).read_text())
    except (OSError, ValueError):
        return 0.0


def _take_over(run: Run, name: str, home: Path, identity: Mapping[str, Any], reuse: Path | None) -> bool:
    """Whether the stage is finished already, here or in the run named by `reuse`."""
    if (home / "artefact").exists():
        run.log.say(f"{name}: finished before")
        return True
    other = reuse / "stages" / name / "artefact" if reuse else None
    if other is None or not (other / MANIFEST).is_file():
        return False
    if differing := _differences(Artefact(other).manifest, identity):
        run.log.say(f"{name}: made anew, the one in {reuse} differs in {differing}")
        return False
    load_artefact(other, identity)
    home.mkdir(parents=True, exist_ok=True)
    shutil.copytree(other, home / "copying", dirs_exist_ok=True)
    (home / SECONDS).write_text(f"{_seconds(other.parent):.2f}")
    if (other.parent / MADE_ON).is_file():
        shutil.copy(other.parent / MADE_ON, home / MADE_ON)
    (home / "copying").rename(home / "artefact")
    run.log.say(f"{name}: taken from {reuse}")
    return True


class _Runner:
    def __init__(
        self,
        run: Run,
        stage: Stage,
        total: int,
        home: Path,
        identity: Mapping[str, Any],
        log_seconds: float,
        minutes: float,
    ) -> None:
        self.run, self.stage, self.total, self.home = run, stage, total, home
        self.identity, self.minutes = identity, minutes
        self.progress = Progress(total, log_seconds, stage.unit)
        self.index = 0
        self.metrics: Mapping[str, Any] = {}
        self.stop_signal: int | None = None
        self.begun, self.before = time.monotonic(), _seconds(home) if run.resume else 0.0

    def to_the_end(self, inputs: Mapping[str, Artefact]) -> None:
        scratch = self.home / "scratch"
        if not self.run.resume:
            shutil.rmtree(self.home, ignore_errors=True)
        scratch.mkdir(parents=True, exist_ok=True)
        hashed = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:12]
        checkpoints = Checkpoints(self.home / "checkpoints", hashed)
        previous = {s: signal.signal(s, self._on_signal) for s in (signal.SIGTERM, signal.SIGINT)}
        job = Job()
        try:
            job = self.stage.start(inputs, scratch)
            if checkpoints.latest() is not None:
                _, tree, loose, meta = checkpoints.restore(_tree(job))
                job.state, self.index = tree["state"], meta["index"]
                job.restore(loose)
                self.run.log.say(f"{self.stage.name}: resumed at {job.done(self.index):,} {self.stage.unit}")
            self._work(job, checkpoints)
            self._finish(job)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            job.close()
            checkpoints.close()
        shutil.rmtree(self.home / "checkpoints", ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)
        if self.stop_signal is not None:
            raise RunError(f"stopped by {self._signal()} after stage {self.stage.name}; go on with --resume")

    def _work(self, job: Job, checkpoints: Checkpoints) -> None:
        name, total, unit = self.stage.name, self.total, self.stage.unit
        saved = time.monotonic()
        while job.done(self.index) < total:
            self.metrics = job.step(self.index)
            self.index += 1
            if self.progress.due():
                self._report(job)
            if time.monotonic() - saved > 60 * self.minutes or self.stop_signal is not None:
                self._check_finite()
                checkpoints.save(self.index, _tree(job), job.loose(), {"index": self.index})
                self._note_seconds()
                self.run.log.say(f"{name}: checkpoint at {job.done(self.index):,} {unit}")
                saved = time.monotonic()
            if self.stop_signal is not None:
                done = job.done(self.index)
                raise RunError(f"stopped by {self._signal()} in stage {name} at {done:,} {unit}; go on with --resume")
        self._report(job)

    def _report(self, job: Job) -> None:
        values, done = self._check_finite(), job.done(self.index)
        stage = self.stage.name
        self.run.log.scalars(done, {f"{stage}/{name}": value for name, value in values.items()})
        shown = "  ".join(f"{name} {value:.4g}" for name, value in list(values.items())[:5])
        self.run.log.say(f"{stage}: {self.progress.line(min(done, self.total), shown)}")

    def _check_finite(self) -> dict[str, float]:
        values = {name: float(np.mean(jax.device_get(value))) for name, value in self.metrics.items()}
        for name, value in values.items():
            if not np.isfinite(value):
                raise RunError(
                    f"{name} of stage {self.stage.name} is not finite at step {self.index:,}; the last checkpoint is "
                    "from before that: continue from it with --resume, or change the settings with --set"
                )
        return values

    def _finish(self, job: Job) -> None:
        """The artefact appears at once, complete, or not at all."""
        begin, new = time.monotonic(), self.home / "writing"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        job.write(new)
        files = {path.name: _file_digest(path) for path in sorted(new.iterdir())}
        manifest = {**self.identity, "files": files}
        manifest["digest"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
        (new / MANIFEST).write_text(json.dumps(manifest, indent=1))
        for path in new.iterdir():
            _to_disk(path)
        self._note_seconds()
        (self.home / MADE_ON).write_text(json.dumps(platform.describe_hardware()))
        new.rename(self.home / "artefact")
        self.run.log.say(f"{self.stage.name}: finished, artefact written ({duration(time.monotonic() - begin)})")

    def _note_seconds(self) -> None:
        (self.home / SECONDS).write_text(f"{self.before + time.monotonic() - self.begun:.2f}")

    def _signal(self) -> str:
        return signal.Signals(self.stop_signal).name if self.stop_signal is not None else ""

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stop_signal is not None:  # asked twice: now
            raise KeyboardInterrupt
        self.stop_signal = number


def load_artefact(folder: Path, identity: Mapping[str, Any] | None = None) -> Artefact:
    """The artefact in `folder`; `RunError`, one line, where it is missing, damaged or was made from something else."""
    advice = f"delete {folder} and run again with --resume to make it anew"
    try:
        artefact = Artefact(folder)
        manifest = dict(artefact.manifest)
        stated, files = manifest.pop("digest"), manifest["files"]
        if hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest() != stated:
            raise RunError(f"artefact {folder} is damaged ({MANIFEST} does not match its digest); {advice}")
        for name, digest in files.items():
            if _file_digest(folder / name) != digest:
                raise RunError(f"artefact {folder} is damaged ({name} does not match its digest); {advice}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"artefact {folder} cannot be read ({' '.join(str(error).split())[:120]}); {advice}") from error
    if identity and (differing := _differences(manifest, identity)):
        raise RunError(f"artefact {folder} was made otherwise (it differs in {differing}); {advice}")
    return artefact


def is_finished(folder: Path, name: str) -> bool:
    """Whether the run in `folder` has the artefact of the stage `name`."""
    return (folder / "stages" / name / "artefact").is_dir()


def kept(folder: Path, names: Sequence[str]) -> dict[str, Artefact]:
    """Artefacts of finished stages of the run in `folder`, verified; `UsageError` names the first that is missing."""
    for name in names:
        if not is_finished(folder, name):
            raise UsageError(f"{folder} has no finished stage {name}; finish it with repro reproduce ... --resume")
    return {name: load_artefact(folder / "stages" / name / "artefact") for name in names}


def run_alone(stage: Stage, inputs: Mapping[str, Artefact]) -> dict[str, np.ndarray]:
    """The arrays that a stage makes of `inputs`, outside any run: nothing is logged or kept."""
    total = stage.total(inputs) if callable(stage.total) else stage.total
    with tempfile.TemporaryDirectory() as name:
        scratch, made = Path(name) / "scratch", Path(name) / "made"
        scratch.mkdir()
        made.mkdir()
        job = stage.start(inputs, scratch)
        try:
            steps = 0
            while job.done(steps) < total:
                job.step(steps)
                steps += 1
            job.write(made)
        finally:
            job.close()
        with np.load(made / "arrays.npz", allow_pickle=False) as archive:
            return dict(archive)


def _differences(manifest: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """Names of the settings and inputs in which an artefact is not the one wanted, and of how; empty if it is."""
    found = []
    for part in ("stage", "settings", "inputs"):
        has, wants = manifest.get(part), identity[part]
        if isinstance(has, dict) and isinstance(wants, dict):
            found += [f"{k}: {has.get(k)} for {wants.get(k)}" for k in {**has, **wants} if has.get(k) != wants.get(k)]
        elif has != wants:
            found.append(f"{part}: {has} for {wants}")
    return ", ".join(found)[:200]


def _tree(job: Job) -> dict[str, Any]:
    return {"state": job.state, "present": np.ones((), np.int32)}  # orbax refuses a tree without leaves


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
