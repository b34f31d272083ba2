"""The recurrent state-space model of PlaNet, DreamerV1 and DreamerV2 (Hafner et al. 2019, 2020, 2021).

A = action vector, E = embedding of an observation, W = latent sample, D = recurrent units. DreamerV3's is in its own
folder: block-diagonal, with other inputs; it shares the recurrence over time (`repro.nn.scans`) and the latents'
distributions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from repro.nn.dense import Activation, Dense, GlorotLinear, LayerNorm
from repro.nn.initializers import glorot_uniform, orthogonal
from repro.nn.latents import Latent, Noise
from repro.nn.params import Draw
from repro.nn.scans import over_time


class State(NamedTuple):
    """A state of the model; networks see both parts."""

    stoch: jax.Array
    """`[..., W]`."""
    deter: jax.Array
    """`[..., D]`."""


class Belief(NamedTuple):
    """States with the network outputs of their distributions, `[..., outputs]` (`Latent.distribution`)."""

    stoch: jax.Array
    deter: jax.Array
    raw: jax.Array

    @property
    def state(self) -> State:
        """Without the distribution."""
        return State(self.stoch, self.deter)


class Rollout(NamedTuple):
    """H imagined steps from N states."""

    states: State
    """`[H+1, N, ...]`, the start first."""
    actions: jax.Array
    """`[H, N, A]`: action i leads from state i to state i+1."""
    policies: Any
    """What the policy reported at the first H states."""


class ResetAfterGRU(nnx.Module):
    """GRU whose reset gate acts after the recurrent product, with two biases (Keras; DreamerV1).

    z, r from sigmoids; n = tanh(x W + b + r (h U + c)); h' = z h + (1 - z) n.
    """

    def __init__(self, inputs: int, units: int, *, draw: Draw):
        self.kernel = nnx.Param(glorot_uniform(draw, (inputs, 3 * units), inputs, 3 * units))
        self.recurrent = nnx.Param(orthogonal(draw, units, 3 * units))
        self.bias = nnx.Param(jnp.zeros((2, 3 * units)))

    def __call__(self, x: jax.Array, h: jax.Array) -> jax.Array:
        """Next `h` `[..., D]`."""
        from_x, from_h = x @ self.kernel[...] + self.bias[0], h @ self.recurrent[...] + self.bias[1]
        units = h.shape[-1]
        update, reset = jnp.split(jax.nn.sigmoid(from_x[..., : 2 * units] + from_h[..., : 2 * units]), 2, -1)
        candidate = jnp.tanh(from_x[..., 2 * units :] + reset * from_h[..., 2 * units :])
        return update * h + (1 - update) * candidate


class LayerNormGRU(nnx.Module):
    """GRU with one linear map of input and state and layer norm over all its outputs (DreamerV2).

    r, c, u = split(norm(W [x, h] + b)); h' = u' tanh(sigmoid(r) c) + (1 - u') h with u' = sigmoid(u - 1).
    """

    def __init__(self, inputs: int, units: int, *, norm: bool = True, draw: Draw):
        self.linear = GlorotLinear(inputs + units, 3 * units, draw=draw)
        self.norm = LayerNorm(3 * units) if norm else None

    def __call__(self, x: jax.Array, h: jax.Array) -> jax.Array:
        """Next `h` `[..., D]`."""
        y = self.linear(x, h)
        reset, candidate, update = jnp.split(y if self.norm is None else self.norm(y), 3, -1)
        update = jax.nn.sigmoid(update - 1)
        return update * jnp.tanh(jax.nn.sigmoid(reset) * candidate) + (1 - update) * h


Cell = ResetAfterGRU | LayerNormGRU


class RSSM(nnx.Module):
    """Deterministic path through a GRU, and beside it a latent with a prior and, from the observation, a posterior."""

    def __init__(
        self,
        latent: Latent,
        cell: Callable[..., Cell],
        *,
        deter: int,
        hidden: int,
        actions: int,
        embedding: int,
        act: Activation = jax.nn.elu,
        norm: bool = False,
        draw: Draw,
    ):
        self.latent = latent
        self.deter = deter
        self.input = Dense(latent.width + actions, hidden, act, norm=norm, draw=draw)
        self.cell = cell(hidden, deter, draw=draw)
        self.prior_hidden = Dense(deter, hidden, act, norm=norm, draw=draw)
        self.prior_out = GlorotLinear(hidden, latent.outputs, draw=draw)
        self.posterior_hidden = Dense(deter + embedding, hidden, act, norm=norm, draw=draw)
        self.posterior_out = GlorotLinear(hidden, latent.outputs, draw=draw)

    def initial(self, batch: tuple[int, ...], dtype: Any) -> State:
        """Zeros."""
        return State(jnp.zeros((*batch, self.latent.width), dtype), jnp.zeros((*batch, self.deter), dtype))

    def prior_of(self, deter: jax.Array) -> jax.Array:
        """Network outputs of the prior, `[..., D]` -> `[..., outputs]`."""
        return self.prior_out(self.prior_hidden(deter))

    def predict(self, state: State, action: jax.Array, noise: Noise) -> Belief:
        """One step without observation: action vector `[..., A]`, noise as `latent.draw` gives it."""
        return self._predict(state, self._action_part(action), noise)

    def observe(self, start: State, embedding: jax.Array, action: jax.Array, reset: jax.Array, noise: Noise) -> Belief:
        """Filters sequences: embeddings `[B, T, E]`, the actions that led to them `[B, T, A]`, resets `[B, T]`.

        Where `reset`, state and action count as zero.
        """
        action_part = self._action_part(jnp.where(reset[..., None], 0, action))

        def step(state: State, now: Any) -> tuple[State, Belief]:
            belief = self._observe(state, *now)
            return belief.state, belief

        return over_time(step, start, (self._embedding_part(embedding), action_part, reset, noise))

    def observe_step(
        self, state: State, embedding: jax.Array, action: jax.Array, reset: jax.Array, noise: Noise
    ) -> Belief:
        """One step of `observe`, all arguments `[B, ...]`."""
        action_part = self._action_part(jnp.where(reset[..., None], 0, action))
        return self._observe(state, self._embedding_part(embedding), action_part, reset, noise)

    def predict_sequence(self, start: State, action: jax.Array, noise: Noise) -> Belief:
        """Open loop: action vectors `[B, T, A]` and noise -> the T states that follow `start`, `[B, T, ...]`."""

        def step(state: State, now: Any) -> tuple[State, Belief]:
            belief = self._predict(state, *now)
            return belief.state, belief

        return over_time(step, start, (self._action_part(action), noise))

    def imagine(
        self, start: State, policy: Callable[[State, Any], tuple[jax.Array, Any]], policy_noise: Any, noise: Noise
    ) -> Rollout:
        """Follows `policy(state, its noise) -> action vector, report` from N states; all noise is `[H, N, ...]`."""

        def step(state: State, now: Any) -> tuple[State, Any]:
            action, report = policy(state, now[0])
            following = self.predict(state, action, now[1]).state
            following = jax.tree.map(lambda new, old: new.astype(old.dtype), following, state)
            return following, (following, action, report)

        _, (states, actions, reports) = lax.scan(step, start, (policy_noise, noise))
        states = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, states)
        return Rollout(states, actions, reports)

    # Inputs that do not recur get their products outside the loops.

    def _action_part(self, action: jax.Array) -> jax.Array:
        linear = self.input.linear
        return action @ linear.kernel[...][self.latent.width :] + linear.bias[...]

    def _embedding_part(self, embedding: jax.Array) -> jax.Array:
        linear = self.posterior_hidden.linear
        flat = embedding.reshape(-1, embedding.shape[-1]) @ linear.kernel[...][self.deter :]
        return flat.reshape(*embedding.shape[:-1], -1) + linear.bias[...]

    def _next_deter(self, state: State, action_part: jax.Array) -> jax.Array:
        rows = self.input.linear.kernel[...][: self.latent.width]
        return self.cell(self.input.activate(state.stoch @ rows + action_part), state.deter)

    def _predict(self, state: State, action_part: jax.Array, noise: Noise) -> Belief:
        deter = self._next_deter(state, action_part)
        raw = self.prior_of(deter)
        return Belief(self._sample(raw, noise), deter, raw)

    def _observe(
        self, state: State, embedding_part: jax.Array, action_part: jax.Array, reset: jax.Array, noise: Noise
    ) -> Belief:
        state = State(*(jnp.where(reset[..., None], 0, x) for x in state))
        deter = self._next_deter(state, action_part)
        rows = self.posterior_hidden.linear.kernel[...][: self.deter]
        raw = self.posterior_out(self.posterior_hidden.activate(deter @ rows + embedding_part))
        return Belief(self._sample(raw, noise), deter, raw)

    def _sample(self, raw: jax.Array, noise: Noise) -> jax.Array:
        return self.latent.sample(self.latent.distribution(raw), noise).astype(raw.dtype)
