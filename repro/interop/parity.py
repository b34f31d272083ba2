"""Our modules on recorded official inputs and weights.

A golden directory holds `cases.json` (`paper`, `conventions`, `cases`) and one archive a case: `<case>.npz`, or the
JSON file that the case names as `file`, whose top-level keys are then the arrays. A case has a `config`, shell patterns
that say which arrays are `weights`, `inputs` and `ignore`d, and `outputs` `{name, kind, tol, measure, where}`. A paper
offers, for every `config.function` (without one: for the beginning of the case's name), a function from a `Case` to its
outputs by name.
"""

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from repro.errors import UsageError


@dataclass(frozen=True)
class Output:
    """How one recorded output is compared."""

    reference: np.ndarray
    kind: str
    """`float`: |difference| <= tol * largest |reference| (absolute where the reference is all zero, or with measure
    `abs`); `exact`: equal values; `statistical`: the paper's function applies the stated rule itself and returns the
    largest deviation divided by what is allowed."""
    tol: float = 0.0
    absolute: bool = False
    where: np.ndarray | None = None
    """Compare only entries in which this array is not 0."""
    elementwise: float | None = None
    """Also |difference| <= elementwise * (1 + |reference|), entry by entry."""


@dataclass(frozen=True)
class Case:
    """One recorded computation."""

    name: str
    folder: Path
    config: Mapping[str, Any]
    conventions: Mapping[str, Any]
    weights: Mapping[str, np.ndarray]
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, Output]


def stepped(optimizer: Any, params: Any, gradients: Iterable[Any]) -> Iterator[Any]:
    """Parameters after each of the recorded gradients has gone through an optax optimiser."""
    import optax

    state = optimizer.init(params)
    for gradient in gradients:
        change, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, change)
        yield params


class Result(NamedTuple):
    """Outcome of a case: `error` is the largest difference in units of its tolerance (at most 1 passes)."""

    case: str
    passed: bool
    error: float
    worst: str
    message: str


Implementation = Callable[[Case], Mapping[str, Any]]


def in_one_program(function: Implementation) -> Implementation:
    """`function` compiled as a whole: operation by operation, a case that runs its module many times takes four times
    as long, most of it for lowering each of them."""

    def compiled(case: Case) -> Mapping[str, Any]:
        import jax

        of = lambda weights, inputs: dict(function(replace(case, weights=weights, inputs=inputs)))  # noqa: E731
        return jax.jit(of)(dict(case.weights), dict(case.inputs))

    return compiled


class Golden:
    """The cases of a golden directory; `UsageError` if it is not one."""

    def __init__(self, folder: Path):
        self.folder = folder
        index = folder / "cases.json"
        if not index.is_file():
            raise UsageError(f"{folder}: no cases.json there; --golden takes a directory of recorded cases")
        try:
            content = json.loads(index.read_text())
        except (ValueError, OSError) as error:
            raise UsageError(f"{index}: not valid JSON ({error})") from None
        if not isinstance(content, dict) or not isinstance(content.get("cases"), dict):
            raise UsageError(f"{index}: expected an object with the keys paper, conventions and cases")
        self.paper = str(content.get("paper", ""))
        self.conventions = content.get("conventions", {})
        self._cases: dict[str, Any] = content["cases"]

    @property
    def names(self) -> list[str]:
        """Names of the cases, in their order."""
        return list(self._cases)

    def load(self, name: str) -> Case:
        """The case `name` with its arrays."""
        spec = self._cases[name]
        try:
            config, patterns = spec["config"], {kind: list(spec[kind]) for kind in ("weights", "inputs", "ignore")}
            rules = [(rule["name"], rule["kind"], rule) for rule in spec["outputs"]]
            function = config.get("function", "")
        except (KeyError, TypeError) as error:
            raise UsageError(f"{self.folder / 'cases.json'}: case {name!r} lacks {error}") from None
        if not isinstance(function, str):
            raise UsageError(f"{self.folder / 'cases.json'}: case {name!r}: function must be a name")
        arrays = _read(self.folder / spec.get("file", f"{name}.npz"))
        groups: dict[str, dict[str, np.ndarray]] = {"weights": {}, "inputs": {}, "ignore": {}}
        outputs: dict[str, Output] = {}
        sharper = {k: v for k, v in config.get("elementwise_tol", {}).items() if k != "rule"}
        for key, value in arrays.items():
            hits = [rule for pattern, _, rule in rules if fnmatchcase(key, pattern)]
            kinds = [kind for kind, those in patterns.items() if any(fnmatchcase(key, p) for p in those)]
            if len(hits) + len(kinds) != 1:
                count = "no pattern" if not hits + kinds else "several patterns"
                raise UsageError(f"{self.folder / 'cases.json'}: case {name!r}: array {key!r} matches {count}")
            if kinds:
                groups[kinds[0]][key] = value
                continue
            rule = hits[0]
            where = rule.get("where")
            if where is not None and where not in arrays:
                raise UsageError(f"{self.folder / 'cases.json'}: case {name!r}: no array {where!r} (where of {key!r})")
            outputs[key] = Output(
                value,
                rule["kind"],
                float(rule.get("tol", 0.0)),
                rule.get("measure") == "abs",
                None if where is None else arrays[where],
                next((tol for pattern, tol in sharper.items() if fnmatchcase(key, pattern)), None),
            )
        return Case(name, self.folder, config, self.conventions, groups["weights"], groups["inputs"], outputs)


