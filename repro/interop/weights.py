"""Official weights by their own names: renaming, and our modules with the weights of a recorded case."""

import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from repro.errors import UsageError
from repro.interop import pickles
from repro.nn.params import Definition, Draw

Arrays = dict[str, Any]


@dataclass(frozen=True)
class Names:
    """Official name -> ours, by the first pattern that fits."""

    patterns: Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
    """Regular expression, and what `re.Match.expand` takes or a function of the match."""
    swapped: str = ""
    """Our names that match this have their last two axes exchanged in the official code (transposed convolutions)."""

    def our_name(self, official: str) -> str:
        """Our name of an official parameter; `UsageError` if it has none."""
        for pattern, replacement in self.patterns:
            if match := re.fullmatch(pattern, official):
                return match.expand(replacement) if isinstance(replacement, str) else replacement(match)
        raise UsageError(f"no place for the official parameter {official!r}")

    def turn(self, name: str, value: Any) -> Any:
        """An array in our layout from the official one, or the other way round; `name` is ours."""
        return value.swapaxes(-1, -2) if self.swapped and re.search(self.swapped, name) else value

    def ours(self, arrays: Mapping[str, Any]) -> Arrays:
        """Official arrays under our names and in our layout."""
        found = {self.our_name(k): v for k, v in arrays.items()}
        return {k: self.turn(k, v) for k, v in found.items()}


def under(arrays: Mapping[str, Any], prefix: str) -> Arrays:
    """Arrays of a group, without its name."""
    return {k.removeprefix(prefix): jnp.asarray(v) for k, v in arrays.items() if k.startswith(prefix)}


class Module:
    """One of our modules with official weights `{name: array}`; `scope` is what our full names begin with there.

    Parameters that are not given are zero.
    """

    def __init__(self, make: Callable[[Draw], Any], names: Names, weights: Mapping[str, Any], scope: str = ""):
        self.definition = Definition(make)
        self.renaming, self.scope = names, scope
        self.names = {k: names.our_name(k).removeprefix(scope) for k in weights}
        given = {k.removeprefix(scope): jnp.asarray(v) for k, v in names.ours(weights).items()}
        check_shapes(given, self.definition.shapes)
        self.params = {k: given.get(k, jnp.zeros(s.shape)) for k, s in self.definition.shapes.items()}

    def __call__(self, params: Mapping[str, Any] | None = None) -> Any:
        """The module."""
        return self.definition.bind(self.params if params is None else params)

    def officially(self, arrays: Mapping[str, Any], prefix: str = "") -> Arrays:
        """Gradients or parameters under their official names and layout."""
        turn = self.renaming.turn
        return {f"{prefix}{k}": turn(self.scope + ours, arrays[ours]) for k, ours in self.names.items()}


def check_shapes(given: Mapping[str, Any], shapes: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    """`UsageError` for a weight that we do not have, or not in that shape."""
    for name, value in given.items():
        expected = shapes.get(name)
        if expected is None or expected.shape != np.shape(value):
            raise UsageError(f"weight {name}: shape {np.shape(value)}, ours is {expected and expected.shape}")


def read_named(file: Path) -> Arrays:
    """Arrays by name from an `.npz` archive or a pickled dict; `UsageError` for anything else."""
    if file.suffix == ".npz":
        try:
            with np.load(file, allow_pickle=False) as archive:
                return {k: archive[k] for k in archive.files}
        except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
            raise UsageError(f"{file}: cannot be read ({error})") from None
    data = pickles.read(file)
    if not isinstance(data, dict) or not all(isinstance(v, np.ndarray) for v in data.values()):
        raise UsageError(
            f"{file}: expected a dict of arrays by their official names; a list without names is not enough"
        )
    return data


def write_converted(out: Path, paper: str, source: Path, groups: Mapping[str, Mapping[str, Any]]) -> str:
    """Writes `out/params.npz` (arrays `group/name`) and `out/meta.json`; says what was found."""
    arrays = {f"{group}/{k}": np.asarray(v) for group, values in groups.items() for k, v in values.items()}
    count = sum(int(np.size(v)) for v in groups["params"].values())
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "params.npz", **arrays)  # type: ignore[arg-type]
    meta = {"format": 1, "paper": paper, "source": source.name, "parameters": count, "groups": list(groups)}
    (out / "meta.json").write_text(json.dumps(meta, indent=1))
    others = ", ".join(f"{len(v)} arrays of {k}" for k, v in groups.items() if k != "params" and v)
    return f"{count:,} parameters in {len(groups['params'])} arrays" + (f", {others}" if others else "")
