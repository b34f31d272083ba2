"""Run by `test_update.py` in a process with eight devices: an update on a mesh and on one device, figures as JSON."""

import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parent)]

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import small  # noqa: E402

from papers.ijepa import algorithm  # noqa: E402
from papers.ijepa.config import RunConfig  # noqa: E402
from papers.ijepa.program import Program  # noqa: E402
from repro.scale import mesh as meshes  # noqa: E402

CONFIG = small.config(seeds=1)
CONFIG = replace(CONFIG, optim=replace(CONFIG.optim, batch=16), mask=replace(CONFIG.mask, group=4))
IMAGES = np.random.default_rng(0).integers(0, 256, (1, 16, 32, 32, 3), np.uint8)


def update(config, mesh):
    """State and metrics after one update, and the compiled program."""
    program = Program(config, [0], mesh)
    compiled = program.compiled(6)
    images = jnp.asarray(IMAGES) if mesh is None else jax.device_put(IMAGES, meshes.by_seed_and_batch(mesh))
    return (*compiled(program.init(), images, algorithm.moment(config, 6, 1), jnp.int32(1)), compiled)


def difference(a, b):
    """Largest difference relative to the largest number of each array."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(np.asarray(x) - np.asarray(y)).max() / max(1e-3, np.abs(x).max())) for x, y in pairs)


def main():
    """Both layouts, as one line of JSON."""
    alone, expected, _ = update(CONFIG, None)
    found = {}
    for name, sharded in (("data", False), ("sharded", True)):
        config = replace(CONFIG, run=RunConfig(data_parallel=8, fully_sharded=sharded))
        mesh = meshes.make(1, 8, 16, jax.devices())
        state, metrics, compiled = update(config, mesh)
        text = compiled.as_text()
        kinds = ("all-reduce", "all-gather", "reduce-scatter")
        leaves = jax.tree.leaves(state)
        found[name] = {
            "devices": len(leaves[0].sharding.device_set),
            "loss": difference(expected, metrics),
            # Where a gradient is nothing but rounding, Adam makes a step of it: moments are compared.
            "state": difference(jax.tree.map(np.asarray, alone.mu), jax.tree.map(np.asarray, state.mu)),
            "share": sum(x.addressable_shards[0].data.size for x in leaves) / sum(x.size for x in leaves),
            "collectives": [kind for kind in kinds if f" {kind}(" in text or f" {kind}-start(" in text],
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
