"""Run by `test_mesh.py` in a process with eight devices: the same work with and without a mesh, figures as JSON."""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[2]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "papers" / "dreamerv3")]

import agents  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import toys  # noqa: E402

from repro.envs.base import Space  # noqa: E402
from repro.pipeline.config import LoopConfig  # noqa: E402
from repro.pipeline.online import Online, shapes  # noqa: E402
from repro.pipeline.run import Run  # noqa: E402
from repro.pipeline.train import train  # noqa: E402
from repro.registry import Paper  # noqa: E402
from repro.scale import mesh as meshes  # noqa: E402

LOOP = LoopConfig(
    steps=64, envs=2, train_ratio=4, batch_size=4, batch_length=4, replay_context=1, online_queue=True,
    log_seconds=1e9, checkpoint_minutes=1e9, fused_iterations=4,
)  # fmt: skip


def difference(a: Any, b: Any) -> float:
    """Largest difference of two trees relative to the largest number in each array."""

    def one(x: Any, y: Any) -> float:
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        return float(np.abs(x - y).max() / max(1e-3, np.abs(x).max()))

    return max(jax.tree.leaves(jax.tree.map(one, a, b)))


def training(host: bool, storage: str, data_parallel: int, devices: int) -> Any:
    """A whole run of the toy agent on the first `devices` devices."""
    config = toys.Config(dataclasses.replace(LOOP, data_parallel=data_parallel, replay_storage=storage))
    paper = Paper("line", "Line", "", {}, ("line", "line"), {}, reproduce="")
    run = Run(paper, config, config, "repro reproduce line", Path(tempfile.mkdtemp()), quiet=True)
    numbers = [10 * seed + i for seed in run.seeds for i in range(2)]
    env = toys.HostLineWorld(numbers) if host else toys.LineWorld(numbers)
    all_devices = jax.devices()
    jax.devices = lambda: all_devices[:devices]
    try:
        return train(run, toys.LinearAgent(env.obs_spaces, env.action_spaces), env, config.loop)
    finally:
        jax.devices = lambda: all_devices


def compare_runs(host: bool, data_parallel: int, storage: str = "device") -> dict[str, Any]:
    """The run on a mesh against the run on one device."""
    spread, alone = training(host, storage, data_parallel, 8), training(host, storage, 1, 1)
    assert alone.online.mesh is None
    return {
        "mesh": dict(spread.online.mesh.shape),
        "devices": len(jax.tree.leaves(spread.agent)[0].sharding.device_set),
        "difference": difference(alone.agent, spread.agent),
        "same_episodes": alone.episodes == spread.episodes,
        "updates": [alone.updates, spread.updates],
    }


def online(agent: Any, seeds: int, mesh: Any) -> Online:
    """An agent without environments, for updates alone."""

    class Env:
        num_envs, obs_spaces, action_spaces = seeds, agent.obs_spaces, agent.action_spaces

    return Online(agent, Env(), dataclasses.replace(LOOP, envs=1), range(seeds), mesh)


def outcome(result: Any) -> Any:
    """What two updates are compared by. The optimiser divides a gradient by its size, so that its sign may hang on a
    rounding error: sizes are compared."""
    state, metrics, write_back = result
    return jax.tree.map(np.sqrt, state.optimizer[1].nu), state.slow_critic, state.norms, metrics, write_back


def collectives(compiled: Any) -> list[str]:
    """Kinds of communication in a compiled program."""
    names = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
    return [name for name in names if f" {name}(" in compiled.as_text() or f" {name}-start(" in compiled.as_text()]


def compare_updates() -> dict[str, Any]:
    """One update of DreamerV3, two seeds on two devices each, against the same on one device."""
    # Without images: most of the time here is compilation.
    spaces = {"speed": Space((3,))}, {"button": Space((), "int32", 4)}
    agent = agents.tiny(*spaces, imagination_length=1)
    one = agents.batch(agent, size=4, length=5)
    batch = jax.tree.map(lambda x: np.stack([x, x[::-1]]), one)
    alone = online(agent, 2, None)
    state = jax.jit(alone.init_agent)(alone.seeds)
    expected = jax.jit(alone.update)(state, batch, jnp.int32(7))
    mesh = meshes.make(2, 2, LOOP.batch_size, jax.devices())
    arguments = meshes.place(state, mesh), meshes.place(batch, mesh), jnp.int32(7)
    update = jax.jit(online(agent, 2, mesh).update).lower(*arguments).compile()
    return {
        "difference": difference(outcome(expected), outcome(update(*arguments))),
        "gradient": float(np.min(expected[1]["gradient_norm"])),
        "collectives": collectives(update),
    }


def communication(columns: int) -> list[str]:
    """What the devices of two seeds say to one another in a whole update of the toy agent, replay included."""
    env = toys.LineWorld([0, 1, 10, 11])
    mesh = meshes.make(2, columns, LOOP.batch_size, jax.devices())
    toy = Online(toys.LinearAgent(env.obs_spaces, env.action_spaces), env, LOOP, [0, 1], mesh)
    agent, carry = toy.init_agent(toy.seeds), toy.init_carry()
    buffer = toy.init_buffer(agent, carry, env.init()[1])
    placed = meshes.by_seed(mesh)
    learn = jax.jit(toy.learn, out_shardings=placed)
    return collectives(learn.lower(shapes(agent, mesh), shapes(buffer, mesh), jnp.int32(0)).compile())


def main() -> None:
    """Everything, as one line of JSON."""
    found = {
        "host": compare_runs(host=True, data_parallel=2),
        "host_replay": compare_runs(host=True, data_parallel=2, storage="host"),
        "fused": compare_runs(host=False, data_parallel=4),
        "dreamerv3": compare_updates(),
        "seeds": communication(columns=1),
        "data": communication(columns=2),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
