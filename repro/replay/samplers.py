"""How sequences are chosen. A sampler sees only counters, never the storage, so that every way of sampling works with
every storage; it keeps what it needs (queue, priorities, episode table) in a pytree of its own."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

PyTree = Any

NEVER = jnp.iinfo(jnp.int32).max


class Ids(NamedTuple):
    """Which sequences a batch holds: stream `[B]` and the absolute number of its first step in that stream `[B]`."""

    stream: Any
    start: Any


class Rings(NamedTuple):
    """The counters of E rings: steps ever added `[E]`, slots per ring, length L of the sequences to sample."""

    added: jax.Array
    capacity: int
    length: int

    @property
    def oldest(self) -> jax.Array:
        """Absolute number of the oldest step that is still stored, `[E]`."""
        return jnp.maximum(self.added - self.capacity, 0)

    @property
    def starts(self) -> jax.Array:
        """How many start positions have all their L steps stored, `[E]`; the first of them is `oldest`."""
        return jnp.maximum(self.added - self.oldest - self.length + 1, 0)


class Sampler(Protocol):
    """What a sampler is. Everything is for one seed and may be mapped over seeds; `rings` is always up to date."""

    @property
    def consumes(self) -> tuple[str, ...]:
        """Names in the `values` of an update that belong to the sampler and not to the storage."""
        ...

    def init(self, streams: int, capacity: int, length: int) -> PyTree:
        """State before the first step."""
        ...

    def add(self, state: PyTree, rings: Rings, item: PyTree, mask: jax.Array) -> PyTree:
        """Called after one step was added to the streams where `mask` `[E]` is true."""
        ...

    def items(self, state: PyTree, rings: Rings) -> jax.Array:
        """Number of things that can be drawn, int32 scalar."""
        ...

    def sample(
        self, state: PyTree, rings: Rings, key: jax.Array, batch_size: int
    ) -> tuple[PyTree, Ids, dict[str, jax.Array]]:
        """Chooses a batch. The dictionary (`[B, ...]`) is added to the extras of the batch; `valid` `[B, L]` in it
        marks the steps that belong to the sequence, the others are returned as zeros."""
        ...

    def update(self, state: PyTree, rings: Rings, ids: Ids, values: dict[str, jax.Array]) -> PyTree:
        """Takes the values named in `consumes`."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Uniform with replacement over all start positions, after the fresh sequences of the online queue if `online`.

    The queue holds the start positions 1, 1+L, 1+2L, ... of every stream (0, 1, 2, ... if L = 1). They are handed out
    once, in the order in which their last step arrived (lower stream first within one `add`), before anything is
    drawn; those that are overwritten before their turn are dropped. Source: DreamerV3, replay buffer of the Nature
    paper; positions as in the official code.
    """

    online: bool = False
    consumes = ()

    def init(self, streams: int, capacity: int, length: int) -> PyTree:
        """Queue: next entry to hand out `[E]`, the `add` call that completed entry k in slot k modulo Q `[E, Q]`."""
        if not self.online:
            return ()
        return {
            "calls": jnp.zeros((), jnp.int32),
            "next": jnp.zeros((streams,), jnp.int32),
            "completed": jnp.zeros((streams, capacity // length), jnp.int32),
        }

    def add(self, state: PyTree, rings: Rings, item: PyTree, mask: jax.Array) -> PyTree:
        """Notes when an entry of the queue became complete."""
        if not self.online:
            return state
        streams, slots = state["completed"].shape
        past = rings.added - 1 % rings.length
        entry = past // rings.length - 1
        complete = mask & (entry >= 0) & (past % rings.length == 0)
        slot = jnp.where(complete, entry % slots, slots)
        completed = state["completed"].at[jnp.arange(streams), slot].set(state["calls"], mode="drop")
        return {**state, "completed": completed, "calls": state["calls"] + 1}

    def items(self, state: PyTree, rings: Rings) -> jax.Array:
        """Number of start positions."""
        return rings.starts.sum()

    def sample(
        self, state: PyTree, rings: Rings, key: jax.Array, batch_size: int
    ) -> tuple[PyTree, Ids, dict[str, jax.Array]]:
        """Queue first, then uniform."""
        ids = draw_uniform(rings, key, batch_size)
        if not self.online:
            return state, ids, {}
        streams, slots = state["completed"].shape
        # Entry k starts at step offset + kL: those from `first` on are stored, those before `end` are complete.
        offset = 1 % rings.length
        first = jnp.maximum(state["next"], -((offset - rings.oldest) // rings.length))
        end = jnp.maximum(rings.added - offset, 0) // rings.length
        ahead = min(batch_size, slots)
        entry = first[:, None] + jnp.arange(ahead)
        completed = jnp.take_along_axis(state["completed"], entry % slots, axis=1)
        completed = jnp.where(entry < end[:, None], completed, NEVER).reshape(-1)
        order = jnp.argsort(completed, stable=True)[:batch_size]
        queued = completed[order] < NEVER
        stream = order // ahead
        start = offset + entry.reshape(-1)[order] * rings.length
        taken = jnp.zeros((streams,), jnp.int32).at[stream].add(queued.astype(jnp.int32))
        # A batch larger than all the entries that could ever wait gets the rest from the draw.
        # (Not by `at[:count].set`: jax 0.11.2 crashes when it compiles that for several CPU devices.)
        count = order.shape[0]
        ids = Ids(
            jnp.concatenate([jnp.where(queued, stream, ids.stream[:count]), ids.stream[count:]]),
            jnp.concatenate([jnp.where(queued, start, ids.start[:count]), ids.start[count:]]),
        )
        return {**state, "next": first + taken}, ids, {}

    def update(self, state: PyTree, rings: Rings, ids: Ids, values: dict[str, jax.Array]) -> PyTree:
        """Nothing to do."""
        return state


@dataclass(frozen=True)
class Newest:
    """The B newest start positions: first the newest of every stream, then the second newest of every stream, and so
    on; repeated from the beginning when there are fewer than B."""

    consumes = ()

    def init(self, streams: int, capacity: int, length: int) -> PyTree:
        """No state."""
        return ()

    def add(self, state: PyTree, rings: Rings, item: PyTree, mask: jax.Array) -> PyTree:
        """Nothing to note."""
        return state

    def items(self, state: PyTree, rings: Rings) -> jax.Array:
        """Number of start positions."""
        return rings.starts.sum()

    def sample(
        self, state: PyTree, rings: Rings, key: jax.Array, batch_size: int
    ) -> tuple[PyTree, Ids, dict[str, jax.Array]]:
        """Needs no randomness."""
        streams = rings.added.shape[0]
        age, stream = jnp.divmod(jnp.arange(batch_size * streams), streams)
        exists = age < rings.starts[stream]
        order = jnp.argsort(~exists, stable=True)[:batch_size]
        order = order[jnp.arange(batch_size) % jnp.maximum(exists[order].sum(), 1)]
        stream = stream[order]
        return state, Ids(stream, rings.added[stream] - rings.length - age[order]), {}

    def update(self, state: PyTree, rings: Rings, ids: Ids, values: dict[str, jax.Array]) -> PyTree:
        """Nothing to do."""
        return state


def draw_uniform(rings: Rings, key: jax.Array, batch_size: int) -> Ids:
    """B start positions, uniform over all of them with replacement (streams weigh in with their number of starts)."""
    upto = jnp.cumsum(rings.starts)
    index = jax.random.randint(key, (batch_size,), 0, jnp.maximum(upto[-1], 1))
    stream = jnp.minimum(jnp.searchsorted(upto, index, side="right"), upto.shape[0] - 1)
    before = upto[stream] - rings.starts[stream]
    return Ids(stream.astype(jnp.int32), rings.oldest[stream] + index - before)
