"""Clipping, LaProp, schedules, targets against their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from repro.optim.clipping import clip_by_tensor_norm
from repro.optim.laprop import scale_by_laprop
from repro.optim.schedules import decay, warmup_then
from repro.optim.targets import move_target


def test_clipping_bounds_each_tensor_by_its_own_norm():
    params = {"zero": jnp.zeros(3), "big": jnp.full(4, 50.0)}
    gradients = {"zero": jnp.array([3.0, 0.0, 4.0]), "big": jnp.ones(4)}
    clip = clip_by_tensor_norm(0.3)
    clipped, _ = clip.update(gradients, clip.init(params), params)
    # A tensor of zeros counts as one of norm 1e-3.
    assert float(jnp.linalg.norm(clipped["zero"])) == pytest.approx(3e-4, rel=1e-5)
    np.testing.assert_array_equal(clipped["big"], gradients["big"])
    with pytest.raises(ValueError, match="parameters"):
        clip.update(gradients, clip.init(params))


def test_laprop_follows_its_equations():
    optimizer = scale_by_laprop(0.9, 0.99, 1e-8)
    state = optimizer.init({"w": jnp.zeros(5)})
    nu, mu = np.zeros(5), np.zeros(5)
    for t in range(1, 6):
        g = np.asarray(jax.random.normal(jax.random.key(t), (5,)), np.float64)
        nu = 0.99 * nu + 0.01 * g**2
        mu = 0.9 * mu + 0.1 * g / (np.sqrt(nu / (1 - 0.99**t)) + 1e-8)
        update, state = optimizer.update({"w": jnp.asarray(g, jnp.float32)}, state)
        np.testing.assert_allclose(update["w"], mu / (1 - 0.9**t), rtol=1e-4)


def test_laprop_first_step_has_unit_size_and_a_zero_gradient_moves_nothing():
    optimizer = scale_by_laprop()
    params = {"w": jnp.zeros(3)}
    update, _ = optimizer.update({"w": jnp.array([1e-12, -5.0, 0.0])}, optimizer.init(params))
    np.testing.assert_allclose(update["w"], [1.0, -1.0, 0.0], rtol=1e-4)


def test_warmup_starts_with_no_step_and_reaches_the_rate():
    rate = warmup_then(decay("const", 4e-5, 0.0, 0), 4e-5, 1000)
    np.testing.assert_allclose([rate(0), rate(1), rate(1000), rate(10**6)], [0, 4e-8, 4e-5, 4e-5], rtol=1e-4)


@pytest.mark.parametrize(("kind", "middle"), [("linear", 0.55), ("cosine", 0.55)])
def test_decays_end_where_they_should(kind, middle):
    rate = warmup_then(decay(kind, 1.0, 0.1, 10), 1.0, 5)
    np.testing.assert_allclose([rate(5), rate(10), rate(15), rate(99)], [1.0, middle, 0.1, 0.1], rtol=1e-5)


def test_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="linear"):
        decay("step", 1.0, 0.1, 10)


def test_a_target_closes_the_distance_to_a_constant_source_geometrically():
    slow, source = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
    for count in range(5):
        slow = move_target(slow, source, 0.02, jnp.asarray(count))
    np.testing.assert_allclose(slow["w"], 1 - 0.98**5, rtol=1e-5)


def test_a_target_moves_only_at_its_period_and_rate_one_copies():
    slow, source = {"w": jnp.zeros(1)}, {"w": jnp.ones(1)}
    assert float(move_target(slow, source, 1.0, jnp.asarray(1), every=3)["w"][0]) == 0.0
    assert float(move_target(slow, source, 1.0, jnp.asarray(3), every=3)["w"][0]) == 1.0


def test_the_parts_chain_as_optax_transformations():
    optimizer = optax.chain(clip_by_tensor_norm(0.3), scale_by_laprop(), optax.scale_by_learning_rate(0.1))
    params = {"w": jnp.ones(3)}
    updates, _ = optimizer.update({"w": jnp.ones(3)}, optimizer.init(params), params)
    np.testing.assert_allclose(optax.apply_updates(params, updates)["w"], 0.9, rtol=1e-4)
