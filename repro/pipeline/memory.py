"""Where the host driver's experience lies: on the device, inside the compiled programs, or in host memory beside them.

Both offer the same calls, so the driver does not know which one it has.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from repro.envs.base import TimeStep
from repro.pipeline.online import LoopState, Online, shapes
from repro.pipeline.seeds import merge
from repro.replay import HostReplay
from repro.scale import mesh as meshes


class Memory(Protocol):
    """One run's replay together with the two programs that use it; `agent` and `carry` are donated."""

    buffer: Any
    """What belongs to the checkpointed state of the loop; None where the replay saves itself."""

    def collect(self, agent: Any, carry: Any, timestep: TimeStep, step: int) -> tuple[dict[str, jax.Array], Any]:
        """One decision in all environments, stored: actions `[S * E, ...]`, next carry."""
        ...

    def items(self) -> int:
        """Start positions that can be sampled, the least of all seeds."""
        ...

    def learn(self, agent: Any, update: int) -> tuple[Any, dict[str, jax.Array]]:
        """One update of all seeds: state of the agent, metrics `[S]`."""
        ...

    def save(self, mark: int) -> None:
        """Makes the present contents restorable as of `mark`; to be called before the loop's own checkpoint."""
        ...

    def close(self) -> None:
        """Ends what runs beside the programs."""
        ...


def compile_both(first: Any, second: Any) -> tuple[Any, Any]:
    """Two lowered programs, compiled at the same time."""
    with ThreadPoolExecutor(2) as pool:
        programs = list(pool.map(lambda lowered: lowered.compile(), (first, second)))
    return programs[0], programs[1]


class DeviceMemory:
    """The replay is an argument of the programs, donated so that they write into it in place.

    Of `state` only shapes are used, the buffer excepted; with a `state` of shapes alone set `buffer` before the first
    call.
    """

    def __init__(self, online: Online, state: LoopState) -> None:
        number = jax.ShapeDtypeStruct((), jnp.int32)
        agent, carry, buffer, timestep, _ = shapes(state, online.mesh)
        placed = meshes.by_seed(online.mesh)  # what a program returns lies where the next call expects it
        self.buffer = state.buffer
        self._items = jax.jit(lambda b: jnp.min(online.items(b)))
        self._collect, self._learn = compile_both(
            jax.jit(online.collect, donate_argnums=(1, 2), out_shardings=placed).lower(
                agent, carry, buffer, timestep, number
            ),
            jax.jit(online.learn, donate_argnums=(0, 1), out_shardings=placed).lower(agent, buffer, number),
        )

    def collect(self, agent: Any, carry: Any, timestep: TimeStep, step: int) -> tuple[dict[str, jax.Array], Any]:
        """See `Memory`."""
        actions, carry, self.buffer = self._collect(agent, carry, self.buffer, timestep, jnp.int32(step))
        return actions, carry

    def items(self) -> int:
        """See `Memory`."""
        return int(self._items(self.buffer))

    def learn(self, agent: Any, update: int) -> tuple[Any, dict[str, jax.Array]]:
        """See `Memory`."""
        agent, self.buffer, metrics = self._learn(agent, self.buffer, jnp.int32(update))
        return agent, metrics

    def save(self, mark: int) -> None:
        """Nothing to do: the buffer is part of the loop's state."""

    def close(self) -> None:
        """Nothing to do."""


class HostMemory:
    """The replay lies in mapped files; latents are written back one update late, as in the official loop."""

    buffer = None

    def __init__(self, online: Online, state: LoopState, folder: Path, mark: int | None) -> None:
        self.batch_size = online.loop.batch_size
        replay = online.replay
        self.replay = HostReplay(
            replay.capacity, replay.streams, replay.length, replay.sampler, online.seeds.tolist(), folder
        )
        example = online.item_example(state.agent, state.carry, state.timestep)
        if mark is None:
            self.replay.init(example)
        else:
            self.replay.load(example, mark)
        self._pending: tuple[Any, Any] | None = None
        number = jax.ShapeDtypeStruct((), jnp.int32)
        agent, carry, _, timestep, _ = shapes(state, online.mesh)
        placed, split = meshes.by_seed(online.mesh), meshes.by_seed_and_batch(online.mesh)
        sequences = (online.count, self.batch_size, replay.length)
        batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((*sequences, *x.shape), x.dtype, sharding=split), example)

        def act(agent: Any, carry: Any, timestep: TimeStep, step: jax.Array) -> tuple[Any, Any, Any]:
            actions, carry, item = online.act(agent, carry, timestep, step)
            return merge(actions), carry, merge(item)

        self._act, self._update = compile_both(
            jax.jit(act, donate_argnums=1, out_shardings=placed).lower(agent, carry, timestep, number),
            jax.jit(online.update, donate_argnums=0, out_shardings=(placed, placed, split)).lower(agent, batch, number),
        )

    def collect(self, agent: Any, carry: Any, timestep: TimeStep, step: int) -> tuple[dict[str, jax.Array], Any]:
        """See `Memory`."""
        actions, carry, item = self._act(agent, carry, timestep, jnp.int32(step))
        self.replay.add(item)
        return actions, carry

    def items(self) -> int:
        """See `Memory`."""
        return int(self.replay.items().min())

    def learn(self, agent: Any, update: int) -> tuple[Any, dict[str, jax.Array]]:
        """See `Memory`."""
        batch, ids = self.replay.sample(self.batch_size)
        agent, metrics, write_back = self._update(agent, batch, jnp.int32(update))
        self._write_back()
        self._pending = (ids, write_back) if write_back else None
        return agent, metrics

    def _write_back(self) -> None:
        if self._pending is not None:
            ids, values = self._pending
            self.replay.update(ids, {name: np.asarray(value) for name, value in values.items()})
            self._pending = None

    def save(self, mark: int) -> None:
        """See `Memory`."""
        self._write_back()
        self.replay.save(mark)

    def close(self) -> None:
        """Ends the replay's threads."""
        self.replay.close()
