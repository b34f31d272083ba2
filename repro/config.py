"""Configurations are frozen dataclass trees. Here: read and override their fields by name, flatten, hash, compare."""

import dataclasses
import difflib
import hashlib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from repro.errors import UsageError

C = TypeVar("C")


def positive(config: Any, *names: str) -> None:
    """`ValueError` for the first of these fields that is not above 0 (for `__post_init__`)."""
    for name in names:
        if not getattr(config, name) > 0:
            raise ValueError(f"{name} must be above 0")


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted field name -> value, in order of definition; nested dataclasses are entered, all else is a leaf."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        name = prefix + field.name
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, name + ".")
        else:
            flat[name] = value
    return flat


def to_json(config: Any) -> dict[str, Any]:
    """The configuration as nested plain dicts, lists, numbers and strings."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_json(template: C, data: Mapping[str, Any]) -> C:
    """Inverse of `to_json`: the configuration of `template`'s types with the values of `data`.

    Raises `UsageError` for a field that `template` does not have (written by another version).
    """
    known = {field.name for field in dataclasses.fields(template)}  # type: ignore[arg-type]
    if unknown_fields := sorted(set(data) - known):
        raise UsageError(f"stored configuration has unknown fields: {', '.join(unknown_fields)} (another version?)")
    values: dict[str, Any] = {}
    for name, value in data.items():
        current = getattr(template, name)
        if dataclasses.is_dataclass(current):
            values[name] = from_json(current, value)
        else:
            values[name] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(template, **values)  # type: ignore[type-var]


def digest(config: Any) -> str:
    """First 12 hex digits of the sha256 of the configuration's canonical JSON."""
    text = json.dumps(to_json(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def deviations(config: Any, reference: Any, ignore: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Fields in which `config` differs from `reference`: name -> {"paper": ..., "used": ...}.

    A name in `ignore` leaves out the field or the whole subtree of that name.
    """
    used, paper = flatten(config), flatten(reference)
    skip = [n for n in used | paper if any(n == i or n.startswith(i + ".") for i in ignore)]
    return {
        name: {"paper": paper.get(name), "used": used.get(name)}
        for name in (used | paper)
        if name not in skip and used.get(name) != paper.get(name)
    }


def override(config: C, assignments: Sequence[str]) -> C:
    """`config` with `key=value` assignments applied.

    A key is a dotted field name (`agent.lr`) or an unambiguous ending of one (`lr`). A method `with_<key>(text)` of the
    configuration is used instead where there is one, for names that stand for several fields (`size=12M`). Raises
    `UsageError` for a missing `=`, an unknown or ambiguous key, or a value that does not fit the field's type.
    """
    for assignment in assignments:
        key, found, text = assignment.partition("=")
        if not found:
            raise UsageError(f"--set {assignment!r}: expected key=value, e.g. --set agent.lr=1e-4")
        setter = getattr(config, f"with_{key.strip()}", None)
        if setter is not None:
            config = setter(text.strip())
        else:
            config = _replace(config, _resolve(key.strip(), flatten(config)), text.strip())
    return config


def _resolve(key: str, flat: Mapping[str, Any]) -> str:
    if key in flat:
        return key
    hits = [name for name in flat if name.endswith("." + key)]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise UsageError(f"config field {key!r} is ambiguous: {', '.join(hits)}")
    # A mistyped leaf is compared with the leaves, a mistyped path with the paths.
    known = list(flat) + [name.rsplit(".", 1)[-1] for name in flat]
    near = list(dict.fromkeys(difflib.get_close_matches(key, known, n=4, cutoff=0.5)))
    hint = f"did you mean: {', '.join(near)}?" if near else f"known: {', '.join(sorted(flat))}"
    raise UsageError(f"unknown config field {key!r}; {hint}")


def _replace(config: Any, name: str, text: str) -> Any:
    head, _, rest = name.partition(".")
    if rest:
        value = _replace(getattr(config, head), rest, text)
    else:
        value = _parse(text, typing.get_type_hints(type(config))[head], head)
    try:
        return dataclasses.replace(config, **{head: value})
    except ValueError as error:  # a dataclass may check its values in __post_init__
        raise UsageError(f"config field {name!r}: {error}") from None


def _parse(text: str, hint: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if text.lower() in ("none", "null") and type(None) in arguments:
            return None
        return _parse(text, next(a for a in arguments if a is not type(None)), name)
    if origin is typing.Literal:
        for choice in arguments:
            if text == str(choice):
                return choice
        raise UsageError(f"config field {name!r}: {text!r} is not one of {', '.join(map(str, arguments))}")
    if origin is tuple:
        parts = [part for part in text.strip("()[] ").split(",") if part.strip()]
        return tuple(_parse(part.strip(), arguments[0], name) for part in parts)
    if hint is bool:
        if text.lower() in ("true", "1", "yes", "on"):
            return True
        if text.lower() in ("false", "0", "no", "off"):
            return False
        raise UsageError(f"config field {name!r}: expected true or false, got {text!r}")
    if hint in (int, float):
        try:
            number = float(text)
        except ValueError:
            raise UsageError(f"config field {name!r}: expected a number, got {text!r}") from None
        if hint is int:
            if number != int(number):
                raise UsageError(f"config field {name!r}: expected a whole number, got {text!r}")
            return int(text) if text.lstrip("+-").isdigit() else int(number)
        return number
    return text
