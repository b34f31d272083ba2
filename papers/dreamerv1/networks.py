"""The networks of DreamerV1, put together from the suite's parts."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from papers.dreamerv1.agent_config import AgentConfig
from repro.envs.base import Space, Spaces
from repro.nn.actions import check_actions, one_action_key
from repro.nn.bounded import TanhNormal, tanh_normal
from repro.nn.dense import DenseStack
from repro.nn.distributions import Bernoulli, Categorical, Normal, categorical
from repro.nn.latents import GaussianLatent, softplus_std
from repro.nn.observations import Decoder, Encoder
from repro.nn.params import Draw
from repro.nn.rssm import RSSM, ResetAfterGRU, State


class ScalarHead(nnx.Module):
    """A scalar as the mean of a normal distribution of unit variance: reward, value."""

    def __init__(self, inputs: int, units: int, layers: int, *, draw: Draw):
        self.mlp = DenseStack(inputs, units, layers, 1, draw=draw)

    def __call__(self, state: State) -> Normal:
        """Distribution over `[...]`."""
        return Normal(self.mlp(*state).astype(jnp.float32)[..., 0], jnp.ones(()))


class DiscountHead(nnx.Module):
    """Probability of going on, the discount factor included."""

    def __init__(self, inputs: int, units: int, layers: int, *, draw: Draw):
        self.mlp = DenseStack(inputs, units, layers, 1, draw=draw)

    def __call__(self, state: State) -> Bernoulli:
        """Distribution over `[...]`."""
        return Bernoulli(self.mlp(*state).astype(jnp.float32)[..., 0])


class Actor(nnx.Module):
    """Policy over one action key: a normal through tanh, or categorical (P appendix A)."""

    def __init__(self, config: AgentConfig, inputs: int, space: Space, *, draw: Draw):
        self.config = config
        self.discrete = space.discrete
        outputs = space.classes or 2 * space.shape[0]
        self.mlp = DenseStack(inputs, config.units, config.actor_layers, outputs, draw=draw)

    def __call__(self, state: State) -> Categorical | TanhNormal:
        """Distribution over actions `[...]` or `[..., A]`."""
        x, c = self.mlp(*state), self.config
        if self.discrete:
            return categorical(x)
        mean, std = jnp.split(x, 2, -1)
        return tanh_normal(mean, std, c.mean_scale, c.initial_std, c.policy_min_std)


class Networks(nnx.Module):
    """All networks that optimisers train."""

    def __init__(self, config: AgentConfig, obs_spaces: Spaces, action_spaces: Spaces, *, draw: Draw):
        c, space = config, action_spaces[one_action_key(action_spaces)]
        check_actions(c.policy == "onehot", space, c.policy)
        inputs = c.stoch + c.deter
        sizes: dict[str, Any] = {"units": c.units, "layers": 2, "dense_act": jax.nn.elu, "draw": draw}
        self.encoder = Encoder(obs_spaces, c.depth, jax.nn.relu, **sizes)
        self.rssm = RSSM(
            GaussianLatent(c.stoch, softplus_std(c.min_std)),
            ResetAfterGRU,
            deter=c.deter,
            hidden=c.deter,
            actions=space.classes or space.shape[0],
            embedding=self.encoder.size,
            draw=draw,
        )
        self.decoder = Decoder(obs_spaces, inputs, c.depth, jax.nn.relu, **sizes)
        self.reward = ScalarHead(inputs, c.units, c.reward_layers, draw=draw)
        self.discount = DiscountHead(inputs, c.units, c.discount_layers, draw=draw) if c.predict_discount else None
        self.actor = Actor(c, inputs, space, draw=draw)
        self.critic = ScalarHead(inputs, c.units, c.value_layers, draw=draw)
