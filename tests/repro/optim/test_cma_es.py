"""CMA-ES: equal to pycma with CSA, able to optimise, stable in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repro.optim import cma_es

cma = pytest.importorskip("cma", reason="pycma is the oracle (extra oracle)")


@pytest.mark.parametrize(("n", "population", "generations"), [(12, 10, 40), (330, 24, 12)])
def test_equals_pycma_with_csa_on_the_same_candidates(n, population, generations):
    """Above 300 dimensions pycma's default is another step-size rule; CSA must be asked for."""
    options = {"popsize": population, "AdaptSigma": cma.sigma_adaptation.CMAAdaptSigmaCSA, "verbose": -9, "seed": 1}
    theirs = cma.CMAEvolutionStrategy(np.zeros(n), 0.1, options)
    constants = cma_es.constants(n, population)
    parameters = theirs.sp
    assert constants.mueff == pytest.approx(parameters.weights.mueff)
    assert constants.c1 == pytest.approx(parameters.c1) and constants.cmu == pytest.approx(parameters.cmu)
    assert constants.cc == pytest.approx(parameters.cc) and constants.cs == pytest.approx(theirs.adapt_sigma.cs)
    np.testing.assert_allclose(constants.weights, parameters.weights, rtol=1e-6)
    ours = cma_es.init(jnp.zeros(n), 0.1, tilt=0.0)
    tell = jax.jit(lambda state, x, c: cma_es.tell(state, constants, x, c))
    scales = np.geomspace(1, 100, n)
    for _ in range(generations):
        candidates = np.array(theirs.ask())
        costs = (scales * (candidates - 0.3) ** 2).sum(-1)
        theirs.tell(list(candidates), list(costs))
        ours = tell(ours, jnp.asarray(candidates, jnp.float32), jnp.asarray(costs, jnp.float32))
    np.testing.assert_allclose(ours.mean, theirs.mean, atol=2e-4 * np.abs(theirs.mean).max())
    assert float(ours.sigma) == pytest.approx(theirs.sigma, rel=2e-3)
    np.testing.assert_allclose(ours.covariance, theirs.sm.C, atol=2e-3 * np.abs(theirs.sm.C).max())


def run(n, population, generations, cost, sigma=0.1):
    constants = cma_es.constants(n, population)

    def generation(state, key):
        of_normal, of_noise = jax.random.split(key)
        candidates = cma_es.ask(state, jax.random.normal(of_normal, (population, n)))
        return cma_es.tell(state, constants, candidates, cost(candidates, of_noise)), state.sigma

    start = cma_es.init(jnp.zeros(n), sigma)
    return jax.jit(lambda keys: jax.lax.scan(generation, start, keys))(jax.random.split(jax.random.key(0), generations))


def test_finds_the_minimum_of_an_ill_conditioned_bowl_inside_one_program():
    scales = jnp.geomspace(1, 1000, 8)
    state, _ = run(8, 16, 200, lambda x, key: (scales * jnp.square(x - 1)).sum(-1))
    np.testing.assert_allclose(state.mean, 1, atol=1e-3)
    spread = jnp.diag(state.covariance)
    assert float(spread[0] / spread[-1]) > 100  # it learned the scales


def test_pure_noise_neither_collapses_nor_explodes():
    state, _ = run(100, 64, 300, lambda x, key: jax.random.normal(key, x.shape[:1]))
    # The step size walks at random, on another processor to another end: 0.46 to 1.83 times the first over 12 keys,
    # so that a factor of five is four standard deviations; eigenvalues were 0.67 to 2.15.
    assert 0.2 < float(state.sigma) / 0.1 < 5
    values = jnp.linalg.eigvalsh(state.covariance)
    assert float(values[0]) > 0.5 and float(values[-1]) < 3


def test_impossible_sizes():
    with pytest.raises(ValueError, match="population of 2"):
        cma_es.constants(5, 1)


@pytest.mark.slow
def test_float32_stays_sound_over_2000_generations_of_1088_parameters():
    state, _ = run(1088, 64, 2000, lambda x, key: jnp.square(x - 0.1).sum(-1) + jax.random.normal(key, x.shape[:1]))
    covariance = np.asarray(state.covariance, np.float64)
    values = np.linalg.eigvalsh(covariance)
    assert np.isfinite(covariance).all() and np.array_equal(covariance, covariance.T)
    assert 0.5 < values[0] and values[-1] < 2
    white = np.asarray(state.basis.T @ state.basis)
    np.testing.assert_allclose(white, np.eye(1088), atol=1e-4)
