"""Normalisation over the last axis, with a gradient of its own: half the passes over memory that differentiation of the
formula makes."""

import functools

import jax
import jax.numpy as jnp
from jax import lax


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    """x / sqrt(mean(x^2) + eps) * scale over the last axis, in float32: `[..., C]`, scale `[C]`; keeps shape and dtype
    (Zhang and Sennrich, 2019)."""
    return _forward(x, scale, eps)[0]


def _forward(x: jax.Array, scale: jax.Array, eps: float) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    y = x.astype(jnp.float32)
    inverse = lax.rsqrt(_mean(jnp.square(y)) + eps)
    return (y * (inverse * scale)).astype(x.dtype), (x, inverse, scale)


def _backward(
    eps: float, kept: tuple[jax.Array, jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, inverse, scale = kept
    y, g = x.astype(jnp.float32), gradient.astype(jnp.float32)
    scaled = g * scale
    along = _mean(scaled * y) * jnp.square(inverse)
    of_x = inverse * (scaled - y * along)
    of_scale = (g * y * inverse).sum(range(x.ndim - 1))
    return of_x.astype(x.dtype), of_scale.astype(scale.dtype)


rms_norm.defvjp(_forward, _backward)


def _mean(x: jax.Array) -> jax.Array:
    """Mean over the last axis, which stays. XLA on CPU sums few channels of many pixels slowly, unless it is written
    out (8 channels: an eighth of the time of the norm and its gradient)."""
    channels = x.shape[-1]
    if channels > 16 or x.ndim < 4:
        return x.mean(-1, keepdims=True)
    return lax.platform_dependent(
        x,
        cpu=lambda x: sum(x[..., i : i + 1] for i in range(channels)) / channels,
        default=lambda x: x.mean(-1, keepdims=True),
    )
