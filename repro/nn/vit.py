"""Parts of a vision transformer (Dosovitskiy et al. 2021) as pure functions of a flat dict of parameters: patches,
fixed sine-cosine positions, pre-norm blocks.

The parameters of the blocks are stacked over depth, `blocks/qkv/kernel` `[L, D, 3 D]`, so that the compiled program
need not grow with it. B is the batch, n the number of tokens, D the width, A the number of heads.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Params = dict[str, jax.Array]


class Compute(NamedTuple):
    """How the blocks compute; none of it changes what they compute, up to rounding."""

    factors: Any = jnp.float32
    """Dtype of the factors of linear layers; sums are float32 in any case."""
    products: Any = jnp.float32
    """Dtype in which products are handed on, attention included; the stream between blocks, norms and softmax are
    float32."""
    fused_attention: bool = False
    """cuDNN's attention (CUDA, 16-bit products)."""
    remat: bool = False
    """Recompute the inside of each block in the backward pass instead of keeping it."""
    unroll: int = 1
    """Blocks written out in one body of the loop over depth; 0 for all."""


def sincos(positions: np.ndarray, width: int) -> np.ndarray:
    """Sines, then cosines of `position * 10000^(-k / (width / 2))`, k = 0 ... width / 2 - 1: `[n]` -> `[n, width]`."""
    rates = 10_000.0 ** (-np.arange(width // 2) / (width / 2))
    angles = positions[:, None] * rates
    return np.concatenate([np.sin(angles), np.cos(angles)], -1)


def sincos_table(grid: tuple[int, int], width: int) -> np.ndarray:
    """The fixed table of a grid of patches `(rows, columns)`, row-major: float32 `[rows * columns, width]`.

    The first half of the channels encodes the column, the second the row (I-JEPA's and MAE's order). `width` must be a
    multiple of 4.
    """
    if width % 4:
        raise ValueError(f"a table of two sine-cosine halves needs a width that is a multiple of 4, not {width}")
    row, column = np.indices(grid).reshape(2, -1)
    return np.concatenate([sincos(column, width // 2), sincos(row, width // 2)], -1).astype(np.float32)


def patches(images: jax.Array, patch: int) -> jax.Array:
    """Images `[B, H, W, C]` as flat patches in row-major order, pixels and then channels within: `[B, N, p p C]`."""
    batch, height, width, channels = images.shape
    cut = images.reshape(batch, height // patch, patch, width // patch, patch, channels).swapaxes(2, 3)
    return cut.reshape(batch, (height // patch) * (width // patch), patch * patch * channels)


def block_shapes(width: int, depth: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Parameters of `depth` stacked blocks."""
    linear = {"qkv": (width, 3 * width), "proj": (width, width), "fc1": (width, hidden), "fc2": (hidden, width)}
    shapes: dict[str, tuple[int, ...]] = {}
    for name in ("norm1", "norm2"):
        shapes |= {f"{name}/scale": (depth, width), f"{name}/offset": (depth, width)}
    for name, (inputs, outputs) in linear.items():
        shapes |= {f"{name}/kernel": (depth, inputs, outputs), f"{name}/bias": (depth, outputs)}
    return shapes


def init(key: jax.Array, shapes: Mapping[str, Sequence[int]], std: float = 0.02) -> Params:
    """Normal kernels and tokens with standard deviation `std`, scales 1, biases and offsets 0."""
    params = {}
    for number, (name, shape) in enumerate(sorted(shapes.items())):
        last = name.rsplit("/", 1)[-1]
        if last == "scale":
            params[name] = jnp.ones(shape)
        elif last in ("bias", "offset"):
            params[name] = jnp.zeros(shape)
        else:
            params[name] = std * jax.random.normal(jax.random.fold_in(key, number), shape)
    return params


def under(params: Mapping[str, Any], scope: str) -> Params:
    """The parameters whose names begin with `scope/`, without it."""
    return {name.removeprefix(f"{scope}/"): p for name, p in params.items() if name.startswith(f"{scope}/")}


def layer_norm(x: jax.Array, scale: jax.Array | None = None, offset: jax.Array | None = None, eps: float = 1e-6) -> Any:
    """(x - mean) / sqrt(variance + eps) * scale + offset over the last axis, in float32."""
    y = _normed(x.astype(jnp.float32), eps)
    return y if scale is None or offset is None else y * scale + offset


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _normed(x: jax.Array, eps: float) -> jax.Array:
    return _norm_forward(x, eps)[0]


def _norm_forward(x: jax.Array, eps: float) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    centred = x - x.mean(-1, keepdims=True)
    rate = lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + eps)
    y = centred * rate
    return y, (y, rate)


def _norm_backward(eps: float, saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array]:
    y, rate = saved
    return (rate * (g - g.mean(-1, keepdims=True) - y * (g * y).mean(-1, keepdims=True)),)


_normed.defvjp(_norm_forward, _norm_backward)


def linear(x: jax.Array, kernel: jax.Array, bias: jax.Array, compute: Compute) -> jax.Array:
    """`[..., i] -> [..., o]` as one product of two matrices."""
    return flat_linear(x, kernel, bias, compute).reshape(*x.shape[:-1], -1)


def flat_linear(x: jax.Array, kernel: jax.Array, bias: jax.Array, compute: Compute) -> jax.Array:
    """`linear` of all rows, one below the other: `[..., i] -> [m, o]`."""
    return _times(x.reshape(-1, x.shape[-1]), kernel, compute) + bias.astype(compute.products)


def _times(flat: jax.Array, kernel: jax.Array, compute: Compute) -> jax.Array:
    """`[m, i] @ [i, o]` with factors and sums as `compute` says."""
    if compute.factors == compute.products:
        return product(flat.astype(compute.factors), kernel.astype(compute.factors))
    return short_product(flat, kernel)


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`[m, i] @ [i, o]`. In the gradient of x the kernel is turned over first: on CPUs a product with the rows of both
    factors takes half as long again."""
    return x @ kernel


def _backward(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    return g @ laid_out(kernel.T), x.T @ g


product.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _backward)


@jax.custom_vjp
def short_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`[m, i] @ [i, o]` in float32 from factors rounded to bfloat16, as is the gradient of x. The gradient of the
    kernel is a float32 product: CPUs with 16-bit products (AVX-512) gain nothing there."""
    return jnp.matmul(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16), preferred_element_type=jnp.float32)


def _short_backward(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    return short_product(g, laid_out(kernel.T)), x.T @ g


short_product.defvjp(lambda x, kernel: (short_product(x, kernel), (x, kernel)), _short_backward)


def gelu(x: jax.Array) -> jax.Array:
    """x (1 + erf(x / sqrt 2)) / 2, in float32; JAX's own goes through erfc, which takes twice as long on CPUs."""
    y = x.astype(jnp.float32)
    return (y * _normal_cdf(y)).astype(x.dtype)


def _normal_cdf(y: jax.Array) -> jax.Array:
    return 0.5 * (1 + lax.erf(y * math.sqrt(0.5)))


def _gelu_slope(x: jax.Array) -> jax.Array:
    y = x.astype(jnp.float32)
    return _normal_cdf(y) + y * jnp.exp(-0.5 * jnp.square(y)) * (1 / math.sqrt(2 * math.pi))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def gelu_linear(x: jax.Array, kernel: jax.Array, compute: Compute) -> jax.Array:
    """gelu(x) times a kernel, `[m, i] @ [i, o]`. Of x `[m, i]`, the widest array of a block, one copy is kept for the
    gradient, which takes gelu(x) from it again."""
    return _times(gelu(x), kernel, compute)


def _gelu_linear_backward(
    compute: Compute, saved: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    x = laid_out(x)  # or the forward pass would keep its error function for this
    _, pull = jax.vjp(functools.partial(_times, compute=compute), gelu(x), kernel)
    of_gelu, of_kernel = pull(g)
    return (of_gelu.astype(jnp.float32) * _gelu_slope(x)).astype(x.dtype), of_kernel


gelu_linear.defvjp(lambda x, kernel, compute: (gelu_linear(x, kernel, compute), (x, kernel)), _gelu_linear_backward)


def laid_out(x: jax.Array) -> jax.Array:
    """`x` in memory as its axes say, and its gradient too: CPUs would rather run products of badly laid out arrays,
    which are slow."""
    return lax.platform_dependent(x, cpu=lax.optimization_barrier, default=lambda x: x)


def heads_apart(x: jax.Array) -> jax.Array:
    """`[B, n, A, d]` as `[B A, n, d]`: CPUs run products over one leading axis twice as fast as over two."""
    batch, tokens, heads, width = x.shape
    return laid_out(x.swapaxes(1, 2)).reshape(batch * heads, tokens, width)


def attend(q: jax.Array, k: jax.Array, v: jax.Array, valid: jax.Array | None) -> jax.Array:
    """softmax(q k^T / sqrt d) v of queries `[B, m, A, d]`, keys and values `[B, n, A, d]`: `[B, m, A, d]`.

    Keys that are not `valid` (`[B, n]`) get no weight.
    """
    batch, queries, heads, width = q.shape
    bias = None
    if valid is not None:
        bias = jnp.repeat(jnp.where(valid, 0, jnp.finfo(jnp.float32).min), heads, 0)[:, None]
    q = heads_apart(q * (1 / math.sqrt(width)))
    mixed = weighted(q, heads_apart(k), heads_apart(v), bias)
    return laid_out(mixed.reshape(batch, heads, queries, -1)).swapaxes(1, 2)


@jax.custom_vjp
def weighted(q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None) -> jax.Array:
    """softmax(q k^T + bias) v of `[b, m, d]`, `[b, n, d]` twice and `[b, 1, n]`: `[b, m, d]`.

    As in FlashAttention (Dao et al., 2022, section 3.1, appendix B.2) not the weights `[b, m, n]` but what they mix
    `[b, m, d]` is divided by their sums, and the gradient takes its row sums from there too.
    """
    return _weighted(q, k, v, bias)[0]


def _weighted(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    logits = laid_out(jnp.einsum("bmd,bnd->bmn", q, k, preferred_element_type=jnp.float32))
    logits = logits if bias is None else logits + bias
    weights = laid_out(jnp.exp(logits - logits.max(-1, keepdims=True)))
    total = weights.sum(-1, keepdims=True)
    weights = weights.astype(v.dtype)
    mixed = jnp.einsum("bmn,bnd->bmd", weights, v, preferred_element_type=jnp.float32) / total
    return mixed.astype(v.dtype), (q, k, v, weights, total, mixed)


def _weighted_backward(saved: tuple[jax.Array, ...], g: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    q, k, v, weights, total, mixed = saved
    g = g.astype(jnp.float32) / total
    mean = (g * mixed).sum(-1, keepdims=True)
    g = laid_out(g.astype(v.dtype))
    slope = laid_out(jnp.einsum("bmd,bnd->bmn", g, v, preferred_element_type=jnp.float32))
    slope = laid_out((weights * (slope - mean)).astype(q.dtype))
    return slope @ k, slope.swapaxes(1, 2) @ q, weights.swapaxes(1, 2) @ g, None


weighted.defvjp(_weighted, _weighted_backward)


def queries_keys_values(
    p: Mapping[str, Any], x: jax.Array, heads: int, compute: Compute, last: int | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """q, k, v of normed tokens `[B, n, D]`: `[B, n, A, d]` each, q of the `last` tokens alone."""

    def parts(x: jax.Array, first: int, count: int) -> list[jax.Array]:
        width = x.shape[-1]
        columns = slice(first * width, (first + count) * width)
        y = laid_out(flat_linear(x, p["qkv/kernel"][:, columns], p["qkv/bias"][columns], compute))
        y = y.reshape(*x.shape[:-1], count, heads, -1)
        return [part.squeeze(-3) for part in jnp.split(y, count, -3)]

    q, k, v = parts(x, 0, 3) if last is None else (*parts(x[:, -last:], 0, 1), *parts(x, 1, 2))
    return q, k, v


def first_queries_keys_values(
    stacked: Mapping[str, Any], x: jax.Array, heads: int, compute: Compute
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What attention in the first of stacked blocks makes of its tokens `[..., D]`: `[..., A, d]` each."""
    p = {name: value[0] for name, value in stacked.items()}
    return queries_keys_values(p, layer_norm(x, p["norm1/scale"], p["norm1/offset"]), heads, compute)


def attention(
    p: Mapping[str, Any],
    qkv: tuple[jax.Array, jax.Array, jax.Array],
    valid: jax.Array | None,
    compute: Compute,
) -> jax.Array:
    """Attention with its output projection, of queries `[B, m, A, d]`, keys and values `[B, n, A, d]`: `[B, m, D]`."""
    q, k, v = qkv
    if compute.fused_attention:
        # cuDNN wants a mask for every query.
        mask = None if valid is None else jnp.broadcast_to(valid[:, None, None], (len(q), 1, q.shape[1], k.shape[1]))
        mixed = jax.nn.dot_product_attention(q, k, v, mask=mask, implementation="cudnn")
    else:
        mixed = attend(q, k, v, valid)
    mixed = laid_out(mixed.reshape(*mixed.shape[:2], -1))
    return linear(mixed, p["proj/kernel"], p["proj/bias"], compute)


def mlp(p: Mapping[str, Any], x: jax.Array, compute: Compute) -> jax.Array:
    """Linear, exact GELU, linear."""
    hidden = linear(x, p["fc1/kernel"], p["fc1/bias"], compute)
    y = gelu_linear(hidden.reshape(-1, hidden.shape[-1]), p["fc2/kernel"], compute)
    return (y + p["fc2/bias"].astype(compute.products)).reshape(*x.shape[:-1], -1)


def block(
    p: Mapping[str, Any],
    x: jax.Array,
    heads: int,
    valid: jax.Array | None,
    compute: Compute,
    last: int | None = None,
    given: tuple[jax.Array, jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """x + attention(norm(x)), then x + mlp(norm(x)); float32 `[B, n or last, D]`. `given`: queries, keys and values,
    where they are known already."""
    if given is None:
        normed = layer_norm(x, p["norm1/scale"], p["norm1/offset"])
        given = queries_keys_values(p, normed, heads, compute, last)
    elif last is not None:
        given = given[0][:, -last:], *given[1:]
    mixed = attention(p, given, valid, compute)
    x = (x if last is None else x[:, -last:]) + mixed
    return x + mlp(p, layer_norm(x, p["norm2/scale"], p["norm2/offset"]), compute)


def blocks(
    stacked: Mapping[str, Any],
    x: jax.Array,
    heads: int,
    valid: jax.Array | None,
    compute: Compute,
    last: int | None = None,
    first: tuple[jax.Array, jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """All stacked blocks, one after the other; with `last` only so many last tokens come out, and the last block does
    no work for the others. `first`: queries, keys and values of the first block, where many tokens share theirs
    (`first_queries_keys_values`)."""
    step: Callable[..., Any] = functools.partial(block, heads=heads, valid=valid, compute=compute)
    final: Callable[..., Any] = functools.partial(step, last=last)
    if compute.remat:
        step, final = jax.checkpoint(step), jax.checkpoint(final)
    at: Callable[[Any], Params] = lambda layer: {name: p[layer] for name, p in stacked.items()}  # noqa: E731
    begin, end = int(first is not None), len(stacked["qkv/bias"]) - int(last is not None)
    if first is not None and begin <= end:  # else the first block is the last one
        x, first = step(at(0), x, given=first), None
    if begin < end:
        x = lax.scan(lambda x, p: (step(p, x), None), x, at(slice(begin, end)), unroll=compute.unroll or True)[0]
    return x if last is None else final(at(-1), x, given=first)


def outputs(stacked: Mapping[str, Any], x: jax.Array, heads: int, compute: Compute) -> Iterator[jax.Array]:
    """The output of every block in turn."""
    for layer in range(len(stacked["qkv/bias"])):
        x = block({name: p[layer] for name, p in stacked.items()}, x, heads, None, compute)
        yield x
