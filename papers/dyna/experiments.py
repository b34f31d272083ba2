"""The experiments of chapter 8 and the numbers and figures made of them. Arrays of runs are `[seeds, runs, ...]`."""

from collections.abc import Callable
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
from repro.evaluation import figures
from repro.evaluation.protocols import Protocol
from repro.pipeline.run import Result, Run


def reproduce(config: DynaConfig, run: Run) -> list[Result]:
    """Runs the experiment of the suite, all four for `chapter_8`; one result a published number or statement."""
    experiments: dict[str, Callable[[DynaConfig, Run], list[Result]]] = {
        "dyna_maze": dyna_maze,
        "blocking_maze": partial(changing_maze, "blocking_maze"),
        "shortcut_maze": partial(changing_maze, "shortcut_maze"),
        "prioritized_sweeping_mazes": sweeping,
    }
    results: list[Result] = []
    for suite, experiment in experiments.items():
        if config.suite in (suite, "chapter_8"):
            run.log.say(f"{suite}: {config.seeds} x {config.runs} runs")
            with run.phase("train"), run.phase(suite):
                results += experiment(config, run)
    return [result for result in results if config.task in ("all", result.task)]


def _keys(config: DynaConfig, run: Run) -> jax.Array:
    """One key a run, `[seeds * runs]`; all agents get the same, as the book has it."""
    return jnp.concatenate([jax.random.split(jax.random.key(seed), config.runs) for seed in run.seeds])


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
    used, paper, unit = budget
    return Result(
        Protocol(f"dyna_{metric}", f"{description}; one seed is one repetition of the experiment", "statistic"),
        [{"return": [float(v) for v in seed if np.isfinite(v)]} for seed in np.reshape(values, (config.seeds, -1))],
        used,
        paper,
        unit,
        suite=suite,
        task=task,
        method=method,
        metric=metric,
        extra={"runs_per_seed": config.runs, **extra},
    )


def _throughput(runs: Runs, seconds: float) -> dict[str, float]:
    """Compilation included; planning that is left out because it changes nothing does not count."""
    steps, updates = int(runs.steps.sum()), int(runs.updates.sum())
    return {"env_steps_per_s": steps / seconds, "updates_per_s": (steps + updates) / seconds}


