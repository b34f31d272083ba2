"""What a paper does to its environments, as data: one dataclass, and one function for each published set of values.

A paper's config holds an `EnvSettings`; the environment's adapter reads the fields that concern it and ignores the
others. Images are `[height, width, channels]` uint8.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from repro.errors import UsageError


@dataclass(frozen=True)
class EnvSettings:
    """Every choice that changes what an agent sees or when its episodes end.

    Raises `UsageError` for values that make no sense.
    """

    size: tuple[int, int] = (64, 64)
    """Height and width of images (Atari, DMC pixels, Crafter, Procgen, catch)."""
    gray: bool = False
    """One channel instead of RGB. With `resize="area"` the emulator's luminance before the resize (DreamerV2); with
    "bilinear" 0.299 R + 0.587 G + 0.114 B of the resized image, truncated (DreamerV3)."""
    action_repeat: int = 1
    """Atari, DMC: emulator frames or control steps per agent step; rewards are summed, an end stops the repeat."""
    resize: Literal["area", "bilinear"] = "bilinear"
    """Atari: OpenCV INTER_AREA (DreamerV2, DreamerV3 of 2023, EfficientZero) or Pillow BILINEAR (IRIS, DreamerV3)."""
    pool: Literal["screen", "resized", "none"] = "screen"
    """Atari: maximum over the last two frames before the resize, after it (IRIS), or the last frame alone."""
    jpeg: bool = False
    """Atari: images are encoded as JPEG (quality 95, chroma halved) and decoded again (EfficientZero)."""
    sticky: float = 0.0
    """Atari: probability that a frame repeats the previous frame's action (Machado et al. 2018 use 0.25)."""
    full_actions: bool = False
    """Atari: all 18 actions instead of the game's minimal set."""
    noop_min: int = 0
    """Atari: fewest no-op frames after a reset."""
    noop_max: int = 0
    """Atari: most no-op frames after a reset; the number is uniform on `noop_min ... noop_max`."""
    life_loss: Literal["none", "episode"] = "none"
    """Atari: "episode" ends the agent's episode at a lost life and goes on playing the same game: the next episode
    begins with one no-op step whose reward is dropped (IRIS and EfficientZero, in training only)."""
    time_limit: int | None = None
    """Episode limit in emulator frames (Atari) or environment steps (others, except bsuite and ProcGen); None is the
    environment's own."""
    limit_counts_noops: bool = False
    """Atari: the no-op frames of the reset count towards `time_limit` (IRIS)."""
    terminal_on_limit: bool = False
    """Reaching the limit sets `is_terminal`: no bootstrapping from the last observation (Atari of DreamerV3, IRIS and
    EfficientZero)."""
    pixels: bool = True
    """DMC and catch: observation key `image`."""
    proprio: bool = False
    """DMC and catch: the vector observations, float32."""
    camera: int | None = None
    """DMC: camera number; None is 0, or 2 for the quadruped, as all Dreamers have it."""
    shadowsize: int = 2048
    """DMC: side of the shadow map; 2048 is the suite's. 256 renders 1.8 times faster on a CPU and changes pixels by
    0.05 grey levels in the mean: a declared setting of `cpu` presets."""
    grid: tuple[int, int] = (10, 5)
    """Catch: rows and columns."""

    def __post_init__(self) -> None:
        """Checks values that types do not."""
        _require(min(self.size) >= 1, "size", self.size, "two positive numbers")
        _require(self.action_repeat >= 1, "action_repeat", self.action_repeat, "1 or more")
        _require(self.resize in ("area", "bilinear"), "resize", self.resize, "area or bilinear")
        _require(self.pool in ("screen", "resized", "none"), "pool", self.pool, "screen, resized or none")
        _require(not (self.jpeg and self.gray), "jpeg", self.jpeg, "RGB with it")
        _require(0.0 <= self.sticky < 1.0, "sticky", self.sticky, "0 <= sticky < 1")
        _require(self.noop_min >= 0, "noop_min", self.noop_min, "0 or more")
        _require(self.noop_max >= self.noop_min, "noop_max", self.noop_max, "at least noop_min")
        _require(self.life_loss in ("none", "episode"), "life_loss", self.life_loss, "none or episode")
        _require(self.time_limit is None or self.time_limit >= 1, "time_limit", self.time_limit, "None or 1 or more")
        _require(self.pixels or self.proprio, "pixels", self.pixels, "pixels or proprio (or both) true")
        _require(self.shadowsize >= 0, "shadowsize", self.shadowsize, "0 or more")
        _require(self.grid[0] >= 2 and self.grid[1] >= 1, "grid", self.grid, "2 rows and 1 column or more")


