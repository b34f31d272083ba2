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


class RollOut:
    """Plays episodes as the agent does in evaluation: S seeds, S x E environments, seed-major.

    Later calls go on with the environments as they are, so that every call sees new episodes.
    """

    def __init__(self, algorithm: Algorithm, env: HostEnv, seeds: list[int]) -> None:
        self.env, self.count = env, len(seeds)
        self.per_seed = env.num_envs // self.count
        self.timestep: TimeStep | None = None
        carry = algorithm.initial_carry(self.per_seed)
        self._carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (self.count, *x.shape)), carry)

        @jax.jit
        def act(agent: Any, carry: Any, timestep: TimeStep, step: jax.Array) -> tuple[dict[str, jax.Array], Any]:
            keys = seeding.keys(seeds, "evaluate", step)
            one = lambda a, c, t, k: algorithm.act(a, c, TimeStep(*t), k, mode="eval")[:2]  # noqa: E731
            actions, carry = jax.vmap(one)(agent, carry, seeding.split(tuple(timestep), self.count), keys)
            return seeding.merge(actions), carry

        self._act = act

    def __call__(
        self, agent: Any, episodes: int, step: int = 0, limit: int = 1_000_000
    ) -> list[tuple[list[float], list[int]]]:
        """Returns and lengths of the first `episodes` episodes of every seed.

        `agent` has leading axis S; `step` numbers the first random key. Each environment contributes equally many
        episodes (no bias to short ones): episodes are rounded up to a multiple of E, then cut. Raises `RunError` when
        `limit` steps do not suffice.
        """
        wanted = -(-episodes // self.per_seed)
        returns: list[list[float]] = [[] for _ in range(self.env.num_envs)]
        lengths: list[list[int]] = [[] for _ in range(self.env.num_envs)]
        total, length, carry = np.zeros(self.env.num_envs), np.zeros(self.env.num_envs, int), self._carry
        timestep = self.timestep or self.env.reset()
        # Episodes that another call left unfinished do not count: everyone begins with a first observation.
        begun = np.array(timestep.is_first)
        for number in range(limit):
            begun |= timestep.is_first
            total = np.where(timestep.is_first, 0.0, total) + timestep.reward
            length = np.where(timestep.is_first, 0, length + 1)
            for i in np.flatnonzero(timestep.is_last & begun):
                returns[i].append(float(total[i]))
                lengths[i].append(int(length[i]))
            if min(len(r) for r in returns) >= wanted:
                self.timestep = timestep
                return [
                    (self._first(returns, s, episodes), self._first(lengths, s, episodes)) for s in range(self.count)
                ]
            actions, carry = self._act(agent, carry, timestep, jnp.int32(step + number))
            timestep = self.env.step(jax.device_get(actions))
        raise RunError(f"evaluation: fewer than {episodes} episodes a seed within {limit:,} steps")

    def _first(self, values: list[list[Any]], seed: int, episodes: int) -> list[Any]:
        mine = values[seed * self.per_seed : (seed + 1) * self.per_seed]
        return [own[n] for n in range(-(-episodes // self.per_seed)) for own in mine][:episodes]


def roll_out(
    algorithm: Algorithm, agent: Any, env: HostEnv, seeds: list[int], episodes: int, limit: int = 1_000_000
) -> list[list[float]]:
    """Returns of the first `episodes` episodes of every seed, see `RollOut`."""
    return [returns for returns, _ in RollOut(algorithm, env, seeds)(agent, episodes, limit=limit)]


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


def read_run(folder: Path) -> tuple[registry.Paper, Any, dict[str, Any]]:
    """Paper and configuration of the run in `folder`, and all that its `run.json` says."""
    about = json.loads((folder / "run.json").read_text())
    paper, stored = registry.find(about["paper"]), about["config"]
    config = configuration.from_json(paper.presets[stored["preset"]].make(stored["suite"], stored["task"]), stored)
    return paper, config, about


def evaluate_run(folder: Path, episodes: int) -> tuple[dict[str, Any], list[list[float]]]:
    """Evaluates the agent kept in a run folder anew: agents on fresh environments, encoders by their probe.

    Returns what ran (paper, suite, task, seeds) and the episode returns (or accuracies) per seed.
    """
    from repro.pipeline import agent as agents

    paper, config, about = read_run(folder)
    seeds = list(range(config.first_seed, config.first_seed + config.seeds))
    what = {"paper": paper.name, "suite": config.suite, "task": config.task, "seeds": seeds}
    if paper.evaluate:
        return what, registry.load(paper.evaluate)(config, folder, episodes)
    if not paper.build:
        raise UsageError(f"{paper.name} keeps no agent to evaluate; run it again: {about['command']}")
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
    return what, returns


def rerun(record: dict[str, Any], episodes: int = 10) -> list[list[float]]:
    """Episode returns per seed of a record's kept agent, evaluated again; `UsageError` where none is kept."""
    return evaluate_run(find_run(record["id"]), episodes)[1]
