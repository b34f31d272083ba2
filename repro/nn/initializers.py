"""Keras' default initial weights, from the normal numbers that `Draw` hands out."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.scipy.special import erf, erfinv

from repro.nn.params import Draw


def glorot_uniform(draw: Draw, shape: Sequence[int], fan_in: int, fan_out: int) -> jax.Array:
    """Uniform on +- sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return uniform(draw, shape) * math.sqrt(6 / (fan_in + fan_out))


def orthogonal(draw: Draw, rows: int, columns: int) -> jax.Array:
    """A matrix with orthonormal rows (rows <= columns), uniformly distributed (Saxe et al. 2014)."""
    normal = math.sqrt(2) * erfinv(jnp.clip(uniform(draw, (columns, rows)), -1 + 1e-6, 1 - 1e-6))
    q, r = jnp.linalg.qr(normal)
    # The sign of R's diagonal makes the factor unique and its distribution uniform.
    return (q * jnp.where(jnp.diagonal(r) < 0, -1.0, 1.0)).T


def uniform(draw: Draw, shape: Sequence[int]) -> jax.Array:
    """Uniform on [-1, 1]: the distribution function of the truncated normal that `draw` gives, at its numbers."""
    normal = draw(shape, 1) / 1.1368
    return erf(normal / math.sqrt(2)) / math.erf(math.sqrt(2))
