"""Layers against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np

from repro.nn.layers import BlockLinear, Hidden, Linear, RMSNorm, symexp, symlog
from repro.nn.params import Definition

X = jax.random.normal(jax.random.key(1), (5, 6))


def built(make):
    definition = Definition(make)
    params = definition.init(jax.random.key(0))
    params = {k: v + 0.1 * jax.random.normal(jax.random.key(2), v.shape) for k, v in params.items()}
    return definition.bind(params), params


def test_linear_of_parts_is_linear_of_their_concatenation():
    linear, _ = built(lambda draw: Linear(6, 3, draw=draw))
    np.testing.assert_allclose(linear(X[:, :2], X[:, 2:3], X[:, 3:]), linear(X), rtol=1e-5, atol=1e-6)


def test_block_linear_is_a_block_diagonal_matrix():
    layer, params = built(lambda draw: BlockLinear(6, 4, 2, draw=draw))
    dense = np.zeros((6, 4), np.float32)
    dense[:3, :2], dense[3:, 2:] = params["kernel"]
    np.testing.assert_allclose(layer(X), X @ dense + params["bias"], rtol=1e-5, atol=1e-6)


def test_rms_norm_computes_in_float32_and_returns_the_input_type():
    norm, params = built(lambda draw: RMSNorm(6))
    expected = X / np.sqrt(np.square(X).mean(-1, keepdims=True) + 1e-4) * params["scale"]
    np.testing.assert_allclose(norm(X), expected, rtol=1e-5)
    assert norm(X.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    tiny = norm(jnp.full((1, 6), 1e-20, jnp.bfloat16))
    assert np.isfinite(np.asarray(tiny, np.float32)).all()


def test_hidden_is_linear_then_norm_then_activation():
    layer, _ = built(lambda draw: Hidden(6, 4, draw=draw))
    np.testing.assert_allclose(layer(X), jax.nn.silu(layer.norm(layer.linear(X))), rtol=1e-6)


def test_symexp_inverts_symlog():
    x = jnp.array([-1e4, -1.5, -1e-3, 0.0, 1e-3, 2.0, 1e4])
    np.testing.assert_allclose(symexp(symlog(x)), x, rtol=1e-5, atol=1e-6)
