"""Evaluation of a finished run's agent: a fixed number of episodes per seed, as the paper's agent acts."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from repro import config as configuration
from repro import paths, registry
from repro.envs import as_host
from repro.envs.base import HostEnv, TimeStep
from repro.errors import RunError, UsageError
from repro.pipeline import seeds as seeding
from repro.pipeline.algorithm import Algorithm


def roll_out(
    algorithm: Algorithm, agent: Any, env: HostEnv, seeds: list[int], episodes: int, limit: int = 1_000_000
) -> list[list[float]]:
    """Returns of the first `episodes` episodes of every seed.

    `agent` has leading axis S; `env` has S x E environments, seed-major. Each environment contributes equally many
    episodes (no bias to short ones): episodes are rounded up to a multiple of E, then cut. Raises `RunError` when
    `limit` steps do not suffice.
    """
    count = len(seeds)
    per_seed = env.num_envs // count
    wanted = -(-episodes // per_seed)
    carry = algorithm.initial_carry(per_seed)
    carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), carry)

    @jax.jit
    def act(carry: Any, timestep: TimeStep, step: jax.Array) -> tuple[dict[str, jax.Array], Any]:
        keys = seeding.keys(seeds, "evaluate", step)
        one = lambda a, c, t, k: algorithm.act(a, c, TimeStep(*t), k, mode="eval")[:2]  # noqa: E731
        actions, carry = jax.vmap(one)(agent, carry, seeding.split(tuple(timestep), count), keys)
        return seeding.merge(actions), carry

    returns: list[list[float]] = [[] for _ in range(env.num_envs)]
    total = np.zeros(env.num_envs)
    timestep = env.reset()
    for step in range(limit):
        total = np.where(timestep.is_first, 0.0, total) + timestep.reward
        for i in np.flatnonzero(timestep.is_last):
            returns[i].append(float(total[i]))
        if min(len(r) for r in returns) >= wanted:
            by_seed = [returns[s * per_seed : (s + 1) * per_seed] for s in range(count)]
            return [[r[n] for n in range(wanted) for r in envs][:episodes] for envs in by_seed]
        actions, carry = act(carry, timestep, jnp.int32(step))
        timestep = env.step(jax.device_get(actions))
    raise RunError(f"evaluation: fewer than {episodes} episodes a seed within {limit:,} steps")


def find_run(name: str) -> Path:
    """The folder of a run named by its folder, by its record's file or by the record's id."""
    folder = Path(name)
    if (folder / "run.json").exists():
        return folder
    wanted = Path(name).stem
    for noted in sorted((paths.cache() / "runs").glob("*/*/*/*/record.json")):
        if any(Path(path).stem == wanted for path in json.loads(noted.read_text())):
            return noted.parent
    raise UsageError(
        f"no kept run for {name!r}: give a run folder (holds run.json), a record file or a record id whose run was "
        f"made on this machine (looked in {paths.cache() / 'runs'})"
    )


def evaluate_run(folder: Path, episodes: int) -> tuple[dict[str, Any], list[list[float]]]:
    """Evaluates the agent kept in a run folder on fresh environments.

    Returns what ran (paper, suite, task, seeds) and the episode returns per seed.
    """
    from repro.pipeline import agent as agents

    about = json.loads((folder / "run.json").read_text())
    paper = registry.find(about["paper"])
    stored = about["config"]
    config = configuration.from_json(paper.presets[stored["preset"]].make(stored["suite"], stored["task"]), stored)
    if not paper.build:
        raise UsageError(f"{paper.name} keeps no agent to evaluate; run it again: {about['command']}")
    seeds = list(range(config.first_seed, config.first_seed + config.seeds))
    per_seed = min(episodes, config.loop.envs)
    env_seeds = agents.env_seeds(seeds, per_seed, agents.EVALUATION_SEED)
    config = dataclasses.replace(config, loop=dataclasses.replace(config.loop, driver="host"))
    algorithm, env = registry.load(paper.build)(config, env_seeds)
    env = env if hasattr(env, "reset") else as_host(env)
    try:
        agent = agents.load_agent(folder, about["config_hash"], agents.agent_template(algorithm, seeds))
        returns = roll_out(algorithm, agent, env, seeds, episodes)
    finally:
        env.close()
    return {"paper": paper.name, "suite": config.suite, "task": config.task, "seeds": seeds}, returns


def rerun(record: dict[str, Any], episodes: int = 10) -> list[list[float]]:
    """Episode returns per seed of a record's kept agent, evaluated again; `UsageError` where none is kept."""
    return evaluate_run(find_run(record["id"]), episodes)[1]
