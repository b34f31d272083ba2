"""The recorded cases: the agents replay the recorded random numbers, in double precision as recorded."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from papers.dyna import agents, expected
from repro.envs.mazes import Maze, MazeEnv
from repro.interop.parity import Case

Outputs = dict[str, Any]
ACTIONS = 4


def _double(function: Callable[[Case], Outputs]) -> Callable[[Case], Outputs]:
    @wraps(function)
    def run(case: Case) -> Outputs:
        with jax.enable_x64(True):
            return {name: np.asarray(value) for name, value in function(case).items()}

    return run


def _maze(inputs: Mapping[str, np.ndarray], name: str) -> Maze:
    goals = tuple((int(row), int(column)) for row, column in inputs[f"{name}/goals"])
    row, column = map(int, inputs[f"{name}/start"])
    return Maze(inputs[f"{name}/walls"].astype(bool), (row, column), goals)


def mazes(case: Case) -> Outputs:
    """Tables, shortest paths, optimal values and random walks of every maze."""
    found: Outputs = {}
    for name in sorted({key.split("/")[0] for key in case.inputs}):
        maze = _maze(case.inputs, name)
        found |= {
            f"{name}/next_state": maze.next_state,
            f"{name}/reward": maze.reward,
            f"{name}/terminal": maze.terminal,
            f"{name}/shortest_path": maze.shortest_path,
            f"{name}/optimal_steps": maze.optimal_steps,
            f"{name}/optimal_q": maze.optimal_q(case.config["gamma"]),
            f"{name}/random_walk_steps": maze.random_walk_steps(),
        }
    return found


def _agent(case: Case, kind: Any, planning_steps: int, **settings: Any) -> tuple[Any, MazeEnv]:
    config = case.config
    both = [_maze(case.inputs, name) for name in ("maze0", "maze1") if f"{name}/walls" in case.inputs]
    env = MazeEnv(both, 1, config.get("switch_at"))
    q = np.full((both[0].walls.size, ACTIONS), float(config["initial_q"]))
    q[both[0].terminal] = config["terminal_value"] if "terminal_value" in config else 0.0
    spaces = env.obs_spaces, env.action_spaces
    of = config["alpha"], config["gamma"], config["epsilon"], planning_steps
    return kind(*spaces, *of, initial_q=q, **settings), env


def _replay(case: Case, agent: Any, env: MazeEnv, u_plan: np.ndarray) -> tuple[Any, Outputs, Outputs]:
    """Final agent state, the outputs that all cases have, and everything logged, leaves `[T, ...]`."""

    def step(carry: tuple[Any, Any], u: tuple[jax.Array, jax.Array]) -> tuple[tuple[Any, Any], Outputs]:
        state, world = carry
        begin = env.init()[0]
        s = jnp.where(world.over, begin.cell, world.cell)[0]
        a = agent.choose(state, s, u[0])
        world = world._replace(cell=s[None], over=begin.over)
        world, timestep = env.step(world, {"action": a[None]})
        s2, r, yes = timestep.obs["cell"][0], timestep.reward[0].astype(state.q.dtype), jnp.bool(True)
        row = jnp.array([s, a, r, s2, timestep.is_last[0]])
        state, real = agent.observe(state, s, a, r, s2, yes)
        state, planned = agent.plan(state, u[1], yes)
        queued = (state.priority > 0).sum() if hasattr(state, "priority") else 0
        return (state, world), {"row": row, "q": state.q, "real": real, "planned": planned, "queued": queued}

    draws = jnp.asarray(case.inputs["u_act"], float), jnp.asarray(u_plan, float)
    begin = agent.init(jax.random.key(0)), env.init()[0]
    (state, _), logs = jax.jit(lambda begin, draws: jax.lax.scan(step, begin, draws))(begin, draws)
    logs = jax.device_get(logs)
    time = np.arange(len(logs["row"]))
    found = {
        "log": np.column_stack([time, logs["row"]]),
        "q_snapshots": logs["q"][case.inputs["snapshot_steps"] - 1],
        "q_final": logs["q"][-1],
    }
    return jax.device_get(state), found, logs


def dyna_q(case: Case) -> Outputs:
    """Dyna-Q and its variants; the texts of the configuration say which."""
    text = lambda name: str(case.config.get(name, ""))  # noqa: E731
    kappa, selection = case.config.get("kappa", 0.0), "choosing" in text("bonus")
    settings: dict[str, Any] = {
        "untried": text("untried").startswith("for every"),
        "kappa": 0.0 if selection else kappa,
    }
    if selection:
        settings["preferences"] = agents.values_with_bonus(kappa)
    if text("search_control").startswith("pair"):
        settings["search_control"] = agents.uniform_pairs
    n = case.config["planning_steps"]
    agent, env = _agent(case, agents.DynaQ, n, **settings)
    state, found, logs = _replay(case, agent, env, case.inputs["u_plan"][:, :n])
    plan = logs["planned"]
    place = np.indices(plan["state"].shape)
    columns = [*place, plan["state"], plan["action"], plan["next_state"], plan["bonus"]]
    found["planning_log"] = np.stack(columns, -1).reshape(-1, len(columns))
    return found | {"last_tried": state.last_tried}


def prioritized_sweeping(case: Case) -> Outputs:
    """The deterministic agent with every insertion and update."""
    n = case.config["max_updates_per_step"]
    agent, env = _agent(case, agents.PrioritizedSweeping, n, theta=case.config["theta"])
    state, found, logs = _replay(case, agent, env, np.zeros((len(case.inputs["u_act"]), n, 2)))
    plan, real = logs["planned"], logs["real"]
    place = np.indices(plan["valid"].shape)
    pops = np.stack([*place, *(plan[k] for k in ("state", "action", "priority", "q_after"))], -1)[plan["valid"]]
    inserted = []
    for k, log in enumerate([real, *({x: plan[f"insertion_{x}"][:, i] for x in real} for i in range(n))], start=-1):
        t = np.broadcast_to(np.arange(len(log["enters"]))[:, None], log["enters"].shape)
        rows = np.stack([t, np.full_like(t, k), log["state"], log["action"], log["priority"]], -1)
        inserted.append(rows[log["enters"]])
    rows = np.concatenate(inserted)
    order = np.lexsort((state.inserted.ravel(), -state.priority.ravel()))[: int(logs["queued"][-1])]
    s, a = np.unravel_index(order, state.priority.shape)
    return found | {
        "pops": pops,
        "insertions": rows[np.lexsort((np.arange(len(rows)), rows[:, 1], rows[:, 0]))],
        "queue_length": logs["queued"],
        "queue_final": np.stack([s, a, state.priority[s, a]], -1),
    }


def prioritized_sweeping_stochastic(case: Case) -> Outputs:
    """The counted model, the queue worked off after every step."""
    states, actions, gamma = case.config["states"], case.config["actions"], case.config["gamma"]
    transitions = jnp.asarray(case.inputs["transitions"], float)

    def step(model: expected.Counts, row: jax.Array) -> tuple[expected.Counts, tuple[jax.Array, jax.Array]]:
        (s, a, s2), r = row[jnp.array([0, 1, 3])].astype(int), row[2]
        model = model._replace(visits=model.visits.at[s, a, s2].add(1), rewards=model.rewards.at[s, a, s2].add(r))
        priority = jnp.abs(expected.expected_update(model, gamma) - model.q)[s, a]
        model = expected.sweep_until_empty(model, s, a, gamma, 1e-12)
        return model, (priority, model.q)

    none = jnp.zeros((states, actions, states))
    model, (priority, q) = jax.lax.scan(step, expected.Counts(none[..., 0], none, none), transitions)
    snapshots = q[case.inputs["snapshot_steps"] - 1]
    return {"counts": model.visits, "reward_sums": model.rewards, "priority": priority, "q_snapshots": snapshots}


def expected_vs_sample(case: Case) -> Outputs:
    """The error formula and a run of sample averages."""
    values = case.inputs["successor_values"]
    drawn = values[case.inputs["drawn_index"]]
    running = np.cumsum(drawn) / np.arange(1, len(drawn) + 1)
    error = expected.sample_error(jnp.asarray(case.inputs["b"])[:, None], jnp.asarray(case.inputs["t"]))
    return {"rms_error": error, "running_estimate": running, "abs_error": np.abs(running - values.mean())}


def trajectory_sampling(case: Case) -> Outputs:
    """Uniform expected updates and the value of the start state."""
    arrays, config, after = case.inputs, case.config, case.inputs["updates"]
    tables = arrays["task_next"], arrays["task_reward"]
    end, gamma = config["termination"], config["gamma"]
    every = expected.uniform_updates(jnp.asarray(tables[0]), jnp.asarray(tables[1]), end, gamma, int(after.max()))
    q = np.asarray(every)[after - 1]
    values = [expected.start_value(values, *tables, end, gamma, config["start_state"]) for values in q]
    return {"start_value": values, "q_final": q[-1]}


CASES = {
    function.__name__: _double(function)
    for function in (
        mazes, dyna_q, prioritized_sweeping, prioritized_sweeping_stochastic, expected_vs_sample, trajectory_sampling
    )
}  # fmt: skip
