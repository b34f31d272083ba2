"""The norm and its own gradient equal the formula and its derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from repro.nn.norm import rms_norm


def formula(x, scale, eps):
    y = x.astype(jnp.float32)
    y = y * lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + eps) * scale
    return y.astype(x.dtype)


def run(f, x, scale):
    y, back = jax.vjp(lambda x, scale: f(x, scale, 1e-3), x, scale)
    return y, *back(jnp.cos(jnp.arange(1.0 * y.size)).reshape(y.shape).astype(y.dtype))


def data(shape, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=shape), jnp.float32), jnp.asarray(rng.normal(size=shape[-1]), jnp.float32)


@pytest.mark.parametrize("shape", [(5,), (7, 64), (3, 4, 4, 8), (2, 3, 4, 4, 12), (3, 4, 4, 17)])
def test_values_and_gradients_equal_the_formula(shape):
    for ours, theirs in zip(run(rms_norm, *data(shape)), run(formula, *data(shape)), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_gradient_equals_finite_differences_where_the_norm_is_small():
    """The eps matters: inputs of its size."""
    x, scale = (np.asarray(a, np.float64) for a in data((3, 6)))
    x *= 0.03

    def loss(x):
        return np.sin(x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-3) * scale).sum()

    direction = np.cos(np.arange(18.0)).reshape(3, 6)
    slope = (loss(x + 1e-6 * direction) - loss(x - 1e-6 * direction)) / 2e-6
    x, scale = jnp.asarray(x, jnp.float32), jnp.asarray(scale, jnp.float32)
    gradient = jax.grad(lambda x: jnp.sin(rms_norm(x, scale, 1e-3)).sum())(x)
    np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-4)


def test_vmap_over_scales_equals_one_call_each():
    many = [jnp.stack(a) for a in zip(data((3, 4, 4, 8)), data((3, 4, 4, 8), seed=1), strict=True)]
    batched = jax.vmap(lambda x, scale: run(rms_norm, x, scale))(*many)
    for s in range(2):
        for ours, theirs in zip(batched, run(formula, many[0][s], many[1][s]), strict=True):
            np.testing.assert_allclose(ours[s], theirs, rtol=1e-5, atol=1e-5)


def test_bfloat16_is_normalised_in_float32():
    x, scale = data((2, 4, 4, 8))
    y, of_x, of_scale = run(rms_norm, (1000 * x).astype(jnp.bfloat16), scale)
    assert (y.dtype, of_x.dtype, of_scale.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
    np.testing.assert_allclose(y.astype(jnp.float32), formula(1000 * x, scale, 1e-3), atol=0.03)
