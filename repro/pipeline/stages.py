"""A pipeline of named stages (World Models: collect, V, M, C; I-JEPA: pre-train, probe) and the one way they all run.

A stage works in steps until its stopping rule says so and leaves an artefact (`artefacts`). A stage that was
interrupted goes on from its checkpoint with the same numbers; one that was finished is verified and taken as it is. The
same stage of several seeds can be one program (`Together`).
"""

import hashlib
import json
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
import jax.numpy as jnp
import numpy as np

from repro import platform
from repro.errors import RunError
from repro.pipeline.artefacts import MANIFEST, Artefact, differences, load_artefact, seal
from repro.pipeline.checkpoint import Checkpoints
from repro.pipeline.log import Progress, duration
from repro.pipeline.run import Run

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

    def write_each(self, folders: Sequence[Path]) -> None:
        """Writes the artefact of every stage that the job is the work of: one, unless it is `Joined`."""
        (folder,) = folders
        self.write(folder)

    def close(self) -> None:
        """Frees environments, threads and files."""


class Joined(Job):
    """Jobs of the same stage, one a seed, as one: their states are stacked on a leading axis S, all of which `step`
    takes a step further; its metrics are `[S]`."""

    def __init__(self, parts: Sequence[Job]) -> None:
        self.parts = parts
        self.state = jax.tree.map(lambda *x: jnp.stack(x), *[part.state for part in parts])

    def done(self, steps: int) -> int:
        """Units of work done, of every part."""
        return self.parts[0].done(steps)

    def loose(self) -> dict[str, np.ndarray]:
        """Those of the parts, numbered."""
        return {f"{i}.{name}": x for i, part in enumerate(self.parts) for name, x in part.loose().items()}

    def restore(self, loose: Mapping[str, np.ndarray]) -> None:
        """Undoes `loose`."""
        for i, part in enumerate(self.parts):
            part.restore({name.split(".", 1)[1]: x for name, x in loose.items() if name.startswith(f"{i}.")})

    def write_each(self, folders: Sequence[Path]) -> None:
        """The artefact of every part, as if it had worked alone."""
        for i, (part, folder) in enumerate(zip(self.parts, folders, strict=True)):
            part.state = jax.tree.map(lambda x, i=i: x[i], self.state)
            part.write(folder)


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


@dataclass(frozen=True)
class Together:
    """The same stage of several seeds, worked on in one program: of equal `total`, each with its own artefact."""

    stages: tuple[Stage, ...]
    join: Callable[[Sequence[Any]], Joined]


@dataclass(frozen=True)
class _Place:
    """A stage of this run: its folder, the artefacts it needs, and what identifies its own."""

    stage: Stage
    home: Path
    inputs: Mapping[str, Artefact]
    identity: dict[str, Any]


def run_stages(
    run: Run,
    stages: Sequence[Stage | Together],
    *,
    log_seconds: float = 10.0,
    checkpoint_minutes: float = 5.0,
    reuse: Path | None = None,
) -> dict[str, Artefact]:
    """Runs the stages in order below `run.folder/stages`; returns their artefacts by name.

    Of `Together` those that are not finished are worked on in one program. With `run.resume` finished stages are taken
    and the interrupted one continues. `reuse` is the folder of another run: of its artefacts those are taken that were
    made with the same settings from the same inputs. The seconds that a stage took, all starts together, and its
    hardware are noted under its name without its folder. Raises `RunError` when a metric is not finite, an artefact is
    damaged or was made otherwise, the disk is full, or the process is told to stop (after a checkpoint).
    """
    finished: dict[str, Artefact] = {}
    for item in stages:
        group = item.stages if isinstance(item, Together) else (item,)
        places = [_place(run, stage, finished) for stage in group]
        missing = [place for place in places if not _take_over(run, place, reuse)]
        if missing:
            join = item.join if isinstance(item, Together) and len(missing) > 1 else None
            _Runner(run, missing, join, log_seconds, checkpoint_minutes).to_the_end()
        for place in places:
            finished[place.stage.name] = load_artefact(place.home / "artefact", place.identity)
            phase = place.stage.name.rsplit("/", 1)[-1]
            run.seconds[phase] = run.seconds.get(phase, 0.0) + _seconds(place.home)
            if (place.home / MADE_ON).is_file():
                run.made_on[phase] = json.loads((place.home / MADE_ON).read_text())
    return finished


def _place(run: Run, stage: Stage, finished: Mapping[str, Artefact]) -> _Place:
    inputs = {name: finished[name] for name in stage.needs}
    identity = {"stage": stage.name, "settings": json.loads(json.dumps(dict(stage.settings)))}
    identity["inputs"] = {name: artefact.digest for name, artefact in inputs.items()}
    return _Place(stage, run.folder / "stages" / stage.name, inputs, identity)


def _seconds(home: Path) -> float:
    try:
        return float((home / SECONDS).read_text())
    except (OSError, ValueError):
        return 0.0


