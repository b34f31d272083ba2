"""The policies that collect data, and what the real environments take. An episode's actions are drawn before it begins,
from (seed, environment, episode) alone, so that a resumed collection draws the same."""

from typing import Any

import numpy as np

from papers.world_models.config import CollectConfig, Config
from papers.world_models.controller import controls
from repro.envs.vizdoom import THIRD, thirds

CAR_LATENT = 32
"""Inputs of the random agent's controller (release: z of CarRacing)."""


def new_action_frames(repeats: np.ndarray, frames: int) -> np.ndarray:
    """bool `[frames]`: when Take Cover's random policy draws anew, given the repeats it draws (release, `extract.py`).

    At a frame divisible by the current repeat an action is drawn, and the next repeat.
    """
    draws = np.zeros(frames, bool)
    drawn = 0
    for frame in range(frames):
        if frame % repeats[drawn] == 0:
            draws[frame] = True
            drawn += 1
    return draws


def sweeping(random: np.random.Generator, frames: int) -> np.ndarray:
    """Actions in [-1, 1], float32 `[frames, 1]`, that cross Take Cover's room from side to side without looking.

    An episode draws its pace, 60 to 120 frames to a side (with 100 blind players last longest); a way is up to a fifth
    shorter or longer, and after one in five the player stands for up to 30 frames.
    """
    actions = np.zeros((frames, 1), np.float32)
    pace, side, frame = random.uniform(60, 120), random.choice((-1, 1)), 0
    while frame < frames:
        way = int(pace * random.uniform(0.8, 1.2))
        actions[frame : frame + way] = side * random.uniform(THIRD, 1)
        frame += way
        if random.uniform() < 0.2:
            way = int(random.integers(1, 31))
            actions[frame : frame + way] = random.uniform(-THIRD, THIRD)
            frame += way
        side = -side
    return actions


def episode_actions(config: Config, of: CollectConfig, seed: int, env: int, episode: int) -> np.ndarray:
    """Actions in [-1, 1], float32 `[time limit, A]`, of one episode by the collecting policy."""
    random = np.random.default_rng([seed, env, episode])
    frames = config.env.time_limit or 0
    if of.policy == "uniform":
        return random.uniform(-1, 1, (frames, config.rnn.action)).astype(np.float32)
    if of.policy == "held":
        # Without sweeps nothing is drawn for them: the roll-outs stay what they were.
        if of.sweeps and random.uniform() < of.sweeps:
            return sweeping(random, frames)
        draws = new_action_frames(random.integers(1, of.hold + 1, frames + 1), frames)
        values = random.uniform(-1, 1, (frames, config.rnn.action))
        held = np.maximum.accumulate(np.where(draws, np.arange(frames), 0))
        return values[held].astype(np.float32)
    # An agent whose V and M are practically zero: z is noise, C's weights are Cauchy of a random scale.
    scale = random.uniform(0, 0.01)
    bias, weights = scale * random.standard_cauchy(3), scale * random.standard_cauchy((CAR_LATENT, 3))
    return np.tanh(random.standard_normal((frames, CAR_LATENT)) @ weights + bias).astype(np.float32)


def sweep(step: np.ndarray | int, period: int) -> np.ndarray:
    """Take Cover, looking at nothing: the action in [-1, 1] at `step`, left and right in turn, `period` steps each."""
    return np.where(np.asarray(step) // period % 2, 1.0, -1.0)


def for_environment(config: Config, actions: np.ndarray) -> dict[str, np.ndarray]:
    """What the real environment takes for C's outputs `[N, A]`."""
    if not config.doom:
        return {"action": np.asarray(actions, np.float32)}
    return {"action": thirds(np.asarray(actions)[:, 0])}


def for_model(config: Config, actions: Any) -> Any:
    """What M sees for C's outputs `[..., A]`: CarRacing's are steering, gas and brake."""
    return actions if config.doom else controls(actions)
