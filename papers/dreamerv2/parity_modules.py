"""DreamerV2 against recorded official numbers: networks, distributions, losses (see `parity.py`)."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from papers.dreamerv2.agent_config import AgentConfig, RSSMConfig
from papers.dreamerv2.losses import balanced_kl
from papers.dreamerv2.names import NAMES
from papers.dreamerv2.networks import Actor, DiscountHead, ScalarHead, UnnormedGRU, make_latent
from repro.envs.base import Space
from repro.interop.parity import Case
from repro.interop.weights import Arrays, Module, under
from repro.nn.bounded import TruncatedNormal, tanh_normal
from repro.nn.distributions import Forced, categorical
from repro.nn.latents import Noise
from repro.nn.observations import Decoder, Encoder, log_likelihood, normalize
from repro.nn.rssm import RSSM, LayerNormGRU, State

f32 = jnp.float32


def scoped(arrays: Mapping[str, Any], prefix: str, scope: str) -> Arrays:
    """Weights under `prefix` with the name of their module in front."""
    return {scope + k: v for k, v in under(arrays, prefix).items()}


def gradient_outputs(module: Module, gradients: Mapping[str, Any], prefix: str, scope: str = "") -> Arrays:
    """Global norm, norms and arrays of gradients under the official names without `scope`."""
    own = {k.removeprefix(scope): v for k, v in module.officially(gradients).items()}
    found: Arrays = {f"{prefix}/global_norm": optax.tree.norm(own)}
    for name, value in own.items():
        found |= {f"{prefix}/norm/{name}": jnp.linalg.norm(value.ravel()), f"{prefix}/array/{name}": value}
    return found


def agent_config(config: Mapping[str, Any], **overrides: Any) -> AgentConfig:
    """Sizes of a case's sections as a configuration."""
    rssm, heads = config.get("rssm", {}), config.get("actor") or config.get("reward_head") or config
    found: dict[str, Any] = {"rssm": rssm_config(rssm)} if rssm else {}
    found |= {k: heads[k] for k in ("units", "layers") if k in heads}
    found["norm"] = "layer" in (rssm.get("norm"), config.get("norm"), heads.get("norm"))
    depth = config.get("encoder", config).get("cnn_depth")
    return AgentConfig(**found | ({"depth": depth} if depth else {}) | {"compute_dtype": "float32"} | overrides)


def rssm_config(c: Mapping[str, Any]) -> RSSMConfig:
    """The recurrent model of a case."""
    return RSSMConfig(c["deter"], c["hidden"], c["stoch"], c["discrete"] or 0, c["min_std"] if "min_std" in c else 0.1)


def make_rssm(c: Mapping[str, Any], actions: int, embedding: int, draw: Any) -> RSSM:
    """The recurrent model of a case."""
    config = rssm_config(c)
    return RSSM(
        make_latent(config),
        LayerNormGRU if c["gru_norm"] == "layer" else UnnormedGRU,
        deter=config.deter,
        hidden=config.hidden,
        actions=actions,
        embedding=embedding,
        norm=c["norm"] == "layer",
        draw=draw,
    )


def flat(sample: Any, latent: Any) -> jax.Array:
    """Recorded latent samples as vectors `[..., W]`."""
    sample = jnp.asarray(sample)
    return sample.reshape(*sample.shape[:-2], -1) if hasattr(latent, "classes") else sample


def forced(sample: Any, latent: Any) -> Forced:
    """Recorded samples in place of noise: class indices or values."""
    return Forced(jnp.asarray(sample).argmax(-1)) if hasattr(latent, "classes") else Forced(jnp.asarray(sample))


def reparameterized(run: Callable[[Noise], Any], sample: Any, latent: Any) -> Noise:
    """Noise that gives the recorded samples, through which gradients flow; `run(noise)` tells the distributions."""
    noise = forced(sample, latent)
    if hasattr(latent, "classes"):
        return noise
    dist = latent.distribution(run(noise).raw)
    return (jnp.asarray(sample) - dist.mean) / dist.std


def parameters(raw: jax.Array, latent: Any) -> Arrays:
    """Distribution parameters under their official names."""
    if hasattr(latent, "classes"):
        return {"logit": raw.reshape(*raw.shape[:-1], latent.size, latent.classes)}
    dist = latent.distribution(raw)
    return {"mean": dist.mean, "std": dist.std}


