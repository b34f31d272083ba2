"""CarRacing against gymnasium's own, pixel by pixel and reward by reward, and what the settings change."""

import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from repro.envs import make
from repro.envs import settings as sets
from repro.envs.carracing import CarRacingEnv, controls
from repro.errors import UsageError

pytest.importorskip("Box2D")
pytest.importorskip("pygame")
pytest.importorskip("numba")
car_racing = pytest.importorskip("gymnasium.envs.box2d.car_racing")


def steering(steps: int, seed: int) -> np.ndarray:
    """Actions [-1, 1] of a drive with changing direction, gas and brake."""
    random = np.random.default_rng(seed)
    action, actions = np.zeros(3), []
    for _ in range(steps):
        action = np.clip(0.9 * action + 0.3 * random.standard_normal(3), -1, 1)
        actions.append(np.clip([action[0], abs(action[1]), action[2] - 0.3], -1, 1))
    return np.array(actions, np.float32)


class SeenAlongVelocity(car_racing.CarRacing):
    """The package with v0's camera: up is where the car moves."""

    def _render(self, mode):
        car = self.car
        velocity = car.hull.linearVelocity
        angle = -car.hull.angle
        if np.linalg.norm(velocity) > 0.5:
            angle = math.atan2(velocity[0], velocity[1])
        names = ("position", "linearVelocity", "angularVelocity")
        hull = SimpleNamespace(angle=-angle, **{name: getattr(car.hull, name) for name in names})
        self.car = SimpleNamespace(hull=hull, wheels=car.wheels, draw=car.draw)
        image = super()._render(mode)
        self.car = car
        return image


