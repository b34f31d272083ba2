"""The experiments of chapter 8 and the numbers and figures made of them. Arrays of runs are `[seeds, runs, ...]`."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from papers.dyna.agents import DynaQ, PrioritizedSweeping, argmin
from papers.dyna.config import Agent, ChangingMaze, DynaConfig
from papers.dyna.simulate import Runs, simulate
from repro.envs import mazes
from repro.envs.mazes import Maze, MazeEnv
from repro.errors import UsageError
from repro.evaluation.protocols import Protocol
from repro.pipeline.run import Result, Run


def reproduce(config: DynaConfig, run: Run) -> list[Result]:
    """Runs the experiment of the suite, all four for `chapter_8`; one result a published row or statement."""
    experiments = {
        "dyna_maze": dyna_maze,
        "blocking_maze": partial(changing_maze, "blocking_maze", mazes.blocking_maze(), 1000),
        "shortcut_maze": partial(changing_maze, "shortcut_maze", mazes.shortcut_maze(), 3000),
        "prioritized_sweeping_mazes": sweeping,
    }
    results: list[Result] = []
    for suite, experiment in experiments.items():
        if config.suite in (suite, "chapter_8"):
            run.log.say(f"{suite}: {config.seeds} x {config.runs} runs")
            with run.phase("train"):
                results += experiment(config, run)
    results = [result for result in results if config.task in ("all", result.task)]
    if not results:
        raise UsageError(f"task {config.suite}/{config.task} has no result with these settings")
    return results


def _keys(config: DynaConfig, run: Run) -> jax.Array:
    seeds = [jax.random.key(seed) for seed in run.seeds]
    return jnp.concatenate([jax.random.split(key, config.runs) for key in seeds])


def _agent(kind: Any, of: Agent, **settings: Any) -> Callable[[MazeEnv], Any]:
    return lambda env: kind(env.obs_spaces, env.action_spaces, of.alpha, of.gamma, of.epsilon, **settings)


def _result(
    config: DynaConfig,
    row: tuple[str, str, str, str],
    description: str,
    values: np.ndarray,
    budget: tuple[float, float, str],
    **extra: Any,
) -> Result:
    """The result of one published row (suite, task, method, metric); `values` `[seeds, samples]`, NaN = none."""
    suite, task, method, metric = row
    values = np.reshape(values, (config.seeds, -1))
    samples = [[float(v) for v in seed if np.isfinite(v)] for seed in values]
    used, paper, unit = budget
    return Result(
        Protocol(f"dyna_{metric}", f"{description}, per seed (one repetition of the experiment)", "statistic"),
        [{"return": seed} for seed in samples],
        used,
        paper,
        unit,
        suite=suite,
        task=task,
        method=method,
        metric=metric,
        extra={"runs_per_seed": config.runs, **extra},
    )


def _series(name: str, x: Sequence[float], runs: np.ndarray) -> dict[str, Any]:
    """A line of a figure: mean over all runs with its 95 % interval; runs `[seeds, runs, len(x)]`."""
    flat = runs.reshape(-1, runs.shape[-1])
    mean, error = flat.mean(0), flat.std(0, ddof=min(1, len(flat) - 1)) / np.sqrt(len(flat))
    low, high = mean - 1.96 * error, mean + 1.96 * error
    lists = {"x": np.asarray(x), "y": mean, "low": low, "high": high}
    return {"name": name, **{key: np.round(value, 4).tolist() for key, value in lists.items()}}


def _figure(title: str, x: str, y: str, series: list[dict[str, Any]]) -> dict[str, Any]:
    return {"title": title, "x_label": x, "y_label": y, "series": series}


# ---- Example 8.1 -----------------------------------------------------------------------------------------------------


def dyna_maze(config: DynaConfig, run: Run) -> list[Result]:
    """Figures 8.2 and 8.3: learning curves, episodes to near-optimal, the first episode, the early policy."""
    of, maze, keys = config.dyna_maze, mazes.dyna_maze(), _keys(config, run)
    shape = (config.seeds, config.runs, -1)
    simulated: dict[int, Runs] = {}
    for n in of.planning_steps:
        with run.phase(f"figure_8_2_n{n}"):
            simulated[n] = simulate(_agent(DynaQ, of, planning_steps=n), [maze], keys, of.episodes)
    lengths = {n: runs.lengths.reshape(shape) for n, runs in simulated.items()}
    episodes = np.arange(1, of.episodes + 1)
    figure = _figure(
        "Figure 8.2: Dyna-Q on the Dyna maze",
        "episode",
        "steps per episode",
        [_series(f"{n} planning steps", episodes[1:], lengths[n][..., 1:]) for n in of.planning_steps],
    )
    suite, budget = "dyna_maze", (of.episodes, 50, "episodes")
    results = []
    for n in of.planning_steps:
        near = lengths[n].mean(1) <= of.near_optimal_steps
        first = np.where(near.any(1), near.argmax(1) + 1.0, np.nan)
        text = f"first episode whose mean over the runs is at most {of.near_optimal_steps:g} steps"
        row = (suite, f"n{n}", "dyna_q", "episodes_to_optimal_performance")
        pooled = lengths[n].mean((0, 1))
        curves = {"mean_steps": pooled.round(3).tolist(), "median_steps": np.median(lengths[n], (0, 1)).tolist()}
        whole = int(np.argmax(pooled <= of.near_optimal_steps)) + 1 if (pooled <= of.near_optimal_steps).any() else None
        results.append(_result(config, row, text, first, budget, **curves, of_all_runs=whole, figures=[figure]))
    first = lengths[of.planning_steps[0]][..., 0]
    same = all((lengths[n][..., 0] == first).all() for n in of.planning_steps)
    mean, deviation = maze.random_walk_steps()
    facts = {
        "identical_for_all_planning_steps": bool(same),
        "exact": {"mean": mean, "std": deviation},
        "ours": {"mean": float(first.mean()), "std": float(first.std()), "median": float(np.median(first))},
    }
    for method in ("dyna_q", "exact_random_walk"):
        row = (suite, "all", method, "first_episode_steps")
        results.append(_result(config, row, "mean steps of the first episode", first, (1, 1, "episodes"), **facts))
    results += _early_policy(config, keys, maze)
    results += _optimal(config, keys, suite, "all", maze, "optimal", 0.0)
    return results + _optimal(config, keys, suite, "all", maze, "optimal_epsilon_greedy_0.1", 0.1)


def _early_policy(config: DynaConfig, keys: jax.Array, maze: Maze) -> list[Result]:
    """Figure 8.3: cells with an arrow (any value other than 0) halfway through the second episode."""
    results = []
    for n in (min(config.dyna_maze.planning_steps), max(config.dyna_maze.planning_steps)):
        agent = _agent(DynaQ, config.dyna_maze, planning_steps=n)
        two = simulate(agent, [maze], keys, 2).lengths
        half = simulate(agent, [maze], keys, 2, steps=two[:, 0] + two[:, 1] // 2)
        arrows = (half.agent.q != 0).any(-1).sum(-1)
        row = ("dyna_maze", "policy_after_half_of_episode_2", f"dyna_q_n{n}", "states_with_arrow")
        text = "mean number of cells with an action value other than 0 halfway through the second episode"
        results.append(_result(config, row, text, arrows, (2, 2, "episodes")))
    return results


def _optimal(
    config: DynaConfig, keys: jax.Array, suite: str, task: str, maze: Maze, method: str, epsilon: float
) -> list[Result]:
    """Ten episodes a run by the exact optimal values, beside the exact expectation of their length."""
    q = maze.optimal_q(0.95)
    agent = _agent(DynaQ, Agent(alpha=0.0, epsilon=epsilon), planning_steps=0, initial_q=q)
    lengths = simulate(agent, [maze], keys, 10).lengths
    exact = maze.episode_steps(maze.epsilon_greedy(q, epsilon))[0]
    row = (suite, task, method, "steps_per_episode")
    return [_result(config, row, "mean steps of ten episodes", lengths, (10, 10, "episodes"), exact=exact)]


# ---- Examples 8.2 and 8.3 --------------------------------------------------------------------------------------------


def changing_maze(
    suite: str, before_after: tuple[Maze, Maze], switch_at: int, config: DynaConfig, run: Run
) -> list[Result]:
    """Figures 8.4 and 8.5: cumulative reward of Dyna-Q and Dyna-Q+ in a maze that changes after `switch_at` steps."""
    of: ChangingMaze = getattr(config, suite)
    keys, agents = _keys(config, run), {"dyna_q": {}, "dyna_q_plus": {"kappa": of.kappa, "untried": True}}
    steps = np.arange(0, of.steps + 1, 50)
    most = of.steps // min(maze.optimal_steps for maze in before_after) + 2
    shape = (config.seeds, config.runs, -1)
    reward, found = {}, {}
    for name, settings in agents.items():
        agent = _agent(DynaQ, of, planning_steps=of.planning_steps, **settings)
        runs = simulate(agent, before_after, keys, most, of.steps, switch_at=switch_at)
        complete = np.arange(most) < runs.episodes[:, None]
        ends = np.where(complete, np.cumsum(runs.lengths, -1), of.steps + 1)
        reward[name] = np.stack([(ends <= step).sum(-1) for step in steps], -1).reshape(shape)
        # Only through a newly opened gap can an episode be shorter than the shortest path of the old maze.
        short = complete & (ends - runs.lengths >= switch_at) & (runs.lengths < before_after[0].optimal_steps)
        found[name] = short.sum(-1).reshape(shape) > 0
    lead = reward["dyna_q_plus"] - reward["dyna_q"]
    number, switch = ("8.4", "8.5")[suite == "shortcut_maze"], min(switch_at, of.steps) // 50
    figure = _figure(
        f"Figure {number}: Dyna-Q and Dyna-Q+ on the {suite.replace('_', ' ')}",
        "time step",
        "cumulative reward",
        [_series(name, steps, reward[name]) for name in agents],
    )
    budget = (of.steps, 3000 if suite == "blocking_maze" else 6000, "env_steps")
    results = []
    for name in agents:
        at = {"at_switch": float(reward[name][..., switch].mean()), "std_over_runs": float(reward[name][..., -1].std())}
        row = (suite, "all", name, "cumulative_reward")
        text = f"mean cumulative reward after {of.steps:,} steps"
        results.append(_result(config, row, text, reward[name][..., -1], budget, **at, figures=[figure]))
    for metric, place, when in (("lead_at_switch", switch, switch_at), ("lead_at_end", -1, of.steps)):
        text = f"cumulative reward of Dyna-Q+ less that of Dyna-Q after {when:,} steps, mean over paired runs"
        results.append(_result(config, (suite, "all", "dyna_q_plus", metric), text, lead[..., place], budget))
    if suite == "shortcut_maze":
        text = f"share of the runs with an episode of under {before_after[0].optimal_steps} steps after the change"
        for name in agents:
            results.append(_result(config, (suite, "after", name, "found_shortcut"), text, found[name], budget))
    for task, maze in zip(("before", "after"), before_after, strict=True):
        results += _optimal(config, keys, suite, task, maze, "optimal", 0.0)
    return results


# ---- Example 8.4 -----------------------------------------------------------------------------------------------------


def sweeping(config: DynaConfig, run: Run) -> list[Result]:
    """Updates until the greedy path is near-optimal, prioritised sweeping against Dyna-Q, in mazes of several sizes."""
    of, keys = config.sweeping, _keys(config, run)
    updates: dict[str, list[np.ndarray]] = {"dyna_q": [], "prioritized_sweeping": []}
    for k in of.resolutions:
        maze = mazes.dyna_maze(k)
        steps = dict(episodes=10_000, stop=_near_optimal(maze, of.tolerance), group=32)
        plain = simulate(_agent(DynaQ, of, planning_steps=of.planning_steps), [maze], keys, **steps)
        swept = _agent(PrioritizedSweeping, of, planning_steps=of.planning_steps, theta=of.theta)
        updates["dyna_q"].append(plain.environment.steps + plain.updates)
        updates["prioritized_sweeping"].append(simulate(swept, [maze], keys, **steps).updates)
        run.log.say(f"  resolution {k}: " + ", ".join(f"{u[-1].mean():,.0f} updates {n}" for n, u in updates.items()))
    shaped = {name: np.stack(u, -1).reshape(config.seeds, config.runs, -1) for name, u in updates.items()}
    factors = shaped["dyna_q"].mean(1) / shaped["prioritized_sweeping"].mean(1)
    states = [mazes.dyna_maze(k).num_states for k in of.resolutions]
    figure = _figure(
        "Example 8.4: updates until near-optimal",
        "states",
        "updates (log10)",
        [_series(name, states, np.log10(values)) for name, values in shaped.items()],
    )
    facts = {
        "states": states,
        "mean_updates": {name: values.mean((0, 1)).round(1).tolist() for name, values in shaped.items()},
        "median_updates": {name: np.median(values, (0, 1)).tolist() for name, values in shaped.items()},
        "factor_of_means": (shaped["dyna_q"].mean((0, 1)) / shaped["prioritized_sweeping"].mean((0, 1))).tolist(),
        "figures": [figure],
    }
    row = ("prioritized_sweeping_mazes", "all", "prioritized_sweeping", "speed_up_over_dyna_q")
    text = "mean over the mazes of (mean updates of Dyna-Q / mean updates of prioritised sweeping)"
    return [_result(config, row, text, factors, (config.runs, config.runs, "runs"), **facts)]


def _near_optimal(maze: Maze, tolerance: float) -> Callable[[Any], jax.Array]:
    """Whether the greedy path (ties: first action) reaches a goal within `tolerance` times the shortest path."""
    moves, goal = jnp.asarray(maze.moves), jnp.asarray(maze.terminal)
    steps = int(tolerance * maze.optimal_steps)

    def near(state: Any) -> jax.Array:
        greedy = lambda _, cell: moves[cell, argmin(-state.q[cell])]  # noqa: E731
        return goal[jax.lax.fori_loop(0, steps, greedy, jnp.int32(maze.start_cell))]

    return near
