"""The loss (C `train.py`)."""

import jax
import jax.numpy as jnp

from papers.ijepa.masks import Masks
from repro.nn.vit import layer_norm


def targets(features: jax.Array, masks: Masks) -> jax.Array:
    """What is predicted: normalised features `[B, N, D]` of the whole image, cut to the targets `[B, T, K, D]`."""
    batch, count, asked = masks.target.shape
    normed = layer_norm(features, eps=1e-5)
    return jnp.take_along_axis(normed, masks.target.reshape(batch, -1, 1), 1).reshape(batch, count, asked, -1)


def smooth_l1(difference: jax.Array) -> jax.Array:
    """d^2 / 2 where |d| < 1, else |d| - 1/2 (Huber)."""
    size = jnp.abs(difference)
    return jnp.where(size < 1, 0.5 * jnp.square(size), size - 0.5)


def prediction_loss(predicted: jax.Array, wanted: jax.Array, masks: Masks) -> jax.Array:
    """Mean smooth L1 over images, targets, contexts, real patches and features.

    predicted `[B, T, E, K, D]`, wanted `[B, T, K, D]`.
    """
    each = smooth_l1(predicted.astype(jnp.float32) - wanted[:, :, None]).mean(-1)
    real = jnp.arange(each.shape[-1]) < masks.target_count
    return jnp.where(real, each, 0.0).sum(-1).mean() / masks.target_count
