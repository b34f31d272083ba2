"""DreamerV3 against recorded official numbers: networks and distributions (see `papers.dreamerv3.parity`)."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from papers.dreamerv3 import official
from papers.dreamerv3.agent_config import DecoderConfig, EncoderConfig, RSSMConfig
from papers.dreamerv3.algorithm import reconstruction_loss
from papers.dreamerv3.losses import event_sum, latent_losses
from papers.dreamerv3.networks import RSSM, Actor, ContinueHead, ScalarHead
from papers.dreamerv3.observations import Decoder, Encoder, vectorize, width
from repro.envs.base import Space, Spaces
from repro.errors import UsageError
from repro.interop.parity import Case
from repro.nn.distributions import (
    Bernoulli,
    Categorical,
    Forced,
    Normal,
    SquaredError,
    SymlogSquaredError,
    TwoHot,
    categorical,
    soft_huber,
    symexp_bins,
)
from repro.nn.layers import symexp, symlog
from repro.nn.params import Definition, Draw

Arrays = dict[str, Any]
f32 = jnp.float32


# Reading a case.


def spaces(spec: Mapping[str, Any]) -> dict[str, Space]:
    """Spaces of a case's `obs_space` or `act_space`, without the keys that belong to the time step."""
    own = {k: v for k, v in spec.items() if k not in ("reward", "is_first", "is_last", "is_terminal")}
    return {k: Space(tuple(v["shape"]), v["dtype"], v.get("classes")) for k, v in own.items()}


def under(arrays: Mapping[str, Any], prefix: str) -> Arrays:
    """Arrays of a group, without its name."""
    return {k.removeprefix(prefix): jnp.asarray(v) for k, v in arrays.items() if k.startswith(prefix)}


def keyed(arrays: Mapping[str, Any], name: str, keys: Spaces) -> Arrays:
    """One array a key: `name/<key>`, or `name` alone where there is one key."""
    if name in arrays:
        return {k: jnp.asarray(arrays[name]) for k in keys}
    return {k: jnp.asarray(arrays[f"{name}/{k}"]) for k in keys}


class Module:
    """One of our modules with the official weights of a case. Parameters that a case does not have are zero."""

    def __init__(self, make: Callable[[Draw], Any], weights: Mapping[str, Any], prefix: str, scope: str):
        self.definition = Definition(make)
        self.names = {k: official.our_name(k.removeprefix(prefix)).removeprefix(scope) for k in weights}
        given = {ours: jnp.asarray(weights[k]) for k, ours in self.names.items()}
        for name, value in given.items():
            expected = self.definition.shapes.get(name)
            if expected is None or expected.shape != value.shape:
                raise UsageError(f"weight {name}: shape {value.shape}, ours is {expected and expected.shape}")
        self.params = {k: given.get(k, jnp.zeros(s.shape)) for k, s in self.definition.shapes.items()}

    def __call__(self, params: Mapping[str, Any] | None = None) -> Any:
        """The module."""
        return self.definition.bind(self.params if params is None else params)

    def gradients(self, gradients: Mapping[str, Any], prefix: str = "params/") -> Arrays:
        """Gradients under `grad_params/` and the official names."""
        return {"grad_params/" + k.removeprefix(prefix): gradients[ours] for k, ours in self.names.items()}


# World model.


def rssm_module(case: Case, actions: int, tokens: int) -> Module:
    """The recurrent model of a case."""
    config = official.section(RSSMConfig, case.config["rssm"])
    return Module(lambda draw: RSSM(config, actions, tokens, draw=draw), case.weights, "params/", "rssm/")