@pytest.mark.parametrize(
    ("seed", "window", "follows", "skip"),
    [(0, (1000, 800), "hull", 0), (2, (1200, 1000), "velocity", 0), (5, (1200, 1000), "hull", 400)],
)
def test_pixels_rewards_and_ends_equal_the_package(
    seed: int, window: tuple[int, int], follows: str, skip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(car_racing, "WINDOW_W", window[0])
    monkeypatch.setattr(car_racing, "WINDOW_H", window[1])
    package = (SeenAlongVelocity if follows == "velocity" else car_racing.CarRacing)()
    ours = CarRacingEnv("carracing_v0", seed, replace(sets.carracing_v3(), window=window, camera_follows=follows))
    ours.reset()
    draw = package._render
    if skip:
        package._render = lambda mode: None
    image, _ = package.reset(seed=seed)
    for t, action in enumerate(steering(skip + 50, seed)):
        if t == skip and skip:
            package._render = draw
        elif t >= skip:
            np.testing.assert_array_equal(ours.observe()["image"], image, err_msg=f"step {t}")
        image, reward, ended, _, _ = package.step(controls(action))
        assert (reward, ended, ended) == ours.step({"action": action})
        assert not ended


@pytest.mark.slow
@pytest.mark.parametrize("window", [(1000, 800), (1200, 1000)])
def test_whole_episodes_equal_the_package(window: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(car_racing, "WINDOW_W", window[0])
    monkeypatch.setattr(car_racing, "WINDOW_H", window[1])
    for seed in range(4):
        package = car_racing.CarRacing()
        ours = CarRacingEnv("carracing_v0", seed, replace(sets.carracing_v3(), window=window))
        ours.reset()
        image, _ = package.reset(seed=seed)
        for t, action in enumerate(steering(1000, seed)):
            np.testing.assert_array_equal(ours.observe()["image"], image, err_msg=f"seed {seed}, step {t}")
            image, reward, ended, _, _ = package.step(controls(action))
            assert (reward, ended) == ours.step({"action": action})[:2] or t == 999
            if ended:
                break


def test_the_papers_image_is_its_map_of_the_upper_rows() -> None:
    from repro.envs import frame_map

    raw = CarRacingEnv("carracing_v0", 1, replace(sets.carracing_v3(), window=(1200, 1000), camera_follows="velocity"))
    paper = CarRacingEnv("carracing_v0", 1, sets.world_models_car())
    clean = CarRacingEnv("carracing_v0", 1, replace(sets.world_models_car(), frame_map="clean"))
    for env in (raw, paper, clean):
        env.reset()
    for action in steering(30, 1):
        for env in (raw, paper, clean):
            env.step({"action": action})
        rows = raw.observe()["image"][:84]
        np.testing.assert_array_equal(paper.observe()["image"], frame_map.world_models(rows, (64, 64)))
        np.testing.assert_array_equal(clean.observe()["image"], frame_map.clean(rows, (64, 64)))


def test_restored_environment_continues_exactly_and_each_equals_a_single_one() -> None:
    env = make("carracing", "carracing_v0", [3, 4], replace(sets.world_models_car(), time_limit=25))
    env.reset()
    drive = np.stack([steering(60, 3), steering(60, 4)], 1)
    for action in drive[:40]:
        step = env.step({"action": action})
    again = make("carracing", "carracing_v0", [3, 4], replace(sets.world_models_car(), time_limit=25))
    np.testing.assert_array_equal(again.restore(env.state()).obs["image"], step.obs["image"])
    for action in drive[40:]:
        a, b = env.step({"action": action}), again.step({"action": action})
        np.testing.assert_array_equal(a.obs["image"], b.obs["image"])
        np.testing.assert_array_equal(a.reward, b.reward)
    single = make("carracing", "carracing_v0", [4], replace(sets.world_models_car(), time_limit=25))
    single.reset()
    for action in drive:
        step = single.step({"action": action[1:]})
    np.testing.assert_array_equal(step.obs["image"][0], a.obs["image"][1])
    first, second = make("carracing", "carracing_v0", [4]), make("carracing", "carracing_v0", [4])
    np.testing.assert_array_equal(first.reset().obs["image"], second.reset().obs["image"])


def test_leaving_the_field_ends_unless_nothing_may() -> None:
    kept = CarRacingEnv("carracing_v0", 0, sets.world_models_car(collect=True))
    ended = CarRacingEnv("carracing_v0", 0, sets.world_models_car())
    for env, result in ((ended, (-100.0, True, True)), (kept, (-100.0, False, False))):
        env.reset()
        env._env.car.hull.position = (400.0, 0.0)
        assert env.step({"action": np.zeros(3)}) == result
    assert (kept._settings.lap_fraction, kept._settings.window, kept._settings.time_limit) == (1.0, (1200, 1000), 1000)


def test_with_the_rule_of_2018_the_start_does_not_end_a_lap() -> None:
    for settings, ends in ((sets.carracing_v3(), True), (sets.world_models_car(), False)):
        env = CarRacingEnv("carracing_v0", 0, settings)
        env.reset()
        inner = env._env
        inner.tile_visited_count = len(inner.track) - 2  # with the start: all but one
        start, wheel = inner.road[0], inner.car.wheels[0]
        start.road_visited = False
        touching = [SimpleNamespace(body=SimpleNamespace(userData=thing)) for thing in (start, wheel)]
        inner.world.contactListener.BeginContact(SimpleNamespace(fixtureA=touching[0], fixtureB=touching[1]))
        reward, last, terminal = env.step({"action": np.zeros(3)})
        assert start.road_visited and reward > 1 and last == terminal == ends


def test_actions_are_the_papers_controls() -> None:
    np.testing.assert_allclose(
        controls(np.array([[-1, -1, -1], [0, 0, 0], [0.5, 1, 1]])), [[-1, 0, 0], [0, 0.5, 0], [0.5, 1, 1]]
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("window", (90, 90)), ("camera_follows", "x"), ("lap_fraction", 0), ("frame_map", "x"), ("size", (64, 64))],
)
def test_impossible_settings_name_the_field(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"environment setting {field}="):
        replace(sets.carracing_v3(), **{field: value})


@pytest.mark.parametrize("package", ["Box2D", "pygame", "numba"])
def test_wrong_settings_and_missing_packages_are_one_line(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="takes CarSettings, not EnvSettings"):
        make("carracing", "carracing_v0", [0], sets.EnvSettings())
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"needs the package {package}; run: pip install -e \.\[carracing\]"):
        make("carracing", "carracing_v0", [0])
