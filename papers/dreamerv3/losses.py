"""The losses of DreamerV3. In imagination time comes first: H imagined steps from N states give states `[H+1, N]`."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from papers.dreamerv3.agent_config import AgentConfig, CriticTargetConfig, NormalizerConfig
from repro.envs.base import Space, Spaces
from repro.nn.distributions import Categorical, TwoHot, two_hot
from repro.nn.latents import kl_both_ways
from repro.rl.normalizers import Identity, MeanStd, Normalizer, Percentile, State
from repro.rl.returns import lambda_return

stop = lax.stop_gradient


class Latents(NamedTuple):
    """KL losses `[B, T]` and mean entropies of the latent distributions."""

    dynamics: jax.Array
    representation: jax.Array
    kl: jax.Array
    prior_entropy: jax.Array
    posterior_entropy: jax.Array


def latent_losses(posterior: Categorical, prior: Categorical, free_nats: float) -> Latents:
    """Prior towards posterior and posterior towards prior; batch axes `[B, T, S]`, KL summed over the S latents.

    max(free_nats, KL) is taken per state, before any mean (Methods, world model learning).
    """
    dynamics, representation = kl_both_ways(posterior, prior)
    return Latents(
        jnp.maximum(free_nats, dynamics),
        jnp.maximum(free_nats, representation),
        dynamics,
        prior.entropy().sum(-1).mean(),
        posterior.entropy().sum(-1).mean(),
    )


def event_sum(x: jax.Array, space: Space, extra: int = 0) -> jax.Array:
    """Sums the axes of one value of `space` (the last ones, before `extra` more)."""
    axes = range(-len(space.shape) - extra, -extra) if space.shape else ()
    return x.sum(tuple(axes))


class Norms(NamedTuple):
    """The three normalisers, or their states, or (offset, scale) pairs."""

    returns: Any
    values: Any
    advantages: Any


def make_norms(config: AgentConfig) -> Norms:
    """Normalisers of the configuration."""
    return Norms(*map(make_norm, (config.return_norm, config.value_norm, config.advantage_norm)))


def make_norm(config: NormalizerConfig) -> Normalizer:
    """The normaliser `config.kind`."""
    c = config
    kinds: dict[str, Normalizer] = {
        "none": Identity(),
        "mean_std": MeanStd(c.rate, c.limit, c.debias),
        "percentile": Percentile(c.low, c.high, c.rate, c.limit, c.debias),
    }
    return kinds[c.kind]


class Imagined(NamedTuple):
    """Losses and returns `[H, N]`, states of the normalisers after the update, scalar metrics."""

    actor: jax.Array
    critic: jax.Array
    returns: jax.Array
    norms: Norms
    metrics: dict[str, jax.Array]


def imagined_losses(
    config: AgentConfig,
    spaces: Spaces,
    policy: Mapping[str, Any],
    action: Mapping[str, jax.Array],
    reward: jax.Array,
    going: jax.Array,
    value: TwoHot,
    last_value: jax.Array,
    slow_value: jax.Array,
    norm_states: Norms,
) -> Imagined:
    """Actor and critic losses on imagined trajectories (eqs. 5 to 8).

    `policy`, `action` and `value` (critic) are those of the first H states, `last_value` is the critic's prediction
    for s_H; `reward`, `going` (probability of continuing) and `slow_value` (slow critic's prediction) are those of all
    H+1. Only `policy` and `value` are differentiated.
    """
    norms, c = make_norms(config), config.imagined
    reward, going, last_value, slow_value = stop((reward, going, last_value, slow_value))
    offset, scale = norms.values.stats(norm_states.values)
    predictions = jnp.concatenate([stop(value.mean()), last_value[None]])
    values, slow_values = predictions * scale + offset, slow_value * scale + offset
    target = slow_values if c.slow_target else values
    discount = 1.0 if config.continuation_discounts else 1 - 1 / config.horizon
    weight = jnp.cumprod(discount * going, 0) / discount
    returns = lambda_return(reward, discount * going, c.lam, target, axis=0)

    return_state = norms.returns.update(norm_states.returns, returns)
    return_offset, return_scale = norms.returns.stats(return_state)
    advantage = (returns - target[:-1]) / return_scale
    advantage_state = norms.advantages.update(norm_states.advantages, advantage)
    advantage_offset, advantage_scale = norms.advantages.stats(advantage_state)
    log_prob = sum(event_sum(dist.log_prob(stop(action[k])), spaces[k]) for k, dist in policy.items())
    entropy = {k: event_sum(dist.entropy(), spaces[k]) for k, dist in policy.items()}
    reinforce = log_prob * (advantage - advantage_offset) / advantage_scale
    actor = -weight[:-1] * (reinforce + config.actor_entropy * sum(entropy.values()))

    value_state = norms.values.update(norm_states.values, returns)
    offset, scale = norms.values.stats(value_state)
    normed = (returns - offset) / scale
    critic = weight[:-1] * critic_loss(value, normed, slow_value[:-1], c)

    scaled = (returns - return_offset) / return_scale
    metrics = {
        "advantage": advantage.mean(),
        "advantage_std": advantage.std(),
        "advantage_abs": jnp.abs(advantage).mean(),
        "imagined_reward": reward.mean(),
        "imagined_continue": going.mean(),
        "imagined_weight": weight.mean(),
        "return": scaled.mean(),
        "return_min": scaled.min(),
        "return_max": scaled.max(),
        "return_large": (jnp.abs(scaled) >= 1).mean(),
        "value": values.mean(),
        "value_slow": slow_values.mean(),
        "value_target": normed.mean(),
    } | {f"entropy/{k}": e.mean() for k, e in entropy.items()}
    return Imagined(actor, critic, returns, Norms(return_state, value_state, advantage_state), metrics)


def critic_loss(value: TwoHot, target: jax.Array, slow_value: jax.Array, config: CriticTargetConfig) -> jax.Array:
    """Regression to the targets and, as a regulariser, to the slow critic's own prediction."""
    regularizer = config.slow_regularizer
    weights = two_hot(stop(target), value.bins) + regularizer * two_hot(stop(slow_value), value.bins)
    return value.cross_entropy(weights, 1 + regularizer)


def replay_returns(
    config: AgentConfig, last: jax.Array, terminal: jax.Array, reward: jax.Array, bootstrap: jax.Array
) -> jax.Array:
    """Lambda-returns `[B, T-1]` along replayed sequences `[B, T]`; the trace stops where episodes do."""
    live = (1 - terminal) * (1 - 1 / config.horizon)
    return lambda_return(reward, live, (1 - last) * config.replayed.lam, bootstrap)


def replay_critic_loss(
    config: AgentConfig, last: jax.Array, returns: jax.Array, value: TwoHot, slow_value: jax.Array, value_state: State
) -> tuple[jax.Array, State]:
    """Critic loss `[B, T-1]` on replayed states with returns bootstrapped from imagination (Methods, critic)."""
    norm = make_norm(config.value_norm)
    state = norm.update(value_state, returns)
    offset, scale = norm.stats(state)
    target = stop(returns - offset) / scale
    loss = critic_loss(value[:, :-1], target, slow_value[:, :-1], config.replayed)
    return (1 - last)[:, :-1] * loss, state
