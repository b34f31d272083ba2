"""The seeds axis S: one place that decides how a function of one seed becomes a function of all.

Random numbers of seed s come from `key(s)` folded with what they are for and a counter, so they do not depend on which
other seeds run beside it, nor on a resumed run's history.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

Purpose = Literal["init", "act", "learn", "sample", "evaluate"]
_PURPOSES: tuple[Purpose, ...] = ("init", "act", "learn", "sample", "evaluate")


def keys(seeds: jax.Array | Sequence[int], purpose: Purpose, counter: jax.Array | int = 0) -> jax.Array:
    """Typed PRNG keys `[S]` for one purpose and one moment; `seeds` int32 `[S]`."""

    def key(seed: jax.Array) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _PURPOSES.index(purpose)), counter)

    return jax.vmap(key)(jnp.asarray(seeds))


def over_seeds(f: Callable[..., Any], how: Literal["vmap", "unroll", "map"] = "vmap") -> Callable[..., Any]:
    """`f` for one seed -> the same over a leading axis S of every argument and result.

    "vmap" batches all seeds into each operation. "unroll" writes one call a seed into the program (then every
    operation is the one of a single seed: for networks whose batched form is slower than S single ones). "map" is a
    loop over seeds in the program: the same, compiled once (not for convolutions on CPU, which are slow in loops).
    """
    if how == "vmap":
        return jax.vmap(f)
    if how == "map":
        return lambda *arguments: jax.lax.map(lambda one: f(*one), arguments)

    def unrolled(*arguments: Any) -> Any:
        count = jax.tree.leaves(arguments)[0].shape[0]
        results = [f(*jax.tree.map(lambda x, s=s: x[s], arguments)) for s in range(count)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

    return unrolled


def split(tree: Any, seeds: int) -> Any:
    """Leaves `[S * E, ...]` -> `[S, E, ...]`."""
    return jax.tree.map(lambda x: x.reshape(seeds, -1, *x.shape[1:]), tree)


def merge(tree: Any) -> Any:
    """Leaves `[S, E, ...]` -> `[S * E, ...]`."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)