def _take_over(run: Run, place: _Place, reuse: Path | None) -> bool:
    """Whether the stage is finished already, here or in the run named by `reuse`."""
    name, home, identity = place.stage.name, place.home, place.identity
    if (home / "artefact").exists():
        run.log.say(f"{name}: finished before")
        return True
    other = reuse / "stages" / name / "artefact" if reuse else None
    if other is None or not (other / MANIFEST).is_file():
        return False
    if differing := differences(Artefact(other).manifest, identity):
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
    """One stage, or several in one program, to the end; what is kept on the way is kept in the first one's folder."""

    def __init__(
        self,
        run: Run,
        places: Sequence[_Place],
        join: Callable[[Sequence[Job]], Joined] | None,
        log_seconds: float,
        minutes: float,
    ) -> None:
        first = places[0]
        total = first.stage.total
        self.run, self.places, self.join, self.home = run, places, join, first.home
        self.name, self.unit = ", ".join(place.stage.name for place in places), first.stage.unit
        self.total, self.minutes = total(first.inputs) if callable(total) else total, minutes
        self.progress = Progress(self.total, log_seconds, self.unit)
        self.index = 0
        self.metrics: Mapping[str, Any] = {}
        self.stop_signal: int | None = None
        self.begun, self.before = time.monotonic(), _seconds(self.home) if run.resume else 0.0

    def to_the_end(self) -> None:
        identities = [place.identity for place in self.places]
        identity = identities if self.join else identities[0]
        hashed = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
        for place in self.places:
            if not self.run.resume:
                shutil.rmtree(place.home, ignore_errors=True)
            (place.home / "scratch").mkdir(parents=True, exist_ok=True)
        # A run begun alone and resumed together, or the other way round, begins the stage anew.
        checkpoints = Checkpoints(self.home / ("together" if self.join else "checkpoints"), hashed)
        previous = {s: signal.signal(s, self._on_signal) for s in (signal.SIGTERM, signal.SIGINT)}
        jobs: list[Job] = []
        try:
            for place in self.places:
                jobs.append(place.stage.start(place.inputs, place.home / "scratch"))
            job = self.join(jobs) if self.join else jobs[0]
            if checkpoints.latest() is not None:
                _, tree, loose, meta = checkpoints.restore(_tree(job))
                job.state, self.index = tree["state"], meta["index"]
                job.restore(loose)
                self.run.log.say(f"{self.name}: resumed at {job.done(self.index):,} {self.unit}")
            self._work(job, checkpoints)
            self._finish(job)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            for each in jobs:
                each.close()
            checkpoints.close()
        for place in self.places:
            for kept in ("checkpoints", "together", "scratch"):
                shutil.rmtree(place.home / kept, ignore_errors=True)
        if self.stop_signal is not None:
            raise RunError(f"stopped by {self._signal()} after stage {self.name}; go on with --resume")

    def _work(self, job: Job, checkpoints: Checkpoints) -> None:
        name, total, unit = self.name, self.total, self.unit
        saved = time.monotonic()
        while job.done(self.index) < total:
            self.metrics = job.step(self.index)
            self.index += 1
            if self.progress.due():
                self._report(job)
            if time.monotonic() - saved > 60 * self.minutes or self.stop_signal is not None:
                self._check_finite()
                checkpoints.save(self.index, _tree(job), job.loose(), {"index": self.index})
                self._note_seconds(self.home)
                self.run.log.say(f"{name}: checkpoint at {job.done(self.index):,} {unit}")
                saved = time.monotonic()
            if self.stop_signal is not None:
                done = job.done(self.index)
                raise RunError(f"stopped by {self._signal()} in stage {name} at {done:,} {unit}; go on with --resume")
        self._report(job)

    def _report(self, job: Job) -> None:
        values, done = self._check_finite(), job.done(self.index)
        for i, place in enumerate(self.places):
            of = {name: float(np.mean(x[i] if self.join else x)) for name, x in values.items()}
            self.run.log.scalars(done, {f"{place.stage.name}/{name}": value for name, value in of.items()})
        shown = "  ".join(f"{name} {np.mean(value):.4g}" for name, value in list(values.items())[:5])
        self.run.log.say(f"{self.name}: {self.progress.line(min(done, self.total), shown)}")

    def _check_finite(self) -> dict[str, np.ndarray]:
        values = {name: np.asarray(jax.device_get(value)) for name, value in self.metrics.items()}
        for name, value in values.items():
            if not np.isfinite(value).all():
                raise RunError(
                    f"{name} of stage {self.name} is not finite at step {self.index:,}; the last checkpoint is "
                    "from before that: continue from it with --resume, or change the settings with --set"
                )
        return values

    def _finish(self, job: Job) -> None:
        """The artefact appears at once, complete, or not at all; those of several seeds right after one another."""
        begin, made = time.monotonic(), [place.home / "writing" for place in self.places]
        for new in made:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
        job.write_each(made)
        for place, new in zip(self.places, made, strict=True):
            seal(new, place.identity)
            self._note_seconds(place.home, len(self.places))
            (place.home / MADE_ON).write_text(json.dumps(platform.describe_hardware()))
        for place, new in zip(self.places, made, strict=True):
            new.rename(place.home / "artefact")
        spent = duration(time.monotonic() - begin)
        self.run.log.say(f"{self.name}: finished, artefact{'s' * (len(made) > 1)} written ({spent})")

    def _note_seconds(self, home: Path, among: int = 1) -> None:
        (home / SECONDS).write_text(f"{(self.before + time.monotonic() - self.begun) / among:.2f}")

    def _signal(self) -> str:
        return signal.Signals(self.stop_signal).name if self.stop_signal is not None else ""

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stop_signal is not None:  # asked twice: now
            raise KeyboardInterrupt
        self.stop_signal = number


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


def _tree(job: Job) -> dict[str, Any]:
    return {"state": job.state, "present": np.ones((), np.int32)}  # orbax refuses a tree without leaves
