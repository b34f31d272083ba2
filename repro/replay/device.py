"""The replay buffer on the device: pure functions over a pytree, so that it lives inside `jit`, `scan` and `vmap`.

Every stream (environment) of a seed has a ring of its own, so a sequence never mixes streams, and streams may be of
uneven length. Jit the callers with the state donated: all writes then happen in place.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from repro.errors import UsageError
from repro.replay.samplers import Ids, Rings, Sampler, Uniform

PyTree = Any
Index = tuple[jax.Array, jax.Array]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ReplayState:
    """Everything the buffer holds for one seed.

    A step of shape `()` is stored as `[E, capacity]`, of any other shape as `[E, capacity, elements]`: one step is one
    contiguous row whatever the layout rules of the device do to the last axes of, say, an image with three channels.
    Floats below 32 bits are stored as their bit patterns (see `bits`).
    """

    storage: PyTree
    added: jax.Array
    """Steps ever added to each stream, int32 `[E]`."""
    sampler: PyTree
    steps: tuple[jax.ShapeDtypeStruct, ...] = field(metadata={"static": True})
    """Shape and type of one step, for every leaf of the storage in order."""

    @property
    def step(self) -> PyTree:
        """`steps` in the structure of the items."""
        return jax.tree.unflatten(jax.tree.structure(self.storage), self.steps)


@dataclass(frozen=True)
class DeviceReplay:
    """First-in-first-out replay of `streams` rings with `capacity` steps each; sequences have `length` (L) steps.

    Written for one seed; map it over a leading axis for more.
    """

    capacity: int
    streams: int
    length: int
    sampler: Sampler = Uniform()

    def __post_init__(self) -> None:
        check_sizes(self.capacity, self.streams, self.length)

    def init(self, example: PyTree) -> ReplayState:
        """Empty buffer for items like `example`: arrays or `ShapeDtypeStruct`s `[*shape]` of one step of one stream."""

        def ring(leaf: Any) -> jax.Array:
            row = (math.prod(leaf.shape),) if leaf.shape else ()
            return jnp.zeros((self.streams, self.capacity, *row), bits(leaf.dtype))

        return ReplayState(
            storage=jax.tree.map(ring, example),
            added=jnp.zeros((self.streams,), jnp.int32),
            sampler=self.sampler.init(self.streams, self.capacity, self.length),
            steps=tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(example)),
        )

    def add(self, state: ReplayState, item: PyTree, mask: jax.Array | None = None) -> ReplayState:
        """Appends one step `[E, *shape]` to the streams where `mask` (bool `[E]`, default all) is true."""
        stream = jnp.arange(self.streams)
        mask = jnp.ones((self.streams,), bool) if mask is None else mask
        slot = jnp.where(mask, state.added % self.capacity, self.capacity)
        storage = jax.tree.map(
            lambda ring, step, value: write(ring, step, (stream, slot), value), state.storage, state.step, item
        )
        added = state.added + mask.astype(jnp.int32)
        sampler = self.sampler.add(state.sampler, self.rings(added), item, mask)
        return replace(state, storage=storage, added=added, sampler=sampler)

    def items(self, state: ReplayState) -> jax.Array:
        """Number of start positions (episodes, for samplers that draw those) that can be sampled, int32 scalar."""
        return self.sampler.items(state.sampler, self.rings(state.added))

    def sample(self, state: ReplayState, key: jax.Array, batch_size: int) -> tuple[ReplayState, PyTree, Ids]:
        """B sequences of L consecutive steps of one stream each, `[B, L, *shape]`, and where they lie.

        `items(state)` must not be zero. The state changes only in what the sampler remembers.
        """
        sampler, ids, extras = self.sampler.sample(state.sampler, self.rings(state.added), key, batch_size)
        stream = ids.stream[:, None]
        slot = (ids.start[:, None] + jnp.arange(self.length)) % self.capacity
        batch = jax.tree.map(lambda ring, step: read(ring, step, (stream, slot)), state.storage, state.step)
        if "valid" in extras:
            batch = jax.tree.map(lambda value: keep(extras["valid"], value), batch)
        if extras:
            batch = batch._replace(extras={**batch.extras, **extras})
        return replace(state, sampler=sampler), batch, ids

    def update(self, state: ReplayState, ids: Ids, values: dict[str, jax.Array]) -> ReplayState:
        """Overwrites stored extras of sampled sequences.

        `values`: names of `item.extras` -> `[B, T, *shape]`, T <= L, aligned with the end of the sequences. Steps that
        have been overwritten since are skipped; where sequences of the batch overlap, the later one wins. Names that
        the sampler consumes (priorities) go to the sampler.
        """
        rings = self.rings(state.added)
        own = {k: v for k, v in values.items() if k in self.sampler.consumes}
        sampler = self.sampler.update(state.sampler, rings, ids, own)
        values = {k: v for k, v in values.items() if k not in own}
        if not values:
            return replace(state, sampler=sampler)
        extras = dict(state.storage.extras)
        for name, value in values.items():
            check_extra(name, extras)
            time = check_time(name, value.shape[1], self.length)
            step = ids.start[:, None] + jnp.arange(self.length - time, self.length)
            stored = step >= rings.oldest[ids.stream][:, None]
            slot = jnp.where(stored & ~covered_later(ids.stream, step), step % self.capacity, self.capacity)
            extras[name] = write(extras[name], state.step.extras[name], (ids.stream[:, None], slot), value)
        return replace(state, storage=state.storage._replace(extras=extras), sampler=sampler)

    def rings(self, added: jax.Array) -> Rings:
        """The counters that samplers see."""
        return Rings(added, self.capacity, self.length)


def bits(dtype: Any) -> Any:
    """The type in which values of `dtype` are stored.

    XLA on CPU converts a whole bfloat16 (or float8) buffer to float32 and back for one scattered row; as unsigned
    integers of the same width the rows are written in place.
    """
    narrow = jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize < 4
    return jnp.dtype(f"uint{8 * jnp.dtype(dtype).itemsize}") if narrow else jnp.dtype(dtype)


def write(ring: jax.Array, step: jax.ShapeDtypeStruct, index: Index, value: jax.Array) -> jax.Array:
    """`ring` with the steps `value` `[*index, *step.shape]` at (stream, slot); slots beyond the ring are dropped."""
    value = jnp.asarray(value, step.dtype)
    value = value.reshape(*value.shape[: value.ndim - len(step.shape)], *ring.shape[2:])
    if ring.dtype != step.dtype:
        value = jax.lax.bitcast_convert_type(value, ring.dtype)
    return ring.at[index].set(value, mode="drop", unique_indices=True)


def read(ring: jax.Array, step: jax.ShapeDtypeStruct, index: Index) -> jax.Array:
    """The steps at (stream, slot), `[*index, *step.shape]`."""
    value = ring[index]
    if ring.dtype != step.dtype:
        value = jax.lax.bitcast_convert_type(value, step.dtype)
    return value.reshape(*value.shape[: value.ndim - len(ring.shape[2:])], *step.shape)


def keep(valid: jax.Array, value: jax.Array) -> jax.Array:
    """`value` `[B, L, ...]` where `valid` `[B, L]`, zero elsewhere."""
    return jnp.where(valid.reshape(valid.shape + (1,) * (value.ndim - 2)), value, jnp.zeros((), value.dtype))


def covered_later(stream: Any, step: Any) -> Any:
    """Which of the steps `[B, T]` occur again in a later sequence of the batch, bool `[B, T]` (NumPy or JAX).

    Without it two writes would race for one slot, and the winner would depend on the device.
    """
    batch = np.arange(step.shape[0])
    later = (batch[:, None] < batch) & (stream[:, None] == stream)
    inside = (step[:, :, None] >= step[:, 0]) & (step[:, :, None] <= step[:, -1])
    return (later[:, None, :] & inside).any(-1)


def check_sizes(capacity: int, streams: int, length: int) -> None:
    """`UsageError` unless there is at least one stream and room for one sequence in each."""
    if streams < 1 or length < 1:
        raise UsageError(f"a replay needs streams >= 1 and length >= 1, got {streams} and {length}")
    if capacity < length:
        raise UsageError(f"replay capacity {capacity} per stream is shorter than a sequence of {length} steps")


def check_extra(name: str, extras: Collection[str]) -> None:
    """`UsageError` unless the items have this extra."""
    if name not in extras:
        raise UsageError(f"the replay stores no extra {name!r}; it has: {', '.join(sorted(extras)) or 'none'}")


def check_time(name: str, time: int, length: int) -> int:
    """`time`, or `UsageError` if it is longer than the sequences."""
    if time > length:
        raise UsageError(f"update of {name!r} with {time} steps, but sequences have {length}")
    return time
