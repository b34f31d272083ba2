"""Recurrences over sequences with the batch axis first."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

PyTree = Any


def over_time(step: Callable[[PyTree, Any], tuple[PyTree, PyTree]], start: PyTree, inputs: PyTree) -> PyTree:
    """Outputs `[B, T, ...]` of `step(carry, inputs at t) -> carry, output` along inputs `[B, T, ...]`."""
    _, outputs = lax.scan(step, start, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), inputs))
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), outputs)
