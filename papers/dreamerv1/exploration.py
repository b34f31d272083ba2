"""Noise on actions of training."""

import jax
import jax.numpy as jnp

from papers.dreamerv1.agent_config import ExplorationConfig


def amount(config: ExplorationConfig, step: jax.Array | float) -> jax.Array:
    """Amount of noise after `step` environment steps."""
    halvings = step / config.half_life if config.half_life else 0.0
    return jnp.maximum(config.amount * jnp.asarray(0.5) ** halvings, config.minimum)


def additive(action: jax.Array, noise: jax.Array, amount: jax.Array | float) -> jax.Array:
    """Actions `[..., A]` plus `amount` times standard normal noise, clipped to [-1, 1]."""
    return jnp.clip(action + amount * noise, -1.0, 1.0)


def epsilon_greedy(action: jax.Array, random: jax.Array, uniform: jax.Array, amount: jax.Array | float) -> jax.Array:
    """The `random` class where `uniform` (in [0, 1)) is below `amount`, else the chosen one; all `[...]`."""
    return jnp.where(uniform < amount, random, action)
