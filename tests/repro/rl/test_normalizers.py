"""Running statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repro.rl.normalizers import Identity, MeanStd, Percentile


def test_percentiles_move_from_zero_by_their_rate_and_the_scale_has_a_floor():
    norm = Percentile()
    x = jnp.linspace(-2.5555555, 8.5555555, 101)  # percentiles 5 and 95 are -2 and 8
    state = norm.update(norm.init(), x)
    np.testing.assert_allclose([state["low"], state["high"]], [-0.02, 0.08], atol=1e-6)
    assert norm.stats(state)[1] == 1.0


def test_percentiles_are_those_of_numpy():
    x = jax.random.normal(jax.random.key(0), (7, 9))
    state = Percentile(rate=1.0).update(Percentile().init(), x)
    np.testing.assert_allclose([state["low"], state["high"]], np.percentile(x, [5, 95]), rtol=1e-5)


@pytest.mark.parametrize("norm", [MeanStd(rate=0.1), Percentile(rate=0.1, limit=1e-8, debias=True)])
def test_debiased_statistics_of_equal_batches_are_those_of_one(norm):
    x = jax.random.normal(jax.random.key(0), (50,)) * 3 + 1
    state = norm.init()
    for _ in range(3):
        state = norm.update(state, x)
    once = type(norm)(rate=1.0, limit=1e-8)
    np.testing.assert_allclose(norm.stats(state), once.stats(once.update(once.init(), x)), rtol=1e-4)


def test_no_gradient_flows_into_the_statistics():
    norm = MeanStd()
    gradient = jax.grad(lambda x: sum(norm.stats(norm.update(norm.init(), x))))(jnp.arange(4.0))
    np.testing.assert_array_equal(gradient, 0.0)


def test_identity_leaves_numbers_alone():
    assert Identity().stats(Identity().update({}, jnp.ones(3))) == (0.0, 1.0)
