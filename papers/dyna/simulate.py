"""Many independent runs of one agent: one `lax.scan` over real steps, planning inside, `vmap` over runs."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from papers.dyna.agents import Agent
from repro import platform
from repro.envs.base import TimeStep
from repro.envs.mazes import Maze, MazeEnv, MazeState

CELLS = 6912
"""Cells of all runs in one program on a CPU: with more the tables do not fit its cache (128 runs of the Dyna maze)."""


class Runs(NamedTuple):
    """What became of R runs, NumPy arrays `[R, ...]`."""

    lengths: np.ndarray
    """Real steps of each episode `[R, episodes]`, 0 behind the last one, which may be incomplete."""
    episodes: np.ndarray
    """Complete ones."""
    steps: np.ndarray
    """Real steps."""
    updates: np.ndarray
    """Made in planning."""
    q: np.ndarray
    """Final values `[R, S, A]`."""


class State(NamedTuple):
    """State of the runs of one program, leaves `[R, ...]`; `tick` numbers the random draws of a run."""

    agent: Any
    environment: MazeState
    timestep: TimeStep
    tick: jax.Array
    episodes: jax.Array
    lengths: jax.Array
    updates: jax.Array
    ended: jax.Array


def simulate(
    make_agent: Callable[[MazeEnv], Agent],
    mazes: Sequence[Maze],
    keys: jax.Array,
    episodes: int,
    steps: Any = 2**30,
    stop: Callable[[Any], jax.Array] | None = None,
    switch_at: int | None = None,
) -> Runs:
    """Runs of `keys` `[R]` until `episodes` are complete, `steps` (a number or `[R]`) real steps are taken or
    `stop(agent state)` is true.

    Exploration and planning draw from separate streams, so runs of different agents with the same keys explore alike.
    A run does not depend on the runs beside it.
    """
    count = len(keys)
    group = min(count, max(8, CELLS // mazes[0].walls.size)) if jax.default_backend() == "cpu" else count
    places = np.arange(-(-count // group) * group).reshape(-1, group) % count  # the last group repeats the first runs
    limits = np.broadcast_to(np.asarray(steps, np.int32), count)
    env = MazeEnv(mazes, group, switch_at)
    program = jax.jit(partial(_simulate, make_agent(env), env, episodes, stop))
    compiled = program.lower(keys[places[0]], limits[places[0]]).compile()
    with ThreadPoolExecutor(platform.cpu_cores()) as pool:
        parts = list(pool.map(lambda place: jax.device_get(compiled(keys[place], limits[place])), places))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)


def _simulate(agent: Agent, env: MazeEnv, episodes: int, stop: Any, keys: jax.Array, steps: jax.Array) -> Runs:
    """Planning before a run's first reward changes nothing where all values are 0 (and there is no bonus): it is left
    out, and the runs wait for one another at their first goal so that the program can skip it for all at once."""
    vmap = jax.vmap
    waits = getattr(agent, "kappa", 0.0) == 0.0

    def step(now: State, _: Any) -> tuple[State, None]:
        active = ~now.ended & (now.episodes < episodes) & (now.environment.steps < steps)
        if waits:
            active &= (now.episodes == 0) | ~jnp.any(active & (now.episodes == 0))
        u = vmap(lambda k, i: jax.random.uniform(jax.random.fold_in(k, 2 * i), (3,)))(keys, now.tick)
        cell = now.timestep.obs["cell"]
        action = vmap(agent.choose)(now.agent, cell, u)
        environment, timestep = env.step(now.environment, {"action": action})
        real = active & ~timestep.is_first
        learner, _ = vmap(agent.observe)(now.agent, cell, action, timestep.reward, timestep.obs["cell"], real)
        finished = now.episodes + (real & timestep.is_last)
        plans = real & (finished > 0) if waits else real

        def plan(learner: Any) -> tuple[Any, jax.Array]:
            draws = vmap(lambda k, i: agent.draw(jax.random.fold_in(k, 2 * i + 1)))(keys, now.tick)
            learner, log = vmap(agent.plan)(learner, draws, plans)
            return learner, log["valid"].sum(-1)

        learner, updates = jax.lax.cond(plans.any(), plan, lambda old: (old, jnp.zeros_like(finished)), learner)
        keep = lambda new, old: jnp.where(active, new, old)  # noqa: E731
        after = State(
            agent=learner,
            environment=jax.tree.map(keep, environment, now.environment),
            timestep=jax.tree.map(keep, timestep, now.timestep),
            tick=now.tick + active,
            episodes=finished,
            lengths=now.lengths.at[jnp.arange(cell.size), now.episodes].add(real),
            updates=now.updates + updates,
            ended=now.ended,
        )
        return after, None

    def block(now: State) -> State:
        now, _ = jax.lax.scan(step, now, length=1 if stop else 16)
        ended = (now.episodes >= episodes) | (now.environment.steps >= steps)
        return now._replace(ended=now.ended | ended | (vmap(stop)(now.agent) if stop else False))

    none = jnp.zeros(env.num_envs, jnp.int32)
    lengths = jnp.zeros((env.num_envs, episodes), jnp.int32)
    begin = State(vmap(agent.init)(keys), *env.init(), none, none, lengths, none, none > 0)
    end = jax.lax.while_loop(lambda now: ~now.ended.all(), block, begin)
    return Runs(end.lengths, end.episodes, end.environment.steps, end.updates, end.agent.q)  # type: ignore[arg-type]
