"""Overrides of configuration fields: every type, every mistake."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from repro import config
from repro.errors import UsageError


@dataclass(frozen=True)
class Inner:
    lr: float = 4e-5
    units: int = 64
    mults: tuple[int, ...] = (2, 3)
    dtype: Literal["float32", "bfloat16"] = "float32"
    limit: int | None = None


@dataclass(frozen=True)
class Outer:
    agent: Inner = field(default_factory=Inner)
    other: Inner = field(default_factory=Inner)
    steps: int = 10
    video: bool = False
    task: str = "walker_walk"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("must be at least 1")


def test_every_type_is_parsed_and_nothing_else_changes() -> None:
    changed = config.override(
        Outer(),
        ["agent.lr=1e-3", "agent.units=128", "agent.mults=1,2,4", "agent.dtype=bfloat16", "agent.limit=7", "steps=1e6"]
        + ["video=true", "task=cup_catch"],
    )
    assert changed.agent == Inner(1e-3, 128, (1, 2, 4), "bfloat16", 7)
    assert changed.other == Inner() and changed.steps == 1_000_000 and changed.video and changed.task == "cup_catch"
    assert config.override(changed, ["agent.limit=none"]).agent.limit is None


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("lr=1", "ambiguous: agent.lr, other.lr"),
        ("agent.lrr=1", "did you mean: agent.lr"),
        ("step=1", "did you mean: steps"),
        ("agent.units=1.5", "whole number"),
        ("agent.lr=fast", "expected a number, got 'fast'"),
        ("video=maybe", "expected true or false"),
        ("agent.dtype=int8", "not one of float32, bfloat16"),
        ("steps", "expected key=value"),
        ("steps=0", "must be at least 1"),
    ],
)
def test_mistakes_are_named_in_one_line(assignment: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        config.override(Outer(), [assignment])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_digest_depends_on_values_only_and_deviations_name_the_fields() -> None:
    changed = config.override(Outer(), ["agent.units=32", "steps=5"])
    assert config.digest(changed) != config.digest(Outer()) == config.digest(Outer())
    assert config.deviations(changed, Outer(), ignore=["steps"]) == {"agent.units": {"paper": 64, "used": 32}}
    assert config.deviations(changed, Outer(), ignore=["agent"]) == {"steps": {"paper": 10, "used": 5}}
