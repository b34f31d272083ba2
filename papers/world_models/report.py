"""Dreams as pictures: single frames for `play`, and videos of real against dreamed roll-outs."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from papers.world_models import dream, mdnrnn, policies, vae
from papers.world_models.config import Config
from repro.evaluation.video import write_gif

Models = tuple[vae.Params, mdnrnn.Params]
FRAMES_PER_SECOND = 12.5
EVERY, COLORS = 2, 32
"""Frames and colours of a GIF that are kept, so that it is below a megabyte."""


def begin(config: Config, params: Models, images: jax.Array, key: jax.Array) -> tuple[dream.DreamState, jax.Array]:
    """Dreams that begin at real frames, uint8 `[B, 64, 64, 3]`, and their first pictures, of the same shape."""
    mu, logvar = vae.encode(params[0], images.astype(jnp.float32) / 255)
    latent = vae.sample(mu, logvar, jax.random.normal(key, mu.shape))
    nothing = jnp.zeros((len(images), config.rnn.hidden))
    state = dream.DreamState(latent, nothing, nothing, jnp.ones(len(images)))
    return state, _pictures(params, state)


def step(
    config: Config, params: Models, state: dream.DreamState, seen: jax.Array, temperature: jax.Array, key: jax.Array
) -> tuple[dream.DreamState, jax.Array, jax.Array]:
    """The dreams after actions as M sees them `[B, A]`: state, pictures, which are over `[B]`."""
    of_uniform, of_normal = jax.random.split(key)
    shape = state.latent.shape
    numbers = jax.random.uniform(of_uniform, shape), jax.random.normal(of_normal, shape)
    state, done = dream.step(params[1], config.rnn, state, seen, temperature, *numbers)
    return state, _pictures(params, state), done


def _pictures(params: Models, state: dream.DreamState) -> jax.Array:
    return jnp.round(255 * vae.decode(params[0], state.latent)).astype(jnp.uint8)


def rollout(config: Config, params: Models, images: np.ndarray, chosen: np.ndarray, key: jax.Array) -> np.ndarray:
    """Real frames above dreamed ones: uint8 `[T, 128, 64, 3]`.

    `images` uint8 `[T, 64, 64, 3]` are consecutive real frames and `chosen` `[T, A]` the outputs of C after them. The
    dream begins at the first frame and gets the same actions, at the configuration's temperature; it sees no other
    frame. A dream that is over turns black.
    """
    state, picture = jax.jit(partial(begin, config))(params, images[:1], key)
    advance = jax.jit(partial(step, config))
    dreamed, over = [np.asarray(picture)[0]], False
    for t in range(len(images) - 1):
        seen = policies.for_model(config, jnp.asarray(chosen[t : t + 1], jnp.float32))
        of_step = jax.random.fold_in(key, t + 1)
        state, picture, done = advance(params, state, seen, config.dream.temperature, of_step)
        dreamed.append(np.zeros_like(dreamed[0]) if over else np.asarray(picture)[0])
        over = over or bool(done[0])
    return np.concatenate([images, np.stack(dreamed)], 1)


def write_rollouts(
    config: Config, params: Models, collected: dict[str, Any], out: Path, seed: int, count: int = 3, steps: int = 200
) -> Path:
    """A GIF of `count` collected episodes side by side, real above dreamed: `out/dream.gif`.

    `collected` holds `frames` uint8 `[F, 64, 64, 3]`, `actions` `[F, A]` and `lengths` of the episodes. Which ones are
    shown is drawn from the seed, among those of at least `steps` frames (or the longest ones).
    """
    lengths = np.asarray(collected["lengths"])
    steps = min(steps, int(np.sort(lengths)[-min(count, len(lengths))]))
    ends = np.cumsum(lengths)
    able = np.flatnonzero(lengths >= steps)
    shown = np.random.default_rng(seed).choice(able, min(count, len(able)), replace=False)
    videos = []
    for episode in shown:
        part = slice(ends[episode] - lengths[episode], ends[episode] - lengths[episode] + steps)
        key = jax.random.fold_in(jax.random.key(seed), int(episode))
        videos.append(rollout(config, params, collected["frames"][part], collected["actions"][part], key))
    path = out / "dream.gif"
    write_gif(path, np.concatenate(videos, 2)[::EVERY], FRAMES_PER_SECOND, COLORS)
    return path
