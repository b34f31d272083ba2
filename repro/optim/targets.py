"""Target networks: slow copies of parameters."""

from typing import Any

import jax
import jax.numpy as jnp


def move_target(slow: Any, source: Any, rate: float, count: jax.Array, every: int = 1) -> Any:
    """slow <- rate * source + (1 - rate) * slow at every `every`-th `count` (0 included), else unchanged.

    `rate` 1 copies. `slow` and `source` are pytrees of one structure; `count` is the number of updates before.
    """
    mix = jnp.where(count % every == 0, rate, 0.0)
    return jax.tree.map(lambda old, new: mix * new + (1 - mix) * old, slow, source)
