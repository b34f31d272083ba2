"""The mazes of chapter 8: tables against recorded ones, exact numbers, and the environment against its tables."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repro.envs import mazes
from repro.envs.mazes import Maze, MazeEnv
from repro.errors import UsageError

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "dyna" / "mazes.npz")


def test_the_books_mazes_are_the_recorded_ones() -> None:
    built = {
        "dyna_maze": mazes.dyna_maze(),
        "dyna_maze_x2": mazes.dyna_maze(2),
        "dyna_maze_x3": mazes.dyna_maze(3),
        **dict(zip(("blocking_before", "blocking_after"), mazes.blocking_maze(), strict=True)),
        **dict(zip(("shortcut_before", "shortcut_after"), mazes.shortcut_maze(), strict=True)),
    }
    for name, maze in built.items():
        np.testing.assert_array_equal(maze.walls, GOLDEN[f"{name}/walls"])
        assert maze.start == tuple(GOLDEN[f"{name}/start"])
        np.testing.assert_array_equal(sorted(maze.goals), GOLDEN[f"{name}/goals"])
        np.testing.assert_array_equal(maze.next_state, GOLDEN[f"{name}/next_state"])
        np.testing.assert_allclose(maze.random_walk_steps(), GOLDEN[f"{name}/random_walk_steps"], rtol=1e-9)


def test_states_and_shortest_paths_by_resolution() -> None:
    sizes = [mazes.dyna_maze(k) for k in range(1, 9)]
    assert [m.num_states for m in sizes] == [47, 188, 423, 752, 1175, 1692, 2303, 3008]
    assert [m.optimal_steps for m in sizes] == [14, 27, 40, 53, 66, 79, 92, 105]
    before_after = [*mazes.blocking_maze(), *mazes.shortcut_maze()]
    assert [m.optimal_steps for m in before_after] == [10, 16, 16, 10]
    assert [round(m.random_walk_steps()[0], 1) for m in before_after] == [441.9, 683.9, 683.9, 344.3]


def test_exact_episode_lengths_of_policies() -> None:
    maze = mazes.dyna_maze()
    q = maze.optimal_q(0.95)
    assert maze.episode_steps(maze.epsilon_greedy(q, 0.0)) == pytest.approx((14, 0), abs=1e-3)
    assert maze.episode_steps(maze.epsilon_greedy(q, 0.1))[0] == pytest.approx(15.878, abs=1e-3)
    assert maze.random_walk_steps() == pytest.approx((868.7254, 789.2364), abs=1e-4)
    # A corridor of two moves in which each move is made with probability 1/2: 2 / (1/2) steps.
    corridor = Maze(np.zeros((1, 3), bool), (0, 0), ((0, 2),))
    right_or_up = np.tile([0.5, 0.0, 0.0, 0.5], (3, 1))
    assert corridor.episode_steps(right_or_up) == pytest.approx((4.0, np.sqrt(4.0)))


def test_steps_follow_the_tables_and_the_return_to_the_start_costs_nothing() -> None:
    maze = mazes.dyna_maze()
    env = MazeEnv([maze], 64)
    state, timestep = env.init()
    assert timestep.is_first.all() and not timestep.is_last.any()
    random, step = np.random.default_rng(0), jax.jit(env.step)
    cell, moves, ended = np.full(64, maze.start_cell), np.zeros(64, int), np.zeros(64, bool)
    for _ in range(3000):
        action = random.integers(0, 4, 64)
        state, timestep = step(state, {"action": jnp.asarray(action)})
        moved = maze.next_state[cell, action]
        np.testing.assert_array_equal(timestep.reward, np.where(ended, 0, maze.reward[cell, action]))
        cell, moves = np.where(ended, maze.start_cell, moved), moves + ~ended
        np.testing.assert_array_equal(timestep.obs["cell"], cell)
        np.testing.assert_array_equal(timestep.is_first, ended)
        ended = maze.terminal[cell] & ~ended
        np.testing.assert_array_equal(timestep.is_last, ended)
        np.testing.assert_array_equal(timestep.is_terminal, ended)
        np.testing.assert_array_equal(state.steps, moves)
    assert moves.min() < 3000, "some episode ended, so a return to the start was not counted"


def test_walls_move_at_the_step_and_let_go_who_stands_there() -> None:
    after = Maze(np.array([[0, 1, 0, 0], [0, 0, 0, 0]], bool), (0, 0), ((0, 3),))
    before = Maze(np.zeros((2, 4), bool), (0, 0), ((0, 3),))
    env = MazeEnv([before, after], 1, switch_at=1)
    state, _ = env.init()
    right, left = ({"action": jnp.array([a])} for a in (3, 2))
    state, timestep = env.step(state, right)
    assert timestep.obs["cell"][0] == 1, "step 0 is made in the first maze"
    state, timestep = env.step(state, left)
    assert timestep.obs["cell"][0] == 0, "the wall that appeared here can be left"
    state, timestep = env.step(state, right)
    assert timestep.obs["cell"][0] == 0, "and not entered again"


def test_mazes_without_a_first_or_last_step_are_refused() -> None:
    free, closed = np.zeros((2, 3), bool), np.array([[0, 1, 0]], bool)
    for walls, start, goals, message in (
        (np.zeros((0, 3), bool), (0, 0), ((0, 1),), "cells"),
        (free, (2, 0), ((0, 1),), "outside"),
        (free, (0, 0), ((0, -1),), "outside"),
        (closed, (0, 0), ((0, 1),), "wall"),
        (closed, (0, 0), ((0, 2),), "no path"),
        (free, (0, 0), ((0, 0),), "start is a goal"),
    ):
        with pytest.raises(UsageError, match=message):
            Maze(walls, start, goals)
    for resolution in (0, -1, 12):
        with pytest.raises(UsageError, match="resolution must be"):
            mazes.dyna_maze(resolution)
    with pytest.raises(UsageError, match="at least 1"):
        MazeEnv([mazes.dyna_maze()], 0)
    with pytest.raises(UsageError, match="second one of the same size"):
        MazeEnv([mazes.dyna_maze(), mazes.dyna_maze(2)], 1, switch_at=5)
    with pytest.raises(UsageError, match="blocking_maze"):
        mazes.make("bloking_maze", 1)
