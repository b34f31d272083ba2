"""Facts of the losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from papers.dreamerv3.agent_config import AgentConfig
from papers.dreamerv3.losses import imagined_losses, latent_losses, make_norms, replay_returns
from repro.envs.base import Space
from repro.nn.distributions import TwoHot, categorical, symexp_bins

CONFIG = AgentConfig()
SPACES = {"a": Space((), "int32", 4)}
BINS = jnp.asarray(symexp_bins(255))


def imagined(going, reward=None, config=CONFIG):
    """Losses for a fresh critic and a uniform policy."""
    steps, starts = going.shape
    value = TwoHot(jnp.zeros((steps - 1, starts, 255)), BINS)
    policy = {"a": categorical(jnp.zeros((steps - 1, starts, 4)))}
    action = {"a": jnp.zeros((steps - 1, starts), jnp.int32)}
    norms = type(make_norms(config))(*(n.init() for n in make_norms(config)))
    reward = jnp.zeros((steps, starts)) if reward is None else reward
    last, slow = jnp.zeros(starts), jnp.zeros((steps, starts))
    return imagined_losses(config, SPACES, policy, action, reward, going, value, last, slow, norms)


def test_free_nats_stop_the_gradient_and_each_loss_trains_its_side_only():
    def loss(posterior, prior, name):
        losses = latent_losses(categorical(posterior, 0.01), categorical(prior, 0.01), 1.0)
        return getattr(losses, name).sum()

    near = jnp.zeros((1, 2, 3, 4)), 0.01 * jnp.ones((1, 2, 3, 4)).at[..., 0].set(0.3)
    far = 5 * jax.random.normal(jax.random.key(0), (2, 1, 2, 3, 4))
    for name in ("dynamics", "representation"):
        assert all((g == 0).all() for g in jax.grad(loss, (0, 1))(*near, name))
    to_posterior, to_prior = jax.grad(loss, (0, 1))(*far, "dynamics")
    assert (to_posterior == 0).all() and (to_prior != 0).any()
    to_posterior, to_prior = jax.grad(loss, (0, 1))(*far, "representation")
    assert (to_posterior != 0).any() and (to_prior == 0).all()


def test_free_nats_apply_to_the_sum_over_latents_of_each_state():
    posterior = jnp.zeros((1, 2, 4, 4)).at[0, 0, :, 0].set(2.0)
    losses = latent_losses(categorical(posterior), categorical(jnp.zeros((1, 2, 4, 4))), 1.0)
    single = float(losses.kl[0, 0]) / 4
    assert single < 1 < float(losses.dynamics[0, 0]) == pytest.approx(4 * single)
    assert float(losses.dynamics[0, 1]) == 1.0


def test_imagined_weights_include_the_continuation_of_the_start():
    going = jnp.ones((4, 2)).at[0, 0].set(0.0)
    out = imagined(going, reward=jnp.ones((4, 2)))
    assert (out.actor[:, 0] == 0).all() and (out.critic[:, 0] == 0).all()
    assert (out.critic[:, 1] > 0).all()


def test_a_fresh_critic_pays_twice_the_logarithm_of_its_bins():
    np.testing.assert_allclose(imagined(jnp.ones((4, 2))).critic, 2 * 5.5413, atol=1e-3)


def test_the_return_of_a_state_starts_with_the_reward_of_the_next():
    reward = jnp.zeros((4, 1)).at[1, 0].set(3.0)
    np.testing.assert_allclose(imagined(jnp.ones((4, 1)), reward).returns[:, 0], [3.0, 0.0, 0.0], atol=1e-6)


def test_replayed_returns_bootstrap_across_truncation_and_stop_at_termination():
    reward, boot = jnp.array([[0.0, 1.0, 5.0]]), jnp.array([[9.0, 7.0, 2.0]])
    no, yes = jnp.zeros((1, 3)), jnp.array([[0.0, 1.0, 0.0]])
    gamma = 1 - 1 / 333
    truncated = replay_returns(CONFIG, yes, no, reward, boot)
    assert float(truncated[0, 0]) == pytest.approx(1 + gamma * 7, rel=1e-6)
    terminated = replay_returns(CONFIG, yes, yes, reward, boot)
    assert float(terminated[0, 0]) == 1.0
    running = replay_returns(CONFIG, no, no, reward, boot)
    later = 5 + gamma * 2
    assert float(running[0, 0]) == pytest.approx(1 + gamma * (0.05 * 7 + 0.95 * later), rel=1e-6)


def test_only_actor_and_critic_outputs_are_differentiated():
    def total(reward, going, last, slow):
        value = TwoHot(jnp.zeros((3, 2, 255)), BINS)
        policy = {"a": categorical(jnp.zeros((3, 2, 4)))}
        norms = type(make_norms(CONFIG))(*(n.init() for n in make_norms(CONFIG)))
        action = {"a": jnp.zeros((3, 2), jnp.int32)}
        out = imagined_losses(CONFIG, SPACES, policy, action, reward, going, value, last, slow, norms)
        return out.actor.sum() + out.critic.sum()

    arguments = (jnp.ones((4, 2)), jnp.full((4, 2), 0.9), jnp.ones(2), jnp.ones((4, 2)))
    for gradient in jax.grad(total, (0, 1, 2, 3))(*arguments):
        np.testing.assert_array_equal(gradient, 0.0)
