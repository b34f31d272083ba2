"""The door: suites, tasks, seeds and settings, with one clear line for what cannot be."""

import dataclasses
import importlib.metadata
import subprocess
import sys

import numpy as np
import pytest

from repro.envs import EnvSettings, make, packages, tasks
from repro.envs import settings as sets
from repro.errors import UsageError


def test_unknown_suites_and_tasks_name_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown suite 'atari100'.*atari100k"):
        make("atari100", "pong", [0])
    with pytest.raises(UsageError, match="unknown atari100k task 'pogn'.*pong"):
        make("atari100k", "pogn", [0])
    with pytest.raises(UsageError, match="unknown dmc_proprio task 'walker_wlak'.*walker_walk"):
        make("dmc_proprio", "walker_wlak", [0])
    with pytest.raises(UsageError, match="unknown bsuite task 'catch/x'"):
        make("bsuite", "catch/x", [0])
    with pytest.raises(UsageError, match="unknown suite"):
        tasks.tasks("nothing")


@pytest.mark.parametrize("seeds", [[], [-1], [2**31], [0, -5]])
def test_bad_seeds(seeds: list[int]) -> None:
    with pytest.raises(UsageError, match="seeds must be"):
        make("catch", "catch", seeds)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", (0, 64)), ("action_repeat", 0), ("resize", "cubic"), ("pool", "mean"), ("sticky", 1.5),
        ("noop_min", -1), ("noop_max", -1), ("life_loss", "yes"), ("time_limit", 0), ("pixels", False),
        ("shadowsize", -1), ("grid", (1, 3)),
    ],
)  # fmt: skip
def test_impossible_settings_name_the_field(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"environment setting {field}="):
        EnvSettings(**{field: value})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="jpeg"):
        EnvSettings(jpeg=True, gray=True)


def test_declared_sets_are_those_of_the_papers() -> None:
    expected = {  # size, gray, resize, pool, sticky, 18 actions, no-ops, lives, limit, limit terminal
        "dreamerv3_atari100k": ((64, 64), False, "bilinear", "screen", 0.0, False, (0, 30), "none", 108_000, True),
        "dreamerv3_atari": ((96, 96), True, "bilinear", "screen", 0.25, True, (0, 30), "none", 108_000, True),
        "dreamerv3_2024_atari": ((96, 96), True, "bilinear", "screen", 0.25, True, (0, 0), "none", 108_000, True),
        "dreamerv3_2024_atari100k": ((64, 64), False, "bilinear", "screen", 0.0, True, (0, 0), "none", 100_000, True),
        "dreamerv3_2023_atari": ((64, 64), False, "area", "screen", 0.25, True, (0, 0), "none", 108_000, True),
        "dreamerv3_2023_atari100k": ((64, 64), False, "area", "screen", 0.0, False, (0, 29), "none", 108_000, True),
        "dreamerv2_atari": ((64, 64), True, "area", "screen", 0.25, True, (1, 30), "none", 108_000, False),
        "iris_atari": ((64, 64), False, "bilinear", "resized", 0.0, False, (1, 30), "episode", 20_000, True),
        "efficientzero_atari": ((96, 96), False, "area", "screen", 0.0, False, (1, 30), "episode", 12_000, True),
    }
    for name, row in expected.items():
        s = getattr(sets, name)()
        noops = (s.noop_min, s.noop_max)
        found = (s.size, s.gray, s.resize, s.pool, s.sticky, s.full_actions, noops, s.life_loss, s.time_limit)
        assert (*found, s.terminal_on_limit) == row, name
        assert s.action_repeat == 4
    assert sets.iris_atari(train=False).life_loss == "none" and sets.iris_atari(train=False).noop_max == 1
    assert sets.efficientzero_atari(train=False).time_limit == 108_000 and sets.efficientzero_atari().jpeg
    assert dataclasses.replace(sets.dmc_proprio(2)).action_repeat == 2 and not sets.dmc_proprio().pixels


def test_tasks_of_the_published_tables() -> None:
    assert len(tasks.tasks("atari100k")) == 26
    assert len(tasks.ATARI_57) == len(set(tasks.ATARI_57)) == 57
    assert len(tasks.tasks("bsuite")) == 23 and len(tasks.tasks("procgen_hard")) == 16
    assert tasks.find("atari100k", "james_bond") == "jamesbond"
    assert tasks.find("dmc_proprio", "ball_in_cup_catch") == "cup_catch"
    assert tasks.find("bsuite", "deep_sea/3") == "deep_sea/3"


def test_every_atari_game_has_its_cartridge() -> None:
    from ale_py import roms

    assert set(tasks.tasks("atari_200m")) <= set(roms.get_all_rom_ids())


def test_listing_tasks_and_settings_imports_nothing_heavy() -> None:
    code = (
        "import sys; from repro.envs import make, settings, tasks; tasks.tasks('dmc_vision');"
        "settings.default('catch');"
        "print([m for m in ('jax', 'ale_py', 'gymnasium', 'dm_control', 'PIL') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_missing_package_is_one_line_but_a_broken_one_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="suite x needs the package no_such_module; run: pip install it"):
        packages.require("no_such_module.part", "x", "pip install it")
    broken = ModuleNotFoundError("no inner", name="inner")

    def fail(name: str) -> None:
        raise broken

    monkeypatch.setattr(packages.importlib, "import_module", fail)
    with pytest.raises(ModuleNotFoundError):
        packages.require("outer", "x", "pip install it")


def test_versions_of_installed_distributions_only() -> None:
    assert packages.versions("numpy", "no-such-distribution") == {"numpy": np.__version__}
    assert importlib.metadata.version("numpy") == np.__version__
