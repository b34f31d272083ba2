"""Names and layouts of the official weights and ours; `repro import ijepa`.

A linear layer's weight is `[out, in]` there, the patch convolution's `[D, 3, p, p]`; blocks are numbered, ours are
stacked. The fixed position tables lie among the official weights and are computed here.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from papers.ijepa.config import MODELS, ModelConfig
from repro.errors import UsageError
from repro.interop import torch_files
from repro.nn import vit

Arrays = dict[str, Any]

_NAMES = {
    "patch_embed.proj": "patch",
    "predictor_embed": "embed",
    "predictor_norm": "norm",
    "predictor_proj": "out",
    "norm": "norm",
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.qkv": "qkv",
    "attn.proj": "proj",
    "mlp.fc1": "fc1",
    "mlp.fc2": "fc2",
}
_OFFICIAL = {
    "encoder": {ours: theirs for theirs, ours in _NAMES.items() if not theirs.startswith("predictor")},
    "predictor": {ours: theirs for theirs, ours in _NAMES.items() if theirs != "norm"},
}
TABLES = ("pos_embed", "predictor_pos_embed")


def from_official(weights: Mapping[str, Any]) -> Arrays:
    """One network's weights, named as inside it (`blocks.0.attn.qkv.weight`), as ours; position tables are left out.

    Raises `UsageError` for a name that has no place.
    """
    found: Arrays = {}
    stacked: dict[str, dict[int, np.ndarray]] = {}
    for name, value in weights.items():
        if name in TABLES:
            continue
        array = np.asarray(value)
        match = re.fullmatch(r"(?:predictor_)?blocks\.(\d+)\.(.+)", name)
        if match:
            ours, turned = _ours(match[2], array)
            stacked.setdefault(f"blocks/{ours}", {})[int(match[1])] = turned
        elif name == "mask_token":
            found[name] = array.reshape(-1)
        else:
            ours, turned = _ours(name, array)
            found[ours] = turned
    for name, layers in stacked.items():
        if sorted(layers) != list(range(len(layers))):
            raise UsageError(f"weights of blocks {sorted(layers)} of {name}: some are missing")
        found[name] = np.stack([layers[i] for i in range(len(layers))])
    return found


def _ours(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    layer, _, kind = name.rpartition(".")
    if layer not in _NAMES or kind not in ("weight", "bias"):
        raise UsageError(f"no place for the official parameter {name!r}")
    ours = _NAMES[layer]
    if "norm" in ours:
        return f"{ours}/{'scale' if kind == 'weight' else 'offset'}", array
    if kind == "bias":
        return f"{ours}/bias", array
    if array.ndim == 4:
        array = array.transpose(2, 3, 1, 0).reshape(-1, len(array))
        return f"{ours}/kernel", array
    return f"{ours}/kernel", array.swapaxes(0, 1)


def to_official(params: Mapping[str, Any], network: str) -> Arrays:
    """Inverse of `from_official` for the "encoder" or the "predictor", position tables left out."""
    names, prefix = _OFFICIAL[network], "predictor_" if network == "predictor" else ""
    found: Arrays = {}
    for name, value in params.items():
        array = np.asarray(value)
        if name == "mask_token":
            found[name] = array.reshape(1, 1, -1)
        elif name.startswith("blocks/"):
            _, layer, kind = name.split("/")
            for i, one in enumerate(array):
                found[f"{prefix}blocks.{i}.{names[layer]}.{_kind(kind)}"] = one.T
        else:
            layer, kind = name.split("/")
            turned = array.T
            if layer == "patch" and kind == "kernel":
                side = round((len(array) // 3) ** 0.5)
                turned = array.T.reshape(-1, side, side, 3).transpose(0, 3, 1, 2)
            found[f"{names[layer]}.{_kind(kind)}"] = turned
    return found


def _kind(ours: str) -> str:
    return "weight" if ours in ("kernel", "scale") else "bias"


def tables(model: ModelConfig, grid: tuple[int, int]) -> dict[str, Arrays]:
    """The position tables as they lie among the official weights, by network."""
    return {
        "encoder": {"pos_embed": vit.sincos_table(grid, model.width)[None]},
        "predictor": {"predictor_pos_embed": vit.sincos_table(grid, model.predictor_width)[None]},
    }


def model_of(encoder: Mapping[str, Any], predictor: Mapping[str, Any], heads: int) -> ModelConfig:
    """The sizes that weights (ours) belong to; heads cannot be read off them."""
    depth, width, hidden = encoder["blocks/fc1/kernel"].shape
    of_predictor = predictor.get("blocks/fc1/kernel", np.zeros((1, heads * 4, 1))).shape
    patch = round((encoder["patch/kernel"].shape[0] // 3) ** 0.5)
    return ModelConfig(patch, width, depth, heads, hidden, of_predictor[1], of_predictor[0])


# ---- files ----------------------------------------------------------------------------------------------------------

HEADS = {(192, 12): 3, (384, 12): 6, (768, 12): 12, (1024, 24): 16, (1280, 32): 16, (1408, 40): 16}
"""Heads of the official sizes by width and depth."""


def import_weights(file: Path, out: Path) -> str:
    """Reads an official `.pth.tar` (encoder, predictor, target encoder) without PyTorch and writes `params.npz`
    (`online/encoder/...`, `online/predictor/...`, `target/...`), `meta.json` and, under the official names,
    `official.pth.tar`. Returns a line that says what was found.

    Give the folder as `--set weights=DIR`. Raises `UsageError` for a file without an encoder or of unknown sizes.
    """
    content = torch_files.read(file)
    if not isinstance(content, Mapping) or "target_encoder" not in content:
        found = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise UsageError(f"{file}: no checkpoint of I-JEPA: it holds {found}, not encoder, predictor, target_encoder")
    groups: dict[str, Arrays] = {}
    for name in ("encoder", "predictor", "target_encoder"):
        tensors = content.get(name) or {}
        groups[name] = {k.removeprefix("module."): np.asarray(t.read(), np.float32) for k, t in tensors.items()}
    ours = {name: from_official(weights) for name, weights in groups.items()}
    target = ours["target_encoder"]
    model = model_of(target, ours["predictor"], _heads(target, file))
    side = _side(groups["target_encoder"], model)
    if ours["encoder"] and {k: v.shape for k, v in ours["encoder"].items()} != {k: v.shape for k, v in target.items()}:
        raise UsageError(f"{file}: encoder and target encoder differ in size")
    arrays = {f"target/{k}": v for k, v in target.items()}
    for name in ("encoder", "predictor"):
        arrays |= {f"online/{name}/{k}": v for k, v in ours[name].items()}
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "params.npz", **arrays)
    about = {"format": 1, "paper": "ijepa", "source": file.name, "model": dataclasses.asdict(model), "size": side}
    (out / "meta.json").write_text(json.dumps(about, indent=1))
    torch_files.write(out / "official.pth.tar", groups)
    count = sum(v.size for v in target.values())
    sizes = {(m.width, m.depth, m.patch): name for name, m in MODELS.items()}
    known = sizes.get((model.width, model.depth, model.patch))
    return f"I-JEPA, {known or 'a ViT'} at {side} pixels: target encoder of {count:,} parameters"


def _heads(encoder: Mapping[str, Any], file: Path) -> int:
    depth, width, _ = encoder["blocks/fc1/kernel"].shape
    if (width, depth) not in HEADS:
        raise UsageError(f"{file}: an encoder of width {width} and depth {depth} is none of the official sizes")
    return HEADS[width, depth]


def _side(weights: Mapping[str, Any], model: ModelConfig) -> int:
    """Image size in pixels, from the position table."""
    table = weights.get("pos_embed")
    if table is None:
        return 224
    side = round(table.shape[1] ** 0.5)
    expected = vit.sincos_table((side, side), model.width)
    if side**2 != table.shape[1] or not np.allclose(table[0], expected, atol=1e-5):
        raise UsageError("its position table is not the sine-cosine table of a square grid")
    return side * model.patch