def rssm_core(case: Case) -> Arrays:
    """One step of the recurrence."""
    keys = spaces(case.config["act_space"])
    action = vectorize(keyed(case.inputs, "action", keys), keys, f32)
    module = rssm_module(case, action.shape[-1], 1)

    @jax.jit
    def run(params: Any, deter: Any, stoch: Any, action: Any, ct: Any) -> Any:
        def total(params: Any, deter: Any, stoch: Any, action: Any) -> Any:
            rssm = module(params)
            out = rssm.core(deter, stoch.reshape(stoch.shape[0], -1), rssm.action_part(action))
            return (out * ct).sum(), out

        return jax.grad(total, (0, 1, 2, 3), has_aux=True)(params, deter, stoch, action)

    gradients, out = run(module.params, case.inputs["deter"], case.inputs["stoch"], action, case.inputs["ct"])
    names = ("grad_deter", "grad_stoch", "grad_action")
    return {"out": out} | module.gradients(gradients[0]) | dict(zip(names, gradients[1:], strict=True))


def rssm_observe(case: Case) -> Arrays:
    """Filtering with forced samples, and the prior."""
    keys = spaces(case.config["act_space"])
    inputs = {k: jnp.asarray(v) for k, v in case.inputs.items()}
    module = rssm_module(case, sum(map(width, keys.values())), inputs["tokens"].shape[-1])
    config = official.section(RSSMConfig, case.config["rssm"])

    @jax.jit
    def run(params: Any, inputs: Arrays) -> Arrays:
        rssm = module(params)
        stoch = inputs["carry_stoch"]
        start = (inputs["carry_deter"], stoch.reshape(stoch.shape[0], -1))
        action = vectorize(keyed(inputs, "prev_action", keys), keys, f32)
        out = rssm.observe(start, inputs["tokens"], action, inputs["reset"], Forced(inputs["sample_index"]))
        prior_logits = rssm.prior_of(out.deter)
        posterior, prior = rssm.distribution(out.logits), rssm.distribution(prior_logits)
        stochs = out.stoch.reshape(out.logits.shape)
        losses = latent_losses(posterior, prior, config.free_nats)
        return {
            "deter": out.deter,
            "stoch": stochs,
            "logit": out.logits,
            "prior_logit": prior_logits,
            "final_deter": out.deter[:, -1],
            "final_stoch": stochs[:, -1],
            "dyn": losses.dynamics,
            "rep": losses.representation,
            "kl_raw": losses.kl,
            "post_ent": posterior.entropy().sum(-1),
            "prior_ent": prior.entropy().sum(-1),
            "post_logprob": posterior.log_probs,
            "prior_logprob": prior.log_probs,
        }

    return run(module.params, inputs)


def rssm_imagine(case: Case) -> Arrays:
    """Open-loop prediction with given actions and forced samples."""
    keys = spaces(case.config["act_space"])
    actions = vectorize(keyed(case.inputs, "action", keys), keys, f32)
    module = rssm_module(case, actions.shape[-1], 1)
    index = jnp.asarray(case.inputs["sample_index"])

    @jax.jit
    def run(params: Any, deter: Any, stoch: Any) -> Arrays:
        rssm = module(params)
        out = rssm.predict((deter, stoch.reshape(stoch.shape[0], -1)), actions, Forced(index))
        logits = rssm.prior_of(out[0])
        return {"deter": out[0], "stoch": out[1].reshape(logits.shape), "logit": logits}

    return run(module.params, case.inputs["carry_deter"], case.inputs["carry_stoch"])


def kl_losses(case: Case) -> Arrays:
    """KL losses and their gradients."""
    config = case.config
    scales = config.get("loss_scales", {"dyn": 1.0, "rep": 0.1})

    @jax.jit
    def run(posterior: Any, prior: Any) -> Any:
        def total(posterior: Any, prior: Any) -> Any:
            unimix, free_nats = config.get("unimix", 0.01), config.get("free_nats", 1.0)
            losses = latent_losses(categorical(posterior, unimix), categorical(prior, unimix), free_nats)
            return scales["dyn"] * losses.dynamics.mean() + scales["rep"] * losses.representation.mean(), losses

        return jax.grad(total, (0, 1), has_aux=True)(posterior, prior)

    gradients, losses = run(case.inputs["post_logit"], case.inputs["prior_logit"])
    names = {"dyn": losses.dynamics, "rep": losses.representation, "raw": losses.kl}
    return names | {"grad_post": gradients[0], "grad_prior": gradients[1]}


