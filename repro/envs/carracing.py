"""CarRacing, from images: gymnasium's CarRacing-v3, physics and rewards untouched, its picture drawn 5 times faster.

World Models used CarRacing-v0 of 2018; `CarSettings` names what differs, and `settings.world_models_car` is v0 as far
as v3 can be. Random numbers differ: the same seed gives another track.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from repro.envs import packages
from repro.envs.base import EnvironmentInfo, Space
from repro.envs.python_env import Observation, Result
from repro.envs.settings import CarSettings, EnvSettings
from repro.errors import UsageError

COMMAND = "pip install -e .[carracing]"
ROWS = 84
"""Rows of the image above the bar of indicators."""


def controls(actions: np.ndarray) -> np.ndarray:
    """Actions in [-1, 1] `[..., 3]` -> steering in [-1, 1], gas and brake in [0, 1].

    As in World Models: gas = (a + 1) / 2, brake = max(a, 0).
    """
    steer, gas, brake = np.moveaxis(np.asarray(actions), -1, 0)
    return np.stack([steer, (gas + 1) / 2, np.clip(brake, 0, 1)], -1)


class CarRacingEnv:
    """One car; observation `image`, actions by `controls`. Leaving the field or finishing the track is terminal.

    The time limit is terminal only if the settings say so.
    """

    def __init__(self, task: str, seed: int, settings: EnvSettings) -> None:
        for module in ("Box2D", "pygame", "numba"):
            packages.require(module, "carracing", COMMAND)
        if not isinstance(settings, CarSettings):
            raise UsageError(f"suite carracing takes CarSettings, not {type(settings).__name__}")
        from gymnasium.envs.box2d.car_racing import CarRacing

        from repro.envs import frame_map

        class Undrawn(CarRacing):
            """The package draws in every step, before it takes 0.1 off the reward; here only `observe` draws."""

            def _render(self, mode: str) -> None:
                self.score = self.reward

        self._settings = settings
        self._env: Any = Undrawn(lap_complete_percent=settings.lap_fraction)
        self._env.reset(seed=seed)
        self._view = View(self._env, settings)
        self._map = getattr(frame_map, settings.frame_map) if settings.frame_map != "none" else None
        self._steps = 0
        self.obs_spaces = {"image": Space((*settings.size, 3), "uint8")}
        self.action_spaces = {"action": Space((3,), "float32")}
        self.return_to({"generator": _pack(seed)})

    def origin(self) -> dict[str, np.ndarray]:
        """The generator that draws the tracks."""
        state = self._env.np_random.bit_generator.state
        return {"generator": _words(state["state"]["state"], state["state"]["inc"])}

    def return_to(self, origin: Mapping[str, np.ndarray]) -> None:
        """Puts the generator back."""
        value, increment = _numbers(np.asarray(origin["generator"], np.uint64))
        bits = self._env.np_random.bit_generator
        bits.state = {**bits.state, "state": {"state": value, "inc": increment}, "has_uint32": 0, "uinteger": 0}

    def reset(self) -> None:
        """Builds the next track."""
        self._env.reset()
        self._view.new_track()
        self._steps = 0

    def step(self, action: Mapping[str, np.ndarray]) -> Result:
        """One step of 1/50 s."""
        _, reward, ended, _, _ = self._env.step(controls(action["action"]))
        self._steps += 1
        ended = bool(ended) and not self._settings.never_ends
        limit = self._steps == self._settings.time_limit
        return float(reward), ended or limit, ended or (limit and self._settings.terminal_on_limit)

    def observe(self) -> Observation:
        """The image around the car."""
        image = self._view.image()
        return {"image": self._map(image, self._settings.size) if self._map else image}

    def close(self) -> None:
        """Nothing to free."""

    def info(self) -> EnvironmentInfo:
        """Package versions and settings, for the run record."""
        return EnvironmentInfo(packages.versions("gymnasium", "box2d", "pygame", "numba"), asdict(self._settings))


class View:
    """What gymnasium's `CarRacing._render` shows, through `carracing_draw`."""

    def __init__(self, env: Any, settings: CarSettings) -> None:
        """`env` must have been reset."""
        import pygame
        from gymnasium.envs.box2d import car_dynamics, car_racing

        from repro.envs import carracing_draw

        self._env, self._settings, self._pygame = env, settings, pygame
        self._constants, self._wheel = car_racing, car_dynamics
        self._rows = ROWS if settings.frame_map != "none" else carracing_draw.SIDE
        self._draw = carracing_draw.draw
        self._canvas = carracing_draw.canvas(*settings.window, self._rows)
        pygame.font.init()
        self._font = pygame.font.Font(pygame.font.get_default_font(), 42)
        self._texts: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._fixtures, self._lengths = np.zeros((5, 4, 8, 2), np.float32), np.zeros((5, 4), np.int64)
        self.new_track()

    def new_track(self) -> None:
        """Takes over the road and the shapes of a car that was just made."""
        bounds, side = self._constants.PLAYFIELD, self._constants.GRASS_DIM
        corners = np.array([[1, 0], [0, 0], [0, 1], [1, 1]])
        grass = [(corners + (x, y)) for x in range(-20, 20, 2) for y in range(-20, 20, 2)]
        field = np.array([[[1, 1], [1, -1], [-1, -1], [-1, 1]]]) * bounds
        road = [polygon for polygon, _ in self._env.road_poly]
        self._ground = np.concatenate([field, _grass(grass, side), np.array(road, float)])
        colours = [self._env.bg_color, *[self._env.grass_color] * len(grass), *(c for _, c in self._env.road_poly)]
        self._colours = np.array(colours, float)
        # The package paints a tile anew, in place, when a wheel touches it: it shall paint ours.
        row_of = {id(colour): i + 1 + len(grass) for i, (_, colour) in enumerate(self._env.road_poly)}
        for tile in self._env.road:
            tile.color = self._colours[row_of[id(tile.color)]]
        for body, thing in enumerate(self._env.car.drawlist):
            for f, fixture in enumerate(thing.fixtures):
                vertices = fixture.shape.vertices
                self._lengths[body, f] = len(vertices)
                self._fixtures[body, f, : len(vertices)] = vertices

    def image(self) -> np.ndarray:
        """uint8 `[84 or 96, 96, 3]`."""
        bar, bar_colours, text, corner = self._indicators() if self._rows > ROWS else EMPTY
        return self._draw(
            self._canvas,
            self._rows,
            self._camera(),
            self._constants.MAX_SHAPE_DIM,
            self._ground,
            self._colours,
            self._bodies(),
            self._fixtures,
            self._lengths,
            self._whites(),
            bar,
            bar_colours,
            text,
            corner,
        )

    def _camera(self) -> np.ndarray:
        env, vector = self._env, self._pygame.math.Vector2
        hull, scale = env.car.hull, self._constants.SCALE
        angle = -hull.angle
        if self._settings.camera_follows == "velocity":
            velocity = hull.linearVelocity
            if np.linalg.norm(velocity) > 0.5:
                angle = math.atan2(velocity[0], velocity[1])
        zoom = 0.1 * scale * max(1 - env.t, 0) + self._constants.ZOOM * scale * min(env.t, 1)
        x, y = hull.position
        scroll = vector((-x * zoom, -y * zoom)).rotate_rad(angle)
        cosine, sine = vector(1, 0).rotate_rad(angle)
        width, height = self._settings.window
        return np.array([cosine, sine, zoom, width / 2 + scroll[0], height / 4 + scroll[1]])

    def _bodies(self) -> np.ndarray:
        placed = []
        for thing in self._env.car.drawlist:
            transform = thing.transform
            position, rotation = transform.position, transform.q
            placed.append((position.x, position.y, rotation.s, rotation.c))
        return np.array(placed, np.float32)

    def _whites(self) -> np.ndarray:
        wheel = self._wheel
        whites = np.full((4, 4, 2), np.nan)
        for i, thing in enumerate(self._env.car.wheels):
            first, second = thing.phase, thing.phase + 1.2
            s1, s2, c1, c2 = math.sin(first), math.sin(second), math.cos(first), math.cos(second)
            if s1 > 0 and s2 > 0:
                continue
            c1 = math.copysign(1.0, c1) if s1 > 0 else c1
            c2 = math.copysign(1.0, c2) if s2 > 0 else c2
            x, y1, y2 = wheel.WHEEL_W * wheel.SIZE, wheel.WHEEL_R * c1 * wheel.SIZE, wheel.WHEEL_R * c2 * wheel.SIZE
            whites[i] = (-x, y1), (x, y1), (x, y2), (-x, y2)
        return whites

    def _indicators(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        env, (width, height) = self._env, self._settings.window
        s, h = width / 40.0, height / 40.0
        hull, wheels = env.car.hull, env.car.wheels
        speed = float(np.sqrt(np.square(hull.linearVelocity[0]) + np.square(hull.linearVelocity[1])))
        shapes: list[list[tuple[float, float]]]
        shapes = [[(width, height), (width, height - 5 * h), (0, height - 5 * h), (0, height)]]
        colours = [0]
        upright: list[tuple[int, float, float, int]]
        upright = [(5, speed, 0.02, 0xFFFFFF)]
        upright += [(7 + i, wheels[i].omega, 0.01, 0x0000FF if i < 2 else 0x3300FF) for i in range(4)]
        for place, value, factor, colour in upright:
            if abs(value) > 1e-4:
                top = height - (h + h * (factor * value))
                left, right = place * s, (place + 1) * s
                shapes.append([(left, top), (right, top), (right, height - h), (left, height - h)])
                colours.append(colour)
        level = [(20, wheels[0].joint.angle, -10.0, 0x00FF00), (30, hull.angularVelocity, -0.8, 0xFF0000)]
        for place, value, factor, colour in level:
            if abs(value) > 1e-4:
                left, right, top, bottom = place * s, (place + factor * value) * s, height - 4 * h, height - 2 * h
                shapes.append([(left, top), (right, top), (right, bottom), (left, bottom)])
                colours.append(colour)
        return np.array(shapes, float), np.array(colours), *self._score(f"{env.score:04.0f}")

    def _score(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Colours `[h, w]` of the score's digits, and their upper left corner."""
        if text not in self._texts:
            surface = self._font.render(text, True, (255, 255, 255), (0, 0, 0))
            place: Any = surface.get_rect()
            height = self._settings.window[1]
            place.center = (60, height - height * 2.5 / 40.0)
            red, green, blue = self._pygame.surfarray.array3d(surface).astype(np.int32).transpose(2, 1, 0)
            self._texts[text] = (np.ascontiguousarray(red << 16 | green << 8 | blue), np.array(place.topleft))
        return self._texts[text]


EMPTY = np.zeros((0, 4, 2)), np.zeros(0, np.int64), np.zeros((0, 0), np.int32), np.zeros(2, np.int64)
"""No bar."""


def _grass(squares: list[np.ndarray], side: float) -> np.ndarray:
    """Corners `[P, 4, 2]`, with the package's own roundings: its number of the square times the side, plus the side."""
    lower = np.array([square[1] for square in squares])[:, None, :] * side
    return lower + np.array([[1, 0], [0, 0], [0, 1], [1, 1]]) * side


def _pack(seed: int) -> np.ndarray:
    state = np.random.PCG64(seed).state["state"]
    return _words(state["state"], state["inc"])


def _words(*numbers: int) -> np.ndarray:
    """Numbers of 128 bits as uint64 words."""
    return np.array([word for n in numbers for word in (n >> 64, n & (2**64 - 1))], np.uint64)


def _numbers(words: np.ndarray) -> list[int]:
    return [int(high) << 64 | int(low) for high, low in words.reshape(-1, 2)]
