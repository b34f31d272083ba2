"""Expected updates: a counted stochastic model swept by priority (8.4), and the two studies of 8.5 and 8.6."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Counts(NamedTuple):
    """Values `[S, A]` and the model that counts: how often s, a led to s2, and the rewards received, `[S, A, S]`."""

    q: jax.Array
    visits: jax.Array
    rewards: jax.Array


def expected_update(model: Counts, gamma: float) -> jax.Array:
    """Target of the expected update of every pair by relative frequencies; untried pairs keep their value."""
    total = model.visits.sum(-1)
    target = (model.rewards + gamma * model.visits * model.q.max(-1)).sum(-1) / jnp.maximum(total, 1)
    return jnp.where(total > 0, target, model.q)


def sweep_until_empty(model: Counts, s: jax.Array, a: jax.Array, gamma: float, theta: float) -> Counts:
    """Prioritised sweeping from the pair s, a until no pair of the queue has a priority above theta."""

    def sweep(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        q, queue = carry
        s, a = jnp.unravel_index(jnp.argmax(queue), queue.shape)
        q = q.at[s, a].set(expected_update(model._replace(q=q), gamma)[s, a])
        priority = jnp.abs(expected_update(model._replace(q=q), gamma) - q)
        queue = queue.at[s, a].set(0)
        leads_here = model.visits[:, :, s] > 0
        return q, jnp.where(leads_here & (priority > theta), jnp.maximum(queue, priority), queue)

    priority = jnp.abs(expected_update(model, gamma) - model.q)[s, a]
    queue = jnp.zeros_like(model.q).at[s, a].set(priority)
    q, _ = jax.lax.while_loop(lambda carry: carry[1].max() > theta, sweep, (model.q, queue))
    return model._replace(q=q)


def sample_error(branching: jax.Array, updates: jax.Array) -> jax.Array:
    """Error left by t sample updates of a pair with b equally likely successors, sqrt((b - 1) / (b t)) (Figure 8.7)."""
    return jnp.sqrt((branching - 1) / (branching * updates))


def uniform_updates(
    next_state: jax.Array, reward: jax.Array, termination: float, gamma: float, count: int
) -> jax.Array:
    """Values `[count, S, A]` after each expected update in cyclic order (Figure 8.8); tables `[S, A, b]`."""
    states, actions, _ = next_state.shape

    def update(q: jax.Array, i: jax.Array) -> tuple[jax.Array, jax.Array]:
        s, a = i // actions % states, i % actions
        target = (reward[s, a] + gamma * q[next_state[s, a]].max(-1)).mean() * (1 - termination)
        q = q.at[s, a].set(target)
        return q, q

    return jax.lax.scan(update, jnp.zeros((states, actions)), jnp.arange(count))[1]


def start_value(
    q: np.ndarray, next_state: np.ndarray, reward: np.ndarray, termination: float, gamma: float, start: int
) -> float:
    """Exact value of the start state under the greedy policy on q (ties: first action)."""
    states, greedy = np.arange(len(q)), q.argmax(1)
    chain = np.zeros((len(q), len(q)))
    np.add.at(chain, (states[:, None], next_state[states, greedy]), 1 / next_state.shape[-1])
    gain = (1 - termination) * reward[states, greedy].mean(-1)
    return float(np.linalg.solve(np.eye(len(q)) - gamma * (1 - termination) * chain, gain)[start])
