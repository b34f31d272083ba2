"""What the chapter says about the agents, the contract, and that the whole-run scan is the plain loop."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from papers.dyna import agents
from papers.dyna.agents import DynaQ, PrioritizedSweeping
from papers.dyna.simulate import simulate
from repro.envs import mazes
from repro.envs.mazes import Maze, MazeEnv
from repro.pipeline.algorithm import Algorithm, Transition

SMALL = Maze(np.zeros((3, 3), bool), (2, 0), ((0, 2),))


def dyna(n: int, alpha: float = 0.1, **settings: Any) -> Any:
    return lambda env: DynaQ(env.obs_spaces, env.action_spaces, alpha, 0.95, 0.1, n, **settings)


def sweeping(n: int) -> Any:
    return lambda env: PrioritizedSweeping(env.obs_spaces, env.action_spaces, 0.5, 0.95, 0.1, n, theta=1e-4)


def keys(count: int, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


@pytest.mark.parametrize("make", [dyna(3), dyna(2, kappa=0.01, untried=True), sweeping(3)])
def test_the_whole_run_scan_is_the_plain_loop_over_the_contract(make: Any) -> None:
    """Also: what is skipped while nothing is known would have changed nothing."""
    key, env = keys(3)[1], MazeEnv([SMALL], 1)
    agent: Algorithm = make(env)
    act, learn, step = jax.jit(agent.act), jax.jit(agent.learn), jax.jit(env.step)
    state, (world, timestep) = agent.init(key), env.init()
    lengths = [0]
    for tick in range(1000):
        if len(lengths) > 4:
            break
        action, _, extras = act(state, (), timestep, jax.random.fold_in(key, 2 * tick))
        world, following = step(world, action)
        stored = [Transition(*t, action=a, extras=extras) for t, a in ((timestep, action), (following, action))]
        batch = jax.tree.map(lambda *x: jnp.stack(x, 1), *stored)  # [1, 2]
        state, _, write_back = learn(state, batch, jax.random.fold_in(key, 2 * tick + 1))
        assert not write_back
        lengths[-1] += not following.is_first[0]
        lengths += [0] * bool(following.is_last[0])
        timestep = following
    runs = simulate(make, [SMALL], keys(3), 4)
    assert runs.lengths[1].tolist() == lengths[:4]
    np.testing.assert_allclose(runs.q[1], state.q, atol=1e-6)


def test_a_run_does_not_depend_on_its_neighbours_and_all_agents_explore_alike() -> None:
    all_runs = simulate(dyna(5), [SMALL], keys(20), 5)
    few = simulate(dyna(5), [SMALL], keys(20)[7:9], 5)
    np.testing.assert_array_equal(all_runs.lengths[7:9], few.lengths)
    np.testing.assert_array_equal(all_runs.q[7:9], few.q)
    other = simulate(dyna(0), [SMALL], keys(20), 5)
    np.testing.assert_array_equal(all_runs.lengths[:, 0], other.lengths[:, 0])
    assert (all_runs.lengths[:, 1:] != other.lengths[:, 1:]).any()
    swept = simulate(sweeping(5), [SMALL], keys(20), 5)
    np.testing.assert_array_equal(all_runs.lengths[:, 0], swept.lengths[:, 0])


def test_without_planning_the_first_episode_teaches_one_pair() -> None:
    q = simulate(dyna(0), [mazes.dyna_maze()], keys(8), 1).q
    assert ((q != 0).sum((1, 2)) == 1).all() and q.max() == pytest.approx(0.1)
    goal = mazes.dyna_maze().terminal
    assert (simulate(dyna(20), [mazes.dyna_maze()], keys(8), 5).q[:, goal] == 0).all()


def test_limits_end_a_run_at_the_episode_or_at_the_step() -> None:
    runs = simulate(dyna(1), [SMALL], keys(4), 3)
    assert (runs.episodes == 3).all() and (runs.lengths.sum(1) == runs.steps).all()
    limits = np.array([1, 17, 40, 41])
    cut = simulate(dyna(1), [SMALL], keys(4), 100, steps=limits)
    assert cut.steps.tolist() == limits.tolist() and (cut.lengths.sum(1) == limits).all()
    assert cut.updates[0] in (0, 1) and (cut.updates <= limits).all()


def test_greedy_ties_are_broken_evenly_and_planning_numbers_are_uniform() -> None:
    values = jnp.array([1.0, 0.0, 1.0, 1.0])
    u = jax.random.uniform(jax.random.key(0), (6000, 3))
    chosen = np.asarray(jax.vmap(lambda u: agents.epsilon_greedy(values, 0.2, u))(u))
    share = np.bincount(chosen, minlength=4) / len(chosen)
    np.testing.assert_allclose(share, [0.8 / 3 + 0.05, 0.05, 0.8 / 3 + 0.05, 0.8 / 3 + 0.05], atol=0.025)
    env = MazeEnv([SMALL], 1)
    drawn = np.asarray(dyna(20_000)(env).draw(jax.random.key(1)))
    assert drawn.shape == (20_000, 2) and drawn.min() >= 0 and drawn.max() < 1
    np.testing.assert_allclose(drawn.mean(0), 0.5, atol=0.01)
    np.testing.assert_allclose(np.cov(drawn.T), np.eye(2) / 12, atol=0.003)


def test_search_control_draws_the_state_first() -> None:
    """A cell with one tried action comes up as often as one with four; uniform over pairs it does not."""
    t = agents.tables(9, 4)
    for s, a in [(4, 0), (4, 1), (4, 2), (4, 3), (7, 2)]:
        t = agents.remember(t, jnp.int32(s), jnp.int32(a), jnp.float32(0), jnp.int32(s), jnp.bool(True))
    u = jax.random.uniform(jax.random.key(0), (4000, 2))
    s, a = agents.state_then_action(t, u)
    assert set(np.asarray(s)) == {4, 7} and (s == 7).mean() == pytest.approx(0.5, abs=0.04)
    assert set(np.asarray(a)[np.asarray(s) == 7]) == {2}
    s, _ = agents.uniform_pairs(t, u)
    assert (s == 7).mean() == pytest.approx(0.2, abs=0.03)


def test_nothing_is_learned_from_the_return_to_the_start() -> None:
    for agent in (dyna(3)(MazeEnv([SMALL], 1)), sweeping(3)(MazeEnv([SMALL], 1))):
        state, key = agent.init(jax.random.key(0)), jax.random.key(1)
        yes, no = jnp.bool(True), jnp.bool(False)
        args = jnp.int32(1), jnp.int32(3), jnp.float32(1), jnp.int32(2)
        state, _ = agent.observe(state, *args, yes)
        before = jax.device_get(state)
        state, _ = agent.plan(agent.observe(state, *args, no)[0], agent.draw(key), no)
        changed = jax.tree.map(lambda x, y: bool((x != y).any()), before, jax.device_get(state))
        still = changed._replace(insertions=False) if hasattr(changed, "insertions") else changed
        assert not any(jax.tree.leaves(still)), changed


def test_first_episode_is_the_random_walk_of_the_maze() -> None:
    first = simulate(dyna(0), [mazes.dyna_maze()], keys(384, seed=3), 1).lengths[:, 0]
    mean, deviation = mazes.dyna_maze().random_walk_steps()
    assert abs(first.mean() - mean) < 4 * deviation / np.sqrt(len(first))
    assert first.std() == pytest.approx(deviation, rel=0.25)


def test_episodes_to_near_optimal_fall_with_planning() -> None:
    for n, episodes, slack in ((0, 25, 3), (5, 5, 1), (50, 3, 0)):
        mean = simulate(dyna(n), [mazes.dyna_maze()], keys(128, seed=5), 35).lengths.mean(0)
        assert abs(int(np.argmax(mean <= 25)) + 1 - episodes) <= slack
        assert 15.878 <= mean[-4:].mean() < 20, "not below the floor of an epsilon-greedy optimal policy"