def gru_cell(case: Case) -> Arrays:
    """The recurrent cell with and without layer norm."""
    x, h, upstream = (jnp.asarray(case.inputs[f"inputs/{k}"]) for k in ("x", "h", "upstream"))
    weights = scoped(case.weights, "weights/", "rssm/cell/")
    module = Module(lambda draw: LayerNormGRU(x.shape[1], h.shape[1], draw=draw), NAMES, weights, "rssm/cell/")
    plain = scoped(case.weights, "nonorm/weights/", "rssm/cell/")
    bare = Module(lambda draw: UnnormedGRU(x.shape[1], h.shape[1], draw=draw), NAMES, plain, "rssm/cell/")
    total = lambda params, x, h: (module(params)(x, h) * upstream).sum()  # noqa: E731
    gradients, of_x, of_h = jax.grad(total, (0, 1, 2))(module.params, x, h)
    named = {k.removeprefix("rssm/cell/"): v for k, v in module.officially(gradients).items()}
    return {
        "outputs/h_next": module()(x, h),
        "nonorm/h_next": bare()(x, h),
        "grads/x": of_x,
        "grads/h": of_h,
        **{f"grads/{k}": v for k, v in named.items()},
    }


def encoder_cnn(case: Case) -> Arrays:
    """Image encoder."""
    image = jnp.asarray(case.inputs["inputs/image_u8"])
    upstream = jnp.asarray(case.inputs["inputs/upstream"])
    spaces = {"image": Space(image.shape[1:], "uint8")}
    weights = scoped(case.weights, "weights/", "encoder/")
    module = Module(lambda draw: make_encoder(case.config, spaces, draw), NAMES, weights, "encoder/")
    total = lambda params: (module(params)({"image": image}, f32) * upstream).sum()  # noqa: E731
    maps = module().cnn.maps(normalize(image, f32))
    return {
        "outputs/embed": module()({"image": image}, f32),
        "outputs/stage0_first": maps[0][0],
        "outputs/stage3": maps[-1],
    } | gradient_outputs(module, jax.grad(total)(module.params), "grads", "encoder/")


def make_encoder(c: Mapping[str, Any], spaces: Mapping[str, Space], draw: Any) -> Encoder:
    """The encoder of a case."""
    return Encoder(spaces, c["cnn_depth"], jax.nn.elu, **dense_sizes(c), draw=draw)


def make_decoder(c: Mapping[str, Any], spaces: Mapping[str, Space], inputs: int, draw: Any) -> Decoder:
    """The decoder of a case."""
    return Decoder(spaces, inputs, c["cnn_depth"], jax.nn.elu, **dense_sizes(c), draw=draw)


def dense_sizes(c: Mapping[str, Any]) -> dict[str, Any]:
    """Width and number of the dense layers for vectors."""
    widths = c.get("mlp_layers", [1])
    return {"units": widths[0], "layers": len(widths), "dense_act": jax.nn.elu, "norm": c["norm"] == "layer"}


def decoder_cnn(case: Case) -> Arrays:
    """Image decoder."""
    features, target = (jnp.asarray(case.inputs[f"inputs/{k}"]) for k in ("feat", "target"))
    spaces = {"image": Space(target.shape[-3:], "uint8")}
    weights = scoped(case.weights, "weights/", "decoder/")
    make = lambda draw: make_decoder(case.config, spaces, features.shape[-1], draw)  # noqa: E731
    module = Module(make, NAMES, weights, "decoder/")
    likelihood = lambda params, x: log_likelihood(module(params)(x)["image"], target, 3)  # noqa: E731
    loss, gradients = jax.value_and_grad(lambda p, x: -likelihood(p, x).mean(), (0, 1))(module.params, features)
    return {
        "outputs/mean": module()(features)["image"],
        "outputs/log_prob": likelihood(module.params, features),
        "outputs/loss": loss,
        "grads/feat": gradients[1],
    } | gradient_outputs(module, gradients[0], "grads", "decoder/")


