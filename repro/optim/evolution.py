"""OpenAI's evolution strategy and PEPG, the alternatives to CMA-ES in World Models' trainer. N parameters, P members.

Both are told the candidates' fitness (larger is better), follow centred ranks with Adam, and shrink sigma slowly.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from repro.optim.adam import AdamState, scale_by_adam_tf


def centred_ranks(fitness: jax.Array) -> jax.Array:
    """Ranks of `[P]` (0 = smallest) as numbers from -0.5 to 0.5."""
    return jnp.argsort(jnp.argsort(fitness)) / (fitness.shape[0] - 1) - 0.5


@dataclass(frozen=True)
class Settings:
    """Defaults are the trainer's."""

    sigma_decay: float = 0.999
    sigma_limit: float = 0.02
    learning_rate: float = 0.01
    weight_decay: float = 0.005
    sigma_alpha: float = 0.2
    """PEPG: step of sigma."""
    sigma_max_change: float = 0.2
    """PEPG: largest relative change of sigma in a generation."""
    beta1: float = 0.99


class State(NamedTuple):
    """`sigma` is a scalar for OpenAI's strategy and `[N]` for PEPG; `best` is the best of the last generation."""

    mean: jax.Array
    sigma: jax.Array
    moments: AdamState
    best: jax.Array


def init(mean: jax.Array, sigma: jax.Array) -> State:
    """Begins at `mean` `[N]`."""
    return State(mean, sigma, scale_by_adam_tf().init(mean), mean)


def tell_openai(state: State, of: Settings, candidates: jax.Array, fitness: jax.Array) -> State:
    """Gradient of the smoothed fitness from candidates mean + sigma noise `[P, N]` (Salimans et al. 2017)."""
    shaped = _shaped(of, candidates, fitness)
    noise = (candidates - state.mean) / state.sigma
    normed = (shaped - shaped.mean()) / shaped.std()
    state = _move(state, of, noise.T @ normed / (len(shaped) * state.sigma))
    sigma = jnp.where(state.sigma > of.sigma_limit, state.sigma * of.sigma_decay, state.sigma)
    return state._replace(sigma=sigma, best=candidates[jnp.argmax(shaped)])


def tell_pepg(state: State, of: Settings, candidates: jax.Array, fitness: jax.Array) -> State:
    """Parameter-exploring policy gradients with symmetric sampling (Sehnke et al. 2010): the first half of the
    candidates is mean + noise, the second half mean - noise; sigma `[N]` is learned too."""
    shaped = _shaped(of, candidates, fitness)
    half = len(shaped) // 2
    noise = candidates[:half] - state.mean
    plus, minus = shaped[:half], shaped[half:]
    sigma = state.sigma
    spread = (jnp.square(noise) - jnp.square(sigma)) / sigma
    change = of.sigma_alpha * (((plus + minus) / 2 - shaped.mean()) @ spread) / len(shaped)
    limit = of.sigma_max_change * sigma
    state = _move(state, of, (plus - minus) @ noise)
    sigma = sigma + jnp.clip(change, -limit, limit)
    sigma = jnp.where(sigma > of.sigma_limit, sigma * of.sigma_decay, sigma)
    return state._replace(sigma=sigma, best=candidates[jnp.argmax(shaped)])


def _shaped(of: Settings, candidates: jax.Array, fitness: jax.Array) -> jax.Array:
    return centred_ranks(fitness) - of.weight_decay * jnp.square(candidates).mean(-1)


def _move(state: State, of: Settings, ascent: jax.Array) -> State:
    step, moments = scale_by_adam_tf(of.beta1).update(-ascent, state.moments)
    return state._replace(mean=optax.apply_updates(state.mean, -of.learning_rate * step), moments=moments)  # type: ignore[arg-type]