@dataclass(frozen=True)
class DoomSettings(EnvSettings):
    """VizDoom. The defaults are the Take Cover of 2018 (gym-doom at its last commit, doom-py), not today's library's.

    gym-doom asks for skill 5, and doom-py passes 4 on.
    """

    screen: tuple[int, int] = (480, 640)
    """Height and width of the game's screen; (240, 320) is 1.2 to 3 times faster and gives other pixels."""
    skill: int = 4
    """1 to 5; 5 is a much harder game."""
    start_tic: int = 14
    """First tic that the agent sees."""
    hud: bool = True
    """Status bar at the bottom; it is cropped from the image, and changes the view above it."""
    weapon: bool = False
    crosshair: bool = False
    decals: bool = False
    particles: bool = False
    frame_map: Literal["clean", "world_models"] = "clean"
    """From the rows above the status bar to the image: Pillow BILINEAR, with "world_models" after stretching the
    contrast and before subtracting one (`frame_map.world_models`)."""

    def __post_init__(self) -> None:
        """Checks values that types do not."""
        super().__post_init__()
        _require(self.screen in DOOM_SCREENS, "screen", self.screen, " or ".join(map(str, DOOM_SCREENS)))
        _require(1 <= self.skill <= 5, "skill", self.skill, "1 to 5")
        _require(self.start_tic >= 1, "start_tic", self.start_tic, "1 or more")
        _require(self.frame_map in ("clean", "world_models"), "frame_map", self.frame_map, "clean or world_models")


DOOM_SCREENS = ((240, 320), (480, 640))
"""Screens whose status bar is the lowest sixth."""


@dataclass(frozen=True)
class CarSettings(EnvSettings):
    """CarRacing. The defaults are gymnasium's CarRacing-v3; `world_models_car` is the v0 of 2018 as far as v3 can."""

    window: tuple[int, int] = (1000, 800)
    """Width and height of the picture that is drawn and then shrunk to 96x96; v0's view is (1200, 1000)."""
    camera_follows: Literal["hull", "velocity"] = "hull"
    """What is up in the image: the car's own direction, or that of its motion once it moves (v0)."""
    lap_fraction: float = 0.95
    """Touching the start again ends the episode if more than this fraction of the tiles is visited; 1.0 is v0's rule,
    where only all tiles or leaving the field do."""
    never_ends: bool = False
    """Nothing but the time limit ends an episode (World Models' data collection)."""
    frame_map: Literal["none", "clean", "world_models"] = "none"
    """The 96x96 image; or its first 84 rows (without the bar) resized by Pillow BILINEAR; or that after stretching the
    contrast and before subtracting one (`frame_map.world_models`)."""

    def __post_init__(self) -> None:
        """Checks values that types do not."""
        super().__post_init__()
        _require(96 < min(self.window) and max(self.window) <= 2000, "window", self.window, "sizes from 97 to 2000")
        _require(self.camera_follows in ("hull", "velocity"), "camera_follows", self.camera_follows, "hull or velocity")
        _require(0 < self.lap_fraction <= 1, "lap_fraction", self.lap_fraction, "more than 0 and at most 1")
        maps = ("none", "clean", "world_models")
        _require(self.frame_map in maps, "frame_map", self.frame_map, "none, clean or world_models")
        whole = self.frame_map != "none" or self.size == (96, 96)
        _require(whole, "size", self.size, "(96, 96), or a frame_map that resizes")


def _require(holds: bool, field: str, value: object, right: str) -> None:
    if not holds:
        raise UsageError(f"environment setting {field}={value!r} is not possible; use {right}")


# Atari -------------------------------------------------------------------------------------------------------------


def dreamerv3_atari100k() -> EnvSettings:
    """DreamerV3 as published in 2025, Atari 100k: 64x64 RGB, minimal actions, 0 to 30 no-ops, no sticky actions."""
    return EnvSettings(action_repeat=4, noop_max=30, time_limit=108_000, terminal_on_limit=True)


def dreamerv3_atari() -> EnvSettings:
    """DreamerV3 as published in 2025, Atari 200M: 96x96 gray, sticky actions 0.25, 18 actions, 0 to 30 no-ops."""
    return replace(dreamerv3_atari100k(), size=(96, 96), gray=True, sticky=0.25, full_actions=True)


def dreamerv3_2024_atari() -> EnvSettings:
    """DreamerV3 release of 2024 (arXiv v2), Atari 200M: as of 2025 without no-ops."""
    return replace(dreamerv3_atari(), noop_max=0)


def dreamerv3_2024_atari100k() -> EnvSettings:
    """DreamerV3 release of 2024 (arXiv v2), Atari 100k: all 18 actions, no no-ops, limit 100,000 frames."""
    return replace(dreamerv3_atari100k(), full_actions=True, noop_max=0, time_limit=100_000)


def dreamerv3_2023_atari() -> EnvSettings:
    """DreamerV3 release of 2023 (arXiv v1), Atari 200M: 64x64 RGB by INTER_AREA, sticky, 18 actions, no no-ops."""
    return replace(dreamerv3_atari100k(), resize="area", sticky=0.25, full_actions=True, noop_max=0)


def dreamerv3_2023_atari100k() -> EnvSettings:
    """DreamerV3 release of 2023 (arXiv v1), Atari 100k: 64x64 RGB by INTER_AREA, minimal actions, 0 to 29 no-ops."""
    return replace(dreamerv3_atari100k(), resize="area", noop_max=29)


