"""Adam as Keras computes it, with the clipping and the decay of the Dreamers before it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class KerasAdamState(NamedTuple):
    """Number of updates and the two moments, not debiased."""

    step: jax.Array
    mu: Any
    nu: Any


def keras_adam(
    lr: float, eps: float = 1e-7, clip: float = 0.0, decay: float = 0.0, beta1: float = 0.9, beta2: float = 0.999
) -> optax.GradientTransformation:
    """g <- g min(1, clip / |g|) with the norm over all tensors (0: no clipping), p <- p (1 - decay), then
    p <- p - lr sqrt(1 - b2^t) / (1 - b1^t) mu / (sqrt(nu) + eps).

    Unlike in `optax.adam`, eps is added before the bias is corrected; the decay is not scaled by the learning rate.
    `update` needs the parameters if there is decay.
    """

    def init(params: optax.Params) -> KerasAdamState:
        zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
        return KerasAdamState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.zeros_like, zeros))

    def update(
        updates: optax.Updates, state: KerasAdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, KerasAdamState]:
        if clip:
            factor = jnp.minimum(1.0, clip / jnp.maximum(optax.tree.norm(updates), 1e-30))
            updates = jax.tree.map(lambda g: g * factor, updates)
        step = optax.safe_increment(state.step)
        rate = lr * jnp.sqrt(1 - beta2**step) / (1 - beta1**step)
        mu = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * jnp.square(g), state.nu, updates)
        change = jax.tree.map(lambda m, v: -rate * m / (jnp.sqrt(v) + eps), mu, nu)
        if decay:
            change = jax.tree.map(lambda c, p: c - decay * p, change, params)
        return change, KerasAdamState(step, mu, nu)

    return optax.GradientTransformation(init, update)
