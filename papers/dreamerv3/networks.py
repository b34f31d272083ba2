"""The networks of DreamerV3: recurrent state-space model, heads, actor, and all of them together. D = recurrent units,
S x K = latents x classes, d = hidden width; features are the pair (deter `[..., D]`, stoch `[..., S*K]`)."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from papers.dreamerv3.agent_config import ActorConfig, AgentConfig, HeadConfig, RSSMConfig
from papers.dreamerv3.observations import Decoder, Encoder, Features, width
from repro.envs.base import Spaces
from repro.nn.distributions import (
    Bernoulli,
    Categorical,
    Forced,
    Normal,
    TwoHot,
    bounded_normal,
    categorical,
    symexp_bins,
)
from repro.nn.layers import MLP, BlockLinear, Hidden, Linear, RMSNorm, affine, block_product
from repro.nn.params import Draw
from repro.nn.scans import over_time

Policy = dict[str, Categorical | Normal]


def sample_action(policy: Mapping[str, Any], noise: Mapping[str, Any], spaces: Spaces) -> dict[str, jax.Array]:
    """One action a key, in the dtypes of the action spaces."""
    return {k: dist.sample(noise[k]).astype(spaces[k].dtype) for k, dist in policy.items()}


class Posterior(NamedTuple):
    """What `RSSM.observe` found, `[B, T, ...]`."""

    deter: jax.Array
    stoch: jax.Array
    """`[B, T, S*K]` one-hot with straight-through gradients."""
    index: jax.Array  # type: ignore[assignment]
    """`[B, T, S]` sampled classes."""
    logits: jax.Array
    """`[B, T, S, K]` before the uniform mixture."""


class RSSM(nnx.Module):
    """Recurrent state-space model with a block-diagonal GRU."""

    def __init__(self, config: RSSMConfig, actions: int, tokens: int, *, draw: Draw):
        c, d, flat = config, config.hidden, config.stoch * config.classes
        self.config = config
        hidden = partial(Hidden, act=c.act, draw=draw)
        self.deter_embed = hidden(c.deter, d)
        self.stoch_embed = hidden(flat, d)
        self.action_embed = hidden(actions, d)
        inputs = [c.deter + 3 * d * c.blocks] + [c.deter] * (c.core_layers - 1)
        self.core_linear = nnx.List([BlockLinear(i, c.deter, c.blocks, draw=draw) for i in inputs])
        self.core_norm = nnx.List([RMSNorm(c.deter) for _ in inputs])
        self.gates = BlockLinear(c.deter, 3 * c.deter, c.blocks, draw=draw)
        self.posterior = MLP(tokens if c.absolute else c.deter + tokens, d, c.posterior_layers, c.act, draw=draw)
        self.posterior_logits = Linear(d, flat, scale=c.outscale, draw=draw)
        self.prior = MLP(c.deter, d, c.prior_layers, c.act, draw=draw)
        self.prior_logits = Linear(d, flat, scale=c.outscale, draw=draw)

    def one_hot(self, index: jax.Array, dtype: Any) -> jax.Array:
        """Class indices `[..., S]` -> `[..., S*K]`; -1 (no class yet) gives zeros."""
        return jax.nn.one_hot(index, self.config.classes, dtype=dtype).reshape(*index.shape[:-1], -1)

    def distribution(self, logits: jax.Array) -> Categorical:
        """Latent distribution of `[..., S, K]` logits, with the uniform mixture."""
        return categorical(logits, self.config.unimix)

    def action_embedding(self, action: jax.Array) -> jax.Array:
        """Embedding `[..., d]` of action vectors `[..., A]`, whose entries count at most 1."""
        return self.action_embed(action / lax.stop_gradient(jnp.maximum(1, jnp.abs(action))))

    def action_part(self, action: jax.Array) -> jax.Array:
        """What the action vector `[..., A]` adds to the core's first layer, `[..., D]`: nothing in it recurs."""
        rows = self._shared_rows()[2 * self.config.hidden :]
        return affine(rows, self.core_linear[0].bias[...], self.action_embedding(action))

    def token_part(self, tokens: jax.Array) -> jax.Array:
        """What the tokens add to the posterior's first layer, `[..., d]`."""
        linear = self.posterior.layers[0].linear
        return tokens @ linear.kernel[...][-tokens.shape[-1] :] + linear.bias[...]

    def core(self, deter: jax.Array, stoch: jax.Array, action_part: jax.Array) -> jax.Array:
        """Next deter `[..., D]` from deter, stoch `[..., S*K]` and `action_part(action)`."""
        rows = self._shared_rows()[: 2 * self.config.hidden]
        return self.recur(deter, affine(rows, action_part, self.deter_embed(deter), self.stoch_embed(stoch)))

    def core_of(self, deter: jax.Array, *embeddings: jax.Array) -> jax.Array:
        """Next deter from the three embeddings `[..., d]` of deter, stoch and action."""
        shared = jnp.concatenate(embeddings, -1)
        return self.recur(deter, affine(self._shared_rows(), self.core_linear[0].bias[...], shared))

    def recur(self, deter: jax.Array, shared: jax.Array) -> jax.Array:
        """Next deter from what the embeddings add to the core's first layer, `[..., D]`."""
        act = getattr(jax.nn, self.config.act)
        recurrent = self.core_linear[0].kernel[...][:, : -3 * self.config.hidden]
        x = act(self.core_norm[0](block_product(deter, recurrent) + shared))
        for linear, norm in zip(self.core_linear[1:], self.core_norm[1:], strict=True):
            x = act(norm(linear(x)))
        # In each block reset, candidate, update.
        blocks = self.config.blocks
        bias = self.gates.bias[...].reshape(blocks, 3, -1).swapaxes(0, 1).reshape(3, -1)
        reset, cand, update = block_product(x, self.gates.kernel[...], pieces=3)
        update = jax.nn.sigmoid(update + (bias[2] - 1))
        return update * jnp.tanh(jax.nn.sigmoid(reset + bias[0]) * (cand + bias[1])) + (1 - update) * deter

    def posterior_of(self, deter: jax.Array, token_part: jax.Array) -> jax.Array:
        """Posterior logits `[..., S, K]`."""
        first, *rest = self.posterior.layers
        x = token_part
        if not self.config.absolute:
            x = deter @ first.linear.kernel[...][: deter.shape[-1]] + x
        x = first.activate(x)
        for layer in rest:
            x = layer(x)
        return self._split(self.posterior_logits(x))

    def prior_of(self, deter: jax.Array) -> jax.Array:
        """Prior logits `[..., S, K]`."""
        return self._split(self.prior_logits(self.prior(deter)))

    def observe(
        self,
        start: Features,
        tokens: jax.Array,
        action: jax.Array,
        reset: jax.Array,
        noise: jax.Array | Forced,
    ) -> Posterior:
        """Filters sequences: `start` `[B, ...]`, tokens, previous action vectors, resets, noise `[B, T, ...]`.

        Where `reset`, state and previous action count as zero.
        """
        action_part = self.action_part(jnp.where(reset[..., None], 0, action))

        def step(carry: Features, now: Any) -> tuple[Features, Posterior]:
            outputs = self._observe(carry, *now)
            return (outputs.deter, outputs.stoch), outputs

        return over_time(step, start, (action_part, self.token_part(tokens), reset, noise))

    def observe_step(
        self, carry: Features, tokens: jax.Array, action: jax.Array, reset: jax.Array, noise: jax.Array | Forced
    ) -> Posterior:
        """One step of `observe`, all arguments `[B, ...]`."""
        action_part = self.action_part(jnp.where(reset[..., None], 0, action))
        return self._observe(carry, action_part, self.token_part(tokens), reset, noise)

    def predict(self, start: Features, action: jax.Array, noise: jax.Array | Forced) -> Features:
        """Open loop: the action vector at t `[B, T, A]` leads from state t to state t+1; noise `[B, T, S]`.

        Returns the T states that follow `start`, `[B, T, ...]`.
        """

        def step(features: Features, now: Any) -> tuple[Features, Features]:
            action_part, noise = now
            deter = self.core(*features, action_part)
            index = self.distribution(self.prior_of(deter)).sample(noise)
            features = (deter, self.one_hot(index, deter.dtype))
            return features, features

        return over_time(step, start, (self.action_part(action), noise))

    def _observe(
        self, carry: Features, action_part: jax.Array, token_part: jax.Array, reset: jax.Array, noise: Any
    ) -> Posterior:
        deter, stoch = (jnp.where(reset[:, None], 0, x) for x in carry)
        deter = self.core(deter, stoch, action_part)
        logits = self.posterior_of(deter, token_part)
        dist = self.distribution(logits)
        index = dist.sample(noise)
        stoch = dist.straight_through(index).reshape(stoch.shape).astype(deter.dtype)
        return Posterior(deter, stoch, index, logits)

    def _split(self, logits: jax.Array) -> jax.Array:
        return logits.reshape(*logits.shape[:-1], self.config.stoch, self.config.classes)

    def _shared_rows(self) -> jax.Array:
        # Each block of the core's first layer sees its own units and the same three embeddings: rows for the units stay
        # block-diagonal, rows for the embeddings are one dense matrix [3d, D] over all blocks.
        d = self.config.hidden
        return self.core_linear[0].kernel[...][:, -3 * d :].swapaxes(0, 1).reshape(3 * d, -1)


