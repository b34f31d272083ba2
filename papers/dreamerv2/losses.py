"""The losses of DreamerV2. In imagination time comes first: N states imagined from `[N]` starts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from papers.dreamerv2.agent_config import Schedule
from repro.nn.distributions import Categorical, Normal
from repro.nn.latents import kl_both_ways
from repro.rl.returns import discount_weights, lambda_return_of_states

stop = lax.stop_gradient


def balanced_kl(
    posterior: Categorical | Normal,
    prior: Categorical | Normal,
    balance: float,
    free_nats: float,
    average_first: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """KL loss (P algorithm 2) and the plain KL `[B, T]`, both summed over the latent variables.

    `balance` trains the prior towards the posterior, the rest the posterior towards the prior. Free nats are taken off
    the mean over batch and time of each half or, without `average_first`, off every state. One half each is no
    balancing, and always clips every state.
    """
    divergence = posterior.kl(prior).sum(-1)  # type: ignore[arg-type]
    clipped = lambda kl: jnp.maximum(kl.mean() if average_first else kl, free_nats).mean()  # noqa: E731
    if balance == 0.5:
        return jnp.maximum(divergence, free_nats).mean(), divergence
    to_posterior, to_prior = kl_both_ways(posterior, prior)
    return balance * clipped(to_posterior) + (1 - balance) * clipped(to_prior), divergence


class Imagined(NamedTuple):
    """An imagined trajectory, ready for the losses. Only `log_prob`, `entropy`, `value` and, for the dynamics gradient,
    `reward`, `discount` and `target_value` are differentiated."""

    reward: jax.Array
    """`[N, ...]`, that of each state itself."""
    discount: jax.Array
    """`[N, ...]`."""
    target_value: jax.Array
    """`[N, ...]` of the target critic."""
    value: jax.Array
    """`[N-1, ...]` of the critic, without gradient to the states."""
    log_prob: jax.Array
    """`[N-1, ...]` of the action that leads from state i to i+1."""
    entropy: jax.Array
    """`[N-1, ...]`."""


class Behaviour(NamedTuple):
    """Both losses, the targets `[N-1, ...]` and weights `[N, ...]`."""

    actor: jax.Array
    critic: jax.Array
    target: jax.Array
    weight: jax.Array


def may2021_losses(x: Imagined, lam: float, share: jax.Array | float, entropy: jax.Array | float) -> Behaviour:
    """P eqs. 4 to 6, and the code of May 2021: the action taken in a state answers for the target of that state, the
    critic is its baseline."""
    target, weight = lambda_return_of_states(x.reward, x.discount, lam, x.target_value), discount_weights(x.discount)
    objective = _mixed(target, x.log_prob, target - x.value, share) + entropy * x.entropy
    actor = -(weight[:-1] * objective).mean()
    return Behaviour(actor, critic_loss(x.value, target, weight), target, weight)


def release_losses(x: Imagined, lam: float, share: jax.Array | float, entropy: jax.Array | float) -> Behaviour:
    """Release 2.2.0: the action answers for the target of the state it leads to, the baseline is the target critic at
    the state where it was taken; the last action is left out."""
    target, weight = lambda_return_of_states(x.reward, x.discount, lam, x.target_value), discount_weights(x.discount)
    later = target[1:]
    objective = _mixed(later, x.log_prob[:-1], later - x.target_value[:-2], share) + entropy * x.entropy[:-1]
    actor = -(weight[:-2] * objective).mean()
    return Behaviour(actor, critic_loss(x.value, target, weight), target, weight)


def _mixed(target: jax.Array, log_prob: jax.Array, advantage: jax.Array, share: jax.Array | float) -> jax.Array:
    return share * target + (1 - share) * log_prob * stop(advantage)


def critic_loss(value: jax.Array, target: jax.Array, weight: jax.Array) -> jax.Array:
    """Weighted negative log-likelihood of the targets under normals of unit variance around the values (P eq. 5)."""
    return -(weight[:-1] * Normal(value, jnp.ones(())).log_prob(stop(target))).mean()


def scheduled(schedule: Schedule, step: jax.Array | float) -> jax.Array:
    """Value of the schedule after `step` agent steps."""
    done = jnp.clip(step / schedule.steps, 0.0, 1.0)
    return schedule.start + (schedule.end - schedule.start) * done


ALIGNMENTS = {"may2021": may2021_losses, "release": release_losses}
