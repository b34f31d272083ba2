"""Sampling by episode: an episode first, whatever its length, then a window in it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from repro.errors import UsageError
from repro.replay.samplers import Ids, Rings

PyTree = Any
Window = Callable[[jax.Array, jax.Array, int], jax.Array]
"""(key, steps of the episodes `[B]`, L) -> where the window begins, counted from the first step of the episode `[B]`.

It may be negative or reach beyond the end: those steps are padding.
"""


def within(key: jax.Array, steps: jax.Array, length: int) -> jax.Array:
    """min(u, n - L), u uniform over the n steps: the last window is drawn more often (Dreamer V2 of May 2021)."""
    return clipped_start(jax.random.randint(key, steps.shape, 0, steps), steps, length)


def within_or_end(key: jax.Array, steps: jax.Array, length: int) -> jax.Array:
    """min(u, n - L), u uniform over 0 ... n (Dreamer V2, release 2.2.0)."""
    return clipped_start(jax.random.randint(key, steps.shape, 0, steps + 1), steps, length)


def evenly(key: jax.Array, steps: jax.Array, length: int) -> jax.Array:
    """All windows of the episode alike (Dreamer V2 on DeepMind Control)."""
    return jax.random.randint(key, steps.shape, 0, steps - length + 1)


def without_last(key: jax.Array, steps: jax.Array, length: int) -> jax.Array:
    """All windows alike but the one with the episode's last step, which is never drawn (Dreamer V1); needs n > L."""
    return jax.random.randint(key, steps.shape, 0, steps - length)


def clipped_start(drawn: jax.Array, steps: jax.Array, length: int) -> jax.Array:
    """The window begins at the drawn step, or where the last whole window does."""
    return jnp.minimum(drawn, steps - length)


def after_context(window: Window, context: int) -> Window:
    """`window` for the trained part of sequences with `context` steps before it (padding at an episode's start)."""
    if not context:
        return window
    return lambda key, steps, length: window(key, steps, length - context) - context


def padded_right(key: jax.Array, steps: jax.Array, length: int) -> jax.Array:
    """The first step uniform over the episode; what lies behind its end is padding (IRIS, world model)."""
    return jax.random.randint(key, steps.shape, 0, steps)


def padded_left(key: jax.Array, steps: jax.Array, length: int) -> jax.Array:
    """The last step uniform over the episode; what lies before its start is padding (IRIS, actor-critic)."""
    return jax.random.randint(key, steps.shape, 0, steps) - length + 1


WINDOWS = {f.__name__: f for f in (within, within_or_end, evenly, without_last)}
"""Rules for windows that lie inside the episode, by name."""


@dataclass(frozen=True)
class Episodes:
    """Episodes uniformly with replacement, then a window inside by the rule `window`.

    Only episodes that are stored from their first step on are drawn, that have at least `shortest` steps, and that are
    over unless `unfinished`. The table holds the newest `episodes` episodes of each stream. The batch gets the extra
    `valid` `[B, L]`; padding is zero. Items need the fields `is_first` and `is_last`.
    """

    episodes: int
    window: Window = within
    shortest: int = 1
    unfinished: bool = False
    consumes = ()

    def init(self, streams: int, capacity: int, length: int) -> PyTree:
        """First step and one past the last of the episodes `[E, episodes]`, episodes begun, whether one is running."""
        table = jnp.zeros((streams, self.episodes), jnp.int32)
        return {
            "begin": table,
            "end": table,
            "begun": jnp.zeros((streams,), jnp.int32),
            "running": jnp.zeros((streams,), bool),
        }

    def add(self, state: PyTree, rings: Rings, item: PyTree, mask: jax.Array) -> PyTree:
        """Begins or prolongs an episode of every stream."""
        stream = jnp.arange(mask.shape[0])
        begins = mask & (jnp.asarray(item.is_first) | ~state["running"])
        begun = state["begun"] + begins.astype(jnp.int32)
        current = (begun - 1) % self.episodes
        at_begin = jnp.where(begins, current, self.episodes)
        at_end = jnp.where(mask, current, self.episodes)
        return {
            "begin": state["begin"].at[stream, at_begin].set(rings.added - 1, mode="drop"),
            "end": state["end"].at[stream, at_end].set(rings.added, mode="drop"),
            "begun": begun,
            "running": jnp.where(mask, ~jnp.asarray(item.is_last), state["running"]),
        }

    def eligible(self, state: PyTree, rings: Rings) -> jax.Array:
        """Which episodes of the table can be drawn, bool `[E, episodes]`."""
        slot = jnp.arange(self.episodes)
        steps = state["end"] - state["begin"]
        known = (slot < state["begun"][:, None]) & (state["begin"] >= rings.oldest[:, None])
        current = (slot == (state["begun"] - 1)[:, None] % self.episodes) & state["running"][:, None]
        return known & (steps >= self.shortest) & (self.unfinished | ~current)

    def items(self, state: PyTree, rings: Rings) -> jax.Array:
        """Number of episodes that can be drawn."""
        return self.eligible(state, rings).sum(dtype=jnp.int32)

    def sample(
        self, state: PyTree, rings: Rings, key: jax.Array, batch_size: int
    ) -> tuple[PyTree, Ids, dict[str, jax.Array]]:
        """Draws episodes and windows."""
        episode_key, window_key = jax.random.split(key)
        upto = jnp.cumsum(self.eligible(state, rings).reshape(-1))
        number = jax.random.randint(episode_key, (batch_size,), 0, jnp.maximum(upto[-1], 1))
        episode = jnp.searchsorted(upto, number, side="right")
        begin, end = state["begin"].reshape(-1)[episode], state["end"].reshape(-1)[episode]
        start = begin + self.window(window_key, end - begin, rings.length)
        step = start[:, None] + jnp.arange(rings.length)
        valid = (step >= begin[:, None]) & (step < end[:, None])
        return state, Ids(episode // self.episodes, start), {"valid": valid}

    def update(self, state: PyTree, rings: Rings, ids: Ids, values: dict[str, jax.Array]) -> PyTree:
        """Refused: a padded window covers steps of other episodes."""
        raise UsageError("sequences sampled by episode cannot be written back")
