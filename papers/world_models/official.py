"""Names, layouts and files of the released code and ours; `repro import world_models`.

The release writes weights as whole numbers of 10,000 times the value, tensors in the order of their creation.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from papers.world_models import mdnrnn, vae
from papers.world_models.config import CAR, DOOM, Config, MDNRNNConfig, VAEConfig, paper
from repro.errors import UsageError

Arrays = dict[str, np.ndarray]
SCALE = 10_000
_CELL = "RNN.layer_norm_basic_lstm_cell"


def vae_from_official(weights: Mapping[str, Any]) -> Arrays:
    """`enc_conv1.kernel` -> `enc_conv1/kernel`; transposed convolutions `[h, w, out, in]` -> `[h, w, in, out]`."""
    return {name.replace(".", "/"): _turned(name, value) for name, value in weights.items()}


def vae_to_official(params: Mapping[str, Any]) -> Arrays:
    """Inverse of `vae_from_official`."""
    return {name.replace("/", "."): _turned(name, value) for name, value in params.items()}


def _turned(name: str, value: Any) -> np.ndarray:
    value = np.asarray(value)
    return value.swapaxes(2, 3) if "deconv" in name and value.ndim == 4 else value


def rnn_from_official(weights: Mapping[str, Any], config: MDNRNNConfig) -> Arrays:
    """One kernel becomes that of x and that of h; the head's columns go from latent-major to component-major."""
    kernel = np.asarray(weights[f"{_CELL}.kernel"])
    params = {"lstm/kernel_x": kernel[: config.inputs], "lstm/kernel_h": kernel[config.inputs :]}
    for name, value in weights.items():
        if name.startswith(f"{_CELL}.") and not name.endswith(".kernel"):
            gate, _, part = name.removeprefix(f"{_CELL}.").rpartition(".")
            params[f"norm_{gate}/{part}" if gate else "lstm/bias"] = np.asarray(value)
    for part, name in (("kernel", "RNN.output_w"), ("bias", "RNN.output_b")):
        params[f"head/{part}"] = _columns(np.asarray(weights[name]), config, config.latent, 3 * config.mixtures)
    return params


def rnn_to_official(params: Mapping[str, Any], config: MDNRNNConfig) -> Arrays:
    """Inverse of `rnn_from_official`."""
    weights = {f"{_CELL}.kernel": np.concatenate([params["lstm/kernel_x"], params["lstm/kernel_h"]])}
    for name, value in params.items():
        if name == "lstm/bias":
            weights[f"{_CELL}.bias"] = np.asarray(value)
        elif name.startswith("norm_"):
            gate, part = name.removeprefix("norm_").split("/")
            weights[f"{_CELL}.{gate}.{part}"] = np.asarray(value)
    for part, name in (("kernel", "RNN.output_w"), ("bias", "RNN.output_b")):
        weights[name] = _columns(np.asarray(params[f"head/{part}"]), config, 3 * config.mixtures, config.latent)
    return weights


def _columns(x: np.ndarray, config: MDNRNNConfig, outer: int, inner: int) -> np.ndarray:
    first = int(config.predict_restart)
    turned = x[..., first:].reshape(*x.shape[:-1], outer, inner).swapaxes(-1, -2)
    return np.concatenate([x[..., :first], turned.reshape(*x.shape[:-1], -1)], -1)


# ---- files ----------------------------------------------------------------------------------------------------------


