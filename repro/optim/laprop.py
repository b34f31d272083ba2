"""LaProp: momentum over gradients that RMS statistics have normalised already (Ziyin et al. 2020)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class LaPropState(NamedTuple):
    """Number of updates, moving averages of squared gradients and of normalised gradients; float32, not debiased."""

    step: jax.Array
    nu: Any
    mu: Any


def scale_by_laprop(
    beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-20, nesterov: bool = False
) -> optax.GradientTransformation:
    """nu <- b2 nu + (1-b2) g^2, u = g / (sqrt(nu / (1-b2^t)) + eps), mu <- b1 mu + (1-b1) u, update mu / (1-b1^t).

    `nesterov` applies the momentum once more to u before debiasing.
    """

    def init(params: optax.Params) -> LaPropState:
        zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
        return LaPropState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.zeros_like, zeros))

    def update(
        updates: optax.Updates, state: LaPropState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, LaPropState]:
        step = optax.safe_increment(state.step)
        debias1, debias2 = 1 - beta1**step, 1 - beta2**step
        nu = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * jnp.square(g), state.nu, updates)
        scaled = jax.tree.map(lambda g, v: g / (jnp.sqrt(v / debias2) + eps), updates, nu)
        mu = jax.tree.map(lambda m, u: beta1 * m + (1 - beta1) * u, state.mu, scaled)
        ahead = jax.tree.map(lambda m, u: beta1 * m + (1 - beta1) * u, mu, scaled) if nesterov else mu
        return jax.tree.map(lambda m: m / debias1, ahead), LaPropState(step, nu, mu)

    return optax.GradientTransformation(init, update)
