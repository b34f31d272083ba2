"""The contract of an online agent. All state lives in pytrees, all methods are pure, and everything is written for ONE
seed: the pipeline adds the seeds axis, so one algorithm runs under `jit`, over seeds and over devices unchanged."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax

from repro.envs.base import Space, TimeStep

PyTree = Any


class Transition(NamedTuple):
    """What the replay holds for every step of every environment (leading axes `[E]` when added, `[B, L]` in a batch).

    `action` is the action taken after seeing `obs` (all zero where `is_last`); `reward` came with `obs`; `extras` is
    what `act` returned (recurrent states, search statistics ...).
    """

    obs: dict[str, Any]
    reward: Any
    is_first: Any
    is_last: Any
    is_terminal: Any
    action: dict[str, Any]
    extras: dict[str, Any]


class Algorithm(Protocol):
    """See the module docstring. E = environments of this seed, B = batch size, L = stored sequence length."""

    obs_spaces: Mapping[str, Space]
    action_spaces: Mapping[str, Space]

    def init(self, key: jax.Array) -> PyTree:
        """Parameters, optimiser, targets, normalisers, step counter."""
        ...

    def initial_carry(self, batch: int) -> PyTree:
        """Recurrent state of the actor for `batch` environments."""
        ...

    def act(
        self, state: PyTree, carry: PyTree, timestep: TimeStep, key: jax.Array, mode: str = "train"
    ) -> tuple[dict[str, jax.Array], PyTree, dict[str, jax.Array]]:
        """Actions `[E, ...]`, next carry, extras to store with the transition. `mode` is "train" or "eval"."""
        ...

    def learn(
        self, state: PyTree, batch: Transition, key: jax.Array
    ) -> tuple[PyTree, dict[str, jax.Array], dict[str, jax.Array]]:
        """One update from a batch `[B, L, ...]`: new state, scalar metrics, write_back.

        `write_back` maps names of `extras` to new values `[B, T, ...]`, T <= L, aligned with the END of the
        sequences; the replay overwrites the stored ones. Empty when nothing is written back.
        """
        ...