def encoder(case: Case) -> Arrays:
    """Tokens and parameter gradients."""
    keys = spaces(case.config["obs_space"])
    config = official.section(EncoderConfig, case.config["enc"])
    module = Module(lambda draw: Encoder(config, keys, draw=draw), case.weights, "params/", "encoder/")
    obs, ct = under(case.inputs, "obs/"), jnp.asarray(case.inputs["ct"])

    @jax.jit
    def run(params: Any) -> Any:
        def total(params: Any) -> Any:
            tokens = module(params)(obs, f32)
            return (tokens * ct).sum(), tokens

        return jax.grad(total, has_aux=True)(params)

    gradients, tokens = run(module.params)
    return {"tokens": tokens} | module.gradients(gradients)


def decoder(case: Case) -> Arrays:
    """Predictions, losses and parameter gradients."""
    keys = spaces(case.config["obs_space"])
    config, rssm = case.config["dec"], official.section(RSSMConfig, case.config["rssm"])
    ours = official.section(DecoderConfig, config)
    module = Module(lambda draw: Decoder(ours, keys, rssm, draw=draw), case.weights, "params/", "decoder/")
    target = under(case.inputs, "target/")
    deter, stoch = jnp.asarray(case.inputs["deter"]), jnp.asarray(case.inputs["stoch"])

    @jax.jit
    def run(params: Any) -> Any:
        def total(params: Any) -> Any:
            outputs = module(params)((deter, stoch.reshape(*stoch.shape[:-2], -1)))
            losses = {k: reconstruction_loss(out, target[k], keys[k]) for k, out in outputs.items()}
            return sum(x.mean() for x in losses.values()), (outputs, losses)

        return jax.grad(total, has_aux=True)(params)

    gradients, (outputs, losses) = run(module.params)
    predictions = {f"pred/{k}": out.mode() for k, out in outputs.items()}
    return predictions | {f"loss/{k}": v for k, v in losses.items()} | module.gradients(gradients)


# Heads and distributions.


def heads(case: Case) -> Arrays:
    """All heads on one feature vector."""
    x = jnp.asarray(case.inputs["x"])
    config = official.agent_config(case.config)
    actions = spaces(case.config["act_space"])
    makes: dict[str, tuple[str, Callable[[Draw], Any]]] = {
        "rew": ("reward/", lambda draw: ScalarHead(config.reward, x.shape[-1], draw=draw)),
        "con": ("continuation/", lambda draw: ContinueHead(config.continuation, x.shape[-1], draw=draw)),
        "pol": ("actor/", lambda draw: Actor(config.actor, x.shape[-1], actions, draw=draw)),
        "val": ("critic/", lambda draw: ScalarHead(config.critic, x.shape[-1], draw=draw)),
    }
    targets = {
        "rew_loss": "rew_target",
        "con_loss": "con_target",
        "val_loss": "val_target",
        "pol_logp": "act_index",
        "pol_cont_logp": "act_cont",
    } | case.config.get("targets", {})
    target = {k: jnp.asarray(case.inputs[v]) for k, v in targets.items() if v in case.inputs}
    found: Arrays = {}
    for name, (scope, make) in makes.items():
        weights = {k: v for k, v in case.weights.items() if k.startswith(f"params/{name}/")}
        if not weights:
            continue
        module = Module(make, weights, "params/", scope)()
        output = module((x,))
        if isinstance(output, TwoHot):
            fresh = Definition(make)
            initial = fresh.bind(fresh.init(jax.random.key(0)))((x,)).mean()
            found |= {f"out/{name}_logits": output.logits, f"out/{name}_pred": output.mean()}
            found |= {f"out/{name}_loss": output.loss(target[f"{name}_loss"]), f"init_{name}_pred": initial}
        elif isinstance(output, Bernoulli):
            found |= {"out/con_logit": output.logit, "out/con_prob": output.prob()}
            found["out/con_loss"] = output.loss(target["con_loss"])
        else:
            found |= policy_outputs(output, policy_logits(module, (x,)), actions, target)
    return found


