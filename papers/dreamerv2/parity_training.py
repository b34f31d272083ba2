"""DreamerV2 against recorded official numbers: returns, data, schedules, optimiser (see `parity.py`)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from papers.dreamerv2.agent_config import OptimizerConfig
from papers.dreamerv2.algorithm import make_optimizer
from papers.dreamerv2.official import schedule
from repro.envs.dmc import to_bounds
from repro.interop.parity import Case, stepped
from repro.interop.weights import Arrays, under
from repro.nn.observations import normalize
from repro.optim.targets import move_target
from repro.replay.episodes import clipped_start
from repro.rl.returns import discount_weights, lambda_return_of_states

f32 = jnp.float32


def lambda_return(case: Case) -> Arrays:
    """Targets and weights."""
    inputs = under(case.inputs, "inputs/")

    def returns(lam: float, reward: Any, value: Any, discount: Any, bootstrap: Any) -> Any:
        # There the value after the last step is an argument of its own; here it is the last of the values.
        longer = lambda x, end: jnp.concatenate([x, end[None]])  # noqa: E731
        nothing = jnp.zeros_like(bootstrap)
        values = longer(value, bootstrap)
        return lambda_return_of_states(longer(reward, nothing), longer(discount, nothing), lam, values)

    arguments = tuple(inputs[k] for k in ("reward", "value", "discount", "bootstrap"))
    constant = jnp.full_like(arguments[2], case.config["scalar_discount"])
    lam, upstream = case.config["grad_lambda"], inputs["upstream"]
    total = lambda r, v, c, end: (returns(lam, r, v, c, end) * upstream).sum()  # noqa: E731
    gradients = jax.grad(total, (0, 1, 2, 3))(*arguments)
    return {
        **{f"outputs/lambda{k}": returns(k, *arguments) for k in case.config["lambdas"]},
        f"outputs/lambda{lam}_scalar_discount{case.config['scalar_discount']}": returns(
            lam, arguments[0], arguments[1], constant, arguments[3]
        ),
        f"outputs/lambda{lam}_no_bootstrap": returns(
            lam, arguments[0], arguments[1], arguments[2], jnp.zeros_like(arguments[3])
        ),
        "outputs/weight": discount_weights(inputs["discount_full"]),
        **dict(zip((f"grads/{k}" for k in ("reward", "value", "discount", "bootstrap")), gradients, strict=True)),
    }


def preprocess(case: Case) -> Arrays:
    """Images, rewards, discount targets."""
    c, inputs = case.config, under(case.inputs, "inputs/")
    return {
        "outputs/image": normalize(inputs["image"], f32),
        "outputs/reward": jnp.tanh(inputs["reward"]) if c["clip_rewards"] == "tanh" else inputs["reward"],
        "outputs/discount": c["discount"] * (1 - inputs["is_terminal"].astype(f32)),
    }


def normalize_action(case: Case) -> Arrays:
    """Actions within the bounds of the environment."""
    low, high, action = (case.inputs[f"inputs/{k}"].astype(float) for k in ("low", "high", "action"))
    bound = np.ones(low.shape)
    return {
        "outputs/env_action": to_bounds(action, low, high),
        "outputs/space_low": -bound,
        "outputs/space_high": bound,
    }


def replay_start_index(case: Case) -> Arrays:
    """Where a window begins for a draw; `upper` is the number of equally likely draws."""
    c = case.config
    found: Arrays = {}
    length = c["minlen"]
    for total in case.inputs["inputs/totals"]:
        for ends in (0, 1):
            upper = int(total) - length + 1
            for name, count in (("head", upper + length * ends), ("paper", int(total) if ends else upper)):
                start = clipped_start(jnp.arange(count), jnp.int32(total), length)
                found |= {f"outputs/{name}/total{total}_ends{ends}/start_of_u": start}
                found[f"outputs/{name}/total{total}_ends{ends}/upper"] = count
    v = c["variable"]
    rows = []
    for cut in range(v["minlen"]):
        length = max(v["minlen"], min(v["total"], v["maxlen"]) - cut)
        upper = v["total"] - length + 1 + v["minlen"] * v["prioritize_ends"]
        starts = np.asarray(clipped_start(jnp.arange(upper), jnp.int32(v["total"]), length))
        rows += [(cut, u, upper, s, length) for u, s in enumerate(starts)]
    return found | {f"outputs/head/variable_total{v['total']}_min{v['minlen']}_max{v['maxlen']}": np.array(rows)}


def replay_chunks(case: Case) -> Arrays:
    """Sequences one behind the other, cut into chunks; each begins with a reset."""
    lengths, size = case.inputs["inputs/lengths"], int(case.inputs["inputs/chunk_length"])
    steps = [(100.0 * i + t, t == 0) for i, n in enumerate(lengths) for t in range(n)][: size * case.config["chunks"]]
    values, first = (np.array(x).reshape(-1, size) for x in zip(*steps, strict=True))
    return {"outputs/action": values, "outputs/is_first": first}


def schedules(case: Case) -> Arrays:
    """Schedules given as text."""
    return {
        f"outputs/schedule{i}": [schedule(text, step) for step in case.inputs["inputs/steps"]]
        for i, text in enumerate(case.config["specs"])
    }


def slow_target(case: Case) -> Arrays:
    """Copies of the critic."""
    target, found = jnp.asarray(case.inputs["inputs/target_init"]), []
    for i, source in enumerate(case.inputs["inputs/source"]):
        rate = 1.0 if i == 0 else case.config["fraction"]
        target = move_target(target, jnp.asarray(source), rate, jnp.int32(i), case.config["update"])
        found.append(target)
    return {"outputs/target": jnp.stack(found)}


def stream_norm(case: Case) -> Arrays:
    """The official running magnitude of rewards; at the published momentum of 1 it divides by 1 + eps only."""
    c = case.config
    found: Arrays = {}
    for momentum in c["momenta"]:
        magnitude = 1.0
        for i in range(3):
            x = case.inputs[f"inputs/x{i}"]
            magnitude = momentum * magnitude + (1 - momentum) * np.abs(x).mean()
            found[f"outputs/momentum{momentum}/out{i}"] = x / (magnitude + c["eps"]) * c["scale"]
            found[f"outputs/momentum{momentum}/mag{i}"] = magnitude
    return found


def optimizer(case: Case) -> Arrays:
    """Clipping, decay, Adam."""
    c = case.config
    optimizer = make_optimizer(OptimizerConfig(c["lr"], c["eps"], c["clip"], c["weight_decay"]))
    params = under(case.weights, "inputs/init/")
    found: Arrays = {}
    gradients = [under(case.inputs, f"inputs/grads/step{i}/") for i in range(c["steps"])]
    for i, after in enumerate(stepped(optimizer, params, gradients)):
        found |= {f"outputs/step{i}/{k}": v for k, v in after.items()}
        found[f"outputs/step{i}/grad_norm"] = optax.tree.norm(gradients[i])
    return found


def atari_preprocessing(case: Case) -> Arrays:
    """The wrapper's loop over emulator frames, in the terms of our environment settings."""
    c = case.config
    frames, reward, over = (case.inputs[f"inputs/{k}"] for k in ("frames", "reward", "game_over"))
    size, repeat = c["screen_size"], c["frame_skip"]
    actions, at = [c["noop_action"]] * int(case.inputs["inputs/noops"]), int(case.inputs["inputs/noops"])
    newest, before = frames[at], np.zeros_like(frames[0])
    images, rewards = [area(newest, size)], []
    ends: list[bool] = []
    while not ends or not ends[-1]:
        total, done = 0.0, False
        for i in range(repeat):
            at += 1
            actions.append(c["action"])
            total += float(reward[at])
            done = bool(over[at])
            if done:
                break
            if i == repeat - 2:
                before = frames[at]
            elif i == repeat - 1:
                newest = frames[at]
        newest = np.maximum(newest, before)
        images.append(area(newest, size))
        rewards.append(total)
        ends.append(done)
    return {
        "outputs/obs": np.stack(images),
        "outputs/reward": np.array(rewards),
        "outputs/done": np.array(ends),
        "outputs/noop_range": np.array([1, c["noop_max"] + 1]),
        "outputs/action_log": np.array(actions),
    }


def area(frame: np.ndarray, size: int) -> np.ndarray:
    """Mean over the area of each target pixel, in the float32 steps of OpenCV's INTER_AREA."""

    def weights(source: int) -> np.ndarray:
        scale, table = source / size, np.zeros((size, source), np.float32)
        for i in range(size):
            low, high = i * scale, (i + 1) * scale
            for j in range(int(low), min(source, int(np.ceil(high)))):
                table[i, j] = (min(high, j + 1) - max(low, j)) / min(scale, source - low)
        return table

    rows = frame.astype(np.float32) @ weights(frame.shape[1]).T
    return np.rint(weights(frame.shape[0]) @ rows).astype(np.uint8)
