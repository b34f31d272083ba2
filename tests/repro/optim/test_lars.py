"""LARS is the stated rule, per parameter and per setting."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from repro.optim.lars import lars


def some_params(seed: int = 0) -> dict[str, jax.Array]:
    random = np.random.default_rng(seed)
    shapes = {"kernel": (6, 4), "other": (3, 5), "bias": (4,)}
    return {name: jnp.asarray(random.normal(size=shape), jnp.float32) for name, shape in shapes.items()}


def test_three_updates_follow_the_rule():
    params, rate, decay = some_params(), 0.5, 5e-4
    optimiser = lars(rate, 0.9, decay, 0.001, {"kernel": True, "other": False, "bias": True})
    state = optimiser.init(params)
    expected = {name: np.asarray(p, np.float64) for name, p in params.items()}
    momentum = {name: np.zeros_like(p) for name, p in expected.items()}
    for step in range(1, 4):
        gradients = some_params(step)
        change, state = optimiser.update(gradients, state, params)
        params = optax.apply_updates(params, change)
        for name, p in expected.items():
            g = np.asarray(gradients[name], np.float64) + (0 if name == "other" else decay) * p
            if p.ndim > 1:
                g *= 0.001 * np.linalg.norm(p) / np.linalg.norm(g)
            momentum[name] = 0.9 * momentum[name] + g
            expected[name] = p - rate * momentum[name]
    for name, p in expected.items():
        np.testing.assert_allclose(params[name], p, rtol=1e-6)


def test_the_first_step_of_every_matrix_has_the_length_rate_times_eta_times_its_norm():
    params = some_params()
    optimiser = lars(0.5)
    change, _ = optimiser.update(some_params(1), optimiser.init(params), params)
    for name in ("kernel", "other"):
        ratio = jnp.linalg.norm(change[name]) / jnp.linalg.norm(params[name])
        np.testing.assert_allclose(ratio, 0.5 * 0.001, rtol=1e-5)
    np.testing.assert_allclose(change["bias"], -0.5 * some_params(1)["bias"], rtol=1e-6)


@pytest.mark.parametrize("empty", ["gradient", "parameter"])
def test_a_norm_of_zero_scales_nothing(empty):
    params, gradients = {"w": jnp.ones((2, 2))}, {"w": jnp.full((2, 2), 3.0)}
    (gradients if empty == "gradient" else params)["w"] = jnp.zeros((2, 2))
    optimiser = lars(0.1)
    change, _ = optimiser.update(gradients, optimiser.init(params), params)
    np.testing.assert_allclose(change["w"], -0.1 * gradients["w"])


def test_settings_mapped_over_are_independent():
    params, gradients = some_params(), some_params(1)
    settings = jnp.array([[0.5, 0.0], [0.1, 1e-2]])

    def update(setting: jax.Array) -> optax.Updates:
        optimiser = lars(setting[0], weight_decay=setting[1])
        return optimiser.update(gradients, optimiser.init(params), params)[0]

    together = jax.vmap(update)(settings)
    for k, (rate, decay) in enumerate([(0.5, 0.0), (0.1, 1e-2)]):
        optimiser = lars(rate, weight_decay=decay)
        alone = optimiser.update(gradients, optimiser.init(params), params)[0]
        jax.tree.map(lambda a, b, k=k: np.testing.assert_allclose(a[k], b, rtol=1e-5), together, alone)


def test_it_needs_the_parameters():
    with pytest.raises(ValueError, match="needs the parameters"):
        lars(0.1).update({}, lars(0.1).init({}))
