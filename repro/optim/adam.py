"""Adam as TensorFlow and Keras have it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class AdamState(NamedTuple):
    """Number of updates, moving averages of gradients and of their squares; float32, not debiased."""

    step: jax.Array
    mu: Any
    nu: Any


def scale_by_adam_tf(beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> optax.GradientTransformation:
    """sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps): `eps` is outside the bias correction, unlike in optax.

    The two differ for gradients near `eps` (`tf.train.AdamOptimizer`, "epsilon hat" of Kingma and Ba, section 2.1).
    """

    def init(params: optax.Params) -> AdamState:
        zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
        return AdamState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.zeros_like, zeros))

    def update(
        updates: optax.Updates, state: AdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdamState]:
        step = optax.safe_increment(state.step)
        mu = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * jnp.square(g), state.nu, updates)
        scale = jnp.sqrt(1 - beta2**step) / (1 - beta1**step)
        return jax.tree.map(lambda m, v: scale * m / (jnp.sqrt(v) + eps), mu, nu), AdamState(step, mu, nu)

    return optax.GradientTransformation(init, update)


def adam_tf(learning_rate: optax.ScalarOrSchedule, clip: float | None = None) -> optax.GradientTransformation:
    """TensorFlow's Adam; with `clip` every entry of the gradient is first limited to [-clip, clip]."""
    parts = [optax.clip(clip)] if clip is not None else []
    return optax.chain(*parts, scale_by_adam_tf(), optax.scale_by_learning_rate(learning_rate))


def keras_adam(
    lr: float, eps: float = 1e-7, clip: float = 0.0, decay: float = 0.0, beta1: float = 0.9, beta2: float = 0.999
) -> optax.GradientTransformation:
    """g <- g min(1, clip / |g|) with the norm over all tensors (0: no clipping), TensorFlow's Adam, then
    p <- p - decay p, not scaled by the learning rate (the optimiser of DreamerV1 and V2).

    `update` needs the parameters if there is decay.
    """
    adam = scale_by_adam_tf(beta1, beta2, eps)

    def update(
        updates: optax.Updates, state: AdamState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdamState]:
        if clip:
            factor = jnp.minimum(1.0, clip / jnp.maximum(optax.tree.norm(updates), 1e-30))
            updates = jax.tree.map(lambda g: g * factor, updates)
        updates, state = adam.update(updates, state)
        change = jax.tree.map(lambda u: -lr * u, updates)
        return jax.tree.map(lambda c, p: c - decay * p, change, params) if decay else change, state

    return optax.GradientTransformation(adam.init, update)
