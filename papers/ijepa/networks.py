"""Encoder and predictor (P section 3, appendix A.1; C `models/vision_transformer.py`).

B images, E contexts and T targets of each, N patches, C and K the padded lengths of contexts and targets, D and P the
widths of encoder and predictor. Images are on the leading axis everywhere, so that a batch splits over devices.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp

from papers.ijepa.config import ModelConfig
from papers.ijepa.masks import Masks
from repro.nn import vit
from repro.nn.vit import Compute, Params


def compute_of(config: ModelConfig) -> Compute:
    """The dtypes that `compute_dtype` stands for."""
    factors = jnp.float32 if config.compute_dtype == "float32" else jnp.bfloat16
    products = jnp.bfloat16 if config.compute_dtype == "bfloat16" else jnp.float32
    return Compute(factors, products, config.fused_attention, config.remat, config.unroll)


def encoder_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Parameters of the encoder."""
    blocks = vit.block_shapes(config.width, config.depth, config.hidden)
    return {
        "patch/kernel": (3 * config.patch**2, config.width),
        "patch/bias": (config.width,),
        **{f"blocks/{name}": shape for name, shape in blocks.items()},
        "norm/scale": (config.width,),
        "norm/offset": (config.width,),
    }


def predictor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Parameters of the predictor."""
    width = config.predictor_width
    blocks = vit.block_shapes(width, config.predictor_depth, 4 * width)
    return {
        "embed/kernel": (config.width, width),
        "embed/bias": (width,),
        "mask_token": (width,),
        **{f"blocks/{name}": shape for name, shape in blocks.items()},
        "norm/scale": (width,),
        "norm/offset": (width,),
        "out/kernel": (width, config.width),
        "out/bias": (config.width,),
    }


def embedded(params: Params, config: ModelConfig, patches: jax.Array, table: jax.Array) -> jax.Array:
    """Patches `[..., 3 p p]` as tokens `[..., D]` with their positions `[..., D]` added."""
    return vit.linear(patches, params["patch/kernel"], params["patch/bias"], compute_of(config)) + table


def encode(params: Params, config: ModelConfig, grid: tuple[int, int], images: jax.Array) -> jax.Array:
    """Features of all patches of whole images `[B, H, W, 3]` (normalised): `[B, N, D]`."""
    compute, table = compute_of(config), jnp.asarray(vit.sincos_table(grid, config.width))
    x = embedded(params, config, vit.patches(images, config.patch), table)
    x = vit.blocks(vit.under(params, "blocks"), x, config.heads, None, compute)
    return vit.layer_norm(x, params["norm/scale"], params["norm/offset"])


def block_outputs(params: Params, config: ModelConfig, grid: tuple[int, int], images: jax.Array) -> Iterator[jax.Array]:
    """The normed output of every block in turn (the last one is that of `encode`): `[B, N, D]` each."""
    compute, table = compute_of(config), jnp.asarray(vit.sincos_table(grid, config.width))
    x = embedded(params, config, vit.patches(images, config.patch), table)
    for after in vit.outputs(vit.under(params, "blocks"), x, config.heads, compute):
        yield vit.layer_norm(after, params["norm/scale"], params["norm/offset"])


def encode_contexts(
    params: Params, config: ModelConfig, grid: tuple[int, int], images: jax.Array, masks: Masks
) -> jax.Array:
    """Features of the contexts alone, which see nothing else: `[B, E, C, D]`. Padding holds anything."""
    batch, contexts, length = masks.context.shape
    table = jnp.asarray(vit.sincos_table(grid, config.width))
    every = vit.patches(images, config.patch)
    kept = jnp.take_along_axis(every, masks.context.reshape(batch, -1, 1), 1)
    x = embedded(params, config, kept, table[masks.context.reshape(batch, -1)])
    x = x.reshape(batch * contexts, length, -1)
    valid = jnp.repeat(context_valid(masks), contexts, 0)
    x = vit.blocks(vit.under(params, "blocks"), x, config.heads, valid, compute_of(config))
    x = vit.layer_norm(x, params["norm/scale"], params["norm/offset"])
    return x.reshape(batch, contexts, length, -1)


def context_valid(masks: Masks) -> jax.Array:
    """Real entries of the contexts: bool `[B, C]`."""
    return jnp.arange(masks.context.shape[-1]) < masks.context_count[:, None]


def predictor_parts(
    params: Params, config: ModelConfig, grid: tuple[int, int], context: jax.Array, masks: Masks
) -> tuple[jax.Array, jax.Array]:
    """The tokens of the contexts `[B, E, C, P]` and a mask token for every patch of the targets `[B, T, K, P]`."""
    table = jnp.asarray(vit.sincos_table(grid, config.predictor_width))
    seen = vit.linear(context, params["embed/kernel"], params["embed/bias"], compute_of(config)) + table[masks.context]
    return seen, params["mask_token"] + table[masks.target]


def paired(seen: jax.Array, wanted: jax.Array) -> jax.Array:
    """`[B, E, C, ...]` and `[B, T, K, ...]` for every pair of a target and a context, one after the other:
    `[B T E, C + K, ...]`."""
    (batch, contexts), targets = seen.shape[:2], wanted.shape[1]
    both = (
        jnp.broadcast_to(seen[:, None], (batch, targets, *seen.shape[1:])),
        jnp.broadcast_to(wanted[:, :, None], (batch, targets, contexts, *wanted.shape[2:])),
    )
    tokens = jnp.concatenate(both, 3)
    return tokens.reshape(-1, *tokens.shape[3:])


def predict(params: Params, config: ModelConfig, grid: tuple[int, int], context: jax.Array, masks: Masks) -> jax.Array:
    """Predicted features of every target from every context `[B, E, C, D]`: `[B, T, E, K, D]`. Padding holds anything.

    Every target is predicted by itself, all in one batch; targets do not see one another.
    """
    compute, heads, blocks = compute_of(config), config.heads, vit.under(params, "blocks")
    seen, wanted = predictor_parts(params, config, grid, context, masks)
    # All pairs of a context share its queries, keys and values in the first block.
    each = (vit.first_queries_keys_values(blocks, x, heads, compute) for x in (seen, wanted))
    q, k, v = map(paired, *each)
    asked = wanted.shape[2]
    real = jnp.broadcast_to(jnp.arange(asked) < masks.target_count, (len(context), asked))
    valid = jnp.concatenate([context_valid(masks), real], -1)
    valid = jnp.repeat(valid, wanted.shape[1] * seen.shape[1], 0)
    x = vit.blocks(blocks, paired(seen, wanted), heads, valid, compute, asked, (q, k, v))
    x = vit.layer_norm(x, params["norm/scale"], params["norm/offset"])
    predicted = vit.linear(x, params["out/kernel"], params["out/bias"], compute)
    return predicted.reshape(len(context), wanted.shape[1], seen.shape[1], asked, -1)
