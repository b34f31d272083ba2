"""Names and layouts of the official weights and ours; `repro import ijepa`.

A linear layer's weight is `[out, in]` there, the patch convolution's `[D, 3, p, p]`; blocks are numbered, ours are
stacked. The fixed position tables lie among the official weights and are computed here.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from papers.ijepa.config import ModelConfig
from repro.errors import UsageError
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
