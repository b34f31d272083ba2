"""Items whose every field tells which step they are."""

from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest


class Step(NamedTuple):
    obs: dict[str, Any]
    reward: Any
    is_first: Any
    is_last: Any
    extras: dict[str, Any]


def example(extra=jnp.float32):
    """Shapes and types of one step."""
    leaf = jax.ShapeDtypeStruct
    flag = leaf((), bool)
    extras = {"latent": leaf((2,), extra), "count": leaf((), jnp.int32)}
    return Step({"image": leaf((2, 3, 1), jnp.uint8)}, leaf((), jnp.float32), flag, flag, extras)


def steps(values):
    """Items `[E]` from `values` `[E]`; episodes of five."""
    values = np.asarray(values, np.int32)
    image = (values[:, None, None, None] * 7 + np.arange(6).reshape(2, 3, 1)).astype(np.uint8)
    latent = np.stack([values, -values], -1).astype(np.float32)
    reward = values.astype(np.float32)
    return Step({"image": image}, reward, values % 5 == 0, values % 5 == 4, {"latent": latent, "count": values})


def same(left, right):
    """Asserts that two trees of arrays are equal."""
    jax.tree.map(np.testing.assert_array_equal, left, right)


@pytest.fixture(scope="session")
def kit():
    return SimpleNamespace(example=example, steps=steps, same=same, Step=Step)
