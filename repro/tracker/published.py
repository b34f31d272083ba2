"""The published numbers: per-task rows, learning curves, per-seed scores, reference scores, and facts about the papers.

`results/published/<paper>.csv` holds the rows, `<paper>_curves.csv` the curves, `<paper>_per_seed.csv` the scores of
single runs where the authors released them, `<paper>.json` what a table cannot hold (BibTeX, budgets, margins, cost).
"""

import csv
import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repro import paths
from repro.errors import UsageError, unknown

ROW_COLUMNS = (
    "suite", "task", "method", "metric", "value", "spread", "spread_kind", "seeds", "budget", "budget_unit", "source",
    "note",
)  # fmt: skip
CURVE_COLUMNS = ("suite", "task", "method", "step", "step_unit", "mean", "std", "seeds", "source")
SEED_COLUMNS = ("suite", "task", "method", "seed", "value", "budget", "budget_unit", "source")

AGGREGATES = frozenset(
    "mean_hns median_hns iqm_hns optimality_gap mean_capped_hns record_mean clipped_record_mean mean_return "
    "median_return mean_normalized task_mean".split()
)
"""Rows under these task names are computed over the tasks of their suite."""


def is_aggregate(task: str) -> bool:
    """Whether a row's "task" is a number over many tasks."""
    return task in AGGREGATES or task.startswith("category_")


@dataclass(frozen=True)
class Row:
    """One published number. `value` is None for a published statement that is no number (kept in `text`)."""

    suite: str
    task: str
    method: str
    metric: str
    value: float | None
    text: str
    spread: float | None
    spread_kind: str
    seeds: int | None
    budget: float | None
    budget_unit: str
    source: str
    note: str
    line: int

    @property
    def over_seeds(self) -> bool:
        """Whether `spread` is the standard deviation between two seeds or more."""
        return self.spread is not None and self.spread_kind == "std" and (self.seeds or 0) >= 2


@dataclass(frozen=True)
class Curve:
    """A published learning curve; arrays are lists of one length, `std` and `seeds` None where not published."""

    unit: str
    step: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float | None, ...]
    seeds: tuple[int | None, ...]


@dataclass(frozen=True)
class SeedScore:
    """The score of one released run."""

    seed: int
    value: float
    budget: float | None
    unit: str


@dataclass(frozen=True)
class PublishedTable:
    """Everything published about one paper; rows in the order of the file, which is that of the paper's tables."""

    paper: str
    rows: tuple[Row, ...]
    curves: Mapping[tuple[str, str, str], Curve]
    seed_scores: Mapping[tuple[str, str, str], tuple[SeedScore, ...]]
    facts: Mapping[str, Any]
    """The content of `<paper>.json`."""
    _by_key: Mapping[tuple[str, str, str, str], tuple[Row, ...]] = field(repr=False, default_factory=dict)

    @property
    def suites(self) -> list[str]:
        """Suites in the order of the paper's tables."""
        return list(dict.fromkeys(row.suite for row in self.rows))

    def tasks(self, suite: str, method: str, metric: str = "episode_return") -> list[str]:
        """Tasks of a suite for which the method has a published number, in the paper's order."""
        wanted = (suite, method, metric)
        rows = (r for r in self.rows if (r.suite, r.method, r.metric) == wanted and not is_aggregate(r.task))
        return list(dict.fromkeys(r.task for r in rows))

    def row(
        self, suite: str, task: str, method: str, metric: str = "episode_return", budget: float | None = None
    ) -> Row | None:
        """The published number, None where there is none.

        Where several budgets were published: the one asked for, without `budget` the largest; where one number was
        printed in several places the first.
        """
        rows = self._by_key.get((suite, task, method, metric), ())
        if budget is not None:
            rows = tuple(r for r in rows if r.budget == budget)
        return max(rows, key=lambda r: r.budget or 0.0, default=None)

    def curve(self, suite: str, task: str, method: str) -> Curve | None:
        """The published learning curve, None where there is none."""
        return self.curves.get((suite, task, method))

    def per_seed(self, suite: str, task: str, method: str, budget: float | None = None) -> list[float]:
        """One score a released run: its last one at or before `budget`. Runs that stopped early keep their last."""
        last: dict[int, SeedScore] = {}
        for score in self.seed_scores.get((suite, task, method), ()):
            if budget is not None and score.budget is not None and score.budget > budget:
                continue
            if score.seed not in last or (score.budget or 0.0) >= (last[score.seed].budget or 0.0):
                last[score.seed] = score
        return [last[seed].value for seed in sorted(last)]

    def references(self, suite: str, task: str) -> tuple[float, float] | None:
        """Scores that normalise to 0 and 1 (random and human play for Atari), None where the suite has none."""
        names = self.suite(suite).get("normalise")
        if not names:
            return None
        low, high = (self.row(suite, task, name) for name in names[:2])
        if low is None or high is None or low.value is None or high.value is None:
            return None
        return low.value, high.value

    def suite(self, suite: str) -> Mapping[str, Any]:
        """The facts of a suite (empty where there are none)."""
        return self.facts.get("suites", {}).get(suite, {})

    def method(self, suite: str) -> str:
        """The paper's own method in a suite: the one a reproduction is compared with."""
        return self.suite(suite).get("method") or self.facts["method"]


