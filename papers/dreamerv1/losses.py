"""The losses of DreamerV1. In imagination time comes first: the H states after the actions, without the start."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from repro.nn.distributions import Normal
from repro.rl.returns import discount_weights, lambda_return_of_states

stop = lax.stop_gradient


def latent_loss(posterior: Normal, prior: Normal, free_nats: float) -> tuple[jax.Array, jax.Array]:
    """max(mean KL, free nats) and the KL `[B, T]`, summed over the latent variables."""
    divergence = posterior.kl(prior).sum(-1)
    return jnp.maximum(divergence.mean(), free_nats), divergence


class Behaviour(NamedTuple):
    """Both losses, the returns `[H-1, N]` and their weights."""

    actor: jax.Array
    critic: jax.Array
    returns: jax.Array
    weight: jax.Array


def behaviour_losses(
    reward: jax.Array, live: jax.Array, value: jax.Array, learned_value: jax.Array, lam: float
) -> Behaviour:
    """Actor: minus the weighted returns, differentiated through `reward`, `live` (discount) and `value`, all `[H, N]`
    (P eq. 7). Critic: `learned_value` `[H-1, N]` towards the returns (P eq. 8)."""
    returns, weight = lambda_return_of_states(reward, live, lam, value), discount_weights(live)[:-1]
    critic = -(weight * Normal(learned_value, jnp.ones(())).log_prob(stop(returns))).mean()
    return Behaviour(-(weight * returns).mean(), critic, returns, weight)
