"""Running statistics that bring returns, values or advantages to a common scale: x -> (x - offset) / scale.

A normaliser is a set of constants; its state is a dict of scalars, updated by exponential moving averages from zero.
"""

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
from jax import lax

State = dict[str, jax.Array]


class Normalizer(Protocol):
    """What all of them do."""

    def init(self) -> State:
        """State before the first update."""
        ...

    def update(self, state: State, x: jax.Array) -> State:
        """State after seeing the numbers `x` of any shape."""
        ...

    def stats(self, state: State) -> tuple[jax.Array | float, jax.Array | float]:
        """Offset and scale."""
        ...


@dataclass(frozen=True)
class Identity:
    """No normalisation."""

    def init(self) -> State:
        """Nothing."""
        return {}

    def update(self, state: State, x: jax.Array) -> State:
        """Nothing."""
        return state

    def stats(self, state: State) -> tuple[float, float]:
        """0 and 1."""
        return 0.0, 1.0


@dataclass(frozen=True)
class Percentile:
    """Offset: low percentile; scale: distance between the percentiles, at least `limit` (DreamerV3, eq. 8)."""

    low: float = 5.0
    high: float = 95.0
    rate: float = 0.01
    limit: float = 1.0
    debias: bool = False

    def init(self) -> State:
        """Zeros."""
        return _zeros("low", "high", *["correction"] * self.debias)

    def update(self, state: State, x: jax.Array) -> State:
        """Moves towards the percentiles of `x` (linear interpolation)."""
        low, high = jnp.percentile(x.astype(jnp.float32), jnp.array([self.low, self.high]))
        return _move(state, self.rate, {"low": low, "high": high})

    def stats(self, state: State) -> tuple[jax.Array, jax.Array]:
        """Low percentile and max(limit, high - low)."""
        correction = _correction(state, self.rate)
        low, high = state["low"] * correction, state["high"] * correction
        return low, jnp.maximum(self.limit, high - low)


@dataclass(frozen=True)
class MeanStd:
    """Offset: mean; scale: standard deviation, at least `limit`."""

    rate: float = 0.01
    limit: float = 1e-8
    debias: bool = True

    def init(self) -> State:
        """Zeros."""
        return _zeros("mean", "square", *["correction"] * self.debias)

    def update(self, state: State, x: jax.Array) -> State:
        """Moves towards mean and mean square of `x`."""
        x = x.astype(jnp.float32)
        return _move(state, self.rate, {"mean": x.mean(), "square": jnp.square(x).mean()})

    def stats(self, state: State) -> tuple[jax.Array, jax.Array]:
        """Mean and max(limit, standard deviation)."""
        correction = _correction(state, self.rate)
        mean = state["mean"] * correction
        variance = jnp.maximum(state["square"] * correction - jnp.square(mean), 0.0)
        return mean, jnp.maximum(self.limit, jnp.sqrt(variance))


def _zeros(*names: str) -> State:
    return {name: jnp.zeros(()) for name in names}


def _move(state: State, rate: float, values: State) -> State:
    # The correction is the moving average of 1: dividing by it removes the bias of the start from zero.
    values = values | {"correction": jnp.ones(())}
    return {k: (1 - rate) * old + rate * lax.stop_gradient(values[k]) for k, old in state.items()}


def _correction(state: State, rate: float) -> jax.Array | float:
    return 1 / jnp.maximum(rate, state["correction"]) if "correction" in state else 1.0
