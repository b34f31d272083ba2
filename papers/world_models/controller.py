"""C: a linear controller, or one with a layer of tanh units (World Models, appendix A.3).

Parameters are one vector: bias, then weights row by row; with a hidden layer its bias and weights come first.
"""

from typing import Any

import jax
import jax.numpy as jnp

from papers.world_models.config import ControllerConfig, MDNRNNConfig


def width(config: ControllerConfig, rnn: MDNRNNConfig) -> int:
    """Number of features."""
    return sum({"z": rnn.latent, "c": rnn.hidden, "h": rnn.hidden}[name] for name in config.features)


def count(config: ControllerConfig, rnn: MDNRNNConfig) -> int:
    """Number of parameters."""
    inputs, hidden, outputs = width(config, rnn), config.hidden, rnn.action
    first = hidden * (inputs + config.bias) if hidden else 0
    return first + outputs * ((hidden or inputs) + config.bias)


def features(config: ControllerConfig, latent: jax.Array, cell: jax.Array, hidden: jax.Array) -> jax.Array:
    """What C sees, `[..., F]`."""
    parts = {"z": latent, "c": cell, "h": hidden}
    return jnp.concatenate([parts[name] for name in config.features], -1)


def act(config: ControllerConfig, params: jax.Array, x: jax.Array, outputs: int) -> jax.Array:
    """tanh outputs `[..., A]` of features `[..., F]`; `params` `[P]`, or `[..., P]` with a controller for each row."""
    if config.hidden:
        size = config.hidden * (x.shape[-1] + config.bias)
        x, params = _layer(config, params[..., :size], x, config.hidden), params[..., size:]
    return _layer(config, params, x, outputs)


def _layer(config: ControllerConfig, params: jax.Array, x: jax.Array, outputs: int) -> jax.Array:
    bias = params[..., :outputs] if config.bias else 0.0
    weights = params[..., outputs if config.bias else 0 :].reshape(*params.shape[:-1], x.shape[-1], outputs)
    if weights.ndim == 2:
        return jnp.tanh(x @ weights + bias)
    return jnp.tanh((x[..., None] * weights).sum(-2) + bias)


def controls(action: jax.Array) -> jax.Array:
    """CarRacing: outputs `[..., 3]` -> steering in [-1, 1], gas (a + 1) / 2, brake max(a, 0); M sees these."""
    return jnp.stack([action[..., 0], (action[..., 1] + 1) / 2, jnp.clip(action[..., 2], 0, 1)], -1)


def rounded(params: Any) -> jax.Array:
    """To 4 decimals, as weights are when they are evaluated or stored."""
    return jnp.round(jnp.asarray(params) * 10_000) / 10_000
