"""What makes a run record valid: its schema, its plausibility, and that its scores follow from its episodes."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from repro.errors import UsageError
from repro.evaluation import protocols
from repro.tracker import bounds

SCHEMA = 1
"""Version of the record's schema; a newer record is refused, not guessed at."""

_TEXT: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "paper": str,
    "suite": str,
    "task": str,
    "method": str,
    "preset": str,
    "metric": str,
    "step_unit": str,
    "config_hash": str,
    "created": str,
    "command": str,
}
FIELDS: dict[str, type | tuple[type, ...]] = {
    "schema": int,
    **_TEXT,
    "protocol": dict,
    "seeds": list,
    "scores": list,
    "episodes": list,
    "curve": list,
    "budget": dict,
    "budget_fraction": (int, float),
    "deviations": dict,
    "config": dict,
    "code": dict,
    "versions": dict,
    "hardware": dict,
    "seconds": dict,
    "throughput": dict,
    "updates": int,
    "resumed": int,
    "checkpoint_digest": (str, type(None)),
    "extra": dict,
}
"""Fields of a record and their JSON types; all must be there, and no other."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
"""Names become folders: nothing that could leave them."""


def refuse_constant(name: str) -> float:
    """`parse_constant` of `json.loads`: NaN and infinities are no JSON and no scores."""
    raise ValueError(f"it holds the number {name}")


def require(record: Mapping[str, Any], where: str) -> None:
    """Raises `UsageError` with the first problem of a record; `where` begins the line."""
    for problem in problems(record):
        raise UsageError(f"{where}: {problem}")


def problems(record: Mapping[str, Any]) -> Iterator[str]:
    """Every problem of a record, the gravest first: where the structure is wrong nothing further is looked at."""
    structural = list(structure(record))
    yield from structural
    if not structural:
        yield from plausibility(record)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def structure(record: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the fields: missing, unknown, of the wrong type or shape, or of a newer schema."""
    version = record.get("schema")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        yield f"not a run record: its schema is {version!r}"
        return
    if version > SCHEMA:
        yield f"schema {version} is newer than this suite reads ({SCHEMA}); update the suite"
        return
    missing = [name for name in FIELDS if name not in record]
    unknown = [name for name in record if name not in FIELDS]
    if missing or unknown:
        parts = [
            f"{text} {', '.join(map(repr, names))}"
            for text, names in (("lacks the field", missing), ("has the unknown field", unknown))
            if names
        ]
        yield " and ".join(parts)
        return
    for name, kind in FIELDS.items():
        value = record[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            yield f"{name} has the wrong type: {_short(value)}"
            return
    for name in ("paper", "suite", "task"):
        if not _NAME.fullmatch(record[name]):
            yield f"{name} {record[name]!r} cannot be a folder name"
    for name in ("method", "preset", "metric", "step_unit", "command"):
        if not record[name]:
            yield f"{name} is empty"
    if not re.fullmatch(r"[0-9a-f]{12}", record["id"]):
        yield f"id {record['id']!r} is not 12 hexadecimal digits"
    try:
        datetime.fromisoformat(record["created"])
    except ValueError:
        yield f"created {record['created']!r} is not an ISO time"
    yield from _seeds(record)
    yield from _budget(record)
    if record["updates"] < 0 or record["resumed"] < 0:
        yield "updates and resumed cannot be negative"
    for name in ("seconds", "throughput"):
        for key, value in record[name].items():
            if value is not None and not (_number(value) and value >= 0):
                yield f"{name}.{key} is not a number of at least 0: {value!r}"
    for name, value in record["deviations"].items():
        if not (isinstance(value, dict) and set(value) == {"paper", "used"}):
            yield f"deviations.{name} must hold paper and used"
    if set(record["code"]) < {"commit", "dirty"}:
        yield "code must hold commit and dirty"
    yield from _figures(record["extra"].get("figures", []))
    try:
        protocols.from_dict(record["protocol"])
    except UsageError as error:
        yield f"protocol: {error}"


def _seeds(record: Mapping[str, Any]) -> Iterator[str]:
    seeds = record["seeds"]
    if not seeds:
        yield "seeds is empty"
    if not all(isinstance(s, int) and not isinstance(s, bool) for s in seeds):
        yield f"seeds are not whole numbers: {_short(seeds)}"
    elif len(set(seeds)) != len(seeds):
        yield f"seeds holds a seed twice: {_short(seeds)}"
    for name in ("scores", "episodes", "curve"):
        if len(record[name]) != len(seeds):
            yield f"{name} has {len(record[name])} entries for {len(seeds)} seeds"
    for i, score in enumerate(record["scores"]):
        if score is not None and not _number(score):
            yield f"scores[{i}] is not a finite number: {score!r}"
    statistic = record["protocol"].get("kind") == "statistic"
    for i, episodes in enumerate(record["episodes"]):
        if not isinstance(episodes, dict) or "return" not in episodes or not (statistic or "step" in episodes):
            yield f"episodes[{i}] must hold step and return"
            continue
        for name, values in episodes.items():
            if name not in ("step", "return", "length"):
                yield f"episodes[{i}] has the unknown list {name!r}"
            elif not isinstance(values, list) or len(values) != len(episodes["return"]):
                yield f"episodes[{i}].{name} has not one entry an episode"
            elif not all(map(_number, values)):
                bad = next(j for j, v in enumerate(values) if not _number(v))
                yield f"episodes[{i}].{name}[{bad}] is not a finite number: {values[bad]!r}"
    for i, points in enumerate(record["curve"]):
        if not isinstance(points, list) or not all(
            isinstance(p, list) and len(p) == 2 and all(map(_number, p)) for p in points
        ):
            yield f"curve[{i}] is not a list of [step, score]"


def _figures(figures: Any) -> Iterator[str]:
    """`extra.figures`: charts of the paper's own, `{title, x_label, y_label, series: [{name, x, y, low?, high?}]}`."""
    if not isinstance(figures, list):
        yield "extra.figures is not a list"
        return
    for i, figure in enumerate(figures):
        if not isinstance(figure, dict) or set(figure) != {"title", "x_label", "y_label", "series"}:
            yield f"extra.figures[{i}] must hold title, x_label, y_label and series"
            continue
        sound = isinstance(figure["series"], list) and bool(figure["series"])
        for one in figure["series"] if sound else ():
            lists = (
                [one.get(name) for name in ("x", "y", "low", "high") if name in one] if isinstance(one, dict) else []
            )
            sound = sound and {"name", "x", "y"} <= set(one) <= {"name", "x", "y", "low", "high"}
            sound = sound and ("low" in one) == ("high" in one) and bool(one["x"])
            sound = sound and all(
                isinstance(v, list) and len(v) == len(one["x"]) and all(map(_number, v)) for v in lists
            )
        if not sound:
            yield f"extra.figures[{i}].series must be lists of numbers x, y (and low, high) of one length, with a name"


def _budget(record: Mapping[str, Any]) -> Iterator[str]:
    budget = record["budget"]
    if set(budget) != {"used", "paper", "unit"}:
        yield "budget must hold used, paper and unit"
        return
    if not (_number(budget["used"]) and budget["used"] > 0 and _number(budget["paper"]) and budget["paper"] > 0):
        yield f"budget must be positive: {_short(budget)}"
        return
    if budget["unit"] != record["step_unit"]:
        yield f"budget is counted in {budget['unit']!r}, steps in {record['step_unit']!r}"
    fraction = min(1.0, budget["used"] / budget["paper"])
    if not _number(record["budget_fraction"]) or abs(record["budget_fraction"] - fraction) > 1e-6:
        yield f"budget_fraction is {record['budget_fraction']!r}, the budgets give {fraction:.6g}"


def plausibility(record: Mapping[str, Any]) -> Iterator[str]:
    """What cannot be: scores outside the possible range or the budget, or that do not follow from the episodes."""
    used = record["budget"]["used"]
    low, high = bounds.score_range(record["suite"], record["task"], record["metric"])
    for i, episodes in enumerate(record["episodes"]):
        steps, returns = episodes.get("step", []), episodes["return"]
        if any(a > b for a, b in zip(steps, steps[1:], strict=False)):
            yield f"episodes[{i}].step does not increase"
        if steps and (min(steps) < 0 or max(steps) > used):
            outside = next(s for s in steps if s < 0 or s > used)
            yield f"episodes[{i}] has a step outside the budget of {used:,} {record['step_unit']}: {outside:,}"
        for value in returns:
            if not low <= value <= high:
                yield f"episodes[{i}] has a return of {value:g}; {record['task']} allows {low:g} to {high:g}"
                break
    scored = min(used, record["budget"]["paper"])
    expected = protocols.final_scores(record["protocol"], record["episodes"], scored)
    yield from _compare("scores", record["seeds"], record["scores"], expected, _close)
    curves = protocols.learning_curve(record["protocol"], record["episodes"], used)
    yield from _compare("curve", record["seeds"], record["curve"], curves, _close_curve)


def _compare(
    name: str, seeds: Sequence[int], stored: Sequence[Any], computed: Sequence[Any], close: Callable[[Any, Any], bool]
) -> Iterator[str]:
    for seed, old, new in zip(seeds, stored, computed, strict=True):
        if not close(old, new):
            yield f"{name} of seed {seed} is {_short(old)}, its episodes give {_short(new)} by the protocol"


def _close(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6)


def _close_curve(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> bool:
    return len(a) == len(b) and all(x[0] == y[0] and _close(x[1], y[1]) for x, y in zip(a, b, strict=True))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
