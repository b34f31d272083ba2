"""Run twice by `test_processes.py`: an update of the toy agent whose batch is split over two processes."""

import json
import sys
from pathlib import Path

TESTS = Path(__file__).parents[2]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import toys  # noqa: E402

from repro.pipeline.algorithm import Transition  # noqa: E402
from repro.pipeline.config import LoopConfig  # noqa: E402
from repro.pipeline.online import Online  # noqa: E402
from repro.scale import mesh as meshes  # noqa: E402
from repro.scale import processes  # noqa: E402


def update(mesh: jax.sharding.Mesh | None) -> dict[str, np.ndarray]:
    """Parameters after one update on the mesh, or on this process alone."""
    env = toys.LineWorld([0])
    agent = toys.LinearAgent(env.obs_spaces, env.action_spaces)
    loop = LoopConfig(steps=10, envs=1, train_ratio=1, batch_size=8, batch_length=4)
    online = Online(agent, env, loop, [0], mesh)
    random = np.random.default_rng(0)
    flags = np.zeros((1, 8, 4), bool)
    batch = Transition(
        {"position": random.normal(size=(1, 8, 4, 2)).astype(np.float32)},
        random.normal(size=(1, 8, 4)).astype(np.float32),
        flags, flags, flags,
        {"move": random.integers(0, 3, (1, 8, 4)).astype(np.int32)},
        {"age": np.zeros((1, 8, 4), np.float32)},
    )  # fmt: skip
    state = meshes.place(jax.tree.map(np.asarray, online.init_agent(np.zeros(1, np.int32))), mesh)
    after, _, _ = jax.jit(online.update)(state, meshes.place(batch, mesh), jnp.int32(0))
    return {name: np.asarray(value.addressable_data(0)) for name, value in after.items()}


def main() -> None:
    """Prints what this process sees."""
    count = processes.start(seconds=60)
    mesh = meshes.choose(1, len(jax.devices()), 8)
    shared, alone = update(mesh), update(None)
    found = {
        "processes": count,
        "index": jax.process_index(),
        "devices": len(jax.devices()),
        "own": len(jax.local_devices()),
        "difference": max(float(np.abs(shared[name] - alone[name]).max()) for name in alone),
        "policy": shared["policy"].tolist(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
