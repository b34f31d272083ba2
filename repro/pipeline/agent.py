"""`reproduce` of every online agent: train, keep the agent, show open-loop predictions, hand over the episodes.

The paper's config has `env`, `loop`, `seeds`, `first_seed`, and the methods `protocol()` (how its numbers are scored),
`method()` (which published numbers they are compared with).
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from repro import registry
from repro.envs import as_host
from repro.envs.base import HostEnv
from repro.pipeline import seeds as seeding
from repro.pipeline.checkpoint import Checkpoints
from repro.pipeline.run import Result, Run
from repro.pipeline.train import Trained, train
from repro.replay import mark_boundaries

EVALUATION_SEED = 1_000_000
"""Environments of an evaluation are seeded from here on, apart from those of training."""


def env_seeds(seeds: list[int], envs: int, first: int = 0) -> list[int]:
    """Seeds of the S x E environments, seed-major; those of one run seed do not depend on the other run seeds."""
    return [first + 10_000 * seed + i for seed in seeds for i in range(envs)]


def reproduce(config: Any, run: Run) -> Result:
    """Trains the agent of `config` and returns what the record needs."""
    algorithm, env = registry.load(run.paper.build)(config, env_seeds(run.seeds, config.loop.envs))
    try:
        scale = config.env.action_repeat
        with evaluation_env(config, run) as evaluation:
            trained = train(run, algorithm, env, config.loop, scale, evaluation=evaluation)
        keep_agent(run.folder, run.config_hash, trained.agent)
        if config.loop.predictions:
            for path in write_predictions(run, algorithm, trained):
                run.log.say(f"open-loop predictions: {path}")
        protocol = config.protocol()
        return Result(
            protocol=protocol,
            episodes=trained.evaluations if protocol.episodes == "evaluation" else trained.episodes,
            budget_used=trained.steps,
            budget_paper=run.reference.loop.steps * run.reference.env.action_repeat,
            step_unit=protocol.step_unit,
            updates=trained.updates,
            throughput=trained.throughput,
            versions=env.info().package_versions if hasattr(env, "info") else {},
            method=config.method(),
            resumed=trained.resumed,
            checkpoint_digest=trained.digest,
        )
    finally:
        if hasattr(env, "close"):
            env.close()


@contextlib.contextmanager
def evaluation_env(config: Any, run: Run) -> Iterator[HostEnv | None]:
    """Environments for the evaluations during training, apart from its own; None where there are none."""
    loop = config.loop
    if not loop.evaluate_every:
        yield None
        return
    per_seed = min(loop.evaluation_episodes, 4)
    host = dataclasses.replace(config, loop=dataclasses.replace(loop, driver="host"))
    env = as_host(registry.load(run.paper.build)(host, env_seeds(run.seeds, per_seed, EVALUATION_SEED))[1])
    try:
        yield env
    finally:
        env.close()


def keep_agent(folder: Path, config_hash: str, agent: Any) -> None:
    """Saves the final state of the algorithm under `folder/agent`."""
    kept = Checkpoints(folder / "agent", config_hash)
    kept.save(0, agent, {}, {})
    kept.close()


def load_agent(folder: Path, config_hash: str, template: Any) -> Any:
    """The state kept by `keep_agent`; `RunError` where it is missing, damaged or of another configuration."""
    kept = Checkpoints(folder / "agent", config_hash)
    try:
        return kept.restore(template)[1]
    finally:
        kept.close()


def write_predictions(run: Run, algorithm: Any, trained: Trained) -> list[Path]:
    """Open-loop predictions of the first seed as GIF and in TensorBoard, for papers that have them."""
    online, state = trained.online, trained.state
    if not run.paper.predictions or trained.updates == 0 or state.buffer is None:
        return []
    key = seeding.keys(online.seeds, "evaluate")[0]
    agent, buffer = jax.tree.map(lambda x: x[0], (state.agent, state.buffer))
    _, batch, _ = online.replay.sample(buffer, key, min(6, online.loop.batch_size))
    videos = jax.jit(partial(registry.load(run.paper.predictions), algorithm))(agent, mark_boundaries(batch), key)
    return [run.log.video(trained.steps, f"open_loop/{name}", np.asarray(v)) for name, v in videos.items()]


def agent_template(algorithm: Any, seeds: list[int]) -> Any:
    """Shapes of the algorithm's state with leading axis S."""
    init = lambda s: jax.vmap(algorithm.init)(seeding.keys(s, "init"))  # noqa: E731
    return jax.eval_shape(init, jnp.asarray(seeds, jnp.int32))
