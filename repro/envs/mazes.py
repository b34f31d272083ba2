"""The grid mazes of Sutton and Barto, *Reinforcement Learning: An Introduction* (2nd edition, 2018), chapter 8.

Cells are numbered `row * width + column` from the top left, walls included; actions are up, down, left, right; a
blocked move stays; entering a goal gives 1 and ends the episode. A `Maze` also knows the exact numbers of its
problem (shortest paths, optimal values, expected lengths of episodes), and `MazeEnv` steps N copies inside `jit`.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from repro.envs.base import Actions, Space, Spaces, TimeStep
from repro.errors import UsageError, unknown

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Up, down, left, right as (row, column)."""
LARGEST = 11
"""Largest resolution of `dyna_maze`: 5,687 states, about the largest maze of the book's Example 8.4 (6,016)."""


@dataclass(frozen=True, eq=False)
class Maze:
    """One maze: `walls` bool `[height, width]`, `start` (row, column), `goals` ((row, column), ...).

    S counts all cells. Raises `UsageError` where no episode could start or end.
    """

    walls: np.ndarray
    start: tuple[int, int]
    goals: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if self.walls.ndim != 2 or self.walls.size < 2:
            raise UsageError(f"a maze needs height x width >= 2 cells, not {'x'.join(map(str, self.walls.shape))}")
        height, width = self.walls.shape
        for what, (row, column) in [("start", self.start), *(("goal", goal) for goal in self.goals)]:
            if not (0 <= row < height and 0 <= column < width):
                raise UsageError(f"the {what} {(row, column)} lies outside the maze of {height} x {width} cells")
            if self.walls[row, column]:
                raise UsageError(f"the {what} {(row, column)} is a wall")
        if self.start in self.goals or self.optimal_steps < 0:
            raise UsageError("the start is a goal" if self.start in self.goals else "no path leads from start to goal")

    @property
    def start_cell(self) -> int:
        """Number of the start cell."""
        return self.start[0] * self.walls.shape[1] + self.start[1]

    @property
    def num_states(self) -> int:
        """Cells that are not walls."""
        return int((~self.walls).sum())

    @property
    def optimal_steps(self) -> int:
        """Length of the shortest path from the start; -1 if there is none."""
        return int(self.shortest_path[self.start_cell])

    @cached_property
    def terminal(self) -> np.ndarray:
        """Bool `[S]`: the goals."""
        terminal = np.zeros(self.walls.shape, bool)
        terminal[tuple(np.transpose(self.goals))] = True
        return terminal.ravel()

    @cached_property
    def moves(self) -> np.ndarray:
        """int32 `[S, 4]`: the cell each action leads to. Goals lead to themselves. A wall can be left but not entered,
        so that a wall which appears under the agent does not hold it for ever."""
        height, width = self.walls.shape
        cells = np.arange(self.walls.size, dtype=np.int32).reshape(height, width)
        table = np.empty((height, width, 4), np.int32)
        padded = np.pad(~self.walls, 1)
        for action, (down, right) in enumerate(MOVES):
            free = padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]
            table[..., action] = cells + (free & ~self.terminal.reshape(height, width)) * (down * width + right)
        return table.reshape(-1, 4)

    @cached_property
    def next_state(self) -> np.ndarray:
        """int32 `[S, 4]`: `moves` of the cells an episode can be in; walls lead to themselves."""
        return np.where(self.walls.reshape(-1, 1), np.arange(self.walls.size, dtype=np.int32)[:, None], self.moves)

    @cached_property
    def reward(self) -> np.ndarray:
        """float32 `[S, 4]`: 1 for entering a goal."""
        return (self.terminal[self.next_state] & ~self.terminal[:, None]).astype(np.float32)

    @cached_property
    def shortest_path(self) -> np.ndarray:
        """int32 `[S]`: steps to the nearest goal (breadth-first search); -1 for walls and where no path leads."""
        distance = np.where(self.terminal, 0, -1).astype(np.int32)
        sources: list[list[int]] = [[] for _ in distance]
        for (cell, _), target in np.ndenumerate(self.next_state):
            sources[target].append(cell)
        queue = deque(np.flatnonzero(self.terminal).tolist())
        while queue:
            cell = queue.popleft()
            for source in sources[cell]:
                if distance[source] < 0:
                    distance[source] = distance[cell] + 1
                    queue.append(source)
        return distance

    def optimal_q(self, gamma: float) -> np.ndarray:
        """Optimal action values `[S, 4]`: `gamma ** (steps - 1)`; 0 for walls, goals and where no path leads."""
        after = self.shortest_path[self.next_state]
        return np.where((after < 0) | self.terminal[:, None], 0.0, gamma ** np.maximum(after, 0))

    def epsilon_greedy(self, q: np.ndarray, epsilon: float) -> np.ndarray:
        """Action probabilities `[S, 4]` of the epsilon-greedy policy on values `[S, 4]`, ties at random."""
        best = np.isclose(q, q.max(1, keepdims=True), rtol=1e-9, atol=0)
        return epsilon / 4 + (1 - epsilon) * best / best.sum(1, keepdims=True)

    def episode_steps(self, policy: np.ndarray) -> tuple[float, float]:
        """Mean and standard deviation of the steps of one episode from the start, exact, for `policy` `[S, 4]`.

        Solves the linear systems of the first two moments of the absorption time: m = 1 + P m, v = 1 + 2 P m + P v.
        """
        inside = np.flatnonzero(self.shortest_path > 0)
        number = np.full(self.walls.size, -1)
        number[inside] = np.arange(inside.size)
        chain = np.zeros((inside.size, inside.size))
        for action in range(4):
            target = number[self.next_state[inside, action]]
            stays = target >= 0
            np.add.at(chain, (np.flatnonzero(stays), target[stays]), policy[inside[stays], action])
        system = np.eye(inside.size) - chain
        mean = np.linalg.solve(system, np.ones(inside.size))
        square = np.linalg.solve(system, 1 + 2 * chain @ mean)
        start = number[self.start_cell]
        return float(mean[start]), float(np.sqrt(square[start] - mean[start] ** 2))

    def random_walk_steps(self) -> tuple[float, float]:
        """Mean and standard deviation of the steps of a uniformly random walk from the start to a goal."""
        return self.episode_steps(np.full((self.walls.size, 4), 0.25))


