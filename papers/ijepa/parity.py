"""The recorded cases of the official networks, loss, schedules and optimiser; masks and probes are in the modules
beside it. Sizes come from the recorded arrays and configurations, so other widths run too."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from papers.ijepa import algorithm, losses, networks, official
from papers.ijepa.algorithm import Moment, State
from papers.ijepa.config import Config, DataConfig, MaskConfig, ModelConfig, OptimConfig
from papers.ijepa.masks import Masks
from papers.ijepa.parity_evaluation import CASES as OF_PROBES
from papers.ijepa.parity_masks import CASES as OF_MASKS
from repro.interop.parity import Case, Implementation
from repro.nn import vit

Outputs = dict[str, Any]


def under(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Arrays of a group, without its name."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def ours(weights: Mapping[str, Any], network: str) -> vit.Params:
    """Official weights of one network as our parameters."""
    return {name: jnp.asarray(p) for name, p in official.from_official(under(weights, f"{network}.")).items()}


def model(case: Case) -> ModelConfig:
    """The sizes of a case that holds an encoder, a predictor or both."""
    encoder, predictor = case.config.get("encoder", {}), case.config.get("predictor", {})
    width = encoder.get("embed_dim", predictor.get("input_dim"))
    return ModelConfig(
        patch=encoder.get("patch_size", case.config.get("patch_size")),
        width=width,
        depth=encoder.get("depth", 1),
        heads=encoder.get("num_heads", predictor.get("num_heads")),
        hidden=round(width * encoder.get("mlp_ratio", 4.0)),
        predictor_width=predictor.get("embed_dim", width),
        predictor_depth=predictor.get("depth", 1),
    )


def _grid(case: Case) -> tuple[int, int]:
    of = case.config.get("encoder", case.config)
    side = of["image_size"] // of["patch_size"]
    return side, side


def _images(images: Any) -> jax.Array:
    return jnp.asarray(images).transpose(0, 2, 3, 1)


def _masks(context: np.ndarray, target: np.ndarray) -> Masks:
    """Official lists `[masks, B, kept]` as ours, nothing padded."""
    return Masks(
        jnp.asarray(context.swapaxes(0, 1), jnp.int32),
        jnp.full(context.shape[1], context.shape[2], jnp.int32),
        jnp.asarray(target.swapaxes(0, 1), jnp.int32),
        jnp.int32(target.shape[2]),
    )


def _rows(x: jax.Array) -> jax.Array:
    """`[B, M, ...]` or `[B, T, E, ...]` as rows in the official order: masks first, then images."""
    masks = x.ndim - 3
    moved = jnp.moveaxis(x, 0, masks)
    return moved.reshape(-1, *moved.shape[masks + 1 :])


# ---- networks -------------------------------------------------------------------------------------------------------


def pos_embed(case: Case) -> Outputs:
    """Fixed tables."""
    found = {}
    for name, of in case.config["tables"].items():
        table = vit.sincos_table((of["grid"], of["grid"]), of["dim"])
        found[name] = np.concatenate([np.zeros((1, of["dim"])), table]) if of["leading_zero_row"] else table
    return found


def encoder_forward(case: Case) -> Outputs:
    """Whole images with all steps between; contexts alone."""
    config, grid = model(case), _grid(case)
    compute, images = networks.compute_of(config), _images(case.inputs["images"])
    params = ours(case.weights, "encoder")
    table, cut = vit.sincos_table(grid, config.width), vit.patches(images, config.patch)
    x = networks.embedded(params, config, cut, jnp.asarray(table))
    stacked = vit.under(params, "blocks")
    first = {name: p[0] for name, p in stacked.items()}
    normed = vit.layer_norm(x, first["norm1/scale"], first["norm1/offset"])
    q, k, _ = vit.queries_keys_values(first, normed, config.heads, compute)
    # What is read from the rows of the identity are the weights themselves.
    rows = jnp.broadcast_to(jnp.eye(k.shape[1])[:, None], (*k.shape[:3], k.shape[1]))
    weights = vit.attend(q, k, rows, None).swapaxes(1, 2)
    found = {"out_patch_embed": x - table, "out_after_pos": x, "out_attn_block0": weights}
    for i, after in enumerate(vit.outputs(stacked, x, config.heads, compute)):
        found[f"out_block{i}"] = after
    context = case.inputs["masks_enc"]
    masked = networks.encode_contexts(params, config, grid, images, _masks(context, context))
    return {**found, "out_full": networks.encode(params, config, grid, images), "masked": _rows(masked)}


def predictor_forward(case: Case) -> Outputs:
    """Tokens and predictions from given context features."""
    config, inputs = model(case), case.inputs
    masks, params = _masks(inputs["masks_enc"], inputs["masks_pred"]), ours(case.weights, "predictor")
    contexts, batch = inputs["masks_enc"].shape[:2]
    context = jnp.asarray(inputs["context"])
    context = context.reshape(contexts, batch, *context.shape[1:]).swapaxes(0, 1)
    tokens = networks.paired(*networks.predictor_parts(params, config, _grid(case), context, masks))
    predicted = networks.predict(params, config, _grid(case), context, masks)
    tokens = tokens.reshape(*predicted.shape[:3], -1, tokens.shape[-1])
    return {"tokens_in": _rows(tokens), "pred": _rows(predicted)}


def apply_masks(case: Case) -> Outputs:
    """Gathering; the repetitions that put predictions and targets side by side are broadcasts here."""
    x, lists = case.inputs["x"], case.inputs["masks"].swapaxes(0, 1)
    batch, masks, kept = lists.shape
    each = np.take_along_axis(x, lists.reshape(batch, -1, 1), 1).reshape(batch, masks, kept, -1)
    found = {"applied": _rows(jnp.asarray(each))}
    repeats = {**case.config["interleaved"], **case.config["tiled"]}
    for name, count in repeats.items():
        tiled = name in case.config["tiled"]
        pairs = each[:, None] if tiled else each[:, :, None]
        found[name] = _rows(jnp.asarray(np.repeat(pairs, count, 1 if tiled else 2)))
    return found


# ---- loss, schedules, optimiser -------------------------------------------------------------------------------------


def loss(case: Case) -> Outputs:
    """Normalised targets, smooth L1 and its gradient, and other distances for contrast."""
    h, z = jnp.asarray(case.inputs["h"]), jnp.asarray(case.inputs["z"])
    wanted = vit.layer_norm(h, eps=case.config["layer_norm_eps"])
    value, gradient = jax.value_and_grad(lambda z: losses.smooth_l1(z - wanted).mean())(z)
    difference = jnp.abs(z - wanted)
    return {
        "h_layernorm": wanted, "loss": value, "grad_z": gradient, "frac_quadratic": (difference < 1).mean(),
        "l2_mean": jnp.square(difference).mean(), "l1_mean": difference.mean(),
    }  # fmt: skip


def optim(of: Mapping[str, Any], **more: Any) -> OptimConfig:
    """The optimiser's settings from a recorded schedule."""
    return OptimConfig(
        epochs=of["epochs"], warmup_epochs=of["warmup_epochs"], lr_start=of["start_lr"], lr=of["lr"],
        lr_end=of["final_lr"], weight_decay=of["weight_decay"], weight_decay_end=of["final_weight_decay"],
        ema=tuple(of.get("ema", (0.996, 1.0))), schedule_stretch=of["ipe_scale"], **more,
    )  # fmt: skip


