"""Gradient clipping that optax lacks."""

import jax
import jax.numpy as jnp
import optax


def clip_by_tensor_norm(ratio: float, min_norm: float = 1e-3) -> optax.GradientTransformation:
    """Adaptive gradient clipping, one ratio a tensor: |g| <= ratio * max(min_norm, |p|).

    Unlike `optax.adaptive_grad_clip`, which works unit by unit, the norms are those of whole tensors, biases and
    scales included (DreamerV3, Methods). A ratio of 0 clips nothing. `update` needs the parameters.
    """

    def clip(gradient: jax.Array, parameter: jax.Array) -> jax.Array:
        limit = ratio * jnp.maximum(min_norm, jnp.linalg.norm(parameter.ravel()))
        return gradient / jnp.maximum(1.0, jnp.linalg.norm(gradient.ravel()) / limit)

    def update(
        updates: optax.Updates, state: optax.EmptyState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.EmptyState]:
        if params is None:
            raise ValueError("clip_by_tensor_norm needs the parameters")
        return jax.tree.map(clip, updates, params) if ratio else updates, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