class ScalarHead(nnx.Module):
    """A scalar as a symexp two-hot distribution: reward, value."""

    def __init__(self, config: HeadConfig, inputs: int, *, draw: Draw):
        self.config = config
        self.mlp = MLP(inputs, config.units, config.layers, config.act, draw=draw)
        self.out = Linear(config.units, config.bins, scale=config.outscale, draw=draw)

    def __call__(self, features: Features) -> TwoHot:
        """Distribution over `[...]`."""
        return self.output(self.mlp(*features))

    def output(self, hidden: jax.Array) -> TwoHot:
        """The distribution that the MLP's result stands for."""
        bins = symexp_bins(self.config.bins, -self.config.bin_limit, self.config.bin_limit)
        return TwoHot(self.out(hidden).astype(jnp.float32), jnp.asarray(bins))


class ContinueHead(nnx.Module):
    """Probability that the episode goes on."""

    def __init__(self, config: HeadConfig, inputs: int, *, draw: Draw):
        self.mlp = MLP(inputs, config.units, config.layers, config.act, draw=draw)
        self.out = Linear(config.units, 1, scale=config.outscale, draw=draw)

    def __call__(self, features: Features) -> Bernoulli:
        """Distribution over `[...]`."""
        return self.output(self.mlp(*features))

    def output(self, hidden: jax.Array) -> Bernoulli:
        """The distribution that the MLP's result stands for."""
        return Bernoulli(self.out(hidden).astype(jnp.float32)[..., 0])