def schedules(case: Case) -> Outputs:
    """Learning rate, weight decay and momentum of every update."""
    found: Outputs = {}
    for name, of in case.config["runs"].items():
        config, per_epoch = optim(of), of["iterations_per_epoch"]
        steps = per_epoch * config.epochs
        counts = range(1, steps + 1)
        found[f"{name}_lr"] = np.array([algorithm.learning_rate(config, per_epoch, t) for t in counts])
        found[f"{name}_wd"] = np.array([algorithm.weight_decay(config, per_epoch, t) for t in counts])
        entries = range(1, int(steps * config.schedule_stretch) + 2)
        found[f"{name}_momentum"] = np.array([algorithm.momentum(config, per_epoch, t) for t in entries])
        found[f"{name}_steps_run"] = np.array(steps, case.outputs[f"{name}_steps_run"].reference.dtype)
    return found


def ema(case: Case) -> Outputs:
    """The moving average, as the last step of an update that changes nothing else."""
    found: Outputs = {}
    target = {name: jnp.asarray(x) for name, x in under(case.inputs, "target_init_").items()}
    for j, m in enumerate(case.inputs["momentum"]):
        online = {f"encoder/{name}": jnp.asarray(x) for name, x in under(case.inputs, f"online{j}_").items()}
        zeros = jax.tree.map(jnp.zeros_like, online)
        now = Moment(np.float32(1), np.float32(0), np.float32(0), np.float32(1 - float(m)), None)
        target = algorithm.adamw(State(online, target, zeros, zeros), OptimConfig(), zeros, now).target
        found |= {f"target{j}_{name}": x for name, x in target.items()}
    return found


def _online(weights: Mapping[str, Any]) -> vit.Params:
    return {
        f"{network}/{name}": p for network in ("encoder", "predictor") for name, p in ours(weights, network).items()
    }


def _officially(params: Mapping[str, Any], network: str, scope: str, prefix: str) -> Outputs:
    arrays = official.to_official(vit.under(params, scope) if scope else params, network)
    return {f"{prefix}{name}": value for name, value in arrays.items()}


