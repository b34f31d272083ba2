"""Modules as functions of flat parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repro.nn.layers import MLP, BlockLinear, Conv2D, Linear
from repro.nn.params import Definition, cast

KEY = jax.random.key(0)


def test_bind_uses_the_given_parameters_and_ignores_other_names():
    definition = Definition(lambda draw: Linear(3, 2, draw=draw))
    params = {"kernel": jnp.full((3, 2), 2.0), "bias": jnp.ones(2), "other": jnp.zeros(1)}
    np.testing.assert_array_equal(definition.bind(params)(jnp.ones((1, 3))), [[7.0, 7.0]])


def test_init_gives_the_declared_shapes_and_another_key_other_weights():
    definition = Definition(lambda draw: MLP(3, 4, 2, draw=draw))
    a, b = definition.init(KEY), definition.init(jax.random.key(1))
    assert {k: v.shape for k, v in a.items()} == {k: s.shape for k, s in definition.shapes.items()}
    assert definition.count() == (3 * 4 + 2 * 4) + (4 * 4 + 2 * 4)
    assert not np.allclose(a["layers/0/linear/kernel"], b["layers/0/linear/kernel"])


@pytest.mark.parametrize(
    ("make", "fan_in"),
    [
        (lambda draw: Linear(256, 400, scale=0.5, draw=draw), 4 * 256),
        (lambda draw: BlockLinear(512, 2048, 8, draw=draw), 512),
        (lambda draw: Conv2D(8, 500, 5, lambda x, k: x, draw=draw), 5 * 5 * 8),
    ],
)
def test_initial_weights_have_the_standard_deviation_of_all_inputs_and_are_truncated(make, fan_in):
    kernel = np.asarray(Definition(make).init(KEY)["kernel"])
    assert kernel.std() * fan_in**0.5 == pytest.approx(1.0, abs=0.01)
    assert abs(kernel).max() * fan_in**0.5 <= 2 * 1.1368 * (1 + 1e-6)


def test_tensors_of_one_network_get_different_numbers():
    params = Definition(lambda draw: MLP(4, 4, 2, draw=draw)).init(KEY)
    assert not np.allclose(params["layers/0/linear/kernel"], params["layers/1/linear/kernel"])


def test_cast_leaves_norm_scales_in_float32():
    params = cast(Definition(lambda draw: MLP(3, 4, 1, draw=draw)).init(KEY), jnp.bfloat16)
    assert params["layers/0/linear/kernel"].dtype == jnp.bfloat16
    assert params["layers/0/norm/scale"].dtype == jnp.float32
