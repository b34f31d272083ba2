"""CMA-ES with full covariance, active (negative) weights and cumulative step-size adaptation, as pure functions.

The rules and constants are those of pycma with `CMAAdaptSigmaCSA` (N. Hansen, "The CMA Evolution Strategy: A Tutorial",
arXiv 1604.00772). Everything runs inside `jit`; the eigendecomposition, the only expensive part, is done every few
generations, when the covariance has changed enough. N parameters, population P.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class Constants(NamedTuple):
    """Strategy constants (tutorial, table 1); functions of N and P alone."""

    weights: np.ndarray
    """`[P]`, best first: positive ones sum to 1, then negative ones."""
    mu: int
    """Number of positive weights."""
    mueff: float
    c1: float
    cmu: float
    cc: float
    cs: float
    damps: float
    chi_n: float
    """Expected length of a standard normal vector."""
    lazy_gap: float
    """Generations between eigendecompositions, to be rounded up."""


class State(NamedTuple):
    """Float32 but for the generation."""

    mean: jax.Array
    """`[N]`."""
    sigma: jax.Array
    covariance: jax.Array
    """`[N, N]`."""
    path_c: jax.Array
    path_sigma: jax.Array
    basis: jax.Array
    """Eigenvectors `[N, N]` of the covariance at the last decomposition."""
    scales: jax.Array
    """Square roots of its eigenvalues `[N]`."""
    generation: jax.Array
    decomposed: jax.Array
    """Generation of the last decomposition."""


def constants(n: int, population: int) -> Constants:
    """The defaults of pycma for N = `n` parameters; `ValueError` where no strategy exists."""
    if n < 1 or population < 2:
        raise ValueError("CMA-ES needs at least 1 parameter and a population of 2")
    raw = math.log((population + 1) / 2) - np.log(np.arange(1, population + 1))
    mu = int((raw > 0).sum())
    positive = raw[:mu] / raw[:mu].sum()
    mueff = 1 / float((positive**2).sum())
    c1 = min(1.0, population / 6) * 2 / ((n + 1.3) ** 2 + mueff)
    cmu = min(1 - c1, 2 * (0.25 + mueff - 2 + 1 / mueff) / ((n + 2) ** 2 + mueff))
    negative = raw[mu:]
    mueff_minus = float(negative.sum() ** 2 / (negative**2).sum()) if negative.any() else 0.0
    bounds = (1 + c1 / cmu, (1 - c1 - cmu) / cmu / n, 1 + 2 * mueff_minus / (mueff + 2)) if cmu > 0 else (0.0,)
    negative = negative / abs(negative.sum()) * min(bounds) if negative.any() else negative
    cs = (mueff + 2) / (n + mueff + 3)
    return Constants(
        weights=np.concatenate([positive, negative]),
        mu=mu,
        mueff=mueff,
        c1=c1,
        cmu=cmu,
        cc=(4 + mueff / n) / (n + 4 + 2 * mueff / n),
        cs=cs,
        damps=1 + 2 * max(0.0, math.sqrt((mueff - 1) / (n + 1)) - 1) + cs,
        chi_n=math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n)),
        lazy_gap=1 / (c1 + cmu) / n / 10,
    )


def init(mean: jax.Array, sigma: float, tilt: float = 1e-4) -> State:
    """Begins at `mean` `[N]` with covariance diag(exp(tilt i / N)), as cma 2.2.0; `tilt` 0 gives the identity."""
    n = mean.shape[0]
    diagonal = jnp.exp(tilt * jnp.arange(n) / n).astype(jnp.float32)
    zeros = jnp.zeros(n)
    return State(
        mean=jnp.asarray(mean, jnp.float32),
        sigma=jnp.float32(sigma),
        covariance=jnp.diag(diagonal),
        path_c=zeros,
        path_sigma=zeros,
        basis=jnp.eye(n),
        scales=jnp.sqrt(diagonal),
        generation=jnp.int32(0),
        decomposed=jnp.int32(0),
    )


def ask(state: State, normal: jax.Array) -> jax.Array:
    """Candidates `[P, N]` from standard normal numbers `[P, N]`."""
    return state.mean + state.sigma * ((normal * state.scales) @ state.basis.T)


def tell(state: State, of: Constants, candidates: jax.Array, cost: jax.Array) -> State:
    """The next generation's distribution, from candidates `[P, N]` and their cost `[P]` (smaller is better)."""
    n = state.mean.shape[0]
    best_first = candidates[jnp.argsort(cost)]
    steps = (best_first - state.mean) / state.sigma
    weights = jnp.asarray(of.weights, jnp.float32)
    positive = jnp.maximum(weights, 0)
    step = positive @ steps
    mean = state.mean + state.sigma * step

    # Coordinates in which the last decomposed covariance is the identity.
    white_step = state.basis @ ((step @ state.basis) / state.scales)
    white_lengths = jnp.square((steps[of.mu :] @ state.basis) / state.scales).sum(-1)
    path_sigma = (1 - of.cs) * state.path_sigma + math.sqrt(of.cs * (2 - of.cs) * of.mueff) * white_step
    generation = state.generation + 1
    settled = 1 - (1 - of.cs) ** (2 * generation.astype(jnp.float32))
    hsig = jnp.square(path_sigma).sum() / settled / n < 2 + 4 / (n + 1)
    path_c = (1 - of.cc) * state.path_c + hsig * math.sqrt(of.cc * (2 - of.cc) * of.mueff) * step

    c1a = of.c1 * (1 - (1 - hsig) * of.cc * (2 - of.cc))
    bounded = weights.at[of.mu :].multiply(n / (1e-9 + white_lengths))  # keeps the covariance positive definite
    rank_mu = (steps.T * bounded) @ steps
    kept = 1 - c1a - of.cmu * float(of.weights.sum())
    covariance = kept * state.covariance + of.c1 * jnp.outer(path_c, path_c) + of.cmu * rank_mu
    covariance = (covariance + covariance.T) / 2

    length = jnp.linalg.norm(path_sigma)
    sigma = state.sigma * jnp.exp(jnp.minimum(1.0, of.cs / of.damps * (length / of.chi_n - 1)))
    due = generation - state.decomposed >= max(1, math.ceil(of.lazy_gap))
    basis, scales = lax.cond(due, _decompose, lambda _: (state.basis, state.scales), covariance)
    decomposed = jnp.where(due, generation, state.decomposed)
    return State(mean, sigma, covariance, path_c, path_sigma, basis, scales, generation, decomposed)


def _decompose(covariance: jax.Array) -> tuple[jax.Array, jax.Array]:
    values, vectors = jnp.linalg.eigh(covariance)
    # Rounding must not make a direction vanish.
    return vectors, jnp.sqrt(jnp.maximum(values, 1e-7 * values[-1]))
