"""Distributions: sampling, mixtures, two-hot."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repro.nn.distributions import (
    Bernoulli,
    Forced,
    Normal,
    TwoHot,
    bounded_normal,
    categorical,
    symexp_bins,
    two_hot,
)

LOGITS = jnp.array([[2.0, 0.0, -1.0, 0.5], [0.0, 0.0, 0.0, 0.0]])


def test_samples_have_the_frequencies_of_the_probabilities():
    dist = categorical(LOGITS)
    draws = 20000
    index = jax.vmap(dist.sample)(jax.random.uniform(jax.random.key(0), (draws, 2)))
    counts = np.stack([np.bincount(index[:, i], minlength=4) for i in range(2)]) / draws
    # Five standard deviations of a binomial share.
    probs = np.asarray(dist.probs)
    assert (abs(counts - probs) < 5 * np.sqrt(probs * (1 - probs) / draws)).all()


def test_every_noise_in_the_unit_interval_gives_a_class():
    dist = categorical(jnp.array([-50.0, 0.0, 50.0]))
    assert int(dist.sample(jnp.array(0.0))) == 2  # the first two have no probability at all
    assert int(dist.sample(jnp.array(np.nextafter(np.float32(1), np.float32(0))))) == 2


def test_forced_outcomes_are_returned_as_they_are():
    assert categorical(LOGITS).sample(Forced(jnp.array([3, 1]))).tolist() == [3, 1]
    assert Normal(jnp.zeros(1), jnp.ones(1)).sample(Forced(jnp.array([7.0]))).tolist() == [7.0]


def test_unimix_bounds_probabilities_and_keeps_the_divergence_of_opposite_latents_finite():
    a, b = categorical(jnp.array([1e4, 0.0]), 0.01), categorical(jnp.array([0.0, 1e4]), 0.01)
    assert float(a.probs.min()) == pytest.approx(0.005)
    assert float(a.kl(b)) == pytest.approx(0.99 * np.log(0.995 / 0.005), rel=1e-3)


def test_straight_through_is_one_hot_with_the_gradient_of_the_probabilities():
    def weighted(logits):
        return categorical(logits, 0.01).straight_through(jnp.array([1, 2])) @ jnp.arange(4.0)

    def probs(logits):
        return categorical(logits, 0.01).probs @ jnp.arange(4.0)

    np.testing.assert_array_equal(weighted(LOGITS), [1.0, 2.0])
    np.testing.assert_allclose(jax.jacobian(weighted)(LOGITS), jax.jacobian(probs)(LOGITS), atol=1e-6)


def test_entropy_of_even_odds_is_the_logarithm_of_their_number():
    assert float(categorical(jnp.zeros(18)).entropy()) == pytest.approx(np.log(18), rel=1e-6)


def test_bounded_normal_starts_near_zero_mean_and_its_stated_deviation():
    dist = bounded_normal(jnp.zeros(2), jnp.zeros(2), 0.1, 1.0)
    np.testing.assert_allclose(dist.std, 0.8927, atol=1e-4)
    np.testing.assert_array_equal(dist.mean, [0.0, 0.0])


def test_bernoulli_loss_is_cross_entropy_and_least_at_the_target():
    logits = jnp.linspace(-8, 8, 1601)
    loss = Bernoulli(logits).loss(0.75)
    p = jax.nn.sigmoid(logits)
    np.testing.assert_allclose(loss, -(0.75 * jnp.log(p) + 0.25 * jnp.log1p(-p)), rtol=1e-4)
    assert float(p[loss.argmin()]) == pytest.approx(0.75, abs=2e-3)


def test_bins_are_the_published_ones():
    bins = symexp_bins(255)
    assert bins.shape == (255,) and bins[127] == 0
    np.testing.assert_allclose(bins[[128, 254]], [0.17055778, 4.8516518e8], rtol=1e-6)
    assert (np.diff(bins) > 0).all()
    np.testing.assert_array_equal(bins, -bins[::-1])
    with pytest.raises(ValueError, match="symmetric"):
        symexp_bins(255, -10, 20)


@pytest.mark.parametrize("count", [255, 5, 6])
def test_uniform_logits_predict_exactly_zero(count):
    bins = jnp.asarray(symexp_bins(count))
    assert float(jax.jit(TwoHot(jnp.zeros((3, count)), bins).mean)()[0]) == 0.0


def test_two_hot_recovers_its_target_and_clips_beyond_the_range():
    bins = jnp.array([-4.0, -1.0, 0.0, 1.0, 4.0])
    target = jnp.array([-9.0, -4.0, -2.5, 0.0, 0.25, 3.0, 4.0, 9.0])
    weights = two_hot(target, bins)
    np.testing.assert_allclose(weights @ bins, jnp.clip(target, -4, 4), atol=1e-6)
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-6)
    assert ((weights > 0).sum(-1) <= 2).all()


def test_two_hot_loss_at_initialisation_is_the_logarithm_of_the_bins():
    loss = TwoHot(jnp.zeros((2, 255)), jnp.asarray(symexp_bins(255))).loss(jnp.array([0.3, -7.0]))
    np.testing.assert_allclose(loss, 5.5413, atol=1e-4)
