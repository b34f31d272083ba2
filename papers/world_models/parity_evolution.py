"""The recorded cases of C, of its evolution strategies and of Adam."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from papers.world_models import controller, evolve
from papers.world_models.config import ControllerConfig, MDNRNNConfig
from repro.interop.parity import Case, Implementation, stepped
from repro.optim import cma_es, evolution
from repro.optim.adam import adam_tf

Outputs = dict[str, Any]


def controller_car(case: Case) -> Outputs:
    """Every choice of features: number of parameters and actions."""
    config = case.config
    found: Outputs = {}
    rnn = MDNRNNConfig(latent=config["z_size"], hidden=config["hidden_size"], action=config["action_size"])
    for mode, of in config["modes"].items():
        kind = ControllerConfig("".join(of["features"]), of["hidden"])  # type: ignore[arg-type]
        z, c, h = (jnp.asarray(case.inputs[f"{mode}_{name}"]) for name in "zch")
        params = jnp.asarray(case.weights[f"{mode}_params"], jnp.float32)
        out = controller.act(kind, params, controller.features(kind, z, c, h), rnn.action)
        found[f"{mode}_action"] = controller.controls(out)
        found[f"{mode}_param_count"] = controller.count(kind, rnn)
    return found


def controller_doom(case: Case) -> Outputs:
    """Actions and thresholds; the comparison is in double precision, as recorded."""
    config = case.config
    kind = ControllerConfig("".join(config["features"]), bias=config["bias"])  # type: ignore[arg-type]
    rnn = MDNRNNConfig(latent=config["z_size"], hidden=config["h_size"], action=1)
    params, x = (jnp.asarray(a, jnp.float32) for a in (case.weights["params"], case.inputs["x"]))
    action = controller.act(kind, params, x, 1)[:, 0]
    every = np.concatenate([np.asarray(action, np.float64), case.inputs["edge_actions"].astype(np.float64)])
    threshold = float(case.inputs["threshold"])
    kinds = {name: case.outputs[name].reference.dtype for name in ("move_right", "move_left")}
    return {
        "param_count": controller.count(kind, rnn),
        "action": action,
        "all_actions": every,
        "move_right": (every > threshold).astype(kinds["move_right"]),
        "move_left": (every < -threshold).astype(kinds["move_left"]),
    }


def es_utils(case: Case) -> Outputs:
    """Ranks, cost and rounding."""
    inputs = case.inputs
    ranked, weights = jnp.asarray(inputs["rank_x"]), jnp.asarray(inputs["wd_params"], jnp.float32)
    decay = case.config["weight_decay"]
    rewards = jnp.asarray(inputs["cma_rewards"], jnp.float32)
    return {
        "ranks": jnp.argsort(jnp.argsort(ranked)),
        "centered_ranks": evolution.centred_ranks(ranked),
        "wd_value": evolve.cost(weights, jnp.zeros(len(weights)), decay),
        "cma_table": evolve.cost(weights, rewards, decay),
        "quant_out": controller.rounded(jnp.asarray(inputs["quant_in"], jnp.float32)),
    }


def es_alternatives(case: Case) -> Outputs:
    """OpenAI's strategy and PEPG, from the recorded candidates."""
    config, target = case.config, jnp.asarray(case.inputs["target"], jnp.float32)
    found: Outputs = {}
    for name, tell in (("openes", evolution.tell_openai), ("pepg", evolution.tell_pepg)):
        of = config[name]
        settings = evolution.Settings(
            sigma_decay=of["sigma_decay"],
            sigma_limit=of["sigma_limit"],
            learning_rate=of["learning_rate"],
            weight_decay=of["weight_decay"],
            sigma_alpha=of.get("sigma_alpha", 0.0),
            sigma_max_change=of.get("sigma_max_change", 0.0),
            beta1=config["optimizer"]["beta1"],
        )
        sigma = jnp.float32(of["sigma_init"])
        state = evolution.init(
            jnp.zeros(config["num_params"]), sigma if name == "openes" else sigma * jnp.ones(target.shape)
        )
        generations = sum(key.startswith(f"{name}_g") and key.endswith("_solutions") for key in case.inputs)
        for g in range(1, generations + 1):
            candidates = jnp.asarray(case.inputs[f"{name}_g{g}_solutions"], jnp.float32)
            fitness = -jnp.square(candidates - target).sum(-1)
            state = tell(state, settings, candidates, fitness)
            parts = {"fitness": fitness, "mu": state.mean, "sigma": state.sigma, "best": state.best}
            found |= {f"{name}_g{g}_{part}": value for part, value in parts.items()}
    return found


def _constants(n: int, population: int) -> Outputs:
    of = cma_es.constants(n, population)
    return {
        "weights": of.weights, "mu": of.mu, "mueff": of.mueff, "c1": of.c1, "cmu": of.cmu, "cc": of.cc, "cs": of.cs,
        "damps": of.damps, "lazy_update_gap": of.lazy_gap, "chiN": of.chi_n,
    }  # fmt: skip


def cma_constants(case: Case) -> Outputs:
    """Strategy constants at several sizes."""
    found: Outputs = {}
    for name in case.config["variants"]:
        constants = _constants(int(case.inputs[f"{name}_N"]), case.config["popsize"])
        found |= {f"{name}_{key}": value for key, value in constants.items()}
    return found


def cma_quadratic(case: Case) -> Outputs:
    """Every generation's update from the recorded candidates."""
    inputs = {name: np.asarray(value, np.float32) for name, value in case.inputs.items()}
    n, population = int(inputs["N"]), int(inputs["popsize"])
    of = cma_es.constants(n, population)
    state = cma_es.init(jnp.zeros(n), float(inputs["sigma_init"]))
    found: Outputs = {"C0": state.covariance, **_constants(n, population)}
    least = np.inf
    best = np.zeros(n)
    for g in range(1, case.config["generations"] + 1):
        candidates = inputs[f"g{g}_solutions"]
        reward = 1000 - (inputs["scales"] * np.square(candidates - inputs["target"])).sum(-1)
        table = evolve.cost(jnp.asarray(candidates), jnp.asarray(reward), float(inputs["weight_decay"]))
        state = cma_es.tell(state, of, jnp.asarray(candidates), table)
        if float(table.min()) < least:
            least, best = float(table.min()), candidates[int(table.argmin())]
        parts = {
            "reward": reward, "table": table, "mean": state.mean, "sigma": state.sigma, "C": state.covariance,
            "pc": state.path_c, "ps": state.path_sigma, "current_param": state.mean, "best_param": best,
            "rms_stdev": state.sigma * jnp.sqrt(jnp.diag(state.covariance)).mean(),
        }  # fmt: skip
        found |= {f"g{g}_{part}": value for part, value in parts.items()}
    return found


def adam(case: Case) -> Outputs:
    """Clipped updates on recorded gradients."""
    optimiser = adam_tf(lambda step: jnp.asarray(case.inputs["lrs"])[step], float(case.inputs["clip"]))
    gradients = map(jnp.asarray, case.inputs["grads"])
    found = list(stepped(optimiser, jnp.asarray(case.weights["w0"]), gradients))
    return {"w": np.stack(found)}


CASES: dict[str, Implementation] = {
    "controller_car": controller_car,
    "controller_doom": controller_doom,
    "es_utils": es_utils,
    "es_alternatives": es_alternatives,
    "cma_constants": cma_constants,
    "cma_quadratic": cma_quadratic,
    "adam_tf": adam,
}
