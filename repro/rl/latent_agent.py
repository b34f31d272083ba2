"""What DreamerV1 and DreamerV2 have in common as agents: a recurrent state between steps, one action key, separate
optimisers for world model, actor and critic."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from repro.envs.base import Spaces, TimeStep
from repro.nn.actions import action_vector, one_action_key
from repro.nn.latents import Noise
from repro.nn.params import Definition, Draw, Params, cast
from repro.nn.rssm import Belief, State


class ActorCarry(NamedTuple):
    """What the actor remembers between steps."""

    state: State
    """`[E, ...]`."""
    action: jax.Array
    """The last action, `[E, ...]`."""


class UpdateNoise(NamedTuple):
    """All randomness of an update, drawn beforehand."""

    posterior: Noise
    """`[B, T, ...]`."""
    prior: Noise
    """`[H, N, ...]`."""
    action: Noise
    """`[H, N, ...]`."""


class LatentAgent:
    """Networks `encoder`, `rssm`, `actor`, `critic` and whatever else the world model has; see the module docstring."""

    def __init__(
        self,
        make: Callable[[Draw], Any],
        optimizers: Mapping[str, optax.GradientTransformation],
        obs_spaces: Spaces,
        action_spaces: Spaces,
        compute_dtype: str,
    ):
        self.obs_spaces, self.action_spaces = obs_spaces, action_spaces
        self.action_key = one_action_key(action_spaces)
        self.action_space = action_spaces[self.action_key]
        self.dtype = jnp.dtype(compute_dtype)
        self.networks = Definition(make)
        self.optimizers = dict(optimizers)
        self.latent = self.bind(self.zeros()).rssm.latent

    def initial_carry(self, batch: int) -> ActorCarry:
        """State of `batch` actors before their first step."""
        space = self.action_space
        state = self.bind(self.zeros()).rssm.initial((batch,), self.dtype)
        return ActorCarry(state, jnp.zeros((batch, *space.shape), space.dtype))

    def look(self, nets: Any, carry: ActorCarry, timestep: TimeStep, noise: Noise) -> tuple[Belief, Any]:
        """Posterior after an observation, and what the actor makes of it."""
        embedding = nets.encoder(timestep.obs, self.dtype)
        previous = action_vector(carry.action, self.action_space, self.dtype)
        belief = nets.rssm.observe_step(carry.state, embedding, previous, timestep.is_first, noise)
        return belief, nets.actor(belief.state)

    def new_optimizers(self, params: Params) -> dict[str, Any]:
        """States of the optimisers before the first update."""
        return {name: optimizer.init(part(params, name)) for name, optimizer in self.optimizers.items()}

    def step(self, name: str, params: Params, state: Any, gradients: Params) -> tuple[Params, Any]:
        """New parameters of one part and the new state of its optimiser."""
        own = part(params, name)
        updates, state = self.optimizers[name].update(gradients, state, own)
        return dict(optax.apply_updates(own, updates)), state  # type: ignore[call-overload]

    def bind(self, params: Params) -> Any:
        """The networks computing with `params` in the compute dtype."""
        return self.networks.bind(cast(params, self.dtype))

    def zeros(self) -> Params:
        """Parameters that only stand for shapes."""
        return {k: jnp.zeros(s.shape, s.dtype) for k, s in self.networks.shapes.items()}


def part(params: Params, name: str) -> Params:
    """Parameters of the `actor`, the `critic`, or the world `model` (all others)."""
    if name == "model":
        return {k: p for k, p in params.items() if not k.startswith(("actor/", "critic/"))}
    return {k: p for k, p in params.items() if k.startswith(f"{name}/")}
