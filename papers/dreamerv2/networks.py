"""The networks of DreamerV2, put together from the suite's parts."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from papers.dreamerv2.agent_config import AgentConfig, RSSMConfig
from repro.envs.base import Space, Spaces
from repro.nn.actions import check_actions, one_action_key
from repro.nn.bounded import TruncatedNormal
from repro.nn.dense import DenseStack, GlorotLinear
from repro.nn.distributions import Bernoulli, Categorical, Normal, categorical
from repro.nn.latents import CategoricalLatent, GaussianLatent, Latent, sigmoid_std
from repro.nn.observations import Decoder, Encoder
from repro.nn.params import Draw
from repro.nn.rssm import RSSM, LayerNormGRU, State


class UnnormedGRU(LayerNormGRU):
    """The ablation without layer norm."""

    def __init__(self, inputs: int, units: int, *, draw: Draw):
        super().__init__(inputs, units, norm=False, draw=draw)


def make_latent(config: RSSMConfig) -> Latent:
    """32 categorical variables of 32 classes, or Gaussians for the ablation."""
    if config.classes:
        return CategoricalLatent(config.stoch, config.classes)
    return GaussianLatent(config.stoch, sigmoid_std(config.min_std))


class ScalarHead(nnx.Module):
    """A scalar as the mean of a normal distribution of unit variance: reward, value."""

    def __init__(self, config: AgentConfig, inputs: int, *, draw: Draw):
        self.mlp = DenseStack(inputs, config.units, config.layers, 1, norm=config.norm, draw=draw)

    def __call__(self, state: State) -> Normal:
        """Distribution over `[...]`."""
        return Normal(self.mlp(*state).astype(jnp.float32)[..., 0], jnp.ones(()))


class DiscountHead(nnx.Module):
    """Probability of going on, the discount factor included."""

    def __init__(self, config: AgentConfig, inputs: int, *, draw: Draw):
        self.mlp = DenseStack(inputs, config.units, config.layers, 1, norm=config.norm, draw=draw)

    def __call__(self, state: State) -> Bernoulli:
        """Distribution over `[...]`."""
        return Bernoulli(self.mlp(*state).astype(jnp.float32)[..., 0])


class PolicyOutput(NamedTuple):
    """What the actor network gives: logits `[..., classes]`, or mean and raw deviation `[..., A]`."""

    out: jax.Array
    std: jax.Array | None


class Actor(nnx.Module):
    """Policy over one action key."""

    def __init__(self, config: AgentConfig, inputs: int, space: Space, *, draw: Draw):
        self.min_std = config.min_std
        self.discrete = space.discrete
        width = space.classes or space.shape[0]
        self.mlp = DenseStack(inputs, config.units, config.layers, norm=config.norm, draw=draw)
        self.out = GlorotLinear(config.units, width, draw=draw)
        self.std = None if space.discrete else GlorotLinear(config.units, width, draw=draw)

    def __call__(self, state: State) -> PolicyOutput:
        """Outputs for `distribution`, float32."""
        x = self.mlp(*state)
        std = None if self.std is None else self.std(x).astype(jnp.float32)
        return PolicyOutput(self.out(x).astype(jnp.float32), std)

    def distribution(self, output: PolicyOutput) -> Categorical | TruncatedNormal:
        """The policy that the outputs stand for."""
        if output.std is None:
            return categorical(output.out)
        return TruncatedNormal(jnp.tanh(output.out), sigmoid_std(self.min_std)(output.std))


class Networks(nnx.Module):
    """All networks that optimisers train."""

    def __init__(self, config: AgentConfig, obs_spaces: Spaces, action_spaces: Spaces, *, draw: Draw):
        key = one_action_key(action_spaces)
        space = action_spaces[key]
        check_actions(config.policy == "onehot", space, config.policy)
        c, latent = config, make_latent(config.rssm)
        inputs = latent.width + c.rssm.deter
        sizes: dict[str, Any] = {
            "units": c.units,
            "layers": c.layers,
            "dense_act": jax.nn.elu,
            "norm": c.norm,
            "draw": draw,
        }
        self.encoder = Encoder(obs_spaces, c.depth, jax.nn.elu, **sizes)
        self.rssm = RSSM(
            latent,
            LayerNormGRU if c.rssm.gru_norm else UnnormedGRU,
            deter=c.rssm.deter,
            hidden=c.rssm.hidden,
            actions=space.classes or space.shape[0],
            embedding=self.encoder.size,
            norm=c.norm,
            draw=draw,
        )
        self.decoder = Decoder(obs_spaces, inputs, c.depth, jax.nn.elu, **sizes)
        self.reward = ScalarHead(c, inputs, draw=draw)
        self.discount = DiscountHead(c, inputs, draw=draw) if c.predict_discount else None
        self.actor = Actor(c, inputs, space, draw=draw)
        self.critic = ScalarHead(c, inputs, draw=draw)
