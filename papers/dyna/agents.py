"""The agents of chapter 8: Dyna-Q, Dyna-Q+ and prioritised sweeping, tables and table models as pytrees.

S cells, A actions, n planning steps. One real step is `choose`, the environment, `observe` (direct update and model),
`plan`. The three take their random numbers as arguments; `act` and `learn` draw them from keys and make the agents
`repro.pipeline.algorithm.Algorithm`s.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from repro.envs.base import Spaces, TimeStep
from repro.pipeline.algorithm import Transition

Log = dict[str, jax.Array]


class Tables(NamedTuple):
    """Values, deterministic model, and the order in which the model grew (search control draws from that order).

    `actions` lists the actions of a cell that planning may use, in the order first tried; `states` the visited cells.
    """

    q: jax.Array  # [S, A]
    reward: jax.Array  # [S, A]
    next_state: jax.Array  # [S, A]; "back to the same cell, reward 0" until the pair is tried
    last_tried: jax.Array  # [S, A], number of the real step, 0 = never
    actions: jax.Array  # [S, A]
    num_actions: jax.Array  # [S]
    states: jax.Array  # [S]
    num_states: jax.Array
    time: jax.Array  # real steps taken


def tables(cells: int, actions: int, initial_q: Any = 0.0) -> Tables:
    """An empty model and values `initial_q` (one number or `[S, A]`)."""
    pairs = jnp.zeros((cells, actions), jnp.int32)
    return Tables(
        q=jnp.zeros((cells, actions)) + initial_q,
        reward=jnp.zeros((cells, actions)),
        next_state=pairs + jnp.arange(cells)[:, None],
        last_tried=pairs,
        actions=pairs + jnp.arange(actions),
        num_actions=jnp.zeros(cells, jnp.int32),
        states=jnp.zeros(cells, jnp.int32),
        num_states=jnp.int32(0),
        time=jnp.int32(0),
    )


def remember(
    t: Tables, s: jax.Array, a: jax.Array, r: jax.Array, s2: jax.Array, real: jax.Array, untried: bool = False
) -> Tables:
    """Model(s, a) <- r, s2 and the book-keeping of search control; nothing where `real` is False.

    With `untried`, planning may use all actions of a visited cell (footnote on Dyna-Q+ in 8.3).
    """
    nowhere, places = t.states.size, t.q.shape[1]  # writes to `nowhere` are dropped
    count = t.num_actions[s]
    new_state = real & (count == 0)
    listed = ((t.actions[s] == a) & (jnp.arange(places) < count)).any()
    new_actions = new_state * places if untried else (real & ~listed).astype(jnp.int32)
    at, time = jnp.where(real, s, nowhere), t.time + real
    listing = t.actions if untried else t.actions.at[jnp.where(listed, nowhere, at), count].set(a)
    return t._replace(
        reward=t.reward.at[at, a].set(r),
        next_state=t.next_state.at[at, a].set(s2),
        last_tried=t.last_tried.at[at, a].set(time),
        actions=listing,
        num_actions=t.num_actions.at[s].add(new_actions),
        states=t.states.at[jnp.where(new_state, t.num_states, nowhere)].set(s),
        num_states=t.num_states + new_state,
        time=time,
    )


def pick(u: jax.Array, count: jax.Array | int) -> jax.Array:
    """A number 0 ... count-1 from a uniform u in [0, 1)."""
    return (u * count).astype(jnp.int32)


def epsilon_greedy(preferences: jax.Array, epsilon: float, u: jax.Array) -> jax.Array:
    """An action from preferences `[A]` and three uniform numbers: explore?, which then, which of the largest else."""
    best = preferences == preferences.max()
    greedy = jnp.argmax(jnp.cumsum(best) > pick(u[2], best.sum()))
    return jnp.where(u[0] < epsilon, pick(u[1], preferences.size), greedy.astype(jnp.int32))


def values(state: Any, s: jax.Array) -> jax.Array:
    """What an agent prefers actions by: Q(s, .)."""
    return state.q[s]


def values_with_bonus(kappa: float) -> Callable[[Tables, jax.Array], jax.Array]:
    """The agent of Exercise 8.4 prefers by Q(s, .) + kappa * sqrt(tau)."""
    return lambda t, s: t.q[s] + kappa * jnp.sqrt((t.time - t.last_tried[s]).astype(t.q.dtype))


def state_then_action(t: Tables, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Search control of the book: a random visited state, then a random action previously taken there; u `[n, 2]`."""
    s = t.states[pick(u[:, 0], t.num_states)]
    return s, t.actions[s, pick(u[:, 1], t.num_actions[s])]


