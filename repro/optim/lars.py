"""Layer-wise adaptive rate scaling, as the linear probes of self-supervised learning use it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class LarsState(NamedTuple):
    """Momentum of every parameter, float32."""

    momentum: Any


def lars(
    learning_rate: Any,
    momentum: float = 0.9,
    weight_decay: Any = 0.0,
    eta: float = 0.001,
    decayed: Any = True,
) -> optax.GradientTransformation:
    """g <- g + decay p; if p has more than one axis, g <- eta |p| / |g| g; v <- momentum v + g; p <- p - lr v.

    The learning rate is applied after the momentum (You, Gitman, Ginsburg 2017 multiply it in before), and parameters
    with one axis take part in the decay but not in the scaling: the variant of VISSL and Barlow Twins. `decayed` is a
    tree of booleans (or one for all): false leaves a parameter out of the decay. A factor is 1 where a norm is 0.
    `learning_rate` and `weight_decay` may be traced. `update` needs the parameters.
    """

    def init(params: optax.Params) -> LarsState:
        return LarsState(jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params))

    def scaled(gradient: jax.Array, parameter: jax.Array, decay: bool) -> jax.Array:
        if decay:
            gradient = gradient + weight_decay * parameter
        if parameter.ndim < 2:
            return gradient
        of_parameter, of_gradient = jnp.linalg.norm(parameter.ravel()), jnp.linalg.norm(gradient.ravel())
        known = (of_parameter > 0) & (of_gradient > 0)
        return gradient * jnp.where(known, eta * of_parameter / jnp.where(known, of_gradient, 1.0), 1.0)

    def update(
        updates: optax.Updates, state: LarsState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, LarsState]:
        if params is None:
            raise ValueError("lars needs the parameters")
        decays = jax.tree.map(lambda _: decayed, params) if isinstance(decayed, bool) else decayed
        changes = jax.tree.map(scaled, updates, params, decays)
        moved = jax.tree.map(lambda v, g: momentum * v + g, state.momentum, changes)
        return jax.tree.map(lambda v: -learning_rate * v, moved), LarsState(moved)

    return optax.GradientTransformation(init, update)