def _both(params: Mapping[str, Any], prefix: str) -> Outputs:
    """Online parameters or gradients under their official names."""
    encoder = _officially(params, "encoder", "encoder", f"{prefix}encoder.")
    return encoder | _officially(params, "predictor", "predictor", f"{prefix}predictor.")


def _tables(case: Case, prefix: str) -> Outputs:
    """Position tables never change."""
    of = official.tables(model(case), _grid(case))
    found = {f"{prefix}encoder.{n}": v for n, v in of["encoder"].items()}
    found |= {f"{prefix}target_encoder.{n}": v for n, v in of["encoder"].items()}
    return found | {f"{prefix}predictor.{n}": v for n, v in of["predictor"].items()}


def adamw_groups(case: Case) -> Outputs:
    """Three updates on given gradients."""
    of = case.config["schedule"]
    config = optim(of, beta1=case.config["optimizer"]["beta1"], beta2=case.config["optimizer"]["beta2"])
    online = _online(under(case.weights, "w0/"))
    zeros = jax.tree.map(jnp.zeros_like, online)
    state = State(online, vit.under(online, "encoder"), zeros, zeros)
    found: Outputs = {"lr": [], "wd": []}
    for j in range(sum(name.startswith("g") and name.endswith("mask_token") for name in case.inputs)):
        gradient = _online(under(case.inputs, f"g{j}/"))
        rates = [
            f(config, of["iterations_per_epoch"], j + 1) for f in (algorithm.learning_rate, algorithm.weight_decay)
        ]
        now = Moment(np.float32(j + 1), np.float32(rates[0]), np.float32(rates[1]), np.float32(0), None)
        state = algorithm.adamw(state, config, gradient, now)
        found["lr"].append(rates[0])
        found["wd"].append(rates[1])
        found |= _both(state.online, f"w{j + 1}/") | _tables(case, f"w{j + 1}/")
    return {name: np.asarray(value) for name, value in found.items()}


def train_step(case: Case) -> Outputs:
    """Three whole updates."""
    of, images = case.config["schedule"], {k: _images(case.inputs[f"s{k}/images"]) for k in range(3)}
    grid = _grid(case)
    config = Config(
        "", "", "", model(case), MaskConfig(min_keep=1, group=case.config["batch"]),
        optim(of, batch=case.config["batch"]), DataConfig(size=case.config["encoder"]["image_size"]),
    )  # fmt: skip
    weights = under(case.weights, "w0/")
    online = _online(weights)
    zeros = jax.tree.map(jnp.zeros_like, online)
    state = State(online, ours(weights, "target_encoder"), zeros, zeros)
    gradient_of = jax.jit(jax.value_and_grad(partial(algorithm.loss, config=config), has_aux=True))
    found: Outputs = {}
    for k in range(3):
        drawn = _masks(case.inputs[f"s{k}/masks_enc"], case.inputs[f"s{k}/masks_pred"])
        now = algorithm.moment(config, of["iterations_per_epoch"], k)
        (value, features), gradient = gradient_of(state.online, state.target, images=images[k], drawn=drawn)
        norm = np.sqrt(sum(float(jnp.square(g).sum()) for g in gradient.values()))
        momentum = algorithm.momentum(config.optim, of["iterations_per_epoch"], k + 1)
        found |= {
            f"s{k}/loss": value, f"s{k}/lr": now.lr, f"s{k}/wd": now.weight_decay, f"s{k}/momentum": momentum,
            f"s{k}/grad_global_norm": norm,
        }  # fmt: skip
        if k == 0:
            context = networks.encode_contexts(vit.under(state.online, "encoder"), config.model, grid, images[0], drawn)
            z = networks.predict(vit.under(state.online, "predictor"), config.model, grid, context, drawn)
            found |= {"s0/h": _rows(losses.targets(features, drawn)), "s0/z": _rows(z)}
            named = _both(gradient, "s0/grad/")
            found |= named
            found |= {n.replace("/grad/", "/grad_norm/"): np.linalg.norm(g) for n, g in named.items()}
        state = algorithm.adamw(state, config.optim, gradient, now)
        if k in (0, 2):
            found |= _both(state.online, f"w{k + 1}/") | _tables(case, f"w{k + 1}/")
            found |= _officially(state.target, "encoder", "", f"w{k + 1}/target_encoder.")
    return found


CASES: dict[str, Implementation] = {
    "pos_embed": pos_embed,
    "encoder_forward": encoder_forward,
    "predictor_forward": predictor_forward,
    "apply_masks": apply_masks,
    "loss": loss,
    "schedules": schedules,
    "ema": ema,
    "adamw_groups": adamw_groups,
    "train_step": train_step,
    **OF_MASKS,
    **OF_PROBES,
}