def folder() -> Path:
    """`published/` of the results folder; that of the checkout where a moved results folder has none."""
    own = paths.results() / "published"
    return own if own.is_dir() else paths.ROOT / "results" / "published"


def papers() -> list[str]:
    """Names of the papers with published numbers, oldest first."""
    names = [path.stem for path in folder().glob("*.json")]
    return sorted(names, key=lambda name: (facts(name).get("order", math.inf), name))


def facts(name: str) -> dict[str, Any]:
    """`<paper>.json`: title, bibtex, repository, the paper's own method, and per suite budget, unit, margin, cost."""
    path = folder() / f"{name}.json"
    try:
        known = json.loads(path.read_text(), object_pairs_hook=_no_duplicates)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    if not isinstance(known, dict):
        raise UsageError(f"{path}: must be an object")
    for needed in ("title", "name", "bibtex", "repository", "method", "suites"):
        if needed not in known:
            raise UsageError(f"{path}: lacks {needed!r}")
    for suite, about in known["suites"].items():
        margin = about.get("margin")
        if not isinstance(margin, dict) or not set(margin) <= {"relative", "absolute", "span"} or not margin:
            raise UsageError(f"{path}: suite {suite} needs a margin of relative, absolute or span")
    return known


def _no_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    for key in (names := [k for k, _ in pairs]):
        if names.count(key) > 1:
            raise ValueError(f"the key {key!r} stands twice")
    return dict(pairs)


def load(paper: str) -> PublishedTable:
    """The published table of a paper; `UsageError` names file and line of whatever is wrong in it."""
    name, base = paper.replace("-", "_").lower(), folder()
    if not (base / f"{name}.json").exists():
        raise unknown("paper", paper, papers())
    parts = (base / f"{name}{part}" for part in (".json", ".csv", "_curves.csv", "_per_seed.csv"))
    return _load(base, name, tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in parts))


def load_or_empty(paper: str) -> PublishedTable:
    """As `load`; a paper without published numbers has an empty table."""
    name = paper.replace("-", "_").lower()
    if (folder() / f"{name}.json").exists():
        return load(name)
    return PublishedTable(
        name, (), {}, {}, {"title": name, "name": name, "bibtex": "", "repository": "", "method": name, "suites": {}}
    )


@functools.lru_cache(maxsize=32)
def _load(base: Path, name: str, stamps: tuple[int, ...]) -> PublishedTable:
    """Reads the files once for every state of theirs (`stamps`)."""
    rows = tuple(_rows(base / f"{name}.csv"))
    by_key: dict[tuple[str, str, str, str], tuple[Row, ...]] = {}
    for row in rows:
        key = (row.suite, row.task, row.method, row.metric)
        by_key[key] = (*by_key.get(key, ()), row)
    curves, per_seed = base / f"{name}_curves.csv", base / f"{name}_per_seed.csv"
    return PublishedTable(
        paper=name,
        rows=rows,
        curves=dict(_curves(curves)) if curves.exists() else {},
        seed_scores=dict(_seed_scores(per_seed)) if per_seed.exists() else {},
        facts=facts(name),
        _by_key=by_key,
    )


