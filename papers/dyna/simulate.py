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

GROUP = 128
"""Runs in one program on a CPU: the tables of more do not fit its cache."""


class Runs(NamedTuple):
    """State of R runs, leaves `[R, ...]`; `tick` numbers the random draws of a run."""

    agent: Any
    environment: MazeState
    timestep: TimeStep
    tick: jax.Array
    episodes: jax.Array  # completed
    lengths: jax.Array  # [R, episodes], real steps; 0 behind the last episode, which may be incomplete
    updates: jax.Array  # made in planning
    ended: jax.Array


def simulate(
    make_agent: Callable[[MazeEnv], Agent],
    mazes: Sequence[Maze],
    keys: jax.Array,
    episodes: int,
    steps: Any = 2**30,
    stop: Callable[[Any], jax.Array] | None = None,
    switch_at: int | None = None,
    group: int | None = None,
) -> Runs:
    """Runs of `keys` `[R]` until `episodes` are complete, `steps` (a number or `[R]`) real steps are taken or
    `stop(agent state)` is true; the final state with NumPy leaves.

    Exploration and planning draw from separate streams, so runs of different agents with the same keys explore alike.
    A run does not depend on the runs beside it.
    """
    count = len(keys)
    group = min(count, GROUP if group is None else group) if jax.default_backend() == "cpu" else count
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

    def step(runs: Runs, _: None) -> tuple[Runs, None]:
        active = ~runs.ended & (runs.episodes < episodes) & (runs.environment.steps < steps)
        if waits:
            active &= (runs.episodes == 0) | ~jnp.any(active & (runs.episodes == 0))
        u = vmap(lambda k, i: jax.random.uniform(jax.random.fold_in(k, 2 * i), (3,)))(keys, runs.tick)
        cell = runs.timestep.obs["cell"]
        action = vmap(agent.choose)(runs.agent, cell, u)
        environment, timestep = env.step(runs.environment, {"action": action})
        real = active & ~timestep.is_first
        state, _ = vmap(agent.observe)(runs.agent, cell, action, timestep.reward, timestep.obs["cell"], real)
        finished = runs.episodes + (real & timestep.is_last)

        def plan(state: Any) -> tuple[Any, jax.Array]:
            draws = vmap(lambda k, i: agent.draw(jax.random.fold_in(k, 2 * i + 1)))(keys, runs.tick)
            state, log = vmap(agent.plan)(state, draws, real)
            return state, log["valid"].sum(-1)

        useful = jnp.any(real & (finished > 0)) if waits else True
        state, updates = jax.lax.cond(useful, plan, lambda state: (state, jnp.zeros_like(finished)), state)
        keep = lambda new, old: jnp.where(active, new, old)  # noqa: E731
        return Runs(
            state,
            jax.tree.map(keep, environment, runs.environment),
            jax.tree.map(keep, timestep, runs.timestep),
            runs.tick + active,
            finished,
            runs.lengths.at[jnp.arange(cell.size), runs.episodes].add(real),
            runs.updates + updates,
            runs.ended,
        ), None

    def block(runs: Runs) -> Runs:
        runs = jax.lax.scan(step, runs, length=1 if stop else 16)[0]
        ended = (runs.episodes >= episodes) | (runs.environment.steps >= steps)
        return runs._replace(ended=runs.ended | ended | (vmap(stop)(runs.agent) if stop else False))

    count = jnp.zeros(env.num_envs, jnp.int32)
    lengths = jnp.zeros((env.num_envs, episodes), jnp.int32)
    begin = Runs(vmap(agent.init)(keys), *env.init(), count, count, lengths, count, count > 0)
    return jax.lax.while_loop(lambda runs: ~runs.ended.all(), block, begin)
