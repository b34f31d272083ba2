"""Returns against closed forms and a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repro.rl.returns import lambda_return

KEYS = jax.random.split(jax.random.key(0), 4)
REWARD, VALUE = (jax.random.normal(k, (3, 7)) for k in KEYS[:2])
LIVE, MIX = (jax.random.uniform(k, (3, 7)) for k in KEYS[2:])


def test_lambda_one_without_discount_sums_rewards_and_the_last_value():
    returns = lambda_return(REWARD, jnp.ones((3, 7)), 1.0, VALUE)
    np.testing.assert_allclose(returns[:, 0], REWARD[:, 1:].sum(1) + VALUE[:, -1], rtol=1e-5)


def test_lambda_zero_is_the_one_step_return():
    np.testing.assert_allclose(
        lambda_return(REWARD, LIVE, 0.0, VALUE), REWARD[:, 1:] + LIVE[:, 1:] * VALUE[:, 1:], rtol=1e-5
    )


@pytest.mark.parametrize("axis", [0, 1])
def test_equals_a_backward_loop_on_either_axis(axis):
    arrays = [x if axis else x.T for x in (REWARD, LIVE, MIX, VALUE)]
    found = lambda_return(*arrays, axis=axis)
    expected, later = [], np.asarray(VALUE)[:, -1]
    for t in range(6, 0, -1):
        mixed = (1 - MIX[:, t]) * VALUE[:, t] + MIX[:, t] * later
        later = REWARD[:, t] + LIVE[:, t] * mixed
        expected.append(later)
    np.testing.assert_allclose(found if axis else found.T, np.stack(expected[::-1], 1), rtol=1e-5)


def test_a_cut_trace_bootstraps_and_a_terminal_step_does_not():
    reward, value = jnp.ones((1, 4)), jnp.full((1, 4), 10.0)
    truncated = lambda_return(reward, jnp.full((1, 4), 0.9), jnp.array([[1.0, 0.0, 1.0, 1.0]]), value)
    assert float(truncated[0, 0]) == pytest.approx(1 + 0.9 * 10)
    terminal = lambda_return(reward, jnp.array([[1.0, 0.0, 1.0, 1.0]]), 0.95, value)
    assert float(terminal[0, 0]) == 1.0