def dyna_maze(config: DynaConfig, run: Run) -> list[Result]:
    """Example 8.1: learning curves (Figure 8.2), episodes to near-optimal, the first episode, the early policy."""
    of, maze, keys, suite = config.dyna_maze, mazes.dyna_maze(), _keys(config, run), "dyna_maze"
    asked = [n for n in of.planning_steps if config.task == f"n{n}"]
    lengths: dict[int, np.ndarray] = {}
    speed: dict[int, dict[str, float]] = {}
    for n in asked or of.planning_steps:
        with run.phase(f"figure_8_2_n{n}"):
            runs = simulate(_agent(DynaQ, of, planning_steps=n), [maze], keys, of.episodes)
        lengths[n] = runs.lengths.reshape(config.seeds, config.runs, -1)
        speed[n] = _throughput(runs, run.seconds[f"figure_8_2_n{n}"])
    later = {f"{n} planning steps": of_n[..., 1:] for n, of_n in lengths.items()}
    episodes = np.arange(2, of.episodes + 1)
    figure = figures.means("Figure 8.2: Dyna maze", "episode", "steps per episode", episodes, later)
    results = []
    for n in lengths:
        near = lengths[n].mean(1) <= of.near_optimal_steps
        reached = np.where(near.any(1), near.argmax(1) + 1.0, np.nan)
        text = f"first episode whose mean over the runs is at most {of.near_optimal_steps:g} steps"
        row = (suite, f"n{n}", "dyna_q", "episodes_to_optimal_performance")
        curves = {
            "mean_steps": lengths[n].mean((0, 1)).round(3).tolist(),
            "median_steps": np.median(lengths[n], (0, 1)).tolist(),
        }
        budget = (of.episodes, 50, "episodes")
        results.append(_result(config, row, text, reached, budget, **curves, figures=[figure]))
        results[-1].throughput = speed[n]
    if asked:
        return results
    first = lengths[of.planning_steps[0]][..., 0]
    mean, deviation = maze.random_walk_steps()
    facts = {
        "identical_for_all_planning_steps": all(bool((of_n[..., 0] == first).all()) for of_n in lengths.values()),
        "exact": {"mean": mean, "std": deviation},
        "ours": {"mean": float(first.mean()), "std": float(first.std()), "median": float(np.median(first))},
    }
    for method in ("dyna_q", "exact_random_walk"):
        row = (suite, "all", method, "first_episode_steps")
        results.append(_result(config, row, "mean steps of the first episode", first, (1, 1, "episodes"), **facts))
    for n in (min(of.planning_steps), max(of.planning_steps)):
        agent = _agent(DynaQ, of, planning_steps=n)
        two = lengths[n].reshape(len(keys), -1)
        half = simulate(agent, [maze], keys, of.episodes, steps=two[:, 0] + two[:, 1] // 2)  # the same program again
        arrows = (half.q != 0).any(-1).sum(-1)
        row = (suite, "policy_after_half_of_episode_2", f"dyna_q_n{n}", "states_with_arrow")
        text = "mean number of cells with a value other than 0 halfway through the second episode (Figure 8.3)"
        results.append(_result(config, row, text, arrows, (2, 2, "episodes")))
    for method, epsilon in (("optimal", 0.0), ("optimal_epsilon_greedy_0.1", 0.1)):
        results.append(_optimal(config, keys, (suite, "all", method, "steps_per_episode"), maze, epsilon))
    return results


def _optimal(config: DynaConfig, keys: jax.Array, row: tuple[str, str, str, str], maze: Maze, epsilon: float) -> Result:
    """An episode a run by the exact optimal values, beside the exact expectation of its length."""
    q = maze.optimal_q(0.95)
    agent = _agent(DynaQ, Agent(alpha=0.0, epsilon=epsilon), planning_steps=0, initial_q=q)
    lengths = simulate(agent, [maze], keys, 1).lengths
    exact = maze.episode_steps(maze.epsilon_greedy(q, epsilon))[0]
    return _result(config, row, "mean steps of one episode", lengths, (1, 1, "episodes"), exact=exact)


def changing_maze(suite: str, config: DynaConfig, run: Run) -> list[Result]:
    """Examples 8.2 and 8.3 (Figures 8.4 and 8.5): cumulative reward of Dyna-Q and Dyna-Q+ in a maze that changes."""
    of: ChangingMaze = getattr(config, suite)
    shortcut = suite == "shortcut_maze"
    both, switch_at = (mazes.shortcut_maze(), 3000) if shortcut else (mazes.blocking_maze(), 1000)
    keys, steps = _keys(config, run), np.arange(0, of.steps + 1, 50)
    most = of.steps // min(maze.optimal_steps for maze in both) + 2
    agents: dict[str, dict[str, Any]] = {"dyna_q": {}, "dyna_q_plus": {"kappa": of.kappa, "untried": True}}
    reward, found, speed = {}, {}, {}
    for name, settings in agents.items():
        agent = _agent(DynaQ, of, planning_steps=of.planning_steps, **settings)
        with run.phase(f"{suite}_{name}"):
            runs = simulate(agent, both, keys, most, of.steps, switch_at=switch_at)
        speed[name] = _throughput(runs, run.seconds[f"{suite}_{name}"])
        complete = np.arange(most) < runs.episodes[:, None]
        ends = np.cumsum(runs.lengths, -1)
        total = np.stack([(complete & (ends <= step)).sum(-1) for step in steps], -1)
        reward[name] = total.reshape(config.seeds, config.runs, -1)
        # Only through a newly opened gap can an episode be shorter than the shortest path of the old maze.
        begun_after = complete & (ends - runs.lengths >= switch_at)
        found[name] = (begun_after & (runs.lengths < both[0].optimal_steps)).any(-1).astype(float)
    title = f"Figure {'8.5' if shortcut else '8.4'}: {suite.replace('_', ' ')}"
    figure = figures.means(title, "time step", "cumulative reward", steps, reward)
    budget, switch = (of.steps, 6000 if shortcut else 3000, "env_steps"), min(switch_at, of.steps) // 50
    lead, results = reward["dyna_q_plus"] - reward["dyna_q"], []
    for name in agents:
        facts = {"at_switch": float(reward[name][..., switch].mean()), "std": float(reward[name][..., -1].std())}
        text = f"mean cumulative reward after {of.steps:,} steps"
        row = (suite, "all", name, "cumulative_reward")
        results.append(_result(config, row, text, reward[name][..., -1], budget, **facts, figures=[figure]))
        results[-1].throughput = speed[name]
    for metric, place, when in (("lead_at_switch", switch, switch_at), ("lead_at_end", -1, of.steps)):
        text = f"cumulative reward of Dyna-Q+ less that of Dyna-Q after {when:,} steps, mean over paired runs"
        results.append(_result(config, (suite, "all", "dyna_q_plus", metric), text, lead[..., place], budget))
    if shortcut:
        text = f"share of the runs with an episode of under {both[0].optimal_steps} steps after the change"
        for name in agents:
            results.append(_result(config, (suite, "after", name, "found_shortcut"), text, found[name], budget))
    for task, maze in zip(("before", "after"), both, strict=True):
        results.append(_optimal(config, keys, (suite, task, "optimal", "steps_per_episode"), maze, 0.0))
    return results


def sweeping(config: DynaConfig, run: Run) -> list[Result]:
    """Example 8.4: updates until the greedy path is near-optimal, prioritised sweeping against Dyna-Q."""
    of, keys = config.sweeping, _keys(config, run)
    updates: dict[str, list[np.ndarray]] = {"dyna_q": [], "prioritized_sweeping": []}
    unsolved = []
    for k in of.resolutions:
        maze = mazes.dyna_maze(k)
        near = _near_optimal(maze, of.tolerance)
        n = of.planning_steps
        plain = simulate(_agent(DynaQ, of, planning_steps=n), [maze], keys, of.episodes, stop=near)
        agent = _agent(PrioritizedSweeping, of, planning_steps=n, theta=of.theta)
        swept = simulate(agent, [maze], keys, of.episodes, stop=near)
        unsolved.append([int((runs.episodes == of.episodes).sum()) for runs in (plain, swept)])
        updates["dyna_q"].append(plain.steps * (n + 1))
        updates["prioritized_sweeping"].append(swept.updates)
        counts = ", ".join(f"{name} {of_all[-1].mean():,.0f}" for name, of_all in updates.items())
        run.log.say(f"  {maze.num_states} states, mean updates: {counts}")
    shaped = {name: np.stack(of_all, -1).reshape(config.seeds, config.runs, -1) for name, of_all in updates.items()}
    factors = shaped["dyna_q"].mean(1) / shaped["prioritized_sweeping"].mean(1)
    states = [mazes.dyna_maze(k).num_states for k in of.resolutions]
    title, logs = "Example 8.4: sweeping", {name: np.log10(u) for name, u in shaped.items()}
    facts = {
        "states": states,
        "mean_updates": {name: of_all.mean((0, 1)) for name, of_all in shaped.items()},
        "median_updates": {name: np.median(of_all, (0, 1)) for name, of_all in shaped.items()},
        "unsolved_runs": dict(zip(updates, np.transpose(unsolved), strict=True)),
        "factor": shaped["dyna_q"].mean((0, 1)) / shaped["prioritized_sweeping"].mean((0, 1)),
        "figures": [figures.means(title, "states of the maze", "log10 of updates until near-optimal", states, logs)],
    }
    row = ("prioritized_sweeping_mazes", "all", "prioritized_sweeping", "speed_up_over_dyna_q")
    text = "mean over the mazes of (mean updates of Dyna-Q / mean updates of prioritised sweeping)"
    return [_result(config, row, text, factors, (1, 1, "experiments"), **facts)]


def _near_optimal(maze: Maze, tolerance: float) -> Callable[[Any], jax.Array]:
    """Whether the greedy path (ties: first action) reaches a goal within `tolerance` times the shortest path."""
    moves, goal = jnp.asarray(maze.moves), jnp.asarray(maze.terminal)
    steps = int(tolerance * maze.optimal_steps)

    def near(state: Any) -> jax.Array:
        greedy = lambda _, cell: moves[cell, argmin(-state.q[cell])]  # noqa: E731
        return goal[jax.lax.fori_loop(0, steps, greedy, jnp.int32(maze.start_cell))]

    return near
