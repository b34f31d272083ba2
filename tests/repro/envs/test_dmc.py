"""DeepMind Control against `dm_control` itself."""

from dataclasses import replace

import numpy as np
import pytest

from repro.envs import dmc, make, packages, tasks
from repro.envs import settings as sets
from repro.envs.base import TimeStep
from repro.errors import UsageError

needs_rendering = pytest.mark.skipif(dmc.renderer() == "disable", reason=f"no OpenGL library: {packages.RENDERING}")


def load(domain: str, task: str, seed: int):
    return dmc._suite().load(domain, task, task_kwargs={"random": seed})


def random_actions(env, steps: int, reach: float = 1.3) -> np.ndarray:
    shape = (steps, env.num_envs, *env.action_spaces["action"].shape)
    return np.random.default_rng(0).uniform(-reach, reach, shape).astype(np.float32)


def rescaled(reference, action: np.ndarray) -> np.ndarray:
    spec = reference.action_spec()
    return spec.minimum + (np.clip(action.astype(np.float64), -1, 1) + 1) / 2 * (spec.maximum - spec.minimum)


def assert_equal(a: TimeStep, b: TimeStep) -> None:
    assert a.obs.keys() == b.obs.keys()
    for x, y in zip([*a.obs.values(), *a[1:]], [*b.obs.values(), *b[1:]], strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("repeat", [1, 2])
@pytest.mark.parametrize(
    ("name", "domain", "task"),
    [("walker_walk", "walker", "walk"), ("cup_catch", "ball_in_cup", "catch"), ("reacher_hard", "reacher", "hard")],
)
def test_observations_and_rewards_equal_dm_control(name: str, domain: str, task: str, repeat: int) -> None:
    seeds = [5, 6]
    env = make("dmc_proprio", name, seeds, sets.dmc_proprio(repeat))
    references = [load(domain, task, seed) for seed in seeds]
    timestep = env.reset()
    for i, reference in enumerate(references):
        for key, value in reference.reset().observation.items():
            np.testing.assert_array_equal(timestep.obs[key][i], np.float32(value))
            assert timestep.obs[key].dtype == np.float32 and timestep.obs[key].shape == (2, *np.shape(value))
    for action in random_actions(env, 60):
        timestep = env.step({"action": action})
        for i, reference in enumerate(references):
            steps = [reference.step(rescaled(reference, action[i])) for _ in range(repeat)]
            assert timestep.reward[i] == np.float32(sum(step.reward for step in steps))
            for key, value in steps[-1].observation.items():
                np.testing.assert_array_equal(timestep.obs[key][i], np.float32(value))


def test_episodes_end_after_1000_steps_without_being_terminal_and_restart() -> None:
    env = make("dmc_proprio", "cartpole_swingup", [0], sets.dmc_proprio(repeat=3))
    env.reset()
    zero = {"action": np.zeros((1, 1), np.float32)}
    lasts = [t for t in range(1, 700) if env.step(zero).is_last[0]]
    assert lasts == [334, 669]  # 333 full repeats and one of a single step; then the first step of the next episode
    env = make("dmc_proprio", "cartpole_swingup", [0], replace(sets.dmc_proprio(2), time_limit=7))
    env.reset()
    steps = [env.step(zero) for _ in range(5)]
    assert [bool(s.is_last[0]) for s in steps] == [False, False, False, True, False]
    assert [bool(s.is_first[0]) for s in steps] == [False, False, False, False, True]
    assert not any(s.is_terminal[0] for s in steps) and steps[4].reward[0] == 0
    env = make(
        "dmc_proprio", "cartpole_swingup", [0], replace(sets.dmc_proprio(), time_limit=2, terminal_on_limit=True)
    )
    env.reset()
    assert [bool(env.step(zero).is_terminal[0]) for _ in range(3)] == [False, True, False]


def test_termination_of_the_task_is_terminal() -> None:
    env = make("dmc_proprio", "cartpole_swingup", [0], sets.dmc_proprio(repeat=2))
    env.reset()
    env._envs[0]._env.task.get_termination = lambda physics: 0.0
    timestep = env.step({"action": np.ones((1, 1), np.float32)})
    assert timestep.is_last[0] and timestep.is_terminal[0]


@pytest.mark.parametrize(
    "task",
    [
        "walker_run", "reacher_easy", "finger_turn_hard", "point_mass_hard", "quadruped_fetch",
        "manipulator_insert_peg", "swimmer_swimmer6", "acrobot_swingup", "hopper_hop", "humanoid_run",
    ],
)  # fmt: skip
def test_restored_environment_continues_exactly(task: str) -> None:
    settings = replace(sets.dmc_proprio(), time_limit=25)
    env = make("dmc_proprio", task, [1, 2], settings)
    env.reset()
    actions = random_actions(env, 70)
    for action in actions[:40]:
        timestep = env.step({"action": action})
    state = env.state()
    again = make("dmc_proprio", task, [7, 8], settings)  # other seeds: everything must come from the state
    assert_equal(again.restore(state), timestep)
    for action in actions[40:]:
        assert_equal(again.step({"action": action}), env.step({"action": action}))


def test_restore_at_first_and_last_steps_and_reset_from_the_seeds() -> None:
    settings = replace(sets.dmc_proprio(), time_limit=3)
    env = make("dmc_proprio", "reacher_easy", [1, 2], settings)
    first = timestep = env.reset()
    for action in random_actions(env, 9):
        assert_equal(make("dmc_proprio", "reacher_easy", [1, 2], settings).restore(env.state()), timestep)
        timestep = env.step({"action": action})
    assert_equal(env.reset(), first)
    with pytest.raises(UsageError, match="2 environments, this run has 1"):
        make("dmc_proprio", "reacher_easy", [1], settings).restore(env.state())


def test_tasks_are_those_of_the_suite() -> None:
    suite = dmc._suite()
    named = {f"{d}_{t}" for d, t in suite.ALL_TASKS if d not in ("lqr", "humanoid_CMU") and t != "run_pure_state"}
    named = {n.replace("ball_in_cup", "cup") for n in named}
    assert set(tasks.DMC) == named


def test_proprioception_never_renders(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make("dmc_proprio", "walker_walk", [0])

    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("rendered")

    monkeypatch.setattr(type(env._envs[0]._env.physics), "render", fail)
    env.reset()
    env.step({"action": np.zeros((1, 6), np.float32)})


@needs_rendering
@pytest.mark.parametrize(("task", "camera"), [("cartpole_swingup", 0), ("quadruped_walk", 2)])
def test_pixels_equal_the_physics_rendering_once_per_agent_step(task: str, camera: int) -> None:
    env = make("dmc_vision", task, [4], sets.dmc_vision(size=(48, 64), repeat=2))
    assert env.obs_spaces.keys() == {"image"} and env.obs_spaces["image"].shape == (48, 64, 3)
    reference = load(*task.split("_"), 4)
    reference.reset()
    physics = env._envs[0]._env.physics
    calls, render = [], physics.render
    physics.render = lambda *args, **kwargs: calls.append(1) or render(*args, **kwargs)
    timestep = env.reset()
    np.testing.assert_array_equal(timestep.obs["image"][0], reference.physics.render(48, 64, camera_id=camera))
    for n, action in enumerate(random_actions(env, 4, reach=1.0)):
        timestep = env.step({"action": action})
        for _ in range(2):
            reference.step(rescaled(reference, action[0]))
        np.testing.assert_array_equal(timestep.obs["image"][0], reference.physics.render(48, 64, camera_id=camera))
        assert len(calls) == n + 2
    assert timestep.obs["image"].std() > 10


@needs_rendering
def test_pixels_are_restored_exactly_and_small_shadows_change_little() -> None:
    settings = sets.dmc_vision()
    env = make("dmc_vision", "reacher_easy", [1], settings)
    env.reset()
    for action in random_actions(env, 5):
        timestep = env.step({"action": action})
    assert_equal(make("dmc_vision", "reacher_easy", [1], settings).restore(env.state()), timestep)
    cheap = make("dmc_vision", "reacher_easy", [1], replace(settings, shadowsize=256)).restore(env.state())
    difference = np.abs(cheap.obs["image"].astype(int) - timestep.obs["image"])
    assert 0 < difference.max() and difference.mean() < 0.5


def test_missing_rendering_library_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object) -> None:
        raise RuntimeError("no display")

    monkeypatch.setattr(dmc.DMCEnv, "_render", broken)
    with pytest.raises(UsageError, match="apt-get install .*libegl1") as caught:
        make("dmc_vision", "walker_walk", [0])
    assert "\n" not in str(caught.value)


def test_renderer_follows_the_installed_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    for present, expected in (
        ({"libEGL.so.1", "libOpenGL.so.0", "libOSMesa.so.8"}, "egl"),
        ({"libEGL.so.1", "libOSMesa.so.8"}, "osmesa"),
        (set(), "disable"),
    ):
        monkeypatch.setattr(dmc, "_loads", lambda library, present=present: library in present)
        assert dmc.renderer() == expected
