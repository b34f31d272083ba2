"""The recorded cases, and an independent implementation in plain Python on random mazes with random settings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from papers.dyna.parity import CASES
from repro.envs.mazes import Maze
from repro.errors import UsageError
from repro.interop.parity import Golden, check

GOLDEN = Golden(Path(__file__).parents[2] / "golden" / "dyna")
SINGLE = [name for name in GOLDEN.names if name.startswith(("dyna_q", "prioritized_sweeping")) and "sto" not in name]


@pytest.mark.parametrize("name", GOLDEN.names)
def test_recorded_case(name: str) -> None:
    result = check(GOLDEN.load(name), CASES)
    assert result.passed, result


@pytest.mark.parametrize("name", SINGLE)
def test_single_precision_decides_the_same(name: str) -> None:
    single = {key: function.__wrapped__ for key, function in CASES.items()}  # type: ignore[attr-defined]
    result = check(GOLDEN.load(name), single)
    assert result.passed, result


# ---- plain Python ----------------------------------------------------------------------------------------------------


def random_case(seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray], Maze]:
    random = np.random.default_rng(seed)
    while True:
        height, width = random.integers(3, 7, 2)
        walls = random.random((height, width)) < 0.2
        cells = [tuple(map(int, c)) for c in np.argwhere(~walls)]
        start, goal = (cells[i] for i in random.choice(len(cells), 2, replace=False))
        try:
            maze = Maze(walls, start, (goal,))
        except UsageError:
            continue
        if maze.optimal_steps > 2:
            break
    steps, n = 400, int(random.integers(1, 6))
    config = {
        "real_steps": steps, "alpha": 0.5, "gamma": 0.5, "epsilon": 0.2, "initial_q": 0.0, "terminal_value": 0.0,
    }  # fmt: skip
    draw = lambda *shape: (random.integers(0, 2**16, shape) * 2.0**-16).astype(np.float32)  # noqa: E731
    inputs = {
        "u_act": draw(steps, 3),
        "u_plan": draw(steps, n, 2),
        "snapshot_steps": np.array([steps // 2, steps]),
        "maze0/walls": walls.astype(np.int8),
        "maze0/start": np.array(start, np.int32),
        "maze0/goals": np.array([goal], np.int32),
    }
    return config | {"n": n}, inputs, maze


def plain_steps(config: dict[str, Any], inputs: dict[str, np.ndarray], maze: Maze, q: np.ndarray) -> Any:
    """Yields (t, s, a, r, s2) of every real step; the caller updates q in between."""
    s = maze.start_cell
    for t, (u0, u1, u2) in enumerate(inputs["u_act"].astype(float)):
        best = [a for a in range(4) if q[s, a] == q[s].max()]
        a = int(4 * u1) if u0 < config["epsilon"] else best[int(len(best) * u2)]
        s2 = int(maze.next_state[s, a])
        yield t, s, a, float(maze.terminal[s2]), s2
        s = maze.start_cell if maze.terminal[s2] else s2


def write(folder: Path, function: str, config: dict[str, Any], inputs: Any, outputs: dict[str, Any]) -> Golden:
    np.savez(folder / "case.npz", **inputs, **outputs)
    rules = [{"name": name, "kind": "float", "tol": 1e-9, "measure": "abs"} for name in outputs]
    case = {"config": config | {"function": function}, "weights": [], "inputs": list(inputs), "ignore": []}
    (folder / "cases.json").write_text(json.dumps({"paper": "dyna", "cases": {"case": case | {"outputs": rules}}}))
    return Golden(folder)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("untried", [False, True])
def test_dyna_q_equals_plain_python(seed: int, untried: bool, tmp_path: Path) -> None:
    config, inputs, maze = random_case(seed)
    kappa = 0.01 if untried else 0.0
    q, model, visited, known, tried = np.zeros((maze.walls.size, 4)), {}, [], {}, {}
    log, plan, snapshots = [], [], []
    for t, s, a, r, s2 in plain_steps(config, inputs, maze, q):
        q[s, a] += config["alpha"] * (r + config["gamma"] * q[s2].max() - q[s, a])
        if s not in known:
            visited.append(s)
            known[s] = list(range(4)) if untried else []
        if a not in known[s]:
            known[s].append(a)
        model[s, a], tried[s, a] = (r, s2), t + 1
        for i, (u0, u1) in enumerate(inputs["u_plan"][t].astype(float)):
            ps = visited[int(len(visited) * u0)]
            pa = known[ps][int(len(known[ps]) * u1)]
            pr, ps2 = model.get((ps, pa), (0.0, ps))
            bonus = kappa * np.sqrt(t + 1 - tried.get((ps, pa), 0))
            q[ps, pa] += config["alpha"] * (pr + bonus + config["gamma"] * q[ps2].max() - q[ps, pa])
            plan.append([t, i, ps, pa, ps2, bonus])
        log.append([t, s, a, r, s2, float(maze.terminal[s2])])
        snapshots.append(q.copy())
    outputs = {
        "log": log,
        "planning_log": plan,
        "q_snapshots": [snapshots[i - 1] for i in inputs["snapshot_steps"]],
        "q_final": q,
    }
    settings = config | {
        "planning_steps": config["n"],
        "kappa": kappa,
        "bonus": "kappa*sqrt(tau) added to the modelled reward",
        "untried": "for every visited state all four actions" if untried else "only tried pairs",
    }
    golden = write(tmp_path, "dyna_q", settings, inputs, outputs)
    result = check(golden.load("case"), CASES)
    assert result.passed, result


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_prioritized_sweeping_equals_a_sorted_list(seed: int, alpha: float, tmp_path: Path) -> None:
    config, inputs, maze = random_case(100 + seed)
    config |= {"alpha": alpha, "theta": 2.0**-12, "max_updates_per_step": config["n"]}
    q, model, order = np.zeros((maze.walls.size, 4)), {}, []
    queue: list[tuple[float, tuple[int, int]]] = []  # largest first, equal ones in the order of insertion
    log, pops, insertions, lengths = [], [], [], []

    def insert(t: int, k: int, pair: tuple[int, int]) -> None:
        r, s2 = model[pair]
        p = abs(r + config["gamma"] * q[s2].max() - q[pair])
        old = next((p for p, other in queue if other == pair), 0.0)
        if p > config["theta"] and p > old:
            queue[:] = [entry for entry in queue if entry[1] != pair] + [(p, pair)]
            queue.sort(key=lambda entry: -entry[0])  # stable: earlier insertions stay in front
            insertions.append([t, k, *pair, p])

    for t, s, a, r, s2 in plain_steps(config, inputs, maze, q):
        if (s, a) not in model:
            order.append((s, a))
        model[s, a] = (r, s2)
        insert(t, -1, (s, a))
        for k in range(config["n"]):
            if not queue:
                break
            p, pair = queue.pop(0)
            pr, ps2 = model[pair]
            q[pair] += alpha * (pr + config["gamma"] * q[ps2].max() - q[pair])
            pops.append([t, k, *pair, p, q[pair]])
            for source in order:
                if model[source][1] == pair[0]:
                    insert(t, k, source)
        log.append([t, s, a, r, s2, float(maze.terminal[s2])])
        lengths.append(len(queue))
    final = np.array([[*pair, p] for p, pair in queue]).reshape(-1, 3)
    outputs = {"log": log, "pops": pops, "insertions": insertions, "queue_length": lengths, "queue_final": final}
    del inputs["u_plan"]
    golden = write(tmp_path, "prioritized_sweeping", config, inputs, outputs | {"q_final": q})
    result = check(golden.load("case"), CASES)
    assert len(pops) > 20 and result.passed, result
