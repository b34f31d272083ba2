"""How a paper makes itself known: `papers/<name>/__init__.py` defines one `PAPER` object, found by looking.

Nothing heavy is imported here or in a paper's `__init__` and `config.py` (no jax), so that `repro list` is instant;
code is named by `"module:attribute"` strings and loaded by `load` when it is needed.
"""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repro import paths
from repro.errors import UsageError, unknown


@dataclass(frozen=True)
class Preset:
    """A named configuration. `make(suite, task)` returns the paper's frozen config dataclass; its docstring says what
    the preset costs and reaches."""

    make: Callable[[str, str], Any]
    cost: str
    """One line: hardware and time, e.g. "2 CPU cores, about 12 min"."""

    @property
    def doc(self) -> str:
        """First paragraph of the docstring of `make`, as one line."""
        return " ".join((self.make.__doc__ or "").strip().split("\n\n")[0].split())


@dataclass(frozen=True)
class Paper:
    """Everything the suite needs to know of a paper."""

    name: str
    """Folder name, e.g. `dreamerv3`."""
    title: str
    bibtex: str
    suites: Mapping[str, tuple[str, ...]]
    """Suite -> tasks; names as in `results/published/<name>.csv`."""
    default: tuple[str, str]
    """Suite and task of a bare `repro reproduce <paper>`."""
    presets: Mapping[str, Preset]
    """Must hold `paper` and `cpu`; `fast` where it makes sense."""
    reproduce: str
    """`module:function` called as `f(config, run)` with a `repro.pipeline.run.Run`; trains, evaluates, returns the
    `repro.pipeline.run.Result`."""
    reference: Callable[[Any], Any] | None = None
    """The paper's own configuration that a config is held against (default: the `paper` preset for its task)."""
    neutral: tuple[str, ...] = ()
    """Fields of its configuration that change no number: a run may differ in them and deviates in nothing."""
    method: str = ""
    """Method name of the published numbers this paper's runs are compared with (config may override)."""
    build: str = ""
    """For online agents: `module:function` called as `f(config, env_seeds) -> (algorithm, environment)`; training,
    evaluation and benchmark build their parts through it."""
    evaluate: str = ""
    """For other papers: `module:function` called as `f(config, run folder, episodes)`: scores of the kept agent, one
    list a seed, measured anew."""
    bench: str = ""
    """For other papers: `module:function` called as `f(config, seconds)`: what was measured by name, each a
    `repro.pipeline.bench.Part`."""
    compiled: str = ""
    """For other papers: `module:function` called as `f(config, devices)` with devices that need not be here: the mesh,
    the batch's lengths, and name -> (jitted function, shapes of its arguments) of what `--target` compiles."""
    predictions: str = ""
    """`module:function` called as `f(algorithm, state, batch, key)` for one seed: name -> video `[T, H, W, 3]` uint8 of
    open-loop predictions."""
    play: str = ""
    """`module:function` called as `f(run folder)`: a `repro.play.Game` to steer by hand."""
    parity: str = ""
    """`module:CASES`, a mapping `config.function` -> `f(case) -> {output name: array}` (see `repro.interop.parity`)."""
    importer: str = ""
    """`module:function` called as `f(file, out)`: official checkpoint -> ours."""
    unavailable: Mapping[str, str] = field(default_factory=dict)
    """Suite -> why it cannot run here (its published table and preset still exist)."""

    def reference_for(self, config: Any) -> Any:
        """The configuration whose differences from `config` a record lists as deviations."""
        if self.reference is not None:
            return self.reference(config)
        return self.presets["paper"].make(config.suite, config.task)

    def suite_of(self, task: str, suite: str | None = None) -> str:
        """The suite a task belongs to; `suite` decides where several have it. Accepts `suite/task` too."""
        hits = [s for s, tasks in self.suites.items() if task in tasks and suite in (None, s)]
        if not hits:
            if suite is not None and suite not in self.suites:
                raise unknown(f"suite of {self.name}", suite, self.suites)
            pool = self.suites[suite] if suite else [t for ts in self.suites.values() for t in ts]
            raise unknown(f"task of {self.name}", task, set(pool))
        return self.default[0] if self.default[0] in hits else hits[0]


def load(reference: str) -> Any:
    """The object behind `"module:attribute"`."""
    module, _, attribute = reference.partition(":")
    return getattr(importlib.import_module(module), attribute)


def papers_folder() -> Path:
    """`papers/` of the checkout; `REPRO_PAPERS` names another one (a folder that holds paper packages)."""
    return Path(os.environ.get("REPRO_PAPERS") or paths.ROOT / "papers")


def papers() -> dict[str, Paper]:
    """All papers, by name, in alphabetical order: every `papers/*/__init__.py` that defines `PAPER`."""
    folder = papers_folder()
    if str(folder.parent) not in sys.path:
        sys.path.insert(0, str(folder.parent))
    found = {}
    for init in sorted(folder.glob("*/__init__.py")):
        if "PAPER" in init.read_text():
            paper = load(f"{folder.name}.{init.parent.name}:PAPER")
            found[paper.name] = paper
    return found


def find(name: str) -> Paper:
    """The paper called `name` (dashes and underscores are the same); `UsageError` names the nearest otherwise."""
    known = papers()
    wanted = name.replace("-", "_").lower()
    for paper in known.values():
        if paper.name.replace("-", "_") == wanted:
            return paper
    if not known:
        raise UsageError(f"no paper found in {papers_folder()}")
    raise unknown("paper", name, known)
