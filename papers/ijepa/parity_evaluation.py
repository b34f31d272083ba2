"""The recorded cases of the probes and of the pre-processing."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

from papers.ijepa import networks, official
from papers.ijepa.config import ModelConfig
from repro.data import randomness
from repro.data.transforms import CentreCrop, RandomResizedCrop, normalise, resized_crop
from repro.evaluation.probes import attentive, linear
from repro.evaluation.probes.linear import apply_head, batch_norm, head_loss
from repro.interop.parity import Case, Implementation
from repro.optim.lars import lars

Outputs = dict[str, Any]


# ---- linear probe ---------------------------------------------------------------------------------------------------


def linear_probe(case: Case) -> Outputs:
    """Features of the frozen encoder; three updates of each head."""
    of = case.config["encoder"]
    width = of["embed_dim"]
    model = ModelConfig(of["patch_size"], width, of["depth"], of["num_heads"], round(width * of["mlp_ratio"]), width, 1)
    grid = (of["image_size"] // of["patch_size"],) * 2
    names = {n.removeprefix("encoder."): w for n, w in case.weights.items() if n.startswith("encoder.")}
    params = jax.tree.map(jnp.asarray, official.from_official(names))
    images = jnp.asarray(case.inputs["images"]).transpose(0, 2, 3, 1)
    means = [x.mean(1) for x in networks.block_outputs(params, model, grid, images)]
    features = {"feat_last": means[-1], "feat_concat4": jnp.concatenate(means[-4:], -1)}
    found: Outputs = dict(features)
    for name, head in case.config["heads"].items():
        weights = {n.removeprefix(f"{name}/w0/"): w for n, w in case.weights.items() if n.startswith(f"{name}/w0/")}
        outputs = _head(weights, head["linear"], features[head["features"]], case)
        found |= {f"{name}/{output}": value for output, value in outputs.items()}
    return found


_HEAD = {"kernel": "{}.weight", "bias": "{}.bias", "scale": "channel_bn.weight", "offset": "channel_bn.bias"}


def _head(weights: Mapping[str, np.ndarray], layer: str, features: jax.Array, case: Case) -> Outputs:
    """Logits and gradients at the beginning, losses, weights and logits after the updates."""
    names = {ours: theirs.format(layer) for ours, theirs in _HEAD.items() if theirs.format(layer) in weights}
    params = {ours: jnp.asarray(weights[theirs].T) for ours, theirs in names.items()}
    of, labels = case.config["optimizer"], jnp.asarray(case.inputs["labels"])
    optimiser = lars(of["learning_rate"], of["momentum"], of["weight_decay"], of["eta"])
    state, normed = optimiser.init(params), "scale" in params
    normal, mean, variance = batch_norm(features) if normed else (features, jnp.zeros(1), jnp.ones(1))
    running = {n: jnp.asarray(w) for n, w in weights.items() if "running" in n}
    found: Outputs = {"logits0": apply_head(params, normal)}
    losses = []
    for number in range(case.config["updates"]):
        loss, gradient = jax.value_and_grad(head_loss)(params, normal, labels)
        if number == 0:
            found |= {f"grad0/{theirs}": gradient[ours].T for ours, theirs in names.items()}
        losses.append(loss)
        change, state = optimiser.update(gradient, state, params)
        params = optax.apply_updates(params, change)  # type: ignore[assignment]
        if normed:
            new = {"channel_bn.running_mean": mean, "channel_bn.running_var": variance}
            running = {n: linear.running(value, new[n]) for n, value in running.items()}
    found |= {f"w3/{theirs}": params[ours].T for ours, theirs in names.items()}
    if normed:
        found |= {f"w3/{n}": value for n, value in running.items()}
        found["w3/channel_bn.num_batches_tracked"] = np.int64(case.config["updates"])
        features = linear.normalised(features, *running.values())
    return {**found, "losses": jnp.stack(losses), "logits_eval": apply_head(params, features)}


# ---- attentive probe ------------------------------------------------------------------------------------------------

_BLOCK = "classifier.pooler.cross_attention_block."
_LAYERS = {"q": _BLOCK + "xattn.q", "kv": _BLOCK + "xattn.kv", "fc1": _BLOCK + "mlp.fc1", "fc2": _BLOCK + "mlp.fc2",
           "head": "classifier.linear"}  # fmt: skip


def attentive_probe(case: Case) -> Outputs:
    """What the query reads, and the logits."""
    weights = case.weights
    params = {"query": jnp.asarray(weights["classifier.pooler.query_tokens"].reshape(-1))}
    for ours, theirs in _LAYERS.items():
        params[f"{ours}/kernel"] = jnp.asarray(weights[f"{theirs}.weight"].T)
        params[f"{ours}/bias"] = jnp.asarray(weights[f"{theirs}.bias"])
    for norm in ("norm1", "norm2"):
        params[f"{norm}/scale"] = jnp.asarray(weights[f"{_BLOCK}{norm}.weight"])
        params[f"{norm}/offset"] = jnp.asarray(weights[f"{_BLOCK}{norm}.bias"])
    tokens, heads = jnp.asarray(case.inputs["tokens"]), case.config["num_heads"]
    return {
        "pooled": attentive.pool(params, tokens, heads)[:, None],
        "logits": attentive.logits(params, tokens, heads),
    }


# ---- pre-processing -------------------------------------------------------------------------------------------------


def preprocess(case: Case) -> Outputs:
    """Crops, evaluation transform, and the quantiles of crops drawn by ours held against the recorded draws."""
    picture = Image.fromarray(case.inputs["image"])
    found: Outputs = {}
    for number, box in enumerate(case.inputs["boxes_tlhw"].tolist()):
        for size in case.config["sizes"]:
            for name in case.config["filters"]:
                found[f"crop{number}_{size}_{name}"] = np.asarray(resized_crop(picture, tuple(box), size, name))
        crop = np.asarray(resized_crop(picture, tuple(box), 48, case.config["normalised"]["filter"]))
        found[f"crop{number}_48_normalised_chw"] = normalise(crop).transpose(2, 0, 1)
    of = case.config["evaluation"]
    centre = CentreCrop(of["center_crop"], of["resize_shorter_side"], of["filter"])
    return found | {of["name"]: centre(picture, np.zeros(0))} | _crop_quantiles(case)


def _crop_quantiles(case: Case) -> Outputs:
    """Largest deviation of our quantiles from the recorded ones, over what is allowed; that of the recorded draws must
    vanish."""
    of = case.config["random_resized_crop"]
    transform = RandomResizedCrop(32, tuple(of["scale"]), tuple(of["ratio"]))
    height, width = case.inputs["image"].shape[:2]
    draws = randomness.uniforms(0, 0, np.arange(20_000), transform.draws)
    ours = np.array([transform.box(height, width, numbers) for numbers in draws])
    found: Outputs = {}
    for name, allowed in (("area", 0.05), ("logratio", 0.04)):
        recorded = case.outputs[f"rrc_{name}_quantiles"].reference
        deviation = np.abs(_quantiles(ours, name, case) - recorded).max() / allowed
        if np.abs(_quantiles(case.inputs["rrc_params_2000"], name, case) - recorded).max() > 1e-9:
            deviation = math.inf
        found[f"rrc_{name}_quantiles"] = deviation
    return found


def _quantiles(boxes: np.ndarray, name: str, case: Case) -> np.ndarray:
    _, _, height, width = boxes.astype(np.float64).T
    size = case.inputs["image"].shape[0] * case.inputs["image"].shape[1]
    values = height * width / size if name == "area" else np.log(width / height)
    return np.quantile(values, case.config["quantiles"])


CASES: dict[str, Implementation] = {
    function.__name__: function for function in (linear_probe, attentive_probe, preprocess)
}