class Actor(nnx.Module):
    """Policy: one distribution a key of the action."""

    def __init__(self, config: ActorConfig, inputs: int, spaces: Spaces, *, draw: Draw):
        self.config = config
        self.spaces = dict(sorted(spaces.items()))
        self.mlp = MLP(inputs, config.units, config.layers, config.act, draw=draw)
        heads = {}
        for key, space in self.spaces.items():
            names = ["logits"] if space.discrete else ["mean", "std"]
            outputs = {n: Linear(config.units, width(space), scale=config.outscale, draw=draw) for n in names}
            heads[key] = nnx.Dict(outputs)
        self.heads = nnx.Dict(heads)

    def __call__(self, features: Features) -> Policy:
        """Distributions over `[..., *shape]`."""
        return self.output(self.mlp(*features))

    def output(self, hidden: jax.Array) -> Policy:
        """The distributions that the MLP's result stands for."""
        policy: Policy = {}
        for key, raw in self.raw(hidden).items():
            if self.spaces[key].discrete:
                policy[key] = categorical(raw["logits"], self.config.unimix)
            else:
                policy[key] = bounded_normal(raw["mean"], raw["std"], self.config.min_std, self.config.max_std)
        return policy

    def raw(self, hidden: jax.Array) -> dict[str, dict[str, jax.Array]]:
        """Key -> `logits`, or `mean` and `std` before they are bounded."""
        found = {}
        for key, space in self.spaces.items():
            shape = (*hidden.shape[:-1], *space.shape, *([space.classes] if space.classes else []))
            found[key] = {name: linear(hidden).reshape(shape) for name, linear in self.heads[key].items()}
        return found


class Networks(nnx.Module):
    """All networks that the optimiser trains."""

    def __init__(self, config: AgentConfig, obs_spaces: Spaces, action_spaces: Spaces, *, draw: Draw):
        rssm = config.rssm
        features = rssm.deter + rssm.stoch * rssm.classes
        self.encoder = Encoder(config.encoder, obs_spaces, draw=draw)
        self.rssm = RSSM(rssm, sum(map(width, action_spaces.values())), self.encoder.size, draw=draw)
        self.decoder = Decoder(config.decoder, obs_spaces, rssm, draw=draw)
        self.reward = ScalarHead(config.reward, features, draw=draw)
        self.continuation = ContinueHead(config.continuation, features, draw=draw)
        self.actor = Actor(config.actor, features, action_spaces, draw=draw)
        self.critic = ScalarHead(config.critic, features, draw=draw)
