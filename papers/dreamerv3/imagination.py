"""Imagined trajectories: the world model and the actor rolled out without gradients.

Every network that looks at a state starts with a linear map of the same features. One product a step computes them all
while the state is in cache; reward, continuation and slow critic are finished on the way, actor and critic are handed
on as what their first layer gives, to which `known_linear` attaches the gradient later.
"""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from papers.dreamerv3.networks import Networks, Policy, ScalarHead, sample_action
from papers.dreamerv3.observations import Features, vectorize
from repro.envs.base import Spaces
from repro.nn.distributions import Forced, TwoHot
from repro.nn.layers import MLP, known_linear


class Trajectory(NamedTuple):
    """H imagined steps from N states s_0: states and actions of the first H, predictions for all H+1."""

    deter: jax.Array
    """`[H, N, D]`."""
    stoch: jax.Array
    """`[H, N, S*K]`."""
    action: dict[str, jax.Array]
    """`[H, N, ...]`."""
    first_layers: jax.Array
    """`[H, N, widths of actor and critic]`: their first linear maps."""
    reward: jax.Array
    """`[H+1, N]`."""
    going: jax.Array
    """`[H+1, N]` probability of continuing."""
    slow_value: jax.Array
    """`[H+1, N]`."""
    last_value: jax.Array
    """`[N]`: the critic at s_H."""
    last: Features
    """s_H."""


def imagine(
    nets: Networks,
    slow: ScalarHead,
    start: Features,
    prior_noise: jax.Array | Forced,
    action_noise: Any,
    spaces: Spaces,
) -> Trajectory:
    """Rolls out from `start` (`[N, D]`, `[N, S*K]`); noise `[H, N, S]` and, for each action key, `[H, N, ...]`."""
    start = lax.stop_gradient(start)
    rssm, dtype, units = nets.rssm, start[0].dtype, start[0].shape[-1]
    mlps: list[MLP] = [m.mlp for m in (nets.actor, nets.critic, nets.reward, nets.continuation, slow)]
    kernel, bias = first_layers(mlps)
    from_deter = jnp.concatenate([kernel[:units], rssm.deter_embed.linear.kernel[...]], 1)
    from_stoch = jnp.concatenate([kernel[units:], rssm.stoch_embed.linear.kernel[...]], 1)
    widths = list(itertools.accumulate(m.layers[0].linear.bias.shape[0] for m in mlps))

    def look(features: Features) -> tuple[jax.Array, jax.Array, jax.Array, list[jax.Array]]:
        deter, stoch = features[0] @ from_deter, features[1] @ from_stoch
        first = deter[..., : widths[-1]] + stoch[..., : widths[-1]] + bias
        parts = jnp.split(first, widths[:-1], -1)
        deter_embedding = deter[..., widths[-1] :] + rssm.deter_embed.linear.bias[...]
        stoch_embedding = stoch[..., widths[-1] :] + rssm.stoch_embed.linear.bias[...]
        return first[..., : widths[1]], deter_embedding, stoch_embedding, parts

    def predictions(parts: list[jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        reward, going, slow_value = (m.after_first(x) for m, x in zip(mlps[2:], parts[2:], strict=True))
        return nets.reward.output(reward).mean(), nets.continuation.output(going).prob(), slow.output(slow_value).mean()

    def step(features: Features, now: Any) -> tuple[Features, Any]:
        prior_noise, action_noise = now
        first, deter_linear, stoch_linear, parts = look(features)
        policy = nets.actor.output(mlps[0].after_first(parts[0]))
        action = sample_action(policy, action_noise, spaces)
        embeddings = (
            rssm.deter_embed.activate(deter_linear),
            rssm.stoch_embed.activate(stoch_linear),
            rssm.action_embedding(vectorize(action, spaces, dtype)),
        )
        deter = rssm.core_of(features[0], *embeddings)
        index = rssm.distribution(rssm.prior_of(deter)).sample(prior_noise)
        return (deter, rssm.one_hot(index, dtype)), (*features, action, first, *predictions(parts))

    last, (deter, stoch, action, first, *steps) = lax.scan(step, start, (prior_noise, action_noise))
    _, _, _, parts = look(last)
    reward, going, slow_value = (
        jnp.concatenate([x, end[None]]) for x, end in zip(steps, predictions(parts), strict=True)
    )
    last_value = nets.critic.output(mlps[1].after_first(parts[1])).mean()
    return Trajectory(deter, stoch, action, first, reward, going, slow_value, last_value, last)


def actor_and_critic(nets: Networks, trajectory: Trajectory, first: Features | None = None) -> tuple[Policy, TwoHot]:
    """Policy and values of the first H states as functions of the parameters of actor and critic.

    `first` replaces s_0, for gradients with respect to it.
    """
    features = trajectory.deter, trajectory.stoch
    if first is not None:
        features = jax.tree.map(lambda s, x: jnp.concatenate([s[None], x[1:]]), first, features)
    kernel, bias = first_layers([nets.actor.mlp, nets.critic.mlp])
    both = known_linear(trajectory.first_layers, kernel, bias, *features)
    split = nets.actor.mlp.layers[0].linear.bias.shape[0]
    policy = nets.actor.output(nets.actor.mlp.after_first(both[..., :split]))
    return policy, nets.critic.output(nets.critic.mlp.after_first(both[..., split:]))


def first_layers(mlps: list[MLP]) -> tuple[jax.Array, jax.Array]:
    """Kernel and bias of the first layers of several networks side by side."""
    linears = [m.layers[0].linear for m in mlps]
    kernel = jnp.concatenate([layer.kernel[...] for layer in linears], 1)
    return kernel, jnp.concatenate([layer.bias[...] for layer in linears])
