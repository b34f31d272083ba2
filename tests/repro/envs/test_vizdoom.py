"""Take Cover: seeds, resume, the game of 2018 by its settings, ends."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from repro.envs import make
from repro.envs import settings as sets
from repro.errors import UsageError

vizdoom = pytest.importorskip("vizdoom")
pytest.importorskip("numba")

FAST = replace(sets.world_models_doom(), screen=(240, 320))


def actions(steps: int, envs: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3, (steps, envs)).astype(np.int32)


def play(env, steps: np.ndarray) -> list:
    return [env.step({"action": action}) for action in steps]


def same(a, b) -> None:
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x.obs["image"], y.obs["image"])
        for name in ("reward", "is_first", "is_last", "is_terminal"):
            np.testing.assert_array_equal(getattr(x, name), getattr(y, name))


@pytest.fixture(scope="module")
def two():
    """Environments of seeds 3 and 4, their first step and 160 more, over several deaths."""
    env = make("vizdoom_takecover", "take_cover", [3, 4], FAST)
    steps = [env.reset(), *play(env, actions(260, 2))]
    yield env, steps
    env.close()


def test_rewards_count_steps_and_death_is_terminal_with_a_white_image(two) -> None:
    _, steps = two
    last = np.array([s.is_last for s in steps])
    assert last.any(), "nobody died"
    np.testing.assert_array_equal(last, np.array([s.is_terminal for s in steps]))
    for step in steps:
        assert ((step.reward == 1) | step.is_first).all() and (step.reward[step.is_first] == 0).all()
        assert (step.obs["image"][step.is_last] == 255).all()  # black, through the released map
        assert (step.obs["image"][~step.is_last].std(axis=(1, 2, 3)) > 5).all()
    for before, after in zip(steps, steps[1:], strict=False):
        np.testing.assert_array_equal(before.is_last, after.is_first)


def test_each_environment_equals_a_single_one_and_other_seeds_differ(two) -> None:
    _, steps = two
    single = make("vizdoom_takecover", "take_cover", [4], FAST)
    alone = [single.reset(), *play(single, actions(260, 2)[:, 1:])]
    single.close()
    for a, b in zip(alone, steps, strict=True):
        np.testing.assert_array_equal(a.obs["image"][0], b.obs["image"][1])
    assert any((s.obs["image"][0] != s.obs["image"][1]).any() for s in steps[1:20])


def test_restored_environment_continues_exactly(two) -> None:
    env, steps = two
    again = make("vizdoom_takecover", "take_cover", [3, 4], FAST)
    resumed = again.restore(env.state())
    same([resumed], [steps[-1]])
    more = actions(300, 2)[260:]
    same(play(env, more), play(again, more))
    again.close()


def test_the_game_is_that_of_2018_and_its_frames_are_the_librarys() -> None:
    from repro.envs import frame_map

    settings = sets.world_models_doom()
    assert (settings.skill, settings.screen, settings.start_tic, settings.time_limit) == (4, (480, 640), 14, 2100)
    assert settings.hud and not (settings.weapon or settings.crosshair or settings.decals or settings.particles)
    env = make("vizdoom_takecover", "take_cover", [7])
    first = env.reset()
    seed = int(np.random.RandomState(7).randint(2**31 - 1))
    game = vizdoom.DoomGame()
    game.load_config(vizdoom.scenarios_path + "/take_cover.cfg")
    game.set_window_visible(False)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_640X480)
    game.set_render_hud(True)
    for setting in ("weapon", "crosshair", "decals", "particles"):
        getattr(game, f"set_render_{setting}")(False)
    game.set_doom_skill(4)
    game.set_episode_start_time(14)
    game.set_doom_config_path(env._envs[0]._folder.name + "/other.ini")
    game.set_seed(seed)
    game.init()
    assert [button.name for button in game.get_available_buttons()] == ["MOVE_LEFT", "MOVE_RIGHT"]
    buttons = ([0, 0], [0, 1], [1, 0])  # none, right, left
    frames = [first, *play(env, actions(25))]
    for step, action in zip(frames, [*actions(25)[:, 0], 0], strict=True):
        screen = game.get_state().screen_buffer
        assert screen.shape == (480, 640, 3)
        np.testing.assert_array_equal(step.obs["image"][0], frame_map.world_models(screen[:400], (64, 64)))
        game.make_action(buttons[action])
    game.close()
    env.close()


def test_step_limit_is_not_terminal() -> None:
    env = make("vizdoom_takecover", "take_cover", [0], replace(FAST, time_limit=3))
    env.reset()
    steps = play(env, np.zeros((4, 1), np.int32))
    assert [bool(s.is_last[0]) for s in steps] == [False, False, True, False]
    assert not any(s.is_terminal[0] for s in steps) and steps[3].is_first[0]
    assert env.info().package_versions["vizdoom"] and env.info().settings["skill"] == 4
    env.close()


def test_continuous_actions_move_beyond_a_third() -> None:
    from repro.envs.vizdoom import ACTIONS, thirds

    chosen = thirds(np.array([-1.0, -0.3334, -0.3333, 0.0, 0.3333, 0.3334, 1.0]))
    assert [ACTIONS[i] for i in chosen] == ["left", "left", "none", "none", "none", "right", "right"]


@pytest.mark.parametrize(
    ("field", "value"), [("skill", 6), ("screen", (100, 100)), ("start_tic", 0), ("frame_map", "x")]
)
def test_impossible_settings_name_the_field(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"environment setting {field}="):
        replace(sets.world_models_doom(), **{field: value})


def test_wrong_settings_and_missing_package_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="takes DoomSettings, not EnvSettings"):
        make("vizdoom_takecover", "take_cover", [0], sets.EnvSettings())
    monkeypatch.setitem(sys.modules, "vizdoom", None)
    with pytest.raises(UsageError, match=r"needs the package vizdoom; run: pip install -e \.\[vizdoom\]"):
        make("vizdoom_takecover", "take_cover", [0])


def games() -> set[int]:
    """Processes of games that this one has started."""
    children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {int(number) for file in children for number in file.read_text().split()}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_leaves_the_game_running(number) -> None:
    before = games()
    env = make("vizdoom_takecover", "take_cover", [5], FAST)
    started = games() - before
    try:
        env.reset()
        assert len(started) == 1
        os.kill(started.pop(), number)
        assert len(play(env, actions(20))) == 20
    finally:
        env.close()
    assert games() <= before