def dyna_maze(resolution: int = 1) -> Maze:
    """The maze of Figure 8.2 with 47 states; every cell split into `resolution` x `resolution` (Example 8.4).

    Where the start lies and how large the goal is for `resolution` > 1 the book does not say: the start is the top
    left cell of the old start, the goal the whole old goal cell.
    """
    if not 1 <= resolution <= LARGEST:
        raise UsageError(f"maze resolution must be a whole number from 1 to {LARGEST}, not {resolution}")
    picture = ".......#. ..#....#. ..#....#. ..#...... .....#... ........."
    walls = np.array([[cell == "#" for cell in row] for row in picture.split()])
    block = range(resolution)
    return Maze(
        np.kron(walls, np.ones((resolution, resolution), bool)),
        (2 * resolution, 0),
        tuple((row, 8 * resolution + column) for row in block for column in block),
    )


def _barrier(first: int, last: int) -> Maze:
    """The 6 x 9 maze of Figures 8.4 and 8.5 with a wall in row 3 from column `first` to `last`."""
    walls = np.zeros((6, 9), bool)
    walls[3, first : last + 1] = True
    return Maze(walls, (5, 3), ((0, 8),))


def blocking_maze() -> tuple[Maze, Maze]:
    """Figure 8.4: the gap on the right closes, a longer path opens on the left (16 instead of 10 steps)."""
    return _barrier(0, 7), _barrier(1, 8)


def shortcut_maze() -> tuple[Maze, Maze]:
    """Figure 8.5: a gap on the right opens besides the one on the left (10 instead of 16 steps)."""
    return _barrier(1, 8), _barrier(1, 7)


class MazeState(NamedTuple):
    """State of `MazeEnv`, leaves `[N]`: cell, number of real steps taken, and whether the episode is over."""

    cell: jax.Array
    steps: jax.Array
    over: jax.Array


class MazeEnv:
    """N copies of one maze inside `jit` (`JaxEnv`); observation `cell`, action `action`, both int32 classes.

    The step after a goal returns to the start and is not counted in `MazeState.steps`. With a second maze the walls
    move when `switch_at` steps have been taken, inside an episode too.
    """

    def __init__(self, mazes: Sequence[Maze], num_envs: int, switch_at: int | None = None) -> None:
        if num_envs < 1:
            raise UsageError(f"the number of environments must be at least 1, not {num_envs}")
        if len(mazes) != (1 if switch_at is None else 2) or len({maze.walls.shape for maze in mazes}) != 1:
            raise UsageError("a maze changes at `switch_at` into a second one of the same size, or not at all")
        cells = mazes[0].walls.size
        self.num_envs = num_envs
        self.obs_spaces: Spaces = {"cell": Space((), "int32", cells)}
        self.action_spaces: Spaces = {"action": Space((), "int32", 4)}
        self._start = mazes[0].start_cell
        self._switch_at = switch_at
        self._moves = jnp.stack([jnp.asarray(maze.moves) for maze in mazes])
        self._terminal = jnp.stack([jnp.asarray(maze.terminal) for maze in mazes])

    def init(self) -> tuple[MazeState, TimeStep]:
        """All N at the start; nothing is random."""
        cell = jnp.full(self.num_envs, self._start, jnp.int32)
        no = jnp.zeros(self.num_envs, bool)
        return MazeState(cell, jnp.zeros(self.num_envs, jnp.int32), no), _time_step(cell, ~no, no)

    def step(self, state: Any, actions: Actions) -> tuple[MazeState, TimeStep]:
        """One move `[N]`, or the return to the start where the last move reached a goal."""
        maze = jnp.zeros_like(state.cell) if self._switch_at is None else jnp.int32(state.steps >= self._switch_at)
        moved = self._moves[maze, state.cell, actions["action"]]
        cell = jnp.where(state.over, self._start, moved)
        over = self._terminal[maze, cell] & ~state.over
        return MazeState(cell, state.steps + ~state.over, over), _time_step(cell, state.over, over)


def _time_step(cell: jax.Array, is_first: jax.Array, is_last: jax.Array) -> TimeStep:
    return TimeStep({"cell": cell}, is_last.astype(jnp.float32), is_first, is_last, is_last)


def make(name: str, num_envs: int, resolution: int = 1) -> MazeEnv:
    """`dyna_maze` (any `resolution`), `blocking_maze` (changes after 1,000 steps) or `shortcut_maze` (after 3,000)."""
    if name == "dyna_maze":
        return MazeEnv([dyna_maze(resolution)], num_envs)
    if name == "blocking_maze":
        return MazeEnv(blocking_maze(), num_envs, switch_at=1000)
    if name == "shortcut_maze":
        return MazeEnv(shortcut_maze(), num_envs, switch_at=3000)
    raise unknown("maze", name, ["dyna_maze", "blocking_maze", "shortcut_maze"])