def _records(path: Path, columns: Sequence[str], key: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of every row; checks the header, the number of cells and that keys are unique."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            missing = [c for c in columns if c not in header]
            if missing:
                raise UsageError(f"{path}, line 1: missing column {', '.join(missing)}")
            if sorted(header) != sorted(columns):
                extra = [c for c in header if c not in columns or header.count(c) > 1]
                raise UsageError(f"{path}, line 1: unknown or repeated column {', '.join(extra)}")
            seen: dict[tuple[str, ...], int] = {}
            begin = reader.line_num + 1
            for cells in reader:
                line, begin = begin, reader.line_num + 1
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise UsageError(f"{path}, line {line}: {len(cells)} cells instead of {len(header)}")
                row = dict(zip(header, cells, strict=True))
                for column in key[:3]:
                    if not row[column]:
                        raise UsageError(f"{path}, line {line}: {column} is empty")
                identity = tuple(row[column] for column in key)
                if identity in seen:
                    raise UsageError(f"{path}, line {line}: repeats line {seen[identity]}: {', '.join(identity)}")
                seen[identity] = line
                yield line, row
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8: {error.reason}") from None
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: {error}") from None


def _reader(path: Path, line: int, row: Mapping[str, str]) -> Callable[..., Any]:
    """`get(column, kind, required)`: a number from a cell, None where it is empty."""

    def get(column: str, kind: type = float, required: bool = False) -> Any:
        text = row[column].strip()
        if not text and not required:
            return None
        try:
            value = float(text)
        except ValueError:
            raise UsageError(f"{path}, line {line}: {column} is not a number: {text!r}") from None
        if not math.isfinite(value):
            raise UsageError(f"{path}, line {line}: {column} is {text}")
        if kind is int and value != int(value):
            raise UsageError(f"{path}, line {line}: {column} is not a whole number: {text!r}")
        return kind(value)

    return get


def _rows(path: Path) -> Iterator[Row]:
    # One number is sometimes printed in two places (text and table): the source belongs to the key.
    key = ("suite", "task", "method", "metric", "budget", "source")
    for line, row in _records(path, ROW_COLUMNS, key):
        get = _reader(path, line, row)
        statement = row["value"].strip() in ("yes", "no")
        spread = get("spread")
        if spread is not None and spread < 0:
            raise UsageError(f"{path}, line {line}: spread is negative: {spread:g}")
        if not row["metric"]:
            raise UsageError(f"{path}, line {line}: metric is empty")
        yield Row(
            suite=row["suite"],
            task=row["task"],
            method=row["method"],
            metric=row["metric"],
            value=None if statement else get("value", required=True),
            text=row["value"].strip(),
            spread=spread,
            spread_kind=row["spread_kind"],
            seeds=get("seeds", int),
            budget=get("budget"),
            budget_unit=row["budget_unit"],
            source=row["source"],
            note=row["note"],
            line=line,
        )


def _curves(path: Path) -> Iterator[tuple[tuple[str, str, str], Curve]]:
    points: dict[tuple[str, str, str], list[tuple[Any, ...]]] = {}
    units: dict[tuple[str, str, str], str] = {}
    for line, row in _records(path, CURVE_COLUMNS, ("suite", "task", "method", "step")):
        get = _reader(path, line, row)
        key = (row["suite"], row["task"], row["method"])
        if units.setdefault(key, row["step_unit"]) != row["step_unit"]:
            raise UsageError(f"{path}, line {line}: step_unit is {row['step_unit']!r}, before it was {units[key]!r}")
        point = (get("step", required=True), get("mean", required=True), get("std"), get("seeds", int))
        points.setdefault(key, []).append(point)
    for key, values in points.items():
        step, mean, std, seeds = zip(*sorted(values, key=lambda p: p[0]), strict=True)
        yield key, Curve(units[key], step, mean, std, seeds)


def _seed_scores(path: Path) -> Iterator[tuple[tuple[str, str, str], tuple[SeedScore, ...]]]:
    scores: dict[tuple[str, str, str], list[SeedScore]] = {}
    for line, row in _records(path, SEED_COLUMNS, ("suite", "task", "method", "seed", "budget", "source")):
        get = _reader(path, line, row)
        score = SeedScore(
            get("seed", int, required=True), get("value", required=True), get("budget"), row["budget_unit"]
        )
        scores.setdefault((row["suite"], row["task"], row["method"]), []).append(score)
    for key, values in scores.items():
        yield key, tuple(values)
