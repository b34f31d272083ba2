"""Device meshes: the seeds of a run spread over devices, and the batch of each seed split over several.

Two axes. `seeds`: every device holds some of the seeds and never talks to another. `data`: the devices of one seed
share its batch; its parameters and its replay are on all of them, and the compiler averages the gradients. One device
has no mesh (None), and every function here then returns what it was given.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from repro.errors import UsageError

SEEDS, DATA = "seeds", "data"


def choose(seeds: int, data_parallel: int, batch_size: int, devices: Sequence[jax.Device] | None = None) -> Mesh | None:
    """The mesh `[seeds, data]`: `data_parallel` devices for each seed, as many seeds side by side as divide evenly.

    None where that is a single device. Raises `UsageError` if the devices are too few or the batch does not split.
    """
    devices = jax.devices() if devices is None else devices
    if data_parallel > len(devices):
        raise UsageError(f"data_parallel={data_parallel}, but there are {len(devices)} devices: use at most that many")
    rows = max(n for n in range(1, len(devices) // data_parallel + 1) if seeds % n == 0)
    return None if rows * data_parallel == 1 else make(rows, data_parallel, batch_size, devices)


def make(rows: int, columns: int, batch_size: int, devices: Sequence[Any]) -> Mesh:
    """The mesh `[seeds: rows, data: columns]` of the first devices; `UsageError` if the batch does not split."""
    if batch_size % columns:
        raise UsageError(f"a batch of {batch_size} sequences does not split over {columns} devices for each seed")
    return Mesh(np.array(devices[: rows * columns]).reshape(rows, columns), (SEEDS, DATA))


def by_seed(mesh: Mesh | None, axis: int = 0) -> NamedSharding | None:
    """Sharding of arrays whose axis number `axis` is S or S * E; equal copies along `data`."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec(*[None] * axis, SEEDS))


def by_seed_and_batch(mesh: Mesh | None) -> NamedSharding | None:
    """Sharding of arrays `[S, B, ...]` with B split over `data`."""
    return None if mesh is None else NamedSharding(mesh, PartitionSpec(SEEDS, DATA))


def parameters(tree: Any, mesh: Mesh) -> Any:
    """Shardings of parameters and moments `[S, ...]` that lie in pieces on the devices of their seed ("fully sharded"):
    the longest axis that splits evenly is cut; arrays without one are on all of them. The compiler gathers what an
    operation needs and scatters the gradients (Rajbhandari et al. 2020, ZeRO stage 3)."""
    count = mesh.shape[DATA]

    def sharding(x: Any) -> NamedSharding:
        able = [axis for axis in range(1, len(x.shape)) if x.shape[axis] % count == 0]
        cut = max(able, key=lambda axis: x.shape[axis], default=None)
        return NamedSharding(mesh, PartitionSpec(SEEDS, *(DATA if a == cut else None for a in range(1, len(x.shape)))))

    return jax.tree.map(sharding, tree)


def place(tree: Any, mesh: Mesh | None) -> Any:
    """`tree`, leaves `[S, ...]` or `[S * E, ...]`, laid out `by_seed`."""
    return tree if mesh is None else jax.device_put(tree, by_seed(mesh))


def split_batch(batch: Any, mesh: Mesh | None) -> Any:
    """Inside `jit`: leaves `[S, B, ...]` with B split over `data`; all that is computed from them follows."""
    if mesh is None:
        return batch
    return lax.with_sharding_constraint(batch, by_seed_and_batch(mesh))


def each_seed(f: Callable[..., Any], mesh: Mesh | None) -> Callable[..., Any]:
    """`f` over leading axes S, run by every device for its own seeds alone.

    Left to itself, the compiler gathers all seeds on all devices for some operations (convolutions whose kernels have
    a seeds axis, scatters).
    """
    if mesh is None or mesh.shape[SEEDS] == 1:
        return f
    spec = PartitionSpec(SEEDS)
    return jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=spec, axis_names={SEEDS}, check_vma=False)
