"""DreamerV1 against recorded official numbers: data, schedules, fresh weights, the TensorFlow 1 code (`parity.py`)."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from papers.dreamerv1.losses import behaviour_losses
from repro.envs.dmc import to_bounds
from repro.interop.parity import Case, stepped
from repro.interop.weights import Arrays, under
from repro.nn.distributions import Normal, categorical
from repro.nn.latents import softplus_std
from repro.nn.observations import normalize
from repro.optim.adam import keras_adam
from repro.replay.episodes import within, without_last

f32 = jnp.float32


def preprocess(case: Case) -> Arrays:
    """Images and rewards."""
    image, reward = jnp.asarray(case.inputs["image_uint8"]), jnp.asarray(case.inputs["reward"])
    c = case.config
    tf1 = image.astype(f32) / c["tf1_divisor"] + jnp.asarray(case.inputs["tf1/uniform"]) + c["tf1_offset"]
    return {
        "none/image": normalize(image, f32),
        "none/reward": reward,
        "tanh/reward": jnp.tanh(reward),
        "tf1/image": tf1,
    }


def replay_sampling(case: Case) -> Arrays:
    """Our windows held against the recorded statistics by the rules of the case."""
    c = case.config
    found: Arrays = {}
    lengths, size, draws = case.inputs["episode_lengths"], c["batch_length"], c["draws"]
    possible = lengths > size
    for tag, window in (("default", without_last), ("balance", within)):
        keys = jax.random.split(jax.random.key(c["seed"]))
        episode = np.flatnonzero(possible)[np.asarray(jax.random.randint(keys[0], (draws,), 0, int(possible.sum())))]
        start = np.asarray(window(keys[1], jnp.asarray(lengths[episode], jnp.int32), size))
        share = 1 / possible.sum()
        allowed = c["sigmas"] * math.sqrt(draws * share * (1 - share))
        counts = np.bincount(episode, minlength=len(lengths))
        reference = {k: case.outputs[f"{tag}/{k}"].reference for k in STATISTICS}
        worst = dict.fromkeys(STATISTICS, 0.0)
        worst["episode_counts"] = float(np.abs(counts - draws * share * possible).max() / allowed)
        for i, length in enumerate(lengths):
            own = start[episode == i]
            lowest, highest = (own.min(), own.max()) if len(own) else (-1, -1)
            last = int((own + size == length).sum())
            top = (length - size - (tag == "default")) if possible[i] else -1
            room = c["start_slack"] + 1e-9
            worst["min_start"] = max(worst["min_start"], (lowest - reference["min_start"][i]) / room)
            low = reference["max_start"][i] - (room if tag == "default" else 0)
            worst["max_start"] = max(worst["max_start"], 0.0 if low <= highest <= top else 2.0)
            if tag == "default":
                worst["chunks_with_last_step"] = max(worst["chunks_with_last_step"], float(last > 0) * 2)
            elif possible[i]:
                p = size / length
                spread = c["sigmas"] * math.sqrt(len(own) * p * (1 - p)) + 1e-9
                worst["chunks_with_last_step"] = max(worst["chunks_with_last_step"], abs(last - len(own) * p) / spread)
        found |= {f"{tag}/{k}": v for k, v in worst.items()}
    return found


STATISTICS = ("episode_counts", "min_start", "max_start", "chunks_with_last_step")


def episode_layout(case: Case) -> Arrays:
    """A stored episode: row t has observation t, and the action and reward that led to it."""
    c = case.config
    found: Arrays = {}
    low, high = np.array([c["action_low"]] * 2), np.array([c["action_high"]] * 2)
    for tag in ("time_limit", "terminal"):
        spec, given = c[tag], case.inputs[f"{tag}/actions_given"]
        inner, seen = 0, []
        rows: list[tuple[int, Any, float, float]] = [(0, np.zeros(2), 0.0, 1.0)]
        for number, action in enumerate(given, 1):
            reward, over = 0.0, False
            for _ in range(c["action_repeat"]):
                inner += 1
                seen.append(to_bounds(action.astype(float), low, high))
                reward += 0.25 * inner
                over = inner >= spec["toy_length"]
                if over:
                    break
            rows.append((inner, action, reward, 0.0 if over and spec["terminal"] else 1.0))
            if over or number == spec["limit_agent_steps"]:
                break
        image, actions, rewards, discounts = zip(*rows, strict=True)
        frames = np.stack([np.full((2, 2, 3), i % 256, np.uint8) for i in image])
        layout = {"image": frames, "action": np.stack(actions), "reward": rewards, "discount": discounts}
        found |= {f"{tag}/episode/{k}": np.asarray(v) for k, v in layout.items()}
        found[f"{tag}/actions_seen_by_env"] = np.stack(seen)
    return found


def schedules(case: Case) -> Arrays:
    """When the official main loop updates and evaluates."""
    c, last, fires = case.config, None, []

    def due(step: float, every: float, last: float | None) -> tuple[bool, float]:
        if last is None:
            return True, step
        return (True, last + every) if step >= last + every else (False, last)

    for step in case.inputs["every/steps"]:
        fired, last = due(step, c["every"], last)
        fires.append(fired)
    trace, evaluations, step, trained = [], [], c["prefill"], None
    total, pretrained = 0, False

    def agent_call(training: bool) -> None:
        nonlocal trained, total, pretrained, step
        fired, trained = due(step, c["train_every"], trained)
        updates = (c["train_steps"] if pretrained else c["pretrain"]) if fired else 0
        pretrained = pretrained or fired
        if updates:
            trace.append((step, int(training), updates))
            total += updates
        step += c["action_repeat"] if training else 0

    while step < c["stop_at"]:
        evaluations.append(step)
        for _ in range(c["episode_agent_steps"]):
            agent_call(False)
        for _ in range(int(c["eval_every"] / c["action_repeat"])):
            agent_call(True)
    return {
        "every/fires": np.array(fires),
        "once": np.array([True] + [False] * (c["once_calls"] - 1)),
        "main/prefill_env_steps": c["prefill"],
        "main/eval_at_env_step": np.array(evaluations),
        "main/train_trace_step_training_updates": np.array(trace),
        "main/total_updates": total,
        "main/final_env_step": step,
    }


def drift(name: str, value: np.ndarray) -> float:
    """Largest deviation of fresh weights from the stated distribution, over what is allowed."""
    if name.endswith("bias"):
        return float(np.abs(value).max() > 0) * 2
    n = value.size
    if name.endswith("recurrent_kernel"):
        return float(abs(value.std() * math.sqrt(value.shape[1]) - 1) / 1e-3)
    area = math.prod(value.shape[:-2])
    limit = math.sqrt(6 / (area * (value.shape[-2] + value.shape[-1])))
    inside = max(value.max(), -value.min()) / (limit * (1 + 1e-5))
    reached = limit * (1 - 20 / n) / min(value.max(), -value.min())
    mean = abs(value.mean()) / (5 * limit / math.sqrt(3 * n))
    spread = abs(value.std() / (limit / math.sqrt(3)) - 1) / (5 / math.sqrt(n))
    return float(max(mean, spread, inside if inside > 1 else 0, reached if reached > 1 else 0))


def tf1_reference(case: Case) -> Arrays:
    """The parts of the TensorFlow 1 code that differ, from the suite's pieces."""
    c, inputs = case.config, {k: jnp.asarray(v) for k, v in case.inputs.items()}
    found = tf1_rssm(c, {k: jnp.asarray(v) for k, v in case.weights.items()}, inputs)
    reward, value, pcont = (inputs[f"objective/{k}"].T for k in ("reward", "value", "pcont"))

    def objective(reward: Any, value: Any, live: Any, learned: Any) -> Any:
        # The last step is dropped first, and the value of the step before it ends the returns.
        cut = lambda x: x[:-1]  # noqa: E731
        last = jnp.concatenate([cut(value)[1:], cut(value)[-1:]])
        ends = jnp.concatenate([cut(value), last[-1:]])
        longer = lambda x: jnp.concatenate([cut(x), x[-1:]])  # noqa: E731
        return behaviour_losses(longer(reward), longer(live), ends, learned[:-1], c["lambda"])

    for tag, live in (("const", jnp.full_like(pcont, c["discount"])), ("pcont", pcont)):
        result = objective(reward, value, live, value)
        likelihood = lambda v, r=result: -r.weight * Normal(v[:-1], jnp.ones(())).log_prob(r.returns)  # noqa: E731
        of = jax.grad(lambda r, v, c: -objective(r, v, c, value).actor, (0, 1, 2))(reward, value, live)
        found |= {
            f"objective/{tag}/action_values": (result.weight * result.returns).T,
            f"objective/{tag}/value_loss": likelihood(value).T,
            f"objective/{tag}/grad_reward": of[0].T,
            f"objective/{tag}/grad_value": of[1].T,
            f"objective/{tag}/grad_pcont": of[2].T if tag == "pcont" else jnp.zeros_like(of[2]).T,
            f"objective/{tag}/value_loss_grad_value": jax.grad(lambda v, f=likelihood: f(v).mean())(value).T,
        }
    adam = c["adam"]
    optimizer, params = keras_adam(adam["lr"], adam["eps"], adam["clip"]), under(case.weights, "adam_eps1e-4/init/")
    gradients = [under(case.inputs, f"adam_eps1e-4/grad{i}/") for i in range(adam["steps"])]
    for i, after in enumerate(stepped(optimizer, params, gradients)):
        found |= {f"adam_eps1e-4/after{i}/{k}": v for k, v in after.items()}
        found[f"adam_eps1e-4/norm{i}"] = optax.tree.norm(gradients[i])
    logits, index, cotangent = (inputs[f"onehot/{k}"] for k in ("logits", "index", "cotangent"))
    hard = jax.nn.one_hot(index, logits.shape[-1])

    def score(logits: Any) -> Any:
        log_prob = categorical(logits).log_prob(index)[:, None]
        return hard * jnp.exp(log_prob - jax.lax.stop_gradient(log_prob))

    for name, f in (("score", score), ("straight", lambda x: categorical(x).straight_through(index))):
        found[f"onehot/{name}/sample"] = f(logits)
        found[f"onehot/{name}/grad_logits"] = jax.grad(lambda x, f=f: (f(x) * cotangent).sum())(logits)
    epsilon, pixels = c["epsilon"], c["preprocess"]
    ramp = jnp.maximum(epsilon["minimum"], 1 - inputs["epsilon/trainer_step"] / epsilon["ramp"])
    image = inputs["preprocess/image_uint8"].astype(f32) / pixels["divisor"]
    found["preprocess/out"] = image + inputs["preprocess/uniform"] + pixels["offset"]
    return found | {"epsilon/value": epsilon["amount"] * ramp}