def policy_logits(actor: Actor, features: Any) -> Arrays:
    """Raw logits of the discrete keys."""
    return {k: raw["logits"] for k, raw in actor.raw(actor.mlp(*features)).items() if "logits" in raw}


def policy_outputs(policy: Mapping[str, Any], logits: Arrays, keys: Spaces, target: Arrays) -> Arrays:
    """Discrete keys as `pol_*`, continuous ones as `pol_mean`, `pol_std`, `pol_cont_*`."""
    found: Arrays = {}
    for key, dist in policy.items():
        if isinstance(dist, Categorical):
            found["out/pol_logits"] = logits[key]
            name = "pol_"
        else:
            found |= {"out/pol_mean": dist.mean, "out/pol_std": dist.std}
            name = "pol_cont_"
        found[f"out/{name}logp"] = event_sum(dist.log_prob(target[f"{name}logp"]), keys[key])
        found[f"out/{name}ent"] = event_sum(dist.entropy(), keys[key])
    return found


def twohot(case: Case) -> Arrays:
    """Bins, losses, predictions."""
    config = case.config
    found: Arrays = {}
    for group, count in config["bins"].items():
        bins = jnp.asarray(symexp_bins(count, config.get("low", -20), config.get("high", 20)))
        logits, target = (jnp.asarray(case.inputs[f"{group}/{k}"]) for k in ("logits", "target"))
        loss = jax.jit(lambda x, bins=bins, target=target: TwoHot(x, bins).loss(target))
        found |= {
            f"{group}/bins": bins,
            f"{group}/loss": loss(logits),
            f"{group}/pred": jax.jit(lambda x, bins=bins: TwoHot(x, bins).mean())(logits),
            f"{group}/uniform_pred": TwoHot(jnp.zeros((1, count)), bins).mean(),
            f"{group}/grad_logits_of_sum_loss": jax.grad(lambda x, loss=loss: loss(x).sum())(logits),
        }
    x = jnp.asarray(case.inputs["symlog_in"])
    return found | {"symlog_out": symlog(x), "symexp_out": symexp(symlog(x))}


def dists(case: Case) -> Arrays:
    """The output distributions."""
    inputs = {k: jnp.asarray(v) for k, v in case.inputs.items()}
    unimix = case.config.get("unimix", 0.01)
    index, logits = inputs["index"], inputs["logits"]
    mixed, plain = categorical(logits, unimix), categorical(logits)
    normal = Normal(inputs["normal_mean"], inputs["normal_std"])
    bernoulli = Bernoulli(inputs["bin_logit"])
    classes = logits.shape[-1]

    def straight_through(logits: Any) -> Any:
        return (categorical(logits, unimix).straight_through(index) * inputs["st_ct"]).sum()

    target = inputs["mse_target"]
    return {
        "onehot_unimix_logprobs": mixed.log_probs,
        "onehot_logp": mixed.log_prob(index),
        "onehot_entropy": mixed.entropy(),
        "onehot_kl_1_2": mixed.kl(categorical(inputs["logits2"], unimix)),
        "onehot_pred": jax.nn.one_hot(mixed.mode(), classes),
        "st_grad_logits": jax.grad(straight_through)(logits),
        "cat_logp": plain.log_prob(index),
        "cat_entropy": plain.entropy(),
        "normal_logp": normal.log_prob(inputs["x"]),
        "normal_entropy": normal.entropy(),
        "normal_kl": normal.kl(Normal(inputs["normal_mean2"], inputs["normal_std2"])),
        "bin_loss": bernoulli.loss(inputs["bin_target"]),
        "bin_prob1": bernoulli.prob(),
        "bin_pred": bernoulli.mode(),
        "mse_loss": SquaredError(normal.mean).loss(target),
        "symlog_mse_loss": SymlogSquaredError(normal.mean).loss(target),
        "huber_loss": soft_huber(normal.mean, target, case.config.get("huber_eps", 1.0)),
    }