def uniform_pairs(t: Tables, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Search control uniform over pairs (not the book's: states with more tried actions come up more often)."""
    visited = jnp.arange(t.states.size) < t.num_states
    ends = jnp.cumsum(jnp.where(visited, t.num_actions[t.states], 0))
    pair = pick(u[:, 0], ends[-1])
    place = jnp.searchsorted(ends, pair, side="right")
    s = t.states[place]
    return s, t.actions[s, pair - (ends[place] - t.num_actions[s])]


@dataclass(frozen=True, eq=False)
class Agent:
    """What the agents share: epsilon-greedy actions and the `Algorithm` contract."""

    obs_spaces: Spaces
    action_spaces: Spaces
    alpha: float
    gamma: float
    epsilon: float
    planning_steps: int
    preferences: Callable[[Any, jax.Array], jax.Array] = values
    initial_q: Any = 0.0

    @property
    def sizes(self) -> tuple[int, int]:
        """S and A."""
        return self.obs_spaces["cell"].classes or 0, self.action_spaces["action"].classes or 0

    def init(self, key: jax.Array) -> Any:
        """Nothing known."""
        raise NotImplementedError

    def observe(
        self, state: Any, s: jax.Array, a: jax.Array, r: jax.Array, s2: jax.Array, real: jax.Array
    ) -> tuple[Any, Log]:
        """Learns from one real transition, nothing where `real` is False; new state, what was done."""
        raise NotImplementedError

    def plan(self, state: Any, u: jax.Array, real: jax.Array) -> tuple[Any, Log]:
        """n planning steps with uniform numbers u `[n, 2]`; new state, what was done, leaves `[n, ...]`."""
        raise NotImplementedError

    def choose(self, state: Any, s: jax.Array, u: jax.Array) -> jax.Array:
        """The action in cell s, u `[3]`."""
        return epsilon_greedy(self.preferences(state, s), self.epsilon, u)

    def initial_carry(self, batch: int) -> tuple[()]:
        """None: the agent sees its state."""
        return ()

    def act(
        self, state: Any, carry: tuple[()], timestep: TimeStep, key: jax.Array, mode: str = "train"
    ) -> tuple[dict[str, jax.Array], tuple[()], dict[str, jax.Array]]:
        """Actions `[E]`; greedy with random ties in "eval"."""
        u = jax.random.uniform(key, (*timestep.obs["cell"].shape, 3)).at[:, 0].add(mode == "eval")
        action = jax.vmap(lambda s, u: self.choose(state, s, u))(timestep.obs["cell"], u)
        return {"action": action}, carry, {}

    def learn(self, state: Any, batch: Transition, key: jax.Array) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        """One real transition, the end of a batch `[1, L]`, then planning. The return to the start is no transition."""
        s, s2 = batch.obs["cell"][0, -2], batch.obs["cell"][0, -1]
        real = ~batch.is_first[0, -1]
        state, _ = self.observe(state, s, batch.action["action"][0, -2], batch.reward[0, -1], s2, real)
        return self.plan(state, self.draw(key), real)[0], {}, {}

    def draw(self, key: jax.Array) -> jax.Array:
        """Uniform numbers for `plan`, `[n, 2]`: 20 and 12 of 32 random bits (half the cost of two numbers)."""
        bits = jax.random.bits(key, (self.planning_steps,))
        return jnp.stack([(bits >> 12) * 2.0**-20, (bits & 4095) * 2.0**-12], -1)


@dataclass(frozen=True, eq=False)
class DynaQ(Agent):
    """Tabular Dyna-Q (box in 8.2); with `kappa` and `untried` Dyna-Q+ (8.3)."""

    kappa: float = 0.0
    """Planning reward r + kappa * sqrt(tau), tau = real steps since the pair was last tried."""
    untried: bool = False
    """Actions never tried from a visited state take part in planning."""
    search_control: Callable[[Tables, jax.Array], tuple[jax.Array, jax.Array]] = state_then_action

    def init(self, key: jax.Array) -> Tables:
        """Nothing known."""
        return tables(*self.sizes, self.initial_q)

    def observe(
        self, state: Tables, s: jax.Array, a: jax.Array, r: jax.Array, s2: jax.Array, real: jax.Array
    ) -> tuple[Tables, Log]:
        """Q(s, a) += alpha * (r + gamma * max Q(s2) - Q(s, a)), then the model."""
        state = state._replace(q=self._update(state.q, (s, a, r, s2, real * self.alpha))[0])
        return remember(state, s, a, r, s2, real, self.untried), {}

    def plan(self, state: Tables, u: jax.Array, real: jax.Array) -> tuple[Tables, Log]:
        """The same update for n modelled transitions."""
        s, a = self.search_control(state, u)
        tau = (state.time - state.last_tried[s, a]).astype(state.q.dtype)
        bonus = self.kappa * jnp.sqrt(tau) if self.kappa else jnp.zeros_like(tau)
        s2 = state.next_state[s, a]
        alpha = jnp.broadcast_to(real * self.alpha, s.shape)
        q = jax.lax.scan(self._update, state.q, (s, a, state.reward[s, a] + bonus, s2, alpha))[0]
        log = {"state": s, "action": a, "next_state": s2, "bonus": bonus, "valid": alpha > 0}
        return state._replace(q=q), log

    def _update(self, q: jax.Array, x: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        s, a, r, s2, alpha = x
        return q.at[s, a].add(alpha * (r + self.gamma * q[s2].max() - q[s, a])), None


NEVER = jnp.iinfo(jnp.int32).max


class Sweep(NamedTuple):
    """State of prioritised sweeping; `priority` 0 = not in the queue.

    `first` and `best` summarise a cell's pairs, so that looking for the head of the queue does not touch all pairs.
    """

    tables: Tables
    priority: jax.Array  # [S, A]
    inserted: jax.Array  # [S, A], number of the insertion
    insertions: jax.Array
    best: jax.Array  # [S], largest priority of the cell
    first: jax.Array  # [S], earliest insertion among those of this priority
    predecessors: jax.Array  # [S, A] pairs (s * A + a) whose modelled next state is s, in the order first tried
    num_predecessors: jax.Array  # [S]

    @property
    def q(self) -> jax.Array:
        """Action values `[S, A]`."""
        return self.tables.q


@dataclass(frozen=True, eq=False)
class PrioritizedSweeping(Agent):
    """Prioritised sweeping for a deterministic environment (box in 8.4).

    Of equal priorities the earlier insertion comes first; a queued pair moves only for a larger priority. In a grid a
    cell has exactly A predecessors (each side is an open neighbour or a bump into a wall), so A places suffice for a
    maze that does not change.
    """

    theta: float = 0.0

    def init(self, key: jax.Array) -> Sweep:
        """Nothing known, empty queue."""
        t = tables(*self.sizes, self.initial_q)
        pairs, cells = jnp.zeros_like(t.last_tried), jnp.zeros_like(t.num_actions)
        none = jnp.zeros_like(t.reward)
        return Sweep(t, none, pairs, jnp.int32(0), none[:, 0], cells, pairs, cells)

    def observe(
        self, state: Sweep, s: jax.Array, a: jax.Array, r: jax.Array, s2: jax.Array, real: jax.Array
    ) -> tuple[Sweep, Log]:
        """The model, then the pair into the queue; no direct update."""
        pair, count = s * state.q.shape[1] + a, state.num_predecessors[s2]
        known = ((state.predecessors[s2] == pair) & (jnp.arange(state.q.shape[1]) < count)).any()
        at = jnp.where(real & ~known, s2, state.first.size)
        state = state._replace(
            tables=remember(state.tables, s, a, r, s2, real),
            predecessors=state.predecessors.at[at, count].set(pair),
            num_predecessors=state.num_predecessors.at[at].set(count + 1),
        )
        nothing = jnp.full_like(s, state.first.size)
        return self._requeue(state, nothing, a, s[None], a[None], real[None])

    def plan(self, state: Sweep, u: jax.Array, real: jax.Array) -> tuple[Sweep, Log]:
        """Up to n updates, largest priority first; each hands its change on to the predecessors."""
        return jax.lax.scan(lambda state, _: self._sweep(state, real), state, length=self.planning_steps)

    def _sweep(self, state: Sweep, real: jax.Array) -> tuple[Sweep, Log]:
        t, priority = state.tables, state.best.max()
        s = argmin(jnp.where(state.best == priority, state.first, NEVER))
        a = argmin(jnp.where(state.priority[s] == priority, state.inserted[s], NEVER))
        valid = real & (priority > 0) & (a < t.q.shape[1])
        at = jnp.where(valid, s, t.states.size)
        change = t.reward[s, a] + self.gamma * t.q[t.next_state[s, a]].max() - t.q[s, a]
        state = state._replace(tables=t._replace(q=t.q.at[at, a].add(self.alpha * change)))
        sources = state.predecessors[s]
        known = valid & (jnp.arange(sources.size) < state.num_predecessors[s])
        state, log = self._requeue(state, at, a, sources // t.q.shape[1], sources % t.q.shape[1], known)
        log = {f"insertion_{name}": value for name, value in log.items()}
        return state, log | {"valid": valid, "state": s, "action": a, "priority": priority, "q_after": state.q[s, a]}

    def _requeue(
        self, state: Sweep, done_s: jax.Array, done_a: jax.Array, s: jax.Array, a: jax.Array, valid: jax.Array
    ) -> tuple[Sweep, Log]:
        """Takes the pair done out of the queue; then pairs `[K]` enter, in their order, where their priority exceeds
        theta and the one they have in the queue.

        One write an array, its place computed from all that was read of it before: else the compiler copies the array.
        """
        t = state.tables
        done = (s == done_s) & (a == done_a)
        queued = jnp.where(done, 0, state.priority[s, a])
        priority = jnp.abs(t.reward[s, a] + self.gamma * t.q[t.next_state[s, a]].max(-1) - t.q[s, a])
        enters = valid & (priority > self.theta) & (priority > queued)
        at = jnp.where(enters, s, state.first.size)
        again = (done & enters).any()
        rows = jnp.append(at, jnp.where(again, state.first.size, done_s))
        state = state._replace(
            priority=state.priority.at[rows, jnp.append(a, done_a)].set(jnp.append(priority, 0)),
            inserted=state.inserted.at[at, a].set(state.insertions + jnp.arange(s.size, dtype=jnp.int32)),
            insertions=state.insertions + s.size,
        )
        cells = jnp.append(s, done_s)
        best = state.priority[cells].max(-1)
        first = jnp.where(state.priority[cells] == best[:, None], state.inserted[cells], NEVER).min(-1)
        state = state._replace(best=state.best.at[cells].set(best), first=state.first.at[cells].set(first))
        return state, {"enters": enters, "state": s, "action": a, "priority": priority}


def argmin(x: jax.Array) -> jax.Array:
    """Index of the least element, the first of equal ones; on a CPU several times faster than `jnp.argmin`."""
    return jnp.where(x == x.min(), jnp.arange(x.size, dtype=jnp.int32), x.size).min()
