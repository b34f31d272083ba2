"""Training of an online agent: act, store, sample, learn, for S seeds with E environments each, in one program.

Two drivers run the same pure functions. `fused`: the environment is JAX too, and one jitted iteration does K steps of
every environment and U updates. `host`: the host steps the environments and calls the jitted `collect` and `learn`;
the update is dispatched before the environments are stepped, so both run at the same time.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from repro.envs.base import HostEnv, JaxEnv, TimeStep
from repro.pipeline import seeds as seeding
from repro.pipeline.algorithm import Algorithm, Transition
from repro.pipeline.config import LoopConfig
from repro.replay import DeviceReplay, Episodes, Sampler, Uniform, mark_boundaries
from repro.replay.episodes import WINDOWS, after_context
from repro.scale import mesh as meshes


class LoopState(NamedTuple):
    """Everything that changes on the device; leading axis S except for `timestep`, which has `[S * E]`."""

    agent: Any
    carry: Any
    buffer: Any
    """Replay state, or None when the replay lives on the host."""
    timestep: TimeStep
    environment: Any
    """State of a JAX environment, None for a host environment."""


class Online:
    """The pure functions of one agent on one vector environment (see the module docstring)."""

    def __init__(
        self,
        algorithm: Algorithm,
        env: HostEnv | JaxEnv,
        loop: LoopConfig,
        seeds: Sequence[int],
        mesh: Mesh | None = None,
    ) -> None:
        self.algorithm, self.env, self.loop, self.mesh = algorithm, env, loop, mesh
        self.seeds = jnp.asarray(seeds, jnp.int32)
        self.count = len(seeds)
        if env.num_envs != self.count * loop.envs:
            raise ValueError(f"environment has {env.num_envs} instances, expected {self.count} x {loop.envs}")
        self.fused = loop.driver == "fused" or (loop.driver == "auto" and hasattr(env, "init"))
        self.how: Any = "vmap" if loop.seeds_map == "auto" else loop.seeds_map
        per_stream = min(loop.replay_capacity // loop.envs, loop.steps // loop.envs + 1)
        capacity = max(per_stream, loop.stored_length)
        self.replay = DeviceReplay(capacity, loop.envs, loop.stored_length, make_sampler(loop, capacity))

    def _over_seeds(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return meshes.each_seed(seeding.over_seeds(f, self.how), self.mesh)

    def _replay(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return meshes.each_seed(jax.vmap(f), self.mesh)

    # ---- state -----------------------------------------------------------------------------------------------------

    def init_agent(self, seeds: jax.Array) -> Any:
        """State of the algorithm for all seeds."""
        return seeding.over_seeds(self.algorithm.init)(seeding.keys(seeds, "init"))

    def init_carry(self) -> Any:
        """Recurrent state of all actors, leaves `[S, E, ...]`."""
        carry = self.algorithm.initial_carry(self.loop.envs)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (self.count, *x.shape)), carry)

    def item_example(self, agent: Any, carry: Any, timestep: TimeStep) -> Transition:
        """Shapes and dtypes of what is stored of one step of one environment."""
        item = jax.eval_shape(lambda a, c, t: self.act(a, c, t, jnp.int32(0))[2], agent, carry, timestep)
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), item)

    def init_buffer(self, agent: Any, carry: Any, timestep: TimeStep) -> Any:
        """Empty replay of all seeds; the stored fields are those that `act` and the environment produce."""
        one = self.replay.init(self.item_example(agent, carry, timestep))
        return jax.tree.map(lambda x: jnp.repeat(x[None], self.count, 0), one)

    # ---- the pieces -------------------------------------------------------------------------------------------------

    def act(self, agent: Any, carry: Any, timestep: TimeStep, step: jax.Array) -> tuple[Any, Any, Transition]:
        """One decision in all environments: actions, next carry, what to store; leaves `[S, E, ...]`."""
        timestep = TimeStep(*seeding.split(tuple(timestep), self.count))
        keys = seeding.keys(self.seeds, "act", step)
        actions, carry, extras = self._over_seeds(self.algorithm.act)(agent, carry, timestep, keys)
        # Nothing follows the last observation of an episode: its action is stored as zero.
        over = timestep.is_last
        stored = {k: jnp.where(over.reshape(*over.shape, *[1] * (a.ndim - 2)), 0, a) for k, a in actions.items()}
        return actions, carry, Transition(*timestep, action=stored, extras=extras)

    def collect(
        self, agent: Any, carry: Any, buffer: Any, timestep: TimeStep, step: jax.Array
    ) -> tuple[dict[str, jax.Array], Any, Any]:
        """One decision in all environments: actions `[S * E, ...]`, next carry, replay with the transition added."""
        actions, carry, item = self.act(agent, carry, timestep, step)
        buffer = self._replay(lambda b, i: self.replay.add(b, i))(buffer, item)
        return seeding.merge(actions), carry, buffer

    def learn(self, agent: Any, buffer: Any, update: jax.Array) -> tuple[Any, Any, dict[str, jax.Array]]:
        """One update of all seeds: sample, learn, write back. Metrics have leaves `[S]`."""
        buffer, batch, ids = self.sample(buffer, update)
        agent, metrics, write_back = self.update(agent, batch, update)
        if write_back:
            buffer = self._replay(self.replay.update)(buffer, ids, write_back)
        return agent, buffer, metrics

    def sample(self, buffer: Any, update: jax.Array) -> tuple[Any, Transition, Any]:
        """Replay, batch `[S, B, L, ...]` and where it lies, for update number `update`."""
        sample = self._replay(lambda b, k: self.replay.sample(b, k, self.loop.batch_size))
        return sample(buffer, seeding.keys(self.seeds, "sample", update))

    def update(self, agent: Any, batch: Transition, update: jax.Array) -> tuple[Any, dict[str, jax.Array], Any]:
        """The algorithm's `learn` on a sampled batch, leaves `[S, B, L, ...]`."""
        keys = seeding.keys(self.seeds, "learn", update)
        batch = meshes.split_batch(mark_boundaries(batch), self.mesh)
        return self._over_seeds(self.algorithm.learn)(agent, batch, keys)

    def items(self, buffer: Any) -> jax.Array:
        """Start positions that can be sampled, per seed `[S]`."""
        return jax.vmap(self.replay.items)(buffer)

    # ---- fused -----------------------------------------------------------------------------------------------------

    def ratio(self) -> tuple[int, int]:
        """K vector steps and U updates of one fused iteration: the smallest whole numbers in the trained ratio."""
        per_vector_step = Fraction(self.loop.updates_per_step).limit_denominator(100_000) * self.loop.envs
        if per_vector_step == 0:
            return 64, 0
        per_vector_step = per_vector_step.limit_denominator(1024)
        return per_vector_step.denominator, per_vector_step.numerator

    def steps_before_learning(self) -> int:
        """Vector steps until the replay holds batch_size * batch_length start positions (DreamerV3's rule), or those of
        the prefill."""
        if self.loop.prefill:
            return -(-self.loop.prefill // self.loop.envs)
        wanted = min(self.loop.batch_size * self.loop.batch_length, self.replay.capacity // 2)
        return self.loop.stored_length - 1 + -(-wanted // self.loop.envs)

    def walk(self, state: LoopState, step: jax.Array, count: int) -> tuple[LoopState, TimeStep]:
        """`count` vector steps without learning; also the time steps seen, without observations, `[count, N]`."""

        def body(state: LoopState, i: jax.Array) -> tuple[LoopState, TimeStep]:
            actions, carry, buffer = self.collect(state.agent, state.carry, state.buffer, state.timestep, step + i)
            environment, timestep = self.env.step(state.environment, actions)  # type: ignore[call-arg, misc]
            after = LoopState(state.agent, carry, buffer, timestep, environment)
            return after, state.timestep._replace(obs={})

        return jax.lax.scan(body, state, jnp.arange(count))

    def iterate(
        self, state: LoopState, step: jax.Array, update: jax.Array, iterations: int
    ) -> tuple[LoopState, TimeStep, dict[str, jax.Array]]:
        """Fused iterations: K vector steps, then U updates. Time steps `[iterations * K, N]`, last metrics."""
        steps, updates = self.ratio()

        def learn(carried: Any, i: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
            agent, buffer, metrics = self.learn(carried[0], carried[1], i)
            return (agent, buffer), metrics

        def body(state: LoopState, i: jax.Array) -> tuple[LoopState, Any]:
            state, seen = self.walk(state, step + i * steps, steps)
            first = update + i * updates
            if updates == 0:
                return state, (seen, {})
            (agent, buffer), metrics = jax.lax.scan(learn, (state.agent, state.buffer), first + jnp.arange(updates))
            last = jax.tree.map(lambda x: x[-1], metrics)
            return state._replace(agent=agent, buffer=buffer), (seen, last)

        state, (seen, metrics) = jax.lax.scan(body, state, jnp.arange(iterations))
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)
        return state, flat, jax.tree.map(lambda x: x[-1], metrics)


def make_sampler(loop: LoopConfig, capacity: int) -> Sampler:
    """What `loop.sampling` names, for rings of `capacity` steps."""
    if loop.sampling == "uniform":
        return Uniform(online=loop.online_queue)
    shortest = loop.batch_length + 1
    window = after_context(WINDOWS[loop.sampling], loop.replay_context)
    # Room for twice as many episodes as can be drawn: shorter ones take places too.
    return Episodes(2 * (capacity // shortest + 1), window, shortest)


def shapes(tree: Any, mesh: Mesh | None = None) -> Any:
    """Shapes and dtypes of a tree of arrays, for ahead-of-time compilation, laid out by seed on a mesh."""
    placed = meshes.by_seed(mesh)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), jnp.result_type(x), sharding=placed), tree)
