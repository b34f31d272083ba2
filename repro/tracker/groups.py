"""Records of the same experiment, pooled: what several machines ran of one task becomes one number over all seeds."""

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from repro.evaluation import protocols, statistics
from repro.evaluation.statistics import Estimate

Record = Mapping[str, Any]
Key = tuple[str, str, str, str]
"""Suite, task, method, metric."""


@dataclass(frozen=True)
class Group:
    """Records that differ only in their seeds (and in where they ran). A seed counts once: in its oldest record."""

    records: tuple[Record, ...]
    limit: float | None = None
    """Budget of the number compared with, where it is not the one the records name as the paper's."""

    @property
    def first(self) -> Record:
        """The oldest record; suite, task, protocol, budget and settings are the same in all."""
        return self.records[0]

    @property
    def key(self) -> Key:
        """Suite, task, method, metric."""
        first = self.first
        return first["suite"], first["task"], first["method"], first["metric"]

    @property
    def fraction(self) -> float:
        """Used share of the paper's budget."""
        budget = self.first["budget"]
        return min(1.0, budget["used"] / (self.limit or budget["paper"]))

    @property
    def changed(self) -> Mapping[str, Any]:
        """Settings that differ from the paper's: field -> {"paper", "used"}."""
        return self.first["deviations"]

    @functools.cached_property
    def _scores(self) -> dict[int, float | None]:
        found: dict[int, float | None] = {}
        for record in self.records:
            scores, budget = record["scores"], record["budget"]
            if self.limit is not None and self.limit < min(budget["used"], budget["paper"]):
                scores = protocols.final_scores(record["protocol"], record["episodes"], self.limit)
            for seed, score in zip(record["seeds"], scores, strict=True):
                found.setdefault(seed, score)
        return found

    @property
    def seeds(self) -> list[int]:
        """All seeds."""
        return list(self._scores)

    @property
    def scores(self) -> list[float]:
        """Final scores of the seeds that have one."""
        return [score for score in self._scores.values() if score is not None]

    @property
    def curves(self) -> list[list[list[float]]]:
        """Learning curves `[[step, score], ...]`, one a seed."""
        found: dict[int, list[list[float]]] = {}
        for record in self.records:
            for seed, curve in zip(record["seeds"], record["curve"], strict=True):
                found.setdefault(seed, curve)
        return list(found.values())

    def estimate(self) -> Estimate | None:
        """Our number over the seeds (mean, or median where the protocol says so); None without scores."""
        if not self.scores:
            return None
        if self.first["protocol"].get("aggregate") == "median":
            return statistics.of_median(self.scores)
        return statistics.of_scores(self.scores)

    def scores_by_step(self) -> dict[float, list[float]]:
        """Step -> scores of the seeds that have a curve point there, steps ascending."""
        found: dict[float, list[float]] = {}
        for curve in self.curves:
            for step, score in curve:
                found.setdefault(step, []).append(score)
        return dict(sorted(found.items()))

    @property
    def rank(self) -> tuple[Any, ...]:
        """Sorts the group that says most about the paper first: budget, unchanged settings, seeds, newest."""
        return -self.fraction, bool(self.changed), -len(self.scores), _reversed(self.first["created"])


def _reversed(text: str) -> tuple[int, ...]:
    return tuple(-ord(c) for c in text)


def group(records: Iterable[Record]) -> dict[Key, list[Group]]:
    """Groups by suite, task, method and metric, the most telling group first."""
    pools: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: (r["created"], r["id"])):
        same = [record[name] for name in ("suite", "task", "method", "metric", "protocol", "deviations", "budget")]
        pools.setdefault(json.dumps(same, sort_keys=True), []).append(record)
    found: dict[Key, list[Group]] = {}
    for pool in pools.values():
        one = Group(tuple(pool))
        found.setdefault(one.key, []).append(one)
    return {key: sorted(groups, key=lambda g: g.rank) for key, groups in found.items()}