def import_weights(file: Path, out: Path) -> str:
    """Reads the release's JSON files (one, or all of a folder) and writes `vae.npz`, `rnn.npz`, `controller.npz`,
    `starts.npz`; which is which and which task follows from the shapes. Returns a line that says what was found.

    Give the folder as `--set weights=DIR` to evaluate that agent. Raises `UsageError` for files of other shapes.
    """
    files = sorted(file.glob("*.json")) if file.is_dir() else [file]
    found: dict[str, Arrays] = {}
    tasks: set[str] = set()
    for path in files:
        try:
            content = json.loads(path.read_text())
        except (ValueError, OSError) as error:
            raise UsageError(f"{path}: not a JSON file of the release ({error})") from None
        read = _read(content)
        if read is None:
            if file.is_dir():
                continue  # logs lie beside the weights
            raise UsageError(f"{path}: neither a VAE, an MDN-RNN, a controller nor initial latents of World Models")
        name, task, arrays = read
        found[name] = arrays
        tasks.add(task)
    if not found:
        raise UsageError(f"{file}: no JSON weights of World Models there (vae.json, rnn.json, *.best.json)")
    if len(tasks) > 1:
        raise UsageError(f"{file}: files of both tasks; give those of one")
    out.mkdir(parents=True, exist_ok=True)
    for name, arrays in found.items():
        np.savez(out / f"{name}.npz", **arrays)  # type: ignore[arg-type]
    counts = ", ".join(f"{name} ({sum(a.size for a in arrays.values()):,})" for name, arrays in found.items())
    return f"World Models, {tasks.pop()}: {counts}"


def _read(content: Any) -> tuple[str, str, Arrays] | None:
    """Kind, task and arrays (ours) of the content of one file; None where it is nothing known."""
    if not isinstance(content, list) or not content:
        return None
    for task in (CAR, DOOM):
        config = paper(task, "")
        tensors = _tensors(content)
        if tensors is None:
            return None
        shapes = [t.shape for t in tensors]
        for kind, names in _official_shapes(config).items():
            order = _matching(shapes, list(names.values()))
            if order is None:
                continue
            weights = {n: (tensors[i] / SCALE).astype(np.float32) for n, i in zip(names, order, strict=True)}
            arrays = vae_from_official(weights) if kind == "vae" else rnn_from_official(weights, config.rnn)
            return kind, task, arrays
        if shapes[0] in ((867,), (1088,)):
            is_car = shapes[0] == (867,)
            return "controller", CAR if is_car else DOOM, {"controller": tensors[0].astype(np.float32)}
        if len(shapes) == 2 and shapes[0] == shapes[1] and shapes[0][1:] == (64,):
            return "starts", DOOM, {"mu": tensors[0].astype(np.int32), "logvar": tensors[1].astype(np.int32)}
    return None


def _tensors(content: Sequence[Any]) -> list[np.ndarray] | None:
    try:
        return [np.asarray(part, np.float64) for part in content]
    except (ValueError, TypeError):
        return None


def _official_shapes(config: Config) -> dict[str, dict[str, tuple[int, ...]]]:
    def empty(shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
        return {name: np.zeros(shape, np.int8) for name, shape in shapes.items()}

    of_vae = vae_to_official(empty(vae.shapes(config.vae)))
    of_rnn = rnn_to_official(empty(mdnrnn.shapes(config.rnn)), config.rnn)
    return {kind: {n: a.shape for n, a in w.items()} for kind, w in (("vae", of_vae), ("rnn", of_rnn))}


def _matching(shapes: list[tuple[int, ...]], wanted: list[tuple[int, ...]]) -> list[int] | None:
    """For every wanted shape the next unused tensor of that shape, if all fit exactly."""
    if sorted(shapes) != sorted(wanted):
        return None
    left = list(enumerate(shapes))
    order = []
    for shape in wanted:
        place = next(i for i, (_, have) in enumerate(left) if have == shape)
        order.append(left.pop(place)[0])
    return order


def vae_config(weights: Mapping[str, np.ndarray]) -> VAEConfig:
    """The configuration that official VAE weights of any width belong to."""
    width = lambda name: weights[f"{name}.bias"].shape[0]  # noqa: E731
    return VAEConfig(
        latent=width("enc_fc_mu"),
        encoder_filters=tuple(width(f"enc_conv{i}") for i in range(1, 5)),
        decoder_width=width("dec_fc"),
        decoder_filters=tuple(width(f"dec_deconv{i}") for i in range(1, 4)),
    )
