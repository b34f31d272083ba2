"""Atari on the host against one plain emulator, frame by frame, and against the official IRIS wrappers."""

import json
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from repro.envs import atari, make
from repro.envs import settings as sets
from repro.envs.atari import AtariEnv
from repro.envs.base import TimeStep
from repro.envs.settings import EnvSettings
from repro.errors import RunError, UsageError

sys.path.insert(0, str(Path(__file__).parent))
from atari_reference import Reference  # noqa: E402

GOLDEN = Path(__file__).parents[2] / "golden" / "envs"


def play(env: AtariEnv, actions: np.ndarray) -> list[TimeStep]:
    return [env.step({"action": a}) for a in actions]


def actions_for(env: AtariEnv, steps: int, seed: int = 0) -> np.ndarray:
    classes = env.action_spaces["action"].classes
    return np.random.default_rng(seed).integers(0, classes, (steps, env.num_envs)).astype(np.int32)


def assert_equal(a: TimeStep, b: TimeStep) -> None:
    np.testing.assert_array_equal(a.obs["image"], b.obs["image"])
    for x, y in zip(a[1:], b[1:], strict=True):
        np.testing.assert_array_equal(x, y)
        assert x.dtype == y.dtype


@pytest.mark.parametrize(
    ("game", "settings", "steps"),
    [
        ("breakout", sets.dreamerv3_atari100k(), 150),
        ("ms_pacman", sets.dreamerv3_atari(), 80),
        ("breakout", sets.dreamerv3_2023_atari100k(), 120),
        ("qbert", sets.dreamerv3_2024_atari100k(), 80),
        ("breakout", sets.dreamerv2_atari(), 120),
        ("breakout", sets.iris_atari(), 150),
        ("pong", sets.iris_atari(train=False), 60),
        ("breakout", sets.efficientzero_atari(), 150),
        ("breakout", replace(sets.dreamerv3_atari100k(), time_limit=102), 120),
        ("breakout", replace(sets.dreamerv3_atari100k(), time_limit=102, terminal_on_limit=False), 60),
        ("breakout", replace(sets.iris_atari(), time_limit=110), 120),
        ("breakout", replace(sets.efficientzero_atari(), time_limit=200, life_loss="none", pool="none"), 120),
    ],
)
def test_every_frame_reward_and_end_equals_a_plain_emulator(game: str, settings: EnvSettings, steps: int) -> None:
    seeds = [7, 3]
    env = AtariEnv(game, seeds, settings)
    noops = [0, 0]
    references = [Reference(game, s, settings, lambda i=i: noops[i]) for i, s in enumerate(seeds)]
    timestep, ends, compared = env.reset(), 0, 0
    for action in [np.zeros(2, np.int32), *actions_for(env, steps)]:
        if ends or compared:
            timestep = env.step({"action": action})
        noops[:] = env._info["episode_frame_number"]
        for i, reference in enumerate(references):
            image, reward, first, last, terminal = reference.step(int(action[i]))
            flags = (timestep.is_first[i], timestep.is_last[i], timestep.is_terminal[i])
            assert flags == (first, last, terminal)
            assert timestep.reward[i] == reward
            if reference.exact:
                np.testing.assert_array_equal(timestep.obs["image"][i], image)
                compared += 1
            ends += last
    assert compared > steps
    if settings.time_limit and settings.time_limit <= 200:
        assert ends >= 4


def test_iris_wrappers_of_the_official_code() -> None:
    golden = np.load(GOLDEN / "iris_atari.npz")
    config = json.loads(str(golden["config"]))
    for game in ("Breakout", "Pong"):
        noops = config[game]["noops"]
        env = AtariEnv(game.lower(), [0], replace(sets.iris_atari(), noop_min=noops, noop_max=noops))
        assert env.action_spaces["action"].classes == config[game]["num_actions"]
        record = {k: golden[f"out/{game}/{k}"] for k in ("crc32", "rewards", "dones", "is_reset", "lives")}
        timestep = env.reset()
        actions = iter(golden[f"in/{game}/actions"])
        for t in range(len(record["crc32"])):
            if t > 0:
                action = 0 if record["is_reset"][t] else next(actions)
                timestep = env.step({"action": np.array([action])})
            assert timestep.is_first[0] == record["is_reset"][t]
            assert env._lives[0] == record["lives"][t]
            if not record["is_reset"][t]:
                assert timestep.reward[0] == record["rewards"][t]
                assert timestep.is_last[0] == timestep.is_terminal[0] == record["dones"][t]
            if not (record["dones"][t] and game == "Breakout" and record["lives"][t] == 0):
                assert zlib.crc32(timestep.obs["image"][0].tobytes()) == record["crc32"][t]


@pytest.mark.parametrize("least", [0, 1])
def test_number_of_noops_is_uniform(least: int) -> None:
    settings = replace(sets.dreamerv2_atari(), noop_min=least, time_limit=4, size=(8, 8))
    env = AtariEnv("freeway", list(range(12)), settings)
    env.reset()
    drawn: list[int] = []
    for t in range(30):
        timestep = env.step({"action": np.zeros(12, np.int32)})
        assert timestep.is_first.all() == (t % 2 == 1)
        if timestep.is_first.all():
            drawn.extend(env._info["episode_frame_number"])
    counts = np.bincount(drawn, minlength=31)[least:31]
    assert min(drawn) >= least and max(drawn) <= 30
    expected = len(drawn) / len(counts)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 59.7  # 99.9 % quantile for 30 degrees of freedom


