"""`repro bench world_models`: the pieces that the paper's time goes into, at the configured sizes, random weights."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from papers.world_models import controller, dream, jobs, mdnrnn, policies, real, vae
from papers.world_models.config import Config
from repro.envs.make import as_host, make
from repro.pipeline.bench import Part, repeat

DREAM_STEPS = 100


def measure(config: Config, seconds: float) -> dict[str, Part]:
    """Dream steps of a whole generation (none ends early), updates of V and M, the policy's work on a real frame (from
    the 64x64 image on), steps of a real environment with its image."""
    parts = _dreams(config, seconds) if config.doom else {}
    return {
        **parts,
        "vae_update": _vae_update(config, seconds),
        "rnn_update": _rnn_update(config, seconds),
        **_policy(config, seconds),
        **_environment(config, seconds),
    }


def _dreams(config: Config, seconds: float) -> dict[str, Part]:
    of, es = config.rnn, config.es
    params = mdnrnn.init(jax.random.key(0), of)
    params["head/bias"] = params["head/bias"].at[0].set(-100.0)
    count = es.population * es.rollouts
    starts = dream.starts(*jax.random.normal(jax.random.key(1), (2, 100, of.latent)))
    controllers = 0.1 * jax.random.normal(jax.random.key(2), (count, controller.count(config.controller, of)))
    parts = {}
    for products, weights in (("float32", params), ("bfloat16", mdnrnn.rounded(params))):

        def generation(weights: mdnrnn.Params = weights) -> None:
            arguments = (of, config.controller, starts, controllers, jnp.float32(1.15), jax.random.key(3), DREAM_STEPS)
            jax.block_until_ready(dream.lengths(weights, *arguments))

        what = f"{es.population} members x {es.rollouts} roll-outs x {DREAM_STEPS} steps, {products} products"
        parts[f"dream_{products}"] = Part(repeat(generation, seconds), count * DREAM_STEPS, "steps", what)
    return parts


def _updates(job: Any) -> Callable[[], None]:
    """One update of a training stage, waited for."""
    numbers = iter(range(1_000_000))

    def update() -> None:
        job.step(next(numbers))
        jax.block_until_ready(job.state)

    return update


def _vae_update(config: Config, seconds: float) -> Part:
    frames = np.random.default_rng(0).integers(0, 256, (4 * config.vae.batch, 64, 64, 3), np.uint8)
    job = jobs.TrainVAE(config, 0, frames)
    return Part(repeat(_updates(job), seconds), 1, "updates", f"batch {config.vae.batch}")


def _rnn_update(config: Config, seconds: float) -> Part:
    of, random = config.rnn, np.random.default_rng(0)
    lengths = np.full(of.batch, of.length + 1)
    shape = (int(lengths.sum()), of.latent)
    series = {name: random.standard_normal(shape).astype(np.float16) for name in ("mu", "logvar")}
    actions = random.uniform(-1, 1, (shape[0], of.action)).astype(np.float16)
    job = jobs.TrainRNN(config, 0, {"lengths": lengths, "actions": actions}, series)
    return Part(repeat(_updates(job), seconds), 1, "updates", f"batch {of.batch} x {of.length} predictions")


def _policy(config: Config, seconds: float) -> dict[str, Part]:
    params = vae.init(jax.random.key(0), config.vae), mdnrnn.init(jax.random.key(1), config.rnn)
    agent = real.Agent(config, *params)
    weights, key = jnp.zeros(controller.count(config.controller, config.rnn)), jax.random.key(2)
    parts = {}
    for count in (1, config.es.envs):
        images = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), np.uint8)
        state, first = agent.start(count), np.zeros(count, bool)

        def act(images: Any = images, state: Any = state, first: Any = first) -> None:
            jax.block_until_ready(agent(weights, state, images, first, key, 0))

        what = f"{count} environments at once: V, C, M"
        parts[f"policy_{count}"] = Part(repeat(act, seconds, most=1_000), count, "frames", what)
    return parts


def _environment(config: Config, seconds: float) -> dict[str, Part]:
    parts = {}
    for count in (1, config.evaluation.envs):
        env = as_host(make(config.suite, config.task, list(range(count)), config.env))
        env.reset()
        random = np.random.default_rng(0)

        def steps(env: Any = env, count: int = count, random: np.random.Generator = random) -> None:
            for _ in range(100):
                action = random.uniform(-1, 1, (count, config.rnn.action))
                env.step(policies.for_environment(config, action))

        what = f"{count} environments, images as V sees them"
        parts[f"environment_{count}"] = Part(repeat(steps, seconds), 100 * count, "steps", what)
        env.close()
    return parts
