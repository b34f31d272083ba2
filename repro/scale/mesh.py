"""Device meshes: the seeds axis and the batch axis spread over devices."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def seeds_mesh(count: int) -> Mesh | None:
    """A mesh over the largest number of devices that divides `count` seeds; None where that is one device."""
    usable = max(n for n in range(1, len(jax.devices()) + 1) if count % n == 0)
    return Mesh(np.array(jax.devices()[:usable]), ("seeds",)) if usable > 1 else None


def place_seeds(tree: Any, count: int) -> Any:
    """`tree` with the leading axis of every leaf (S or S * E) spread over the devices, seed by seed.

    On one device the tree is returned as it is.
    """
    mesh = seeds_mesh(count)
    if mesh is None:
        return tree
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec("seeds")))