def encoder_decoder_multi(case: Case) -> Arrays:
    """An image and two vectors."""
    keys = [*case.config["cnn_keys"], *case.config["mlp_keys"]]
    obs = {k: jnp.asarray(case.inputs[f"inputs/{k}"]) for k in keys}
    spaces = {k: Space(x.shape[2:], "uint8" if k in case.config["cnn_keys"] else "float32") for k, x in obs.items()}
    features = jnp.asarray(case.inputs["inputs/feat"])
    encoder = Module(
        lambda draw: make_encoder(case.config["encoder"], spaces, draw), NAMES,
        scoped(case.weights, "encoder/", "encoder/"), "encoder/",
    )  # fmt: skip
    decoder = Module(
        lambda draw: make_decoder(case.config["decoder"], spaces, features.shape[-1], draw), NAMES,
        scoped(case.weights, "decoder/", "decoder/"), "decoder/",
    )  # fmt: skip
    # The recorded image is normalised already.
    raw = obs | {k: (obs[k] + 0.5) * 255 for k in case.config["cnn_keys"]}
    means = decoder()(features)
    found = {f"outputs/mean/{k}": v for k, v in means.items()}
    found |= {f"outputs/log_prob/{k}": log_likelihood(v, obs[k], len(spaces[k].shape)) for k, v in means.items()}
    return found | {"outputs/embed": encoder()(raw, f32)}


def head(case: Case) -> Arrays:
    """Reward, value, discount and policy heads."""
    whole, config = jnp.asarray(case.inputs["inputs/feat"]), agent_config(case.config)
    inputs = whole.shape[-1]
    split = lambda x: State(x[..., :1], x[..., 1:])  # noqa: E731
    features = split(whole)
    kind = case.config["dist"]
    scope = {"mse": "reward/", "binary": "discount/"}.get(kind, "actor/")
    weights = scoped(case.weights, "weights/", scope)
    if kind in ("mse", "binary"):
        make = ScalarHead if kind == "mse" else DiscountHead
        module = Module(lambda draw: make(config, inputs, draw=draw), NAMES, weights, scope)
        target = jnp.asarray(case.inputs["inputs/target"])

        def likelihood(params: Any, x: Any) -> Any:
            dist = module(params)(split(x))
            return dist.log_prob(target) if kind == "mse" else -dist.loss(target)

        loss, gradients = jax.value_and_grad(lambda p, x: -likelihood(p, x).mean(), (0, 1))(module.params, whole)
        dist = module()(features)
        return {
            "outputs/mode": dist.mode(),
            "outputs/mean": dist.mode() if kind == "mse" else dist.prob(),
            "outputs/log_prob": likelihood(module.params, whole),
            "outputs/loss": loss,
            "grads/feat": gradients[1],
        } | gradient_outputs(module, gradients[0], "grads", scope)

    count = case.config["num_actions"]
    space = Space((), "int32", count) if kind == "onehot" else Space((count,))
    module = Module(lambda draw: Actor(config, inputs, space, draw=draw), NAMES, weights, "actor/")
    action = jnp.asarray(case.inputs["inputs/action"])
    action = action.argmax(-1) if kind == "onehot" else action
    total = (lambda x: x) if kind == "onehot" else (lambda x: x.sum(-1))
    if kind == "tanh_normal":
        out = module()(features)
        dist = tanh_normal(out.out, out.std, case.config["mean_scale"], softplus_of_zero(), case.config["min_std"])
        found = {"outputs/loc": dist.normal.mean, "outputs/scale": dist.normal.std}
        return found | {"outputs/log_prob": dist.log_prob(action).sum(-1)}

    def policy(params: Any) -> Any:
        actor = module(params)
        return actor.distribution(actor(features))

    found = {
        "outputs/log_prob": total(policy(module.params).log_prob(action)),
        "outputs/entropy": total(policy(module.params).entropy()),
    }
    for name, of in (("log_prob", lambda d: d.log_prob(action)), ("entropy", lambda d: d.entropy())):
        gradients = jax.grad(lambda p, of=of: of(policy(p)).sum())(module.params)
        found |= gradient_outputs(module, gradients, f"grads/sum_{name}", "actor/")
    dist = policy(module.params)
    if kind == "onehot":
        mode = jax.nn.one_hot(dist.mode(), count)
        return found | {"outputs/logits": module()(features).out, "outputs/mode": mode}
    return found | {
        "outputs/loc": dist.loc,
        "outputs/scale": dist.scale,
        "outputs/mode": dist.mode(),
        "outputs/mean": dist.mean(),
    }


