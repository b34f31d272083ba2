"""The replay buffer on the host, for what does not fit the device: S seeds side by side, in memory or in mapped files.

The same samplers as on the device choose the sequences (compiled for the CPU), so both kinds sample alike.
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from repro.errors import RunError, UsageError
from repro.replay.device import bits, check_extra, check_sizes, check_time, covered_later
from repro.replay.disk import Disk
from repro.replay.samplers import Ids, Rings, Sampler, Uniform

PyTree = Any
Arrays = dict[str, np.ndarray]


class Gathered(NamedTuple):
    """A batch on its way: threads copy rows into `leaves` `[S*B*L, ...]` until all of `copies` are done."""

    ids: Ids
    extras: Arrays
    leaves: list[np.ndarray]
    copies: list[Future]


class HostReplay:
    """Like `DeviceReplay`, but it changes in place, holds S seeds and draws from generators of its own.

    Row s*E+e of every array is stream e of seed s. Seed s of S behaves like that seed alone. With `prefetch` a batch is
    chosen and copied while the one before it is learned from: it does not see what is added or written back after the
    previous call of `sample` (the official DreamerV3 loop lags in the same way), and all batches have one size.
    Everything is in one determined order: writes wait for copies under way.

    `folder`: keep the storage in mapped files there (`save`/`load`); otherwise in memory (`state`/`restore`). Where a
    checkpoint elsewhere belongs to it, `save` first and commit that afterwards: if the process dies in between, the
    mark of the checkpoint before is still there.
    """

    def __init__(
        self,
        capacity: int,
        streams: int,
        length: int,
        sampler: Sampler | None = None,
        seeds: Sequence[int] = (0,),
        folder: Path | None = None,
        prefetch: bool = True,
        threads: int = 2,
    ) -> None:
        check_sizes(capacity, streams, length)
        self.capacity, self.streams, self.length = capacity, streams, length
        self.sampler: Sampler = Uniform() if sampler is None else sampler
        self.seeds = np.asarray(seeds, np.uint32)
        self.folder, self.prefetch = folder, prefetch
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="replay")
        self._parts = threads
        self._disk: Disk | None = None
        self._structure: Any = None
        self._added = np.zeros((len(self.seeds), streams), np.int32)
        self._sampler: PyTree = None
        self._next: Gathered | None = None
        try:
            self._cpu = jax.local_devices(backend="cpu")[0]
        except RuntimeError:  # JAX_PLATFORMS leaves out the CPU
            self._cpu = jax.local_devices()[0]
        self._add = jax.jit(jax.vmap(self._add_one))
        self._items = jax.jit(jax.vmap(lambda sampler, added: self.sampler.items(sampler, self._ring(added))))
        self._choose = jax.jit(jax.vmap(self._choose_one, in_axes=(0, 0, 0, None, None)), static_argnums=4)
        self._update = jax.jit(jax.vmap(self._update_one))

    # ---- the methods of DeviceReplay -------------------------------------------------------------------------------

    def init(self, example: PyTree) -> None:
        """Empty buffer for items like `example`: arrays or `ShapeDtypeStruct`s `[*shape]` of one step of one stream.

        Earlier contents of the folder are removed. `RunError` if the disk has no room for the full buffer.
        """
        self._prepare(example)
        shapes = self._ring_shapes()
        if self.folder is None:
            self._rings = [np.zeros(shape, dtype) for shape, dtype in shapes]
        else:
            self._disk = Disk(self.folder, self._layout(), shapes)
            self._rings = self._disk.create()

    def add(self, item: PyTree, mask: np.ndarray | None = None) -> None:
        """Appends one step `[S*E, *shape]` to the streams where `mask` (bool `[S*E]`, default all) is true."""
        self._settle()
        item = jax.tree.map(np.asarray, item)
        mask = np.ones(self._added.size, bool) if mask is None else np.asarray(mask)
        rows = np.flatnonzero(mask)
        number = self._added.reshape(-1)[rows]
        slots = number % self.capacity
        if self._disk:
            full = number >= self.capacity
            self._disk.before_overwrite(range(len(self._rings)), rows[full], slots[full], number[full] - self.capacity)
        for i, value in enumerate(self._structure.flatten_up_to(item)):
            self._rings[i][rows, slots] = flat(value, self._steps[i])[rows]
        seeds = self._added.shape
        self._added = self._added + mask.reshape(seeds)
        item, mask = jax.tree.map(lambda x: x.reshape(*seeds, *x.shape[1:]), (item, mask))
        with jax.default_device(self._cpu):
            # Waits, because `item` may be a buffer that the environment writes its next step into.
            self._sampler = jax.block_until_ready(self._add(self._sampler, self._added, item, mask))

    def items(self) -> np.ndarray:
        """What can be sampled from each seed, `[S]`."""
        with jax.default_device(self._cpu):
            return np.asarray(self._items(self._sampler, self._added))

    def sample(self, batch_size: int) -> tuple[PyTree, Ids]:
        """Sequences `[S, B, L, *shape]` and their ids `[S, B]`; `items()` must not be zero for any seed."""
        now = self._next or self._gather(batch_size)
        if now.ids.stream.shape[1] != batch_size:
            raise UsageError(
                f"a batch of {now.ids.stream.shape[1]} is prefetched, not {batch_size}: use prefetch=False"
            )
        wait(now)
        self._next = self._gather(batch_size) if self.prefetch else None
        shape = (len(self.seeds), batch_size, self.length)
        leaves = [
            x.view(step.dtype).reshape(*shape, *step.shape) for x, step in zip(now.leaves, self._steps, strict=True)
        ]
        if "valid" in now.extras:
            for leaf in leaves:
                leaf[~now.extras["valid"]] = 0
        batch = jax.tree.unflatten(self._structure, leaves)
        if now.extras:
            batch = batch._replace(extras={**batch.extras, **now.extras})
        return batch, now.ids

    def update(self, ids: Ids, values: Mapping[str, Any]) -> None:
        """Overwrites stored extras of sampled sequences with `[S, B, T, *shape]`; rules as in `DeviceReplay.update`."""
        self._settle()
        own = {k: np.asarray(v) for k, v in values.items() if k in self.sampler.consumes}
        with jax.default_device(self._cpu):
            self._sampler = self._update(self._sampler, self._added, ids, own)
        names = [name for name in values if name not in own]
        if not names:
            return
        rows = (ids.stream + self.streams * np.arange(len(self.seeds))[:, None]).reshape(-1)
        oldest = np.maximum(self._added.reshape(-1) - self.capacity, 0)
        for name in names:
            leaf = self._extra(name)
            value = np.asarray(values[name])
            time = check_time(name, value.shape[2], self.length)
            step = ids.start.reshape(-1, 1) + np.arange(self.length - time, self.length)
            chosen = (step >= oldest[rows][:, None]) & ~covered_later(rows, step)
            row = np.broadcast_to(rows[:, None], step.shape)[chosen]
            number = step[chosen]
            if self._disk:
                self._disk.before_overwrite([leaf], row, number % self.capacity, number)
            new = flat(value.reshape(*step.shape, *value.shape[3:])[chosen], self._steps[leaf])
            self._rings[leaf][row, number % self.capacity] = new

    # ---- saved and restored ----------------------------------------------------------------------------------------

    def state(self) -> Arrays:
        """Everything, as arrays of plain types (views of the storage, not copies)."""
        return {**self._small_state(), **{f"ring/{i}": ring for i, ring in enumerate(self._rings)}}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continues exactly from a `state` of a replay of the same kind; in memory only, after `init`."""
        if self._disk is not None:
            raise UsageError("a replay with a folder is restored by load()")
        self._settle()
        for i, ring in enumerate(self._rings):
            if state[f"ring/{i}"].shape != ring.shape:
                raise RunError(f"saved replay has shape {state[f'ring/{i}'].shape}, this one {ring.shape}")
            ring[...] = state[f"ring/{i}"]
        self._set_small_state(state)

    def save(self, mark: int) -> None:
        """Makes the present contents available to `load(example, mark)`; marks only grow, the newest two are kept.

        The storage is not copied: from here on, whatever is overwritten goes to a journal first. A process killed at
        any moment, in here too, leaves the earlier marks loadable.
        """
        if self._disk is None:
            raise UsageError("only a replay with a folder can be saved; use state() and restore()")
        self._settle()
        self._disk.save(mark, self._small_state(), self._added.reshape(-1))

    def load(self, example: PyTree, mark: int) -> None:
        """Instead of `init`: the contents of the folder as at `save(mark)`; `RunError` if it has no such mark."""
        if self.folder is None:
            raise UsageError("only a replay with a folder can be loaded; use state() and restore()")
        self._prepare(example)
        self._disk = Disk(self.folder, self._layout(), self._ring_shapes())
        self._rings, state = self._disk.load(mark)
        self._set_small_state(state)
        self._disk.journal_from(self._added.reshape(-1))

    def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown()

    # ---- within ----------------------------------------------------------------------------------------------------

    def _prepare(self, example: PyTree) -> None:
        seeds = len(self.seeds)
        paths, self._structure = jax.tree.flatten_with_path(example)
        self._names = [jax.tree_util.keystr(path) for path, _ in paths]
        self._steps = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for _, leaf in paths]
        self._added = np.zeros_like(self._added)
        self._drawn = 0
        self._next = None
        with jax.default_device(self._cpu):
            one = self.sampler.init(self.streams, self.capacity, self.length)
            self._sampler = jax.tree.map(lambda x: jnp.repeat(x[None], seeds, 0), one)

    def _layout(self) -> dict[str, Any]:
        leaves = {n: [*s.shape, str(s.dtype)] for n, s in zip(self._names, self._steps, strict=True)}
        sizes = {"capacity": self.capacity, "streams": self.streams, "length": self.length}
        return {**sizes, "seeds": self.seeds.tolist(), "sampler": type(self.sampler).__name__, "leaves": leaves}

    def _ring_shapes(self) -> list[tuple[tuple[int, ...], np.dtype]]:
        rows = (len(self.seeds) * self.streams, self.capacity)
        return [((*rows, math.prod(step.shape)), np.dtype(bits(step.dtype))) for step in self._steps]

    def _extra(self, name: str) -> int:
        numbers = jax.tree.unflatten(self._structure, range(len(self._steps))).extras
        check_extra(name, numbers)
        return numbers[name]

    def _ring(self, added: jax.Array) -> Rings:
        return Rings(added, self.capacity, self.length)

    def _add_one(self, sampler: PyTree, added: jax.Array, item: PyTree, mask: jax.Array) -> PyTree:
        return self.sampler.add(sampler, self._ring(added), item, mask)

    def _choose_one(
        self, sampler: PyTree, added: jax.Array, seed: jax.Array, drawn: jax.Array, batch_size: int
    ) -> tuple[PyTree, Ids, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), drawn)
        return self.sampler.sample(sampler, self._ring(added), key, batch_size)

    def _update_one(self, sampler: PyTree, added: jax.Array, ids: Ids, values: dict[str, jax.Array]) -> PyTree:
        return self.sampler.update(sampler, self._ring(added), ids, values)

    def _gather(self, batch_size: int) -> Gathered:
        """Chooses a batch now and lets the threads copy it."""
        with jax.default_device(self._cpu):
            chosen = self._choose(self._sampler, self._added, self.seeds, np.int32(self._drawn), batch_size)
        self._sampler, ids, extras = chosen
        self._drawn += 1
        ids = Ids(*map(np.asarray, ids))
        rows = ids.stream + self.streams * np.arange(len(self.seeds))[:, None]
        slots = (ids.start[..., None] + np.arange(self.length)) % self.capacity
        index = (rows[..., None].astype(np.int64) * self.capacity + slots).reshape(-1)
        leaves = [np.empty((len(index), ring.shape[-1]), ring.dtype) for ring in self._rings]
        bounds = [len(index) * i // self._parts for i in range(self._parts + 1)]
        copies = [
            self._threads.submit(self._copy, leaves, index, slice(*part))
            for part in zip(bounds, bounds[1:], strict=False)
        ]
        return Gathered(ids, {k: np.asarray(v) for k, v in extras.items()}, leaves, copies)

    def _copy(self, leaves: list[np.ndarray], index: np.ndarray, part: slice) -> None:
        for ring, leaf in zip(self._rings, leaves, strict=True):
            # mode="clip" lets NumPy write into `out` directly; the indices are in range.
            np.take(ring.reshape(-1, ring.shape[-1]), index[part], axis=0, out=leaf[part], mode="clip")

    def _settle(self) -> None:
        if self._next is not None:
            wait(self._next)

    def _small_state(self) -> Arrays:
        """Everything but the storage."""
        self._settle()
        small = {"added": self._added, "drawn": np.asarray(self._drawn)}
        small |= {f"sampler/{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(self._sampler))}
        if self._next is not None:
            small |= {"next/stream": self._next.ids.stream, "next/start": self._next.ids.start}
            small |= {f"next/extra/{k}": v for k, v in self._next.extras.items()}
            small |= {f"next/leaf/{i}": leaf for i, leaf in enumerate(self._next.leaves)}
        return small

    def _set_small_state(self, state: Mapping[str, np.ndarray]) -> None:
        self._added = np.array(state["added"], np.int32)
        self._drawn = int(state["drawn"])
        count = len(jax.tree.leaves(self._sampler))
        with jax.default_device(self._cpu):
            sampler = [jnp.array(state[f"sampler/{i}"]) for i in range(count)]
        self._sampler = jax.tree.unflatten(jax.tree.structure(self._sampler), sampler)
        self._next = None
        if "next/stream" in state:
            extras = {k.removeprefix("next/extra/"): v for k, v in state.items() if k.startswith("next/extra/")}
            leaves = [np.array(state[f"next/leaf/{i}"]) for i in range(len(self._rings))]
            self._next = Gathered(Ids(state["next/stream"], state["next/start"]), extras, leaves, [])


def wait(batch: Gathered) -> None:
    """Returns when the batch is complete."""
    for copy in batch.copies:
        copy.result()


def flat(value: Any, step: jax.ShapeDtypeStruct) -> np.ndarray:
    """Steps `[n, *shape]` as stored: `[n, elements]`, narrow floats as bits."""
    value = np.asarray(value).astype(step.dtype, copy=False)
    return np.ascontiguousarray(value).reshape(len(value), math.prod(step.shape)).view(np.dtype(bits(step.dtype)))
