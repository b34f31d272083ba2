"""The recorded cases of the official mask collators."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from papers.ijepa import masks
from papers.ijepa.config import MaskConfig, block_size
from papers.ijepa.masks import Bounds, Masks
from repro.interop.parity import Case, Implementation

Outputs = dict[str, Any]
CALLS = 150
"""Own calls that statistics are taken from, at most."""


def mask_config(of: Mapping[str, Any]) -> MaskConfig:
    """Our settings from recorded ones."""
    return MaskConfig(
        targets=of.get("npred", 4),
        contexts=of.get("nenc", 1),
        target_scale=tuple(of["pred_mask_scale"]),
        target_aspect=tuple(of["aspect_ratio"]),
        context_scale=tuple(of["enc_mask_scale"]),
        min_keep=of.get("min_keep", 1),
        allow_overlap=of.get("allow_overlap", False),
        group=max(1, of.get("batch", 1)),
    )


def _sizes(of: Mapping[str, Any], u: np.ndarray) -> np.ndarray:
    config, grid = mask_config(of), tuple(of["grid"])
    return np.array(
        [
            block_size(float(u[0]), config.target_scale, config.target_aspect, grid),  # type: ignore[arg-type]
            block_size(float(u[1]), config.context_scale, (1.0, 1.0), grid),  # type: ignore[arg-type]
        ],
        np.int32,
    )


def collator_sizes(case: Case) -> Outputs:
    """Sizes of blocks from uniform numbers, which are those that the seeds give."""
    drawn = np.array([masks.uniforms(int(seed)) for seed in case.inputs["seeds"]])
    if not np.array_equal(drawn.astype(np.float32), case.inputs["u"].astype(np.float32)):
        raise ValueError("the uniform numbers of the seeds differ from the recorded ones")
    found = {}
    for name, of in case.config["grids"].items():
        reference = case.outputs[f"{name}_sizes"].reference
        found[f"{name}_sizes"] = np.stack([_sizes(of, u).reshape(-1) for u in drawn]).astype(reference.dtype)
    return found


def collator_replay(case: Case) -> Outputs:
    """The masks that the recorded draws of positions give."""
    found: Outputs = {}
    for name, of in case.config["runs"].items():
        for call in range(case.config["calls"]):
            prefix = f"{name}_{call}_"
            size = _sizes(of, case.inputs[f"{prefix}u"])
            drawn, relaxations = _replayed(of, size, case.inputs[f"{prefix}randint"][:, 0])
            outputs = {
                "pred_size": size[0], "enc_size": size[1], "relaxations": relaxations,
                "masks_enc": np.asarray(drawn.context)[..., : int(drawn.context_count[0])].swapaxes(0, 1),
                "masks_pred": np.asarray(drawn.target)[..., : int(drawn.target_count)].swapaxes(0, 1),
            }  # fmt: skip
            for output, value in outputs.items():
                reference = case.outputs[prefix + output].reference
                found[prefix + output] = np.asarray(value).astype(reference.dtype).reshape(reference.shape)
    return found


def _replayed(of: Mapping[str, Any], size: np.ndarray, values: np.ndarray) -> tuple[Masks, Any]:
    """Our sampler on recorded positions. They stand one after the other, image by image; ours draws for all images at
    once, so they are first sorted into `[block, attempt, image]`."""
    config, grid, batch = mask_config(of), tuple(of["grid"]), of["batch"]
    total, relaxations = config.targets + config.contexts, 0
    attempts: list[list[list[np.ndarray]]] = [[[] for _ in range(batch)] for _ in range(total)]
    positions = iter(values.reshape(-1, 2))
    as_set = jax.jit(partial(masks.rectangles, grid=grid))
    for image in range(batch):
        for block in range(config.targets):
            attempts[block][image].append(next(positions))
        corners = np.stack([attempts[block][image][0] for block in range(config.targets)])
        blocks = np.asarray(as_set(corners, size[0]))
        for block in range(config.targets, total):
            tries, kept = attempts[block][image], 0
            while not tries or kept <= config.min_keep:
                relaxed = config.targets if config.allow_overlap else len(tries) // masks.ATTEMPTS
                tries.append(next(positions))
                free = ~blocks[: max(0, config.targets - relaxed)].any(0)
                kept = int((np.asarray(as_set(tries[-1], size[1])) & free).sum())
            relaxations += (len(tries) - 1) // masks.ATTEMPTS
    most = max(len(tries) for images in attempts for tries in images)
    filled = [[tries + [tries[-1]] * (most - len(tries)) for tries in images] for images in attempts]
    table = jnp.asarray(np.array(filled, np.int32).swapaxes(1, 2))
    return masks.multiblock(config, grid, jnp.asarray(size), lambda block, attempt: table[block, attempt]), relaxations


# ---- statistics -----------------------------------------------------------------------------------------------------


def collator_stats(case: Case) -> Outputs:
    """Counts and inclusions over many calls, by the recorded rule."""
    found: Outputs = {}
    for name, of in case.config["runs"].items():
        own = _own_statistics(of, min(of["calls"], CALLS))
        record = {k.removeprefix(f"{name}_"): v.reference for k, v in case.outputs.items() if k.startswith(f"{name}_")}
        found |= {f"{name}_{k}": v for k, v in _deviations(of, own, record).items()}
    return found


def _own_statistics(of: Mapping[str, Any], calls: int) -> dict[str, Any]:
    config, grid, batch = mask_config(of), tuple(of["grid"]), of["batch"]

    @jax.jit
    @jax.vmap
    def call(size: jax.Array, key: jax.Array) -> Masks:
        return masks.draw(config, grid, key, size, batch)

    sizes = jnp.asarray(np.stack([masks.sizes(config, grid, i) for i in range(calls)]))
    drawn: Any = jax.tree.map(np.asarray, call(sizes, jax.random.split(jax.random.key(0), calls)))
    context = _inclusions(drawn.context, drawn.context_count, grid[0] * grid[1])
    target = _inclusions(drawn.target, np.broadcast_to(drawn.target_count[:, None], (calls, batch)), grid[0] * grid[1])
    return {
        "ctx_tokens": drawn.context_count[:, 0], "pred_tokens": drawn.target_count, "freq_ctx": context.mean((0, 1)),
        "freq_pred": target.mean((0, 1)), "union": (target > 0).sum(-1).reshape(-1),
        "overlap_max": (context * (target > 0)).max(), "calls": calls,
    }  # fmt: skip


def _inclusions(lists: np.ndarray, count: np.ndarray, cells: int) -> np.ndarray:
    """How often each patch is in the lists `[calls, B, M, L]` of an image: `[calls, B, N]`."""
    calls, batch, _, length = lists.shape
    image = np.arange(calls * batch).reshape(calls, batch, 1, 1) * cells
    real = np.broadcast_to(np.arange(length) < count[..., None, None], lists.shape)
    return np.bincount((image + lists)[real], minlength=calls * batch * cells).reshape(calls, batch, cells)


def _deviations(of: Mapping[str, Any], own: Mapping[str, Any], record: Mapping[str, Any]) -> Outputs:
    """Deviations in units of what the rule allows."""
    found: Outputs = {}
    for name in ("ctx_tokens", "pred_tokens"):
        r, q = own[name].astype(float), record[name].astype(float)
        allowed = 5 * np.sqrt(r.var() / len(r) + q.var() / len(q)) + 0.02
        found[name] = abs(r.mean() - q.mean()) / allowed
    counts = {"freq_ctx": of.get("nenc", 1), "freq_pred": of.get("npred", 4)}
    for name, most in counts.items():
        r, q = own[name], record[name].reshape(-1)
        spread = np.maximum(q * (most - q), 1 / of["calls"]) * (1 / own["calls"] + 1 / of["calls"])
        found[name] = (np.abs(r - q) / (5 * np.sqrt(spread))).max()
    images = of["batch"] * np.array([own["calls"], of["calls"]])
    allowed = 5 * own["union"].std() * np.sqrt((1 / images).sum())
    found["union_targets_mean"] = abs(own["union"].mean() - float(record["union_targets_mean"])) / allowed
    found["overlap_max"] = float(own["overlap_max"] > 0) * (0.0 if of.get("allow_overlap") else 2.0)
    return found


def random_collator(case: Case) -> Outputs:
    """A permutation split at the share that the uniform number gives; the recorded arrays split the same way."""
    u, (low, high) = float(np.asarray(case.inputs["u"]).reshape(-1)[0]), case.config["ratio"]
    cells = case.config["num_patches"]
    context, target = (case.outputs[name].reference for name in ("masks_enc", "masks_pred"))
    order = np.concatenate([context, target], -1).reshape(-1, cells)
    keep = int(cells * (1 - (low + u * (high - low))))
    config = replace(MaskConfig("random", targets=1), target_scale=(low, high))
    bound = masks.bounds(config, (cells, 1))
    drawn = masks.split(jnp.asarray(order), jnp.int32(keep), Bounds(*bound))
    own = masks.draw(config, (cells, 1), jax.random.key(0), jnp.zeros((2, 2), jnp.int32), len(order))
    halves = [
        (np.asarray(drawn.context)[:, 0, :keep], context),
        (np.asarray(drawn.target)[:, 0, : int(drawn.target_count)], target),
    ]
    same = all(np.array_equal(a, b.reshape(-1, b.shape[-1])) for a, b in halves)
    valid = same and _permutes(order) and _permutes(_whole(own))
    return {name: 0.0 if valid else 2.0 for name in ("masks_enc", "masks_pred")}


def _whole(drawn: Masks) -> np.ndarray:
    """Context and target of every image, one after the other."""
    context = np.asarray(drawn.context)[:, 0, : int(drawn.context_count[0])]
    return np.concatenate([context, np.asarray(drawn.target)[:, 0, : int(drawn.target_count)]], -1)


def _permutes(order: np.ndarray) -> bool:
    return bool((np.sort(order, -1) == np.arange(order.shape[-1])).all())


CASES: dict[str, Implementation] = {
    "collator_sizes": collator_sizes,
    "collator_replay": collator_replay,
    "collator_stats": collator_stats,
    "random_collator": random_collator,
}