def dreamerv2_atari() -> EnvSettings:
    """DreamerV2, Atari 200M: 64x64 gray by INTER_AREA, sticky 0.25, 18 actions, 1 to 30 no-ops, limit not terminal."""
    return EnvSettings(
        gray=True,
        action_repeat=4,
        resize="area",
        sticky=0.25,
        full_actions=True,
        noop_min=1,
        noop_max=30,
        time_limit=108_000,
    )


def iris_atari(train: bool = True) -> EnvSettings:
    """IRIS, Atari 100k: every frame resized by BILINEAR, then the maximum of two; limits in frames with no-ops.

    Training ends episodes at lost lives and after 20,000 frames; evaluation plays whole games with one no-op.
    """
    return EnvSettings(
        action_repeat=4,
        pool="resized",
        noop_min=1,
        noop_max=30 if train else 1,
        life_loss="episode" if train else "none",
        time_limit=20_000 if train else 108_000,
        limit_counts_noops=True,
        terminal_on_limit=True,
    )


def efficientzero_atari(train: bool = True) -> EnvSettings:
    """EfficientZero, Atari 100k: 96x96 RGB by INTER_AREA, JPEG, 1 to 30 no-ops, limit 3,000 steps (evaluation 27,000).

    Training ends episodes at lost lives. The stack of four frames and the clipped reward belong to the agent.
    """
    return EnvSettings(
        size=(96, 96),
        action_repeat=4,
        resize="area",
        jpeg=True,
        noop_min=1,
        noop_max=30,
        life_loss="episode" if train else "none",
        time_limit=12_000 if train else 108_000,
        terminal_on_limit=True,
    )


# DeepMind Control, Crafter and the rest ----------------------------------------------------------------------------


def dmc_proprio(repeat: int = 1) -> EnvSettings:
    """DMC from all vector observations. Action repeat: DreamerV3 of 2025 uses 1, 2023 and 2024 use 2."""
    return EnvSettings(action_repeat=repeat, pixels=False, proprio=True)


def dmc_vision(size: tuple[int, int] = (64, 64), repeat: int = 1) -> EnvSettings:
    """DMC from pixels. Action repeat: DreamerV3 of 2025 uses 1; DreamerV1, DreamerV2 and DreamerV3 until 2024 use 2."""
    return EnvSettings(size=size, action_repeat=repeat)


def crafter() -> EnvSettings:
    """Crafter: 64x64 RGB, limit 10,000 steps (not terminal), death is terminal (all Dreamers)."""
    return EnvSettings(time_limit=10_000)


def procgen() -> EnvSettings:
    """ProcGen hard of DreamerV3 (2024, 2025): 96x96 RGB, BILINEAR from the 512x512 rendering."""
    return EnvSettings(size=(96, 96))


def world_models_doom() -> DoomSettings:
    """World Models, Take Cover: the game of 2018 (`DoomSettings`), rows above the status bar, at most 2,100 steps."""
    return DoomSettings(frame_map="world_models", time_limit=2100)


def world_models_car(collect: bool = False) -> CarSettings:
    """World Models, CarRacing: v0's view and lap rule, the released frame map, 1,000 steps.

    With `collect` as in its data collection: nothing ends an episode before its 1,000 steps.
    """
    return CarSettings(
        frame_map="world_models",
        time_limit=1000,
        window=(1200, 1000),
        camera_follows="velocity",
        lap_fraction=1.0,
        never_ends=collect,
    )


def carracing_v3() -> CarSettings:
    """CarRacing-v3 as gymnasium has it: the whole 96x96 image with its bar, 1,000 steps."""
    return CarSettings(size=(96, 96), frame_map="none", time_limit=1000)


def catch() -> EnvSettings:
    """The suite's own small environment: 16x16 image of a 10x5 grid, and the same state as a vector."""
    return EnvSettings(size=(16, 16), proprio=True)


def minatar() -> EnvSettings:
    """MinAtar: the 10x10 grid as an image with one channel per kind of object."""
    return EnvSettings(size=(10, 10))


def craftax() -> EnvSettings:
    """Craftax-Classic from pixels: its own 63x63 images."""
    return EnvSettings(size=(63, 63))


def default(suite: str) -> EnvSettings:
    """The settings `make` uses by itself: DreamerV3's as published in 2025, World Models' for its two tasks."""
    sets: dict[str, Callable[[], EnvSettings]] = {
        "atari100k": dreamerv3_atari100k,
        "atari_200m": dreamerv3_atari,
        "dmc_proprio": dmc_proprio,
        "dmc_vision": dmc_vision,
        "crafter": crafter,
        "procgen_hard": procgen,
        "catch": catch,
        "minatar": minatar,
        "gymnax": minatar,
        "craftax": craftax,
        "vizdoom_takecover": world_models_doom,
        "carracing": world_models_car,
    }
    return sets.get(suite, EnvSettings)()