def check(case: Case, cases: Mapping[str, Implementation]) -> Result:
    """Runs the implementation of a case and compares; whatever it raises is a failure of this case alone."""
    # A case that names no function is served by the one its own name begins with, the longest of several.
    named = [case.config["function"]] if "function" in case.config else filter(case.name.startswith, cases)
    function = max(named, key=len, default=case.name)
    if function not in cases:
        return Result(case.name, False, float("inf"), "", f"no implementation of {function!r}")
    try:
        found = cases[function](case)
    except Exception as error:  # noqa: BLE001 - a broken case must not hide the others
        text = " ".join(str(error).split())[:200]
        return Result(case.name, False, float("inf"), "", f"{type(error).__name__}: {text}")
    missing = [name for name in case.outputs if name not in found]
    if missing:
        return Result(case.name, False, float("inf"), missing[0], f"{len(missing)} outputs are missing")
    worst, largest = "", 0.0
    for name, output in case.outputs.items():
        size = difference(np.asarray(found[name]), output)
        if not size <= largest:
            worst, largest = name, size
    return Result(case.name, largest <= 1.0, largest, worst, "")


def difference(value: np.ndarray, output: Output) -> float:
    """Difference from the reference in units of the tolerance; infinite for unequal shapes, NaN or inexact values."""
    if output.kind == "statistical":
        return float(value) if np.isfinite(value).all() else float("inf")
    reference = output.reference
    if value.shape != reference.shape:
        return float("inf")
    if output.where is not None:
        kept = np.broadcast_to(output.where != 0, reference.shape)
        value, reference = value[kept], reference[kept]
    if not reference.size:
        return 0.0
    if output.kind == "exact":
        numeric = np.issubdtype(reference.dtype, np.inexact)
        return 0.0 if np.array_equal(value, reference, equal_nan=numeric) else float("inf")
    value, reference = value.astype(np.float64), reference.astype(np.float64)
    same = (value == reference) | (np.isnan(value) & np.isnan(reference))
    error = np.where(same, 0.0, np.abs(np.where(same, 0.0, value) - np.where(same, 0.0, reference)))
    size = float(np.abs(reference[np.isfinite(reference)]).max(initial=0.0))
    allowed = output.tol * (size if size and not output.absolute else 1.0)
    ratios = [_ratio(error.max(), allowed)]
    if output.elementwise is not None:
        ratios.append(float((error / (output.elementwise * (1 + np.abs(reference)))).max()))
    return float("inf") if np.isnan(ratios).any() else max(ratios)


def _ratio(error: float, allowed: float) -> float:
    if error == 0:
        return 0.0
    return float(error / allowed) if allowed else float("inf")


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UsageError(f"{path}: missing; cases.json names it")
    try:
        if path.suffix == ".json":
            return {key: np.asarray(value) for key, value in json.loads(path.read_text()).items()}
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile, AttributeError, EOFError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from None
