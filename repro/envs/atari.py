"""Atari 2600 games (Bellemare et al. 2013) through ale-py's C++ vector environment, stepped by the host.

What the library does natively: frame skip, maximum of two frames, sticky actions, no-ops, INTER_AREA, gray, the limit
of frames without no-ops. What is added here: Pillow's resize, IRIS's order (resize, then maximum), at least one no-op,
limits that count no-ops, JPEG, episodes that end at a lost life, exact resume.

Exact resume: the library cannot save its state, so `state()` keeps the actions since each game's last seeded reset and
`restore()` plays them again (some thousands of steps a second and core). To bound that, a game whose log is longer
than `RESEED_AFTER` agent steps is seeded anew at its next episode, from `(seed, number of such resets)`: a log never
holds more than `RESEED_AFTER` steps and one episode.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from repro.envs import packages
from repro.envs.base import Actions, EnvironmentInfo, Space, Spaces, TimeStep
from repro.envs.resize import bilinear, jpeg, luminance
from repro.envs.settings import EnvSettings
from repro.errors import RunError, UsageError

RESEED_AFTER = 20_000
"""Agent steps; a seeded reset takes about 0.05 s."""

FRAME_LIMIT = 108_000
"""Emulator frames of an episode if the settings give no limit: 30 minutes of play."""

SCREEN = (210, 160)
NO_LIMIT = 2**30


class AtariEnv:
    """`HostEnv` of one game. Observation `image`; action `action`, an index into the game's or the full action set."""

    def __init__(self, game: str, seeds: Sequence[int], settings: EnvSettings) -> None:
        self.num_envs = len(seeds)
        self._settings = settings
        self._seeds = list(seeds)
        self._vector = vector_env(game, self.num_envs, settings)
        self._calls = settings.action_repeat if settings.pool == "resized" else 1
        actions = int(self._vector.single_action_space.n)
        self.obs_spaces: Spaces = {"image": Space((*settings.size, 1 if settings.gray else 3), "uint8")}
        self.action_spaces: Spaces = {"action": Space((), "int32", classes=actions)}
        self._own_limit = settings.time_limit if settings.limit_counts_noops else None
        self._frames: np.ndarray
        self._info: Mapping[str, np.ndarray]
        self._clear()

    def _clear(self) -> None:
        n = self.num_envs
        self._over = np.zeros(n, bool)  # the next step begins an episode with a reset of the game
        self._library_over = np.zeros(n, bool)  # ... and the library does that reset by itself
        self._lost = np.zeros(n, bool)  # the next step begins an episode within the same game
        self._lives = np.zeros(n, np.int32)
        self._resets = np.zeros(n, int)  # seeded resets after the first
        self._starts = np.zeros(n, int)  # position in the log right after the last seeded reset
        self._log = bytearray()  # actions [T, N]

    # ---- HostEnv ---------------------------------------------------------------------------------------------------

    def reset(self) -> TimeStep:
        """Starts all episodes anew from the environments' seeds."""
        self._clear()
        everyone = np.ones(self.num_envs, bool)
        self._reset_seeded(everyone)
        nothing = np.zeros(self.num_envs, bool)
        return self._timestep(np.zeros(self.num_envs, np.float32), everyone, nothing, nothing)

    def step(self, actions: Actions) -> TimeStep:
        """One agent step; where an episode had ended the action is ignored and the next episode begins."""
        return self._timestep(*self._advance(np.asarray(actions["action"], np.int32)))

    def state(self) -> dict[str, np.ndarray]:
        """Actions `[T, N]` since the seeded resets, where in them each game's log begins, and how often each reset."""
        actions = np.frombuffer(bytes(self._log), np.uint8).reshape(-1, self.num_envs)
        return {"actions": actions, "starts": self._starts.copy(), "resets": self._resets.copy()}

    def restore(self, state: Mapping[str, np.ndarray]) -> TimeStep:
        """Plays the log again without drawing observations; afterwards everything continues exactly."""
        actions, starts, resets = (np.asarray(state[k]) for k in ("actions", "starts", "resets"))
        if actions.shape[1:] != (self.num_envs,):
            raise UsageError(f"the saved state holds {actions.shape[1]} environments, this run has {self.num_envs}")
        self._clear()
        n = self.num_envs
        reward, nothing = np.zeros(n, np.float32), np.zeros(n, bool)
        outcome = (reward, ~nothing, nothing, nothing)
        for t in range(len(actions) + 1):
            begins = starts == t
            if begins.any() or t == 0:
                # At t = 0 all games need some start; those that begin later are overwritten then.
                begins = np.ones(n, bool) if t == 0 else begins
                self._resets[begins], self._starts[begins] = resets[begins], t
                self._reset_seeded(begins)
                reward, first, last, terminal = outcome
                outcome = (np.where(begins, 0, reward), first | begins, last & ~begins, terminal & ~begins)
            if t < len(actions):
                outcome = self._advance(actions[t].astype(np.int32))
        self._resets, self._starts = resets.copy(), starts.copy()
        self._log = bytearray(np.ascontiguousarray(actions, np.uint8).tobytes())
        return self._timestep(*outcome)

    def close(self) -> None:
        """Stops the emulator's threads."""
        self._vector.close()

    def info(self) -> EnvironmentInfo:
        """Package versions and settings, for the run record."""
        return EnvironmentInfo(packages.versions("ale-py", "gymnasium", "pillow"), asdict(self._settings))

    # ---- one agent step --------------------------------------------------------------------------------------------

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Reward, is_first, is_last, is_terminal; leaves the frames in `_frames`."""
        if actions.min() < 0 or actions.max() >= (classes := self.action_spaces["action"].classes or 0):
            raise RunError(f"Atari actions must be 0 ... {classes - 1}, not {actions.tolist()}")
        self._log.extend(actions.astype(np.uint8).tobytes())
        begins, continues = self._over, self._lost
        first = begins | continues
        actions = np.where(first, 0, actions).astype(np.int32)
        reward = np.zeros(self.num_envs, np.float32)
        library, limit = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        running = ~begins
        for call in range(self._calls):
            frames, gained, terminated, truncated, self._info = self._vector.step(actions)
            self._frames = frames if call == 0 else np.where(_like(running, frames), frames, self._frames)
            reward += np.where(running, gained, 0)
            library |= running & (terminated | truncated)
            limit |= running & truncated
            if self._own_limit is not None:
                limit |= running & (self._info["episode_frame_number"] >= self._own_limit) & ~terminated
            running &= ~(library | limit)
            if call == 0:
                lives = self._info["lives"]
            lives = np.where(running, self._info["lives"], lives)
        over = library | limit
        lost = (lives < self._lives) & (lives > 0) & ~over & ~first & (self._settings.life_loss == "episode")
        self._lives = lives
        # The library restarts a finished game at its next call; where more calls followed, or the limit is ours, the
        # game must be reset once more.
        again = begins & ~(self._library_over & (self._calls == 1))
        self._over, self._library_over, self._lost = over, library, lost
        self._begin(begins, again)
        last = (over | lost) & ~first
        # A game that ends within the no-op step after a lost life leaves no episode: the next step is a first one too.
        terminal = last & (~limit | self._settings.terminal_on_limit)
        return np.where(first, 0, reward).astype(np.float32), first, last, terminal

    def _begin(self, begins: np.ndarray, again: np.ndarray) -> None:
        length = len(self._log) // self.num_envs
        seeded = begins & (length - self._starts > RESEED_AFTER)
        if seeded.any():
            self._resets += seeded
            self._starts = np.where(seeded, length, self._starts)
            self._reset_seeded(seeded)
            unneeded = int(self._starts.min())
            del self._log[: unneeded * self.num_envs]
            self._starts -= unneeded
        self._reset(again & ~seeded)
        self._require_noops(begins & ~seeded)
        if begins.any():
            self._lives = np.where(begins, self._info["lives"], self._lives)

    def _reset_seeded(self, mask: np.ndarray) -> None:
        seeds = [reseed(self._seeds[i], self._resets[i]) for i in np.flatnonzero(mask)]
        self._reset(mask, np.array(seeds))
        self._require_noops(mask)
        self._over, self._library_over, self._lost = (x & ~mask for x in (self._over, self._library_over, self._lost))
        self._lives = np.where(mask, self._info["lives"], self._lives)

    def _require_noops(self, mask: np.ndarray) -> None:
        """Resets again where the library drew too few no-ops: uniform on 0 ... m without 0 is uniform on 1 ... m."""
        while (rejected := mask & (self._info["episode_frame_number"] < self._settings.noop_min)).any():
            self._reset(rejected)

    def _reset(self, mask: np.ndarray, seeds: np.ndarray | None = None) -> None:
        if not mask.any():
            return
        if mask.all():
            self._frames, self._info = self._vector.reset(seed=seeds)
        else:
            frames, self._info = self._vector.reset(seed=seeds, options={"reset_mask": mask})
            self._frames = np.where(_like(mask, frames), frames, self._frames)

    # ---- observations ----------------------------------------------------------------------------------------------

    def _timestep(self, reward: np.ndarray, first: np.ndarray, last: np.ndarray, terminal: np.ndarray) -> TimeStep:
        return TimeStep({"image": self._image()}, reward, first, last, terminal)

    def _image(self) -> np.ndarray:
        """`[N, *size, channels]` from the frames `[N, stack, height, width(, 3)]`."""
        frames, settings = self._frames, self._settings
        if settings.resize == "area":
            images = frames.max(1).reshape(self.num_envs, *settings.size, -1)
        else:
            images = bilinear(frames.reshape(-1, *SCREEN, 3), settings.size)
            images = images.reshape(self.num_envs, -1, *settings.size, 3).max(1)
            images = luminance(images) if settings.gray else images
        return jpeg(images) if settings.jpeg else images


def vector_env(game: str, num_envs: int, settings: EnvSettings) -> Any:
    """The library's environment, configured so that what remains to be done is done here (`NextStep` restarts)."""
    packages.require("ale_py", "atari", "pip install -e .")
    from ale_py.vector_env import AtariVectorEnv

    area = settings.resize == "area"
    height, width = settings.size if area else SCREEN
    per_frame = settings.pool == "resized"
    return AtariVectorEnv(
        game,
        num_envs,
        img_height=height,
        img_width=width,
        grayscale=area and settings.gray,
        stack_num=2 if per_frame else 1,
        frameskip=1 if per_frame else settings.action_repeat,
        maxpool=settings.pool == "screen" and settings.action_repeat > 1,
        noop_max=settings.noop_max + 1,  # the library draws from 0 ... noop_max - 1
        repeat_action_probability=settings.sticky,
        full_action_space=settings.full_actions,
        max_num_frames_per_episode=NO_LIMIT if settings.limit_counts_noops else settings.time_limit or FRAME_LIMIT,
        reward_clipping=False,
        use_fire_reset=False,
    )


def reseed(seed: int, resets: int) -> int:
    """Seed of a game's (resets + 1)-th seeded reset."""
    return seed if resets == 0 else int(np.random.SeedSequence([seed, resets]).generate_state(1)[0]) & (2**31 - 1)


def _like(mask: np.ndarray, array: np.ndarray) -> np.ndarray:
    return mask.reshape(-1, *[1] * (array.ndim - 1))
