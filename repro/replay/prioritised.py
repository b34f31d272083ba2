"""Sampling in proportion to priorities."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from repro.replay.samplers import Ids, Rings

PyTree = Any


def constant(value: float) -> Callable[[jax.Array], Any]:
    """A schedule that never changes."""
    return lambda draws: value


@dataclass(frozen=True)
class Prioritised:
    """Start i with probability p_i^alpha / sum_j p_j^alpha, without replacement within a batch.

    A new start position gets the largest priority in the buffer (1 if it is empty). `update` takes `priority` `[B]`,
    positive. The batch gets the extra `weight` `[B]`: (N P(i))^-beta divided by its maximum in the batch, where
    `beta(draws)` may follow the number of batches drawn so far. `items(state)` must be at least the batch size.
    Source: Schaul et al. 2016, equation 1 and section 3.4; drawn as EfficientZero does.
    """

    alpha: float
    beta: Callable[[jax.Array], Any] = constant(1.0)
    consumes = ("priority",)

    def init(self, streams: int, capacity: int, length: int) -> PyTree:
        """Priority of the start position in every slot `[E, capacity]`, 0 where no sequence starts."""
        return {"priority": jnp.zeros((streams, capacity), jnp.float32), "draws": jnp.zeros((), jnp.int32)}

    def add(self, state: PyTree, rings: Rings, item: PyTree, mask: jax.Array) -> PyTree:
        """The overwritten start position goes, the one whose sequence is now complete comes."""
        priority = state["priority"]
        stream = jnp.arange(priority.shape[0])
        largest = priority.max()
        newest = jnp.where(mask, (rings.added - 1) % rings.capacity, rings.capacity)
        priority = priority.at[stream, newest].set(0.0, mode="drop", unique_indices=True)
        start = rings.added - rings.length
        complete = jnp.where(mask & (start >= 0), start % rings.capacity, rings.capacity)
        value = jnp.where(largest > 0, largest, 1.0)
        priority = priority.at[stream, complete].set(value, mode="drop", unique_indices=True)
        return {**state, "priority": priority}

    def items(self, state: PyTree, rings: Rings) -> jax.Array:
        """Number of start positions."""
        return rings.starts.sum()

    def sample(
        self, state: PyTree, rings: Rings, key: jax.Array, batch_size: int
    ) -> tuple[PyTree, Ids, dict[str, jax.Array]]:
        """The B largest of log p^alpha + Gumbel noise are a draw without replacement (no sum of many small numbers)."""
        logits = self.alpha * jnp.log(state["priority"]).reshape(-1)
        _, index = jax.lax.top_k(logits + jax.random.gumbel(key, logits.shape), batch_size)
        stream, slot = index // rings.capacity, index % rings.capacity
        oldest = rings.oldest[stream]
        start = oldest + (slot - oldest) % rings.capacity
        log_probability = jax.nn.log_softmax(logits)[index]
        log_weight = -self.beta(state["draws"]) * (jnp.log(rings.starts.sum()) + log_probability)
        weight = jnp.exp(log_weight - log_weight.max())
        return {**state, "draws": state["draws"] + 1}, Ids(stream, start), {"weight": weight}

    def update(self, state: PyTree, rings: Rings, ids: Ids, values: dict[str, jax.Array]) -> PyTree:
        """New priorities `[B]` of sampled sequences; those overwritten since are skipped."""
        if "priority" not in values:
            return state
        slot = jnp.where(ids.start >= rings.oldest[ids.stream], ids.start % rings.capacity, rings.capacity)
        value = values["priority"].astype(jnp.float32)
        return {**state, "priority": state["priority"].at[ids.stream, slot].set(value, mode="drop")}