def tf1_rssm(c: Mapping[str, Any], weights: Arrays, inputs: Arrays) -> Arrays:
    """One step of the older model: another GRU, separate layers for mean and deviation."""
    w = under(weights, "rssm/w/")
    dense = lambda name, x: x @ w[f"{name}/kernel"] + w[f"{name}/bias"]  # noqa: E731
    both = lambda *x: jnp.concatenate(x, -1)  # noqa: E731
    previous, units = under(inputs, "rssm/prev/"), c["deter"]
    x, h = jax.nn.elu(dense("transition/dense", both(previous["sample"], inputs["rssm/action"]))), previous["rnn_state"]
    gates = both(x, h) @ w["transition/gru_cell/w_ru"] + w["transition/gru_cell/b_ru"]
    reset, update = jnp.split(jax.nn.sigmoid(gates), 2, -1)
    candidate = jnp.tanh(both(x, reset * h) @ w["transition/gru_cell/w_c"] + w["transition/gru_cell/b_c"])
    belief = update * h + (1 - update) * candidate
    hidden = jax.nn.elu(dense("transition/dense_1", belief))
    seen = jax.nn.elu(dense("posterior/dense", both(belief, inputs["rssm/embed"])))
    found: Arrays = {"rssm/b_ru_at_init": np.ones(2 * units), "rssm/b_c_at_init": np.zeros(units)}
    dists = {}
    for name, x, layers, eps in (
        ("prior", hidden, ("transition/dense_2", "transition/dense_3"), "eps_prior"),
        ("post", seen, ("posterior/dense_1", "posterior/dense_2"), "eps_post"),
    ):
        dists[name] = dist = Normal(dense(layers[0], x), softplus_std(c["min_stddev"])(dense(layers[1], x)))
        found |= {f"rssm/{name}/mean": dist.mean, f"rssm/{name}/stddev": dist.std}
        found[f"rssm/{name}/sample"] = dist.sample(inputs[f"rssm/{eps}"])
        found |= {f"rssm/{name}/belief": belief, f"rssm/{name}/rnn_state": belief}
    kl = dists["post"].kl(dists["prior"]).sum(-1)
    return found | {"rssm/kl": kl, "rssm/kl_objective_tf1": jnp.maximum(kl - c["free_nats"], 0).mean()}
