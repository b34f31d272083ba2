"""A tiny agent and a batch for it, for the tests of this folder."""

from dataclasses import replace

import jax
import numpy as np

from papers.dreamerv3.agent_config import AgentConfig
from papers.dreamerv3.algorithm import DreamerV3
from papers.dreamerv3.parity_losses import small_agent
from repro.envs.base import Space
from repro.pipeline.algorithm import Transition

OBS = {"image": Space((16, 16, 3), "uint8"), "kind": Space((), "int32", 3), "speed": Space((2,))}
ACTIONS = {"button": Space((), "int32", 4), "stick": Space((2,))}


def config(**changes) -> AgentConfig:
    """Smaller than any published size; two image stages."""
    agent = small_agent(imagination_length=3)
    stages = {"mults": (2, 3)}
    agent = replace(agent, encoder=replace(agent.encoder, **stages), decoder=replace(agent.decoder, blocks=2, **stages))
    return replace(agent, **changes)


def tiny(obs=OBS, actions=ACTIONS, **changes) -> DreamerV3:
    """Agent for an image, a class and a vector, with a discrete and a continuous action."""
    return DreamerV3(config(**changes), obs, actions)


def values(space: Space, batch: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Random values of a space."""
    shape = (*batch, *space.shape)
    if space.classes or space.image:
        return rng.integers(0, space.classes or 256, shape).astype(space.dtype)
    return rng.uniform(-1, 1, shape).astype(space.dtype)


def batch(agent: DreamerV3, size: int = 2, length: int = 5, seed: int = 0) -> Transition:
    """Random sequences; the first step of each is marked as the replay marks it."""
    rng, rssm = np.random.default_rng(seed), agent.config.rssm
    shape = (size, length)
    first = np.zeros(shape, bool)
    first[:, 0] = True
    return Transition(
        {k: values(s, shape, rng) for k, s in agent.obs_spaces.items()},
        rng.standard_normal(shape).astype(np.float32),
        first,
        np.zeros(shape, bool),
        np.zeros(shape, bool),
        {k: values(s, shape, rng) for k, s in agent.action_spaces.items()},
        {
            "deter": rng.uniform(-1, 1, (*shape, rssm.deter)).astype(np.float32),
            "stoch": rng.integers(0, rssm.classes, (*shape, rssm.stoch)).astype(np.int8),
        },
    )


def perturbed(params, key=0, size=0.3):
    """Parameters away from their initial values, where output layers are zero."""
    keys = jax.random.split(jax.random.key(key), len(params))
    return {n: p + size * jax.random.normal(k, p.shape) for k, (n, p) in zip(keys, params.items(), strict=True)}