def softplus_of_zero() -> float:
    """Initial deviation for which `tanh_normal` adds nothing to its raw input."""
    return float(np.log(2.0))


def dist_onehot(case: Case) -> Arrays:
    """Straight-through one-hot variables."""
    logits, logits2, upstream = (jnp.asarray(case.inputs[f"inputs/{k}"]) for k in ("logits", "logits2", "upstream"))
    value, sample = (jnp.asarray(case.inputs[k]).argmax(-1) for k in ("inputs/value", "outputs/sample"))
    dist = categorical(logits)
    through = lambda logits: categorical(logits).straight_through(sample)  # noqa: E731
    kl = lambda a, b: categorical(a).kl(categorical(b)).sum(-1)  # noqa: E731
    of_kl = jax.grad(lambda a, b: kl(a, b).sum(), (0, 1))(logits, logits2)
    classes = logits.shape[-1]
    return {
        "outputs/sample_is_exact_onehot": np.array_equal(through(logits), case.inputs["outputs/sample"]),
        "outputs/log_prob": dist.log_prob(value).sum(-1),
        "outputs/entropy": dist.entropy().sum(-1),
        "outputs/mode": jax.nn.one_hot(dist.mode(), classes),
        "outputs/probs": dist.probs,
        "outputs/kl_1_2": kl(logits, logits2),
        "grads/logits_straight_through": jax.grad(lambda x: (through(x) * upstream).sum())(logits),
        "grads/kl_logits": of_kl[0],
        "grads/kl_logits2": of_kl[1],
    }


def dist_trunc_normal(case: Case) -> Arrays:
    """The truncated normal and both gradients of its samples."""
    inputs = {k.removeprefix("inputs/"): jnp.asarray(v) for k, v in case.inputs.items()}
    loc, scale, upstream, value = (inputs[k] for k in ("loc", "scale", "upstream", "value"))
    draw, dist = Forced(inputs["raw_sample"]), TruncatedNormal(loc, scale)

    def grads(of: Callable[[TruncatedNormal], jax.Array], weight: Any) -> tuple[jax.Array, jax.Array]:
        return jax.grad(lambda loc, scale: (of(TruncatedNormal(loc, scale)) * weight).sum(), (0, 1))(loc, scale)

    found: Arrays = {
        "outputs/sample": dist.sample(draw),
        "outputs/log_prob": dist.log_prob(value),
        "outputs/entropy": dist.entropy(),
        "outputs/mode": dist.mode(),
        "outputs/mean": dist.mean(),
        "outputs/edge_clipped": TruncatedNormal(jnp.zeros(5), jnp.ones(5)).sample(Forced(inputs["edge_raw"])),
    }
    with jax.enable_x64():
        double = TruncatedNormal(*(jnp.asarray(case.inputs[f"inputs/{k}"], jnp.float64) for k in ("loc", "scale")))
        raw = jnp.asarray(case.inputs["inputs/raw_sample"], jnp.float64)
        one = lambda loc, scale: TruncatedNormal(loc, scale).exact_sample(Forced(raw)).sum()  # noqa: E731
        exact = jax.grad(one, (0, 1))(double.loc, double.scale)
        found |= {"grads/exact_dx_dloc": np.asarray(exact[0]), "grads/exact_dx_dscale": np.asarray(exact[1])}
        found["grads/exact_u"] = np.asarray(double.share_below(raw))
    for name, of, weight in (
        ("official", lambda d: d.sample(draw), upstream),
        ("log_prob", lambda d: d.log_prob(value), upstream),
        ("entropy", lambda d: d.entropy(), upstream),
    ):
        found |= dict(zip((f"grads/{name}_loc", f"grads/{name}_scale"), grads(of, weight), strict=True))
    return found


