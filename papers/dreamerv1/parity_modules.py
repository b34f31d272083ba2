"""DreamerV1 against recorded official numbers: networks, distributions, losses (see `parity.py`)."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from papers.dreamerv1 import exploration
from papers.dreamerv1.agent_config import AgentConfig, ExplorationConfig
from papers.dreamerv1.losses import latent_loss
from papers.dreamerv1.names import NAMES
from papers.dreamerv1.networks import Actor, DiscountHead, ScalarHead
from repro.envs.base import Space
from repro.interop.parity import Case, stepped
from repro.interop.weights import Arrays, Module, under
from repro.nn import bounded
from repro.nn.distributions import Normal
from repro.nn.latents import GaussianLatent, softplus_std
from repro.nn.observations import ImageDecoder, ImageEncoder, log_likelihood, normalize
from repro.nn.rssm import RSSM, ResetAfterGRU, State
from repro.optim.adam import keras_adam
from repro.rl.returns import discount_weights, lambda_return_of_states

f32 = jnp.float32


def module_of(case: Case, name: str, make: Callable[..., Any], scope: str) -> Module:
    """Our module with the weights of the official module `name`."""
    weights = {f"{name}/{k}": v for k, v in under(case.weights, f"w/{name}/").items()}
    return Module(make, NAMES, weights, scope)


def gradients_of(module: Module, gradients: Mapping[str, Any]) -> Arrays:
    """Under their official names."""
    return {f"grad/{k}": v for k, v in module.officially(gradients).items()}


def parameters(raw: jax.Array, latent: GaussianLatent) -> Arrays:
    """Mean and deviation."""
    dist = latent.distribution(raw)
    return {"mean": dist.mean, "std": dist.std}


def sums(maps: list[jax.Array], layers: list[str]) -> Arrays:
    """Layer outputs summed over height and width, and their shapes."""
    found: Arrays = {}
    for layer, x in zip(layers, maps, strict=True):
        found |= {f"act_{layer}_sum_hw": x.sum((1, 2)), f"act_{layer}_shape": np.array(x.shape)}
    return found


def conv_encoder(case: Case) -> Arrays:
    """Image encoder and its gradients."""
    c = case.config
    x, cotangent = normalize(jnp.asarray(case.inputs["image_uint8"]), f32), jnp.asarray(case.inputs["cotangent"])
    make = lambda draw: ImageEncoder(3, c["depth"], jax.nn.relu, draw=draw)  # noqa: E731
    module = module_of(case, "encode", make, "encoder/cnn/")
    total = lambda params, x: (module(params)(x) * cotangent).sum()  # noqa: E731
    loss, (gradients, of_x) = jax.value_and_grad(total, (0, 1))(module.params, x)
    maps = module().maps(x.reshape(-1, *x.shape[-3:]))
    found = {"embed": module()(x), "loss": loss, "grad_image_row0": of_x[..., 0, :, :]}
    return found | gradients_of(module, gradients) | sums(maps, c["layers"])


def conv_decoder(case: Case) -> Arrays:
    """Image decoder and its gradients."""
    c, features = case.config, jnp.asarray(case.inputs["feat"])
    image = normalize(jnp.asarray(case.inputs["image_uint8"]), f32)
    make = lambda draw: ImageDecoder(features.shape[-1], 3, c["depth"], jax.nn.relu, draw=draw)  # noqa: E731
    module = module_of(case, "decode", make, "decoder/cnn/")
    likelihood = lambda params, x: log_likelihood(module(params)(x), image, 3)  # noqa: E731
    loss, gradients = jax.value_and_grad(lambda p, x: -likelihood(p, x).mean(), (0, 1))(module.params, features)
    dense = module().linear(features)
    maps = module().maps(dense.reshape(-1, 1, 1, dense.shape[-1]))
    flat = dense.reshape(-1, dense.shape[-1])
    found = {
        "mean": module()(features),
        "log_prob": likelihood(module.params, features),
        "loss": loss,
        "grad/feat": gradients[1],
        "act_h1_sum_hw": flat,
        "act_h1_shape": np.array(flat.shape),
    }
    return found | gradients_of(module, gradients[0]) | sums(maps, c["layers"])


def gru_cell(case: Case) -> Arrays:
    """One step of the GRU."""
    x, h, cotangent = (jnp.asarray(case.inputs[k]) for k in ("x", "h", "cotangent"))
    weights = {f"dynamics/cell/{k.rsplit('/', 1)[1]}": v for k, v in case.weights.items()}
    make = lambda draw: ResetAfterGRU(x.shape[-1], h.shape[-1], draw=draw)  # noqa: E731
    module = Module(make, NAMES, weights, "rssm/cell/")
    total = lambda params, x, h: (module(params)(x, h) * cotangent).sum()  # noqa: E731
    gradients, of_x, of_h = jax.grad(total, (0, 1, 2))(module.params, x, h)
    named = {k.rsplit("/", 1)[1]: v for k, v in module.officially(gradients).items()}
    found = {f"grad/{k.removeprefix('w/')}": named[k.rsplit("/", 1)[1]] for k in case.weights}
    return found | {"h_next": module()(x, h), "output": module()(x, h), "grad/x": of_x, "grad/h": of_h}


def rssm(case: Case) -> Arrays:
    """Single steps, filtering, open loop, gradients."""
    c, inputs = case.config, {k: jnp.asarray(v) for k, v in case.inputs.items()}
    latent = GaussianLatent(c["stoch"], softplus_std(c["min_std"]))
    make = lambda draw: RSSM(  # noqa: E731
        latent,
        ResetAfterGRU,
        deter=c["deter"],
        hidden=c["hidden"],
        actions=c["action"],
        embedding=c["embed"],
        draw=draw,
    )
    module = module_of(case, "dynamics", make, "rssm/")
    model, zero = module(), module().initial((c["batch"],), f32)
    never = jnp.zeros(inputs["action"].shape[:2], bool)
    found: Arrays = {f"initial/{k}": getattr(zero, k) for k in ("stoch", "deter")}
    found |= {f"initial/{k}": jnp.zeros((c["batch"], c["stoch"])) for k in ("mean", "std")}

    def both(prefix: str, belief: Any, eps_prior: Any, model: RSSM) -> Arrays:
        raw = model.prior_of(belief.deter)
        prior = latent.distribution(raw)
        named = {f"{prefix}/post/{k}": v for k, v in parameters(belief.raw, latent).items()}
        named |= {f"{prefix}/prior/{k}": v for k, v in parameters(raw, latent).items()}
        named |= {f"{prefix}/{k}/deter": belief.deter for k in ("post", "prior")}
        return named | {f"{prefix}/post/stoch": belief.stoch, f"{prefix}/prior/stoch": prior.sample(eps_prior)}

    previous = State(inputs["prev/stoch"], inputs["prev/deter"])
    step = model.predict(previous, inputs["action"][:, 0], inputs["img_step/eps_prior"])
    found |= {f"img_step/{k}": v for k, v in parameters(step.raw, latent).items()}
    found |= {"img_step/stoch": step.stoch, "img_step/deter": step.deter}
    seen = model.observe_step(
        previous, inputs["embed"][:, 0], inputs["action"][:, 0], never[:, 0], inputs["obs_step/eps_post"]
    )
    found |= both("obs_step", seen, inputs["obs_step/eps_prior"], model)

    def observe(params: Any, embed: Any, action: Any) -> Any:
        return module(params).observe(zero, embed, action, never, inputs["observe/eps_post"])

    def objective(params: Any, embed: Any, action: Any) -> Any:
        b = observe(params, embed, action)
        kl = latent.distribution(b.raw).kl(latent.distribution(module(params).prior_of(b.deter))).sum(-1)
        return kl.mean() + (jnp.concatenate(b.state, -1) * inputs["grad_cotangent"]).sum()

    belief = observe(module.params, inputs["embed"], inputs["action"])
    found |= both("observe", belief, inputs["observe/eps_prior"], model)
    posterior, prior = latent.distribution(belief.raw), latent.distribution(model.prior_of(belief.deter))
    found |= {
        "observe/feat": jnp.concatenate(belief.state, -1),
        "observe/kl": posterior.kl(prior).sum(-1),
        "observe/post_entropy": posterior.entropy().sum(-1),
        "observe/prior_entropy": prior.entropy().sum(-1),
    }
    start = State(*(x[:, c["imagine_start_index"]] for x in belief.state))
    ahead = model.predict_sequence(start, inputs["action"][:, c["imagine_action_from"] :], inputs["imagine/eps_prior"])
    found |= {f"imagine/{k}": v for k, v in parameters(ahead.raw, latent).items()}
    found |= {"imagine/stoch": ahead.stoch, "imagine/deter": ahead.deter}
    arguments = (module.params, inputs["embed"], inputs["action"])
    value, gradients = jax.value_and_grad(objective, (0, 1, 2))(*arguments)
    found |= {"grad_objective": value, "grad/embed": gradients[1], "grad/action": gradients[2]}
    return found | gradients_of(module, gradients[0])


def halves(x: jax.Array) -> State:
    """Features as the two parts that our networks take."""
    return State(x[..., :1], x[..., 1:])


def dense_heads(case: Case) -> Arrays:
    """Reward, value and discount heads."""
    c, features = case.config, jnp.asarray(case.inputs["feat"])
    found: Arrays = {}
    for name, scope in (("reward", "reward/"), ("value", "critic/"), ("pcont", "discount/")):
        kind = DiscountHead if name == "pcont" else ScalarHead
        make = lambda draw, kind=kind, name=name: kind(features.shape[-1], c["units"], c["layers"][name], draw=draw)  # noqa: E731
        module, target = module_of(case, name, make, scope), jnp.asarray(case.inputs[f"{name}/target"])

        def likelihood(params: Any, module: Any = module, target: Any = target, name: str = name) -> Any:
            dist = module(params)(halves(features))
            return -dist.loss(target) if name == "pcont" else dist.log_prob(target)

        loss, gradients = jax.value_and_grad(lambda p, f=likelihood: -f(p).mean())(module.params)
        dist = module()(halves(features))
        found |= {f"{name}/log_prob": likelihood(module.params), f"{name}/loss": loss, f"{name}/mode": dist.mode()}
        found[f"{name}/mean"] = dist.prob() if name == "pcont" else dist.mode()
        if name == "pcont":
            found["pcont/logits"] = dist.logit
        found |= gradients_of(module, gradients)
    return found


def actor_module(case: Case, policy: Any, space: Space) -> Module:
    """The actor of a case."""
    c = case.config
    config = AgentConfig(units=c["units"], actor_layers=c["layers"], policy=policy, initial_std=c.get("init_std", 5.0))
    make = lambda draw: Actor(config, case.inputs["feat"].shape[-1], space, draw=draw)  # noqa: E731
    return module_of(case, "actor", make, "actor/")


def actor_tanh_normal(case: Case) -> Arrays:
    """The continuous policy."""
    c, inputs = case.config, {k: jnp.asarray(v) for k, v in case.inputs.items()}
    module, features = actor_module(case, "tanh_normal", Space((c["size"],))), halves(inputs["feat"])
    policy = lambda params, x: module(params)(halves(x))  # noqa: E731
    sample = lambda params, x: policy(params, x).sample(inputs["sample/eps"])  # noqa: E731
    total = lambda params, x: (sample(params, x) * inputs["grad_cotangent"]).sum()  # noqa: E731
    dist = policy(module.params, inputs["feat"])
    gradients, of_features = jax.grad(total, (0, 1))(module.params, inputs["feat"])
    samples = dist.sample(inputs["mode/eps"])
    log_prob = dist.log_prob(samples).sum(-1)
    best = np.asarray(log_prob.argmax(0))
    own = selected(dist, inputs["mode/eps"], case.outputs["mode/action_if_per_row"].reference, c["selection_slack"])
    x, y = inputs["bijector/x"], inputs["bijector/y"]
    # The official code takes, for all rows, the sample that is the most probable one in the first.
    shared = np.asarray(case.outputs["mode/action"].reference)
    first = int(np.abs(np.asarray(samples)[:, 0] - shared[0]).sum(-1).argmin())
    slack = c["selection_slack"]
    acceptable = bool(log_prob[first, 0] >= log_prob[:, 0].max() - slack)
    chosen = samples[first] if acceptable else samples[int(best[0])]
    argmax = case.outputs["mode/argmax_per_row"].reference
    rows = np.arange(len(best))
    agreed = np.where(np.asarray(log_prob)[argmax, rows] >= np.asarray(log_prob).max(0) - slack, argmax, best)
    return {
        "hout_raw": module().mlp(*features),
        "mean_pre_tanh": dist.normal.mean,
        "std": dist.normal.std,
        "raw_init_std": bounded.inverse_softplus(c["init_std"]),
        "sample/action": dist.sample(inputs["sample/eps"]),
        "log_prob/values": dist.log_prob(inputs["log_prob/actions"]).sum(-1),
        "mode/samples": samples,
        "mode/log_prob": log_prob,
        "mode/argmax_per_row": agreed,
        "mode/action_if_per_row": own,
        "mode/action": chosen,
        "mode_single/action": chosen[:1],
        "mean/action": samples.mean(0),
        "entropy/value": -log_prob.mean(0),
        "bijector/forward": jnp.tanh(x),
        "bijector/fldj": bounded.tanh_log_slope(x),
        "bijector/inverse": bounded.atanh(y),
        "grad/feat": of_features,
    } | gradients_of(module, gradients)


def selected(policy: bounded.TanhNormal, noise: jax.Array, recorded: Any, slack: float) -> jax.Array:
    """Our mode; in rows where it is another sample than the recorded one but this is as probable within `slack`, that.

    Log-densities near the bounds are so coarse in float32 that several samples may be the best.
    """
    ours = policy.mode(noise)
    samples, log_prob = policy.sample(noise), policy.log_prob(policy.sample(noise)).sum(-1)
    distance = jnp.abs(samples - jnp.asarray(recorded)).max(-1)
    nearest = distance.argmin(0)
    rows = jnp.arange(nearest.shape[0])
    fits = (distance[nearest, rows] < 1e-4) & (log_prob[nearest, rows] >= log_prob.max(0) - slack)
    if not bool(fits.all()):  # the official choice is that of the first row for all
        first = jnp.full_like(nearest, nearest[0])
        fits = (distance[first, rows] < 1e-4) & (log_prob[first[0], 0] >= log_prob[:, 0].max() - slack)
        nearest = first
    return jnp.where(fits[:, None], samples[nearest, rows], ours)


def actor_onehot(case: Case) -> Arrays:
    """The discrete policy."""
    c, inputs = case.config, {k: jnp.asarray(v) for k, v in case.inputs.items()}
    module, features = actor_module(case, "onehot", Space((), "int32", c["size"])), halves(inputs["feat"])
    index, cotangent = inputs["sample/indices"], inputs["grad_cotangent"]
    total = lambda params, x: (module(params)(halves(x)).straight_through(index) * cotangent).sum()  # noqa: E731
    gradients, of_features = jax.grad(total, (0, 1))(module.params, inputs["feat"])
    dist, logits = module()(features), module().mlp(*features)
    recorded = jnp.asarray(case.outputs["logits"].reference)
    # Logits are known up to a constant: ours plus the recorded level.
    level = (recorded - logits).mean(-1, keepdims=True)
    return {
        "logits": logits + level,
        "probs": dist.probs,
        "mode": jax.nn.one_hot(dist.mode(), c["size"]),
        "log_prob/values": dist.log_prob(inputs["log_prob/actions"].argmax(-1)),
        "entropy": dist.entropy(),
        "sample/action": dist.straight_through(index),
        "grad/feat": of_features,
    } | gradients_of(module, gradients)


def kl_free_nats(case: Case) -> Arrays:
    """KL of Gaussians and its clipping, in both official versions."""
    free = case.config["free_nats"]
    found: Arrays = {}
    for tag in case.config["tags"]:
        values = [jnp.asarray(case.inputs[f"{tag}/{k}"]) for k in ("post/mean", "post/std", "prior/mean", "prior/std")]
        tf2 = lambda *v: latent_loss(Normal(*v[:2]), Normal(*v[2:]), free)[0]  # noqa: E731
        tf1 = lambda *v: jnp.maximum(latent_loss(Normal(*v[:2]), Normal(*v[2:]), free)[1] - free, 0).mean()  # noqa: E731
        posterior, prior = Normal(*values[:2]), Normal(*values[2:])
        kl = latent_loss(posterior, prior, free)[1]
        found |= {f"{tag}/kl": kl, f"{tag}/kl_mean": kl.mean(), f"{tag}/div_tf2": tf2(*values)}
        found |= {f"{tag}/div_tf1_shifted": tf1(*values), f"{tag}/div_per_step_clip": jnp.maximum(kl, free).mean()}
        for name, f in (("tf2", tf2), ("tf1", tf1)):
            gradients = jax.grad(f, (0, 1, 2, 3))(*values)
            names = ("post_mean", "post_std", "prior_mean", "prior_std")
            found |= {f"{tag}/grad_{name}/{k}": g for k, g in zip(names, gradients, strict=True)}
        found |= {f"{tag}/post_entropy": posterior.entropy().sum(-1), f"{tag}/prior_entropy": prior.entropy().sum(-1)}
    return found


def lambda_return(case: Case) -> Arrays:
    """Returns and weights."""
    c, inputs = case.config, {k: jnp.asarray(v) for k, v in case.inputs.items()}

    def returns(lam: float, reward: Any, value: Any, live: Any, bootstrap: Any, axis: int = 0) -> Any:
        longer = lambda x, end: jnp.concatenate([x, jnp.expand_dims(end, axis)], axis)  # noqa: E731
        nothing = jnp.zeros_like(bootstrap)
        pads = (longer(reward, nothing), longer(live, nothing))
        return lambda_return_of_states(*pads, lam, longer(value, bootstrap), axis)

    reward, value, bootstrap, pcont = (inputs[k] for k in ("reward", "value", "bootstrap", "pcont"))
    found: Arrays = {}
    for name, live in (("const099", jnp.full_like(reward, c["discount"])), ("pcont", pcont)):
        for lam in c["lambdas"]:
            found[f"{name}/lambda{lam}"] = returns(lam, reward, value, live, bootstrap)
        lam = c["grad_lambda"]
        found[f"{name}/lambda{lam}_no_bootstrap"] = returns(lam, reward, value, live, jnp.zeros_like(bootstrap))
        turned = returns(lam, reward.T, value.T, live.T, bootstrap, 1)
        found[f"{name}/lambda{lam}_axis1"] = turned
    total = lambda *a: (returns(c["grad_lambda"], *a) * inputs["grad_cotangent"]).sum()  # noqa: E731
    gradients = jax.grad(total, (0, 1, 2, 3))(reward, value, pcont, bootstrap)
    found |= {f"grad/{k}": g for k, g in zip(("reward", "value", "pcont", "bootstrap"), gradients, strict=True)}
    return found | {"weights/discount": discount_weights(inputs["weights/pcont_full"])[:-1]}


def exploration_noise(case: Case) -> Arrays:
    """Noise of training and its decay."""
    c, inputs = case.config, {k: jnp.asarray(v) for k, v in case.inputs.items()}
    decay = ExplorationConfig("epsilon_greedy", c["decay"]["amount"], c["decay"]["floor"], c["decay"]["half_life"])
    action = inputs["epsgreedy/action"]
    greedy = exploration.epsilon_greedy(
        action.argmax(-1), inputs["epsgreedy/random_index"].reshape(action.shape[:-1]),
        inputs["epsgreedy/uniform"].reshape(action.shape[:-1]), c["epsgreedy"]["amount"],
    )  # fmt: skip
    return {
        "gauss/out_train": exploration.additive(inputs["gauss/action"], inputs["gauss/eps"], c["gauss"]["amount"]),
        "gauss/out_eval": inputs["gauss/action"],
        "decay/amount": exploration.amount(decay, inputs["decay/steps"]),
        "epsgreedy/out": jax.nn.one_hot(greedy, action.shape[-1]),
    }


def optimizer_adam(case: Case) -> Arrays:
    """The official optimiser; weight decay is an argument there, but does nothing."""
    c = case.config
    found: Arrays = {}
    for tag, t in c["tags"].items():
        optimizer = keras_adam(t["lr"], c["eps"], t["clip"])
        params = under(case.weights, f"{tag}/init/")
        gradients = [under(case.inputs, f"{tag}/grad{i}/") for i in range(c["steps"])]
        for i, after in enumerate(stepped(optimizer, params, gradients)):
            found |= {f"{tag}/after{i}/{k}": v for k, v in after.items()}
        found[f"{tag}/norm_before_clip"] = jnp.stack([optax.tree.norm(g) for g in gradients])
    return found | loss_scale(c["loss_scale"], c["eps"], case.inputs["loss_scale/grad0"])


def loss_scale(c: Mapping[str, Any], eps: float, gradients: np.ndarray) -> Arrays:
    """Float16's dynamic loss scale, which we do not need: a gradient that is not finite skips the update and halves."""
    optimizer, var, scale = keras_adam(c["lr"], eps, c["clip"]), jnp.asarray(c["init_var"]), c["initial_scale"]
    state, values, after = optimizer.init(var), [], []
    for first in gradients:
        g = jnp.array([first, c["second_element_gradient"]], f32)
        if bool(jnp.isfinite(g).all()):
            updates, state = optimizer.update(g, state, var)
            var = var + updates
        else:
            scale /= c["decrease_factor"]
        values.append(scale)
        after.append(var)
    return {"loss_scale/values": np.array(values), "loss_scale/var": jnp.stack(after)}
