"""DreamerV3 against recorded official numbers: losses, statistics, optimiser (see `papers.dreamerv3.parity`)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from papers.dreamerv3 import official
from papers.dreamerv3.agent_config import AgentConfig, HeadConfig
from papers.dreamerv3.algorithm import DreamerV3, critic_params, learning_rate, make_optimizer
from papers.dreamerv3.losses import Norms, imagined_losses, make_norm, replay_critic_loss, replay_returns
from papers.dreamerv3.parity_modules import Arrays, f32, keyed, spaces, under
from repro.envs.base import Space, Spaces
from repro.errors import UsageError
from repro.interop.parity import Case
from repro.nn.distributions import Normal, TwoHot, categorical, symexp_bins
from repro.nn.layers import BlockLinear, Conv2D, Linear
from repro.nn.params import Definition
from repro.optim.clipping import clip_by_tensor_norm
from repro.optim.targets import move_target
from repro.rl.returns import lambda_return


def lambda_returns(case: Case) -> Arrays:
    """Returns for several sets of arguments."""
    arrays = {k: jnp.asarray(v, f32) for k, v in case.inputs.items()}
    some = next(iter(arrays.values()))
    arrays |= {"zeros": jnp.zeros_like(some), "ones": jnp.ones_like(some)}
    arrays |= {f"one_minus_{k}": 1 - v for k, v in arrays.items()}
    found = {}
    for name, v in case.config["variants"].items():
        live, mix = (1 - arrays[v["term"]]) * v["disc"], (1 - arrays[v["last"]]) * v["lam"]
        found[name] = lambda_return(arrays[v["rew"]], live, mix, arrays[v["boot"]])
    return found


METRICS = {
    "adv": "advantage",
    "adv_std": "advantage_std",
    "adv_mag": "advantage_abs",
    "rew": "imagined_reward",
    "con": "imagined_continue",
    "weight": "imagined_weight",
    "ret": "return",
    "ret_min": "return_min",
    "ret_max": "return_max",
    "ret_rate": "return_large",
    "val": "value",
    "slowval": "value_slow",
    "tar": "value_target",
    "dyn_ent": "prior_entropy",
    "rep_ent": "posterior_entropy",
    "opt/loss": "loss",
    "opt/grad_norm": "gradient_norm",
    "opt/grad_rms": "gradient_rms",
    "opt/update_rms": "update_rms",
    "opt/param_rms": "parameter_rms",
}
TERMS = {
    "rew": "reward",
    "con": "continuation",
    "dyn": "dynamics",
    "rep": "representation",
    "policy": "actor",
    "value": "critic",
    "repval": "replay_critic",
}


def official_metrics(metrics: Arrays, keys: Spaces) -> Arrays:
    """Our metrics under the official names."""
    found = {k: metrics[ours] for k, ours in METRICS.items() if ours in metrics}
    for key, space in keys.items():
        found[f"ent/{key}"] = metrics[f"entropy/{key}"]
        if space.classes:
            found[f"rand/{key}"] = metrics[f"entropy/{key}"] / math.log(space.classes)
    return found


def official_norms(norms: Norms) -> Arrays:
    """States of the normalisers under the official names."""
    back = {ours: k for k, ours in official.NORM_STATE.items()}
    named = norms._asdict()
    return {f"{name}/{back[k]}/value": v for ours, name in official.NORMS.items() for k, v in named[ours].items()}


def bins_of(case: Case, count: int) -> jax.Array:
    """The two-hot bins of a case."""
    config = case.config.get("twohot", {})
    return jnp.asarray(symexp_bins(count, config.get("low", -20), config.get("high", 20)))


def imag_loss(case: Case) -> Arrays:
    """Actor and critic losses from network outputs."""
    spec = dict(case.config["imag_loss"])
    general = {k: spec.pop(k) for k in ("horizon", "contdisc") if k in spec}
    norms_spec = {k: case.config[k] for k in official.NORMS.values() if k in case.config}
    config = official.agent_config({"imag_loss": spec} | general | norms_spec)
    if not case.config.get("update_normalizers", True):
        raise UsageError("only training is implemented: update_normalizers must be true")
    keys = spaces(case.config["act_space"])
    first = lambda x: jnp.swapaxes(jnp.asarray(x), 0, 1)  # noqa: E731
    kinds = {"categorical": ("policy_logits",), "normal": ("policy_mean", "policy_std")}
    names = kinds[case.config["policy_dist"]]
    action = jax.tree.map(lambda x: first(x)[:-1], keyed(case.inputs, "act", keys))
    before = under(case.inputs, "state_before/")
    norms = Norms(*(official.norm_state(before, name) for name in official.NORMS.values()))
    bins = bins_of(case, case.inputs["value_logits"].shape[-1])
    slow_value = TwoHot(first(case.inputs["slow_logits"]), bins).mean()

    @jax.jit
    def run(value_logits: Any, policy_arrays: list[Arrays]) -> Any:
        def total(value_logits: Any, policy_arrays: list[Arrays]) -> Any:
            rows = [{k: jnp.swapaxes(x, 0, 1)[:-1] for k, x in a.items()} for a in policy_arrays]
            policy = {k: categorical(rows[0][k]) if len(rows) == 1 else Normal(rows[0][k], rows[1][k]) for k in keys}
            value = TwoHot(jnp.swapaxes(value_logits, 0, 1), bins)
            values = value.mean()
            reward, going = first(case.inputs["rew"]), first(case.inputs["con"])
            out = imagined_losses(
                config, keys, policy, action, reward, going, value[:-1], values[-1], slow_value, norms
            )
            return out.actor.mean() + out.critic.mean(), (out, values)

        return jax.grad(total, (0, 1), has_aux=True)(value_logits, policy_arrays)

    policy_arrays = [keyed(case.inputs, name, keys) for name in names]
    gradients, (out, values) = run(case.inputs["value_logits"], policy_arrays)
    found = {f"state_after/{k}": v for k, v in official_norms(out.norms).items()}
    found |= {f"metric/{k}": v for k, v in official_metrics(out.metrics, keys).items()}
    for name, arrays in zip(names, gradients[1], strict=True):
        found |= {f"grad_{name}": x for x in arrays.values()} | {f"grad_{name}/{k}": x for k, x in arrays.items()}
    return found | {
        "loss_policy": out.actor.T,
        "loss_value": out.critic.T,
        "ret": out.returns.T,
        "grad_value_logits": gradients[0],
        "value_pred": values.T,
        "slow_pred": slow_value.T,
    }


def repl_loss(case: Case) -> Arrays:
    """Critic loss on replayed states from network outputs."""
    spec = dict(case.config["repl_loss"])
    general = {"horizon": spec.pop("horizon")} if "horizon" in spec else {}
    valnorm = {"valnorm": case.config["valnorm"]} if "valnorm" in case.config else {}
    config = official.agent_config({"repl_loss": spec} | general | valnorm)
    last, term, reward, boot = (jnp.asarray(case.inputs[k], f32) for k in ("last", "term", "rew", "boot"))
    bins = bins_of(case, case.inputs["value_logits"].shape[-1])
    slow_value = TwoHot(jnp.asarray(case.inputs["slow_logits"]), bins).mean()
    before = under(case.inputs, "state_before/")
    state = official.norm_state(before, "valnorm") or make_norm(config.value_norm).init()

    @jax.jit
    def run(logits: Any) -> Any:
        def total(logits: Any) -> Any:
            returns = replay_returns(config, last, term, reward, boot)
            loss, _ = replay_critic_loss(config, last, returns, TwoHot(logits, bins), slow_value, state)
            return loss.mean(), (loss, returns)

        return jax.grad(total, has_aux=True)(logits)

    gradient, (loss, returns) = run(case.inputs["value_logits"])
    return {"loss": loss, "ret": returns, "grad_value_logits": gradient}


def normalize(case: Case) -> Arrays:
    """Running normalisers."""
    inputs = [jnp.asarray(case.inputs[k]) for k in case.config["inputs_in_order"]]
    found: Arrays = {}
    for name, spec in case.config["variants"].items():
        norm = make_norm(official.norm_config(spec))
        state, rows = norm.init(), []
        for x in inputs:
            state = norm.update(state, x)
            rows.append(jnp.stack(jnp.broadcast_arrays(*map(jnp.asarray, norm.stats(state)))))
        found[f"{name}/offset_scale"] = jnp.stack(rows)
    percentiles = jnp.asarray(case.config.get("percentiles", [5.0, 95.0]))
    return found | {"percentiles_5_95": jnp.stack([jnp.percentile(x, percentiles) for x in inputs])}


def slow_critic(case: Case) -> Arrays:
    """Moving-average critic."""
    slow = under(case.weights, "before/slowval/")
    count = jnp.asarray(case.inputs["before/slowval_count/value"])
    found: Arrays = {}
    for i in range(case.config["updates"]):
        source = under(case.inputs, f"step{i}/source/")
        slow = move_target(slow, source, case.config["rate"], count + i, case.config.get("every", 1))
        found |= {f"step{i}/slow/{k}": v for k, v in slow.items()}
    tiny = HeadConfig(layers=1, units=4, bins=5)
    agent = DreamerV3(small_agent(critic=tiny), {"x": Space((1,))}, {"a": Space((1,))})
    state = agent.init(jax.random.key(0))
    same = [bool((state.slow_critic[k] == p).all()) for k, p in critic_params(state.params).items()]
    expected = case.outputs.get("init_slow_equals_source")
    answer = np.asarray(all(same) and state.slow_critic.keys() == critic_params(state.params).keys())
    return found | {"init_slow_equals_source": answer.astype(expected.reference.dtype) if expected else answer}


def small_agent(**changes: Any) -> AgentConfig:
    """A tiny agent, for checks that need any."""
    rssm = {"deter": 8, "hidden": 4, "stoch": 2, "classes": 2, "blocks": 2}
    return official.agent_config(
        {"rssm": rssm, "policy": {"units": 4}, "rewhead": {"units": 4}, "conhead": {"units": 4}}
        | {"enc": {"units": 4, "depth": 1}, "dec": {"units": 4, "depth": 1}},
        **changes,
    )


def optimizer(case: Case) -> Arrays:
    """Steps on given gradients."""
    config = official.optimizer_config(case.config["opt"])
    chain = make_optimizer(config)
    params = under(case.weights, "params0/")
    state = chain.init(params)
    clip = clip_by_tensor_norm(config.clip, config.min_norm)
    rate = learning_rate(config)
    found: Arrays = {}

    @jax.jit
    def step(params: Any, state: Any, gradients: Any) -> Any:
        clipped, _ = clip.update(gradients, clip.init(params), params)
        updates, state = chain.update(gradients, state, params)
        return clipped, updates, optax.apply_updates(params, updates), state

    for i in range(case.config["steps"]):
        clipped, updates, params, state = step(params, state, under(case.inputs, f"grad{i}/"))
        found |= {f"clipped{i}/{k}": v for k, v in clipped.items()}
        found |= {f"update{i}/{k}": v for k, v in updates.items()}
        found |= {f"params{i + 1}/{k}": v for k, v in params.items()}
    found |= {f"nu_final/{k}": v for k, v in state[1].nu.items()}
    found |= {f"mu_final/{k}": v for k, v in state[1].mu.items()}
    found["lr"] = jnp.stack([jnp.asarray(rate(jnp.asarray(i)), f32) for i in range(case.config["steps"])])
    found["lr_at_counts"] = jnp.stack([jnp.asarray(rate(jnp.asarray(i)), f32) for i in case.inputs["lr_counts"]])
    return found


def initializers(case: Case) -> Arrays:
    """Statistics of fresh layers, over enough of them to make the statistical rule sharp."""
    rule, found = case.config["statistics"], dict[str, Any]()
    for name, spec in case.config["layers"].items():
        scale = spec.get("outscale", 1.0)
        makes: dict[str, Any] = {
            "linear": lambda draw, s=spec, scale=scale: Linear(s["units_in"], s["units_out"], scale=scale, draw=draw),
            "block_linear": lambda draw, s=spec, scale=scale: BlockLinear(
                s["units_in"], s["units_out"], s["blocks"], scale=scale, draw=draw
            ),
            "conv": lambda draw, s=spec, scale=scale: Conv2D(
                s["channels_in"], s["channels_out"], s["kernel"], lambda x, k: x, scale=scale, draw=draw
            ),
        }
        definition = Definition(makes[spec["type"]])
        shape = definition.shapes["kernel"].shape
        copies = max(1, 10**6 // math.prod(shape))
        params = jax.vmap(definition.init)(jax.random.split(jax.random.key(0), copies))
        area = math.prod(shape[:-2])
        fans = (area * shape[-2], area * shape[-1])
        std = scale / math.sqrt(fans[0])
        kernel = np.asarray(params["kernel"])
        deviations = (
            abs(kernel.mean()) / (rule["mean_over_std"] * std),
            abs(kernel.std() / std - 1) / rule["std_rel_tol"],
            abs(kernel).max() / (rule["absmax_over_std"] * std * (1 + 1e-4)),
        )
        found |= {
            f"{name}/kernel_shape": np.array(shape),
            f"{name}/fan_in_out": np.array(fans),
            f"{name}/bias_absmax": abs(np.asarray(params["bias"])).max(),
            f"{name}/mean_std_absmax": np.array(max(deviations)),
        }
    return found