def rssm(case: Case) -> Arrays:
    """Filtering, KL losses, open loop, gradients."""
    inputs = under(case.inputs, "inputs/")
    actions, embedding = inputs["action"].shape[-1], inputs["embed"].shape[-1]
    weights = scoped(case.weights, "weights/", "rssm/")
    module = Module(lambda draw: make_rssm(case.config, actions, embedding, draw), NAMES, weights, "rssm/")
    latent = module().latent
    start = State(flat(inputs["start/stoch"], latent), inputs["start/deter"])

    def observe(params: Any, embed: Any, noise: Noise) -> Any:
        return module(params).observe(start, embed, inputs["action"], inputs["is_first"], noise)

    run = lambda noise: observe(module.params, inputs["embed"], noise)  # noqa: E731
    noise = reparameterized(run, inputs["post_sample"], latent)
    belief = run(noise)
    posterior = lambda b: latent.distribution(b.raw)  # noqa: E731
    prior = lambda params, b: latent.distribution(module(params).prior_of(b.deter))  # noqa: E731

    def kl_loss(params: Any, forward: bool, balance: float, free: float, average: bool) -> Any:
        b = observe(params, inputs["embed"], noise)
        pair = (posterior(b), prior(params, b))
        if forward:
            return balanced_kl(pair[1], pair[0], 1 - balance, free, average)
        return balanced_kl(*pair, balance, free, average)

    found: Arrays = {}
    for name in case.outputs:
        if name.startswith("outputs/kl_loss/"):
            parts = name.removeprefix("outputs/kl_loss/").split("_")
            forward, balance, free, average = (
                float(p.removeprefix(k)) for p, k in zip(parts, ("forward", "balance", "free", "avg"), strict=True)
            )
            found[name] = kl_loss(module.params, bool(forward), balance, free, bool(average))[0]
    split = lambda x: x.reshape(*x.shape[:-1], latent.size, -1) if hasattr(latent, "classes") else x  # noqa: E731
    first = posterior(belief)
    found |= {
        "outputs/post/stoch": split(belief.stoch),
        "outputs/post/deter": belief.deter,
        "outputs/prior/deter": belief.deter,
        "outputs/feat": jnp.concatenate(belief.state, -1),
        "outputs/entropy/post": first.entropy().sum(-1),
        "outputs/entropy/prior": prior(module.params, belief).entropy().sum(-1),
        "outputs/kl_value": kl_loss(module.params, False, 0.8, 0.0, True)[1],
    }
    found |= {f"outputs/post/{k}": v for k, v in parameters(belief.raw, latent).items()}
    found |= {f"outputs/prior/{k}": v for k, v in parameters(module().prior_of(belief.deter), latent).items()}

    last = State(*(x[:, -1] for x in belief.state))
    samples = forced(inputs["imagine_sample"], latent)
    sampled = module().predict_sequence(last, inputs["imagine_action"], samples)
    modes, state = [], last
    for t in range(inputs["imagine_action"].shape[1]):
        step = module().predict(state, inputs["imagine_action"][:, t], Forced(zero_like(samples.value[:, t])))
        state = State(latent.mode(latent.distribution(step.raw)), step.deter)
        modes.append(step._replace(stoch=state.stoch))
    mode = jax.tree.map(lambda *x: jnp.stack(x, 1), *modes)
    for name, b in (("imagine", sampled), ("imagine_mode", mode)):
        found |= {f"outputs/{name}/{k}": v for k, v in parameters(b.raw, latent).items()}
        found |= {f"outputs/{name}/deter": b.deter, f"outputs/{name}/stoch": split(b.stoch)}

    gradients = jax.grad(lambda p: kl_loss(p, False, 0.8, 0.0, True)[0])(module.params)
    found |= gradient_outputs(module, gradients, "grads/kl_loss_balance0.8", "rssm/")

    def features(params: Any, embed: Any) -> Any:
        return (jnp.concatenate(observe(params, embed, noise).state, -1) * inputs["feat_upstream"]).sum()

    gradients, of_embed = jax.grad(features, (0, 1))(module.params, inputs["embed"])
    return found | {"grads/feat/embed": of_embed} | gradient_outputs(module, gradients, "grads/feat", "rssm/")


def zero_like(x: Any) -> Any:
    """A placeholder sample."""
    return jnp.zeros_like(x)