def test_environment_i_equals_a_single_one_with_its_seed_also_after_reseeding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atari, "RESEED_AFTER", 30)
    settings = replace(sets.dreamerv2_atari(), time_limit=60)
    both, alone = AtariEnv("breakout", [5, 9], settings), AtariEnv("breakout", [9], settings)
    actions = actions_for(both, 80)
    first, single = both.reset(), alone.reset()
    differ = False
    for action in actions:
        np.testing.assert_array_equal(first.obs["image"][1], single.obs["image"][0])
        differ |= not np.array_equal(first.obs["image"][0], first.obs["image"][1])
        assert first.reward[1] == single.reward[0]
        first, single = both.step({"action": action}), alone.step({"action": action[1:]})
    assert both._resets.min() >= 1
    assert differ, "two seeds play two games"


@pytest.mark.parametrize(
    ("settings", "reseed_after"),
    [
        (sets.dreamerv3_atari100k(), 20_000),
        (replace(sets.dreamerv2_atari(), time_limit=90), 40),
        (replace(sets.iris_atari(), time_limit=90), 40),
        (sets.efficientzero_atari(), 20_000),
    ],
)
def test_restored_environment_continues_exactly(
    settings: EnvSettings, reseed_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atari, "RESEED_AFTER", reseed_after)
    env = AtariEnv("breakout", [1, 2], settings)
    env.reset()
    timestep = play(env, actions_for(env, 90))[-1]
    state = env.state()
    assert all(isinstance(v, np.ndarray) for v in state.values())
    again = AtariEnv("breakout", [1, 2], settings)
    assert_equal(again.restore(state), timestep)
    after = actions_for(env, 40, seed=1)
    for x, y in zip(play(env, after), play(again, after), strict=True):
        assert_equal(x, y)
    np.testing.assert_array_equal(env.state()["actions"], again.state()["actions"])


def test_restore_returns_the_current_time_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atari, "RESEED_AFTER", 20)
    settings = replace(sets.dreamerv2_atari(), time_limit=60)
    env = AtariEnv("breakout", [1, 2], settings)
    timestep, seen = env.reset(), set()
    for action in actions_for(env, 60):
        kind = (bool(timestep.is_first[0]), bool(timestep.is_last[0]), len(env._log) == 0)
        if kind not in seen:
            seen.add(kind)
            assert_equal(AtariEnv("breakout", [1, 2], settings).restore(env.state()), timestep)
        timestep = env.step({"action": action})
    assert len(seen) >= 4  # a middle, a last, a first, and a first right after a seeded reset


def test_restore_where_logs_begin_at_different_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atari, "RESEED_AFTER", 30)
    limit = {"noop_max": 30, "time_limit": 100, "limit_counts_noops": True}  # episodes of 17 to 25 steps
    settings = replace(sets.dreamerv3_2023_atari(), size=(32, 32), **limit)
    env, again = AtariEnv("freeway", [1, 2, 3], settings), AtariEnv("freeway", [1, 2, 3], settings)
    timestep, compared = env.reset(), 0
    for action in actions_for(env, 400):
        state = env.state()
        length = len(state["actions"])
        # An episode that begins late in the whole log but early in its own game's log must not be seeded anew.
        early = (length > 30) & (length - state["starts"] <= 30) & (state["starts"] > 0) & (state["starts"] < length)
        if (timestep.is_first & early).any():
            compared += 1
            assert_equal(again.restore(state), timestep)
        if compared == 3:
            break
        timestep = env.step({"action": action})
    assert compared == 3


def test_the_log_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atari, "RESEED_AFTER", 20)
    env = AtariEnv("breakout", [1, 2], replace(sets.dreamerv3_2023_atari100k(), time_limit=40))
    env.reset()
    longest = 0
    for action in actions_for(env, 80):
        env.step({"action": action})
        longest = max(longest, len(env.state()["actions"]))
    assert longest <= 20 + 1 + 40 // 4 + 1


def test_reset_begins_again_from_the_seeds() -> None:
    env = AtariEnv("pong", [4], sets.dreamerv3_atari())
    first = env.reset()
    play(env, actions_for(env, 20))
    assert_equal(env.reset(), first)


def test_sticky_actions_change_the_game_and_repeat_by_seed() -> None:
    free = replace(sets.dreamerv3_2023_atari100k(), noop_max=0)
    sticky = replace(free, sticky=0.25)
    runs = []
    for settings in (free, sticky, sticky):
        env = AtariEnv("breakout", [1], settings)
        env.reset()
        runs.append(np.stack([t.obs["image"] for t in play(env, actions_for(env, 60))]))
    assert not np.array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[1], runs[2])


def test_spaces_info_and_bad_input() -> None:
    env = make("atari_200m", "pong", [0, 1])
    assert env.num_envs == 2
    assert env.obs_spaces["image"].shape == (96, 96, 1) and env.obs_spaces["image"].image
    assert env.action_spaces["action"].classes == 18
    timestep = env.reset()
    assert timestep.obs["image"].shape == (2, 96, 96, 1) and timestep.obs["image"].dtype == np.uint8
    assert timestep.is_first.all() and not timestep.is_last.any()
    info = env.info()
    assert info.package_versions["ale-py"] and info.settings["sticky"] == 0.25
    with pytest.raises(RunError, match="0 ... 17"):
        env.step({"action": np.array([0, 18])})
    with pytest.raises(UsageError, match="2 environments, this run has 1"):
        make("atari_200m", "pong", [0]).restore(env.state())
    assert make("atari100k", "pong", [0]).action_spaces["action"].classes == 6
    assert make("atari_200m", "james_bond", [0]).num_envs == 1
