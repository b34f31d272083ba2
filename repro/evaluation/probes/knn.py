"""Weighted nearest neighbours in feature space."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

ROWS = 1024
"""Test images compared at a time."""


def knn(
    train_x: np.ndarray | jax.Array,
    train_y: np.ndarray,
    test_x: np.ndarray | jax.Array,
    test_y: np.ndarray,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Share of the test images `[M, F]` whose class wins the vote of the k most similar of the train images `[N, F]`.

    Similarity is the cosine; a neighbour's vote weighs exp(similarity / temperature) (Wu et al. 2018, section 3.4;
    k = 20 and 0.07 as Caron et al. 2021).
    """
    classes = int(max(np.max(train_y), np.max(test_y))) + 1
    train, k = _unit(jnp.asarray(train_x)), min(k, len(train_y))
    labels = jnp.asarray(train_y)
    right = 0
    for start in range(0, len(test_y), ROWS):
        rows = np.asarray(test_x[start : start + ROWS])
        padded = np.pad(rows, ((0, ROWS - len(rows)), (0, 0)))  # one shape, compiled once
        votes = _votes(train, labels, _unit(jnp.asarray(padded)), k, temperature, classes)[: len(rows)]
        right += int((np.argmax(votes, -1) == np.asarray(test_y[start : start + ROWS])).sum())
    return right / len(test_y)


@partial(jax.jit, static_argnums=(3, 5))
def _votes(train: jax.Array, labels: jax.Array, rows: jax.Array, k: int, temperature: float, classes: int) -> jax.Array:
    similarity, nearest = jax.lax.top_k(rows @ train.T, k)
    weights = jnp.exp((similarity - 1) / temperature)  # minus one: no overflow, the same winner
    return jnp.sum(weights[..., None] * jax.nn.one_hot(labels[nearest], classes), axis=1)


def _unit(x: jax.Array) -> jax.Array:
    x = x.astype(jnp.float32)
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
