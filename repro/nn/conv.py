"""2-D convolutions, images `[..., H, W, C]`, kernels `[h, w, in, out]`; SAME padding unless the name says otherwise.

This is the one place that knows how a platform likes its convolutions; callers do not. The functions here compute the
same numbers everywhere, up to rounding. On GPU and TPU they are the plain operation; on GPU seeds (`vmap` over kernels)
are one call each, since cuDNN's grouped convolution took seconds where single ones take milliseconds (H100, five seeds
of the 12M model: 21 s an update). On CPU the plain operation is slow
where channels are few, in its gradient with respect to the kernel, in any gradient inside a loop, and under `vmap` over
kernels. There everything becomes a stride-1 convolution of blocks of pixels (`Blocks`): several neighbouring pixels
make one pixel of many channels, strides and upsampling vanish, and `_convolve` brings its own gradients.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from repro.nn.conv_products import PRODUCTS

Conv = Callable[[jax.Array, jax.Array], jax.Array]
Padding = tuple[tuple[int, int], tuple[int, int]]

NHWC = ("NHWC", "HWIO", "NHWC")


def conv2d(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolution: `[..., H, W, C]` -> `[..., ceil(H/stride), ceil(W/stride), out]`."""
    return _batched(_by_platform("conv", stride), x, kernel)


def conv2d_pool(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution, then the maximum over 2x2 cells: `[..., H, W, C]` -> `[..., H/2, W/2, out]`."""
    return max_pool(conv2d(x, kernel))


def upsample_conv2d(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Every pixel repeated to 2x2 (nearest), then convolution: `[..., H, W, C]` -> `[..., 2H, 2W, out]`."""
    return _batched(_by_platform("upsample", 1), x, kernel)


def insert_conv2d(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Every pixel at the odd row and column of a 2x2 cell of zeros, then convolution: a transposed convolution of
    stride 2, `[..., H, W, C]` -> `[..., 2H, 2W, out]`."""
    return _batched(_by_platform("insert", 1), x, kernel)


def valid_conv2d(x: jax.Array, kernel: jax.Array, stride: int = 2) -> jax.Array:
    """Convolution without padding: `[..., H, W, C]` -> `[..., floor((H - h) / stride) + 1, ..., out]`."""
    return _batched(_by_platform("valid", stride), x, kernel)


def transposed_conv2d(x: jax.Array, kernel: jax.Array, stride: int = 2) -> jax.Array:
    """Transposed convolution without padding, y[stride i + u] += x[i] kernel[u]: the adjoint of `valid_conv2d` with the
    kernel's channel axes swapped. `[..., H, W, C]` -> `[..., stride (H - 1) + h, ..., out]`."""
    return _batched(_by_platform("transposed", stride), x, kernel)


@jax.custom_vjp
def max_pool(x: jax.Array) -> jax.Array:
    """Maximum over 2x2 cells: `[..., H, W, C]` -> `[..., H/2, W/2, C]`; equal maxima share the gradient equally."""
    return _cells(x).max((-4, -2))


def _max_pool_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = max_pool(x)
    # One byte a cell remembers where its maxima are: all that the gradient needs of `x`.
    is_max = _cells(x) == y[..., :, None, :, None, :]
    bits = np.array([[1, 2], [4, 8]], np.uint8)[:, None, :, None]
    return y, jnp.where(is_max, bits, 0).sum((-4, -2), dtype=jnp.uint8)


def _max_pool_backward(maxima: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    share = gradient / lax.population_count(maxima).astype(gradient.dtype)
    bits = np.array([[1, 2], [4, 8]], np.uint8)[:, None, :, None]
    hit = (maxima[..., :, None, :, None, :] & bits) != 0
    cells = jnp.where(hit, share[..., :, None, :, None, :], 0)
    *batch, h, _, w, _, c = cells.shape
    return (cells.reshape(*batch, 2 * h, 2 * w, c),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _cells(x: jax.Array) -> jax.Array:
    *batch, h, w, c = x.shape
    return x.reshape(*batch, h // 2, 2, w // 2, 2, c)


def _batched(f: Conv, x: jax.Array, kernel: jax.Array) -> jax.Array:
    y = f(x.reshape(-1, *x.shape[-3:]), kernel)
    return y.reshape(*x.shape[:-3], *y.shape[1:])


# ---- the platform's form --------------------------------------------------------------------------------------------


@functools.cache
def _by_platform(kind: str, stride: int) -> Conv:
    """The convolution `kind` as the platform that the program is compiled for likes it, forward and backward."""
    plain = functools.partial(PLAIN[kind], stride=stride)
    on_cpu, on_cpu_gradients = _cpu_form(kind, stride)

    def plain_gradients(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        # Linear in each argument: transposing leaves no forward pass behind.
        (of_x,) = jax.linear_transpose(lambda x: plain(x, kernel), x)(g)
        (of_kernel,) = jax.linear_transpose(lambda kernel: plain(x, kernel), kernel)(g)
        return of_x, of_kernel

    @jax.custom_vjp
    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.platform_dependent(x, kernel, cpu=on_cpu, tpu=plain, default=_one_at_a_time(plain))

    def forward(x: jax.Array, kernel: jax.Array) -> Any:
        return convolve(x, kernel), (x, kernel)

    # The choice is made again here, not differentiated: branches would have to agree on what they keep.
    def backward(kept: Any, g: jax.Array) -> Any:
        seeds_apart = _one_at_a_time(plain_gradients)
        return lax.platform_dependent(*kept, g, cpu=on_cpu_gradients, tpu=plain_gradients, default=seeds_apart)

    convolve.defvjp(forward, backward)
    return convolve


def _plain(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=NHWC)


def _plain_upsample(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return _plain(x.repeat(2, 2).repeat(2, 1), kernel, stride)


def _plain_insert(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    zero = jnp.zeros((), x.dtype)
    return _plain(lax.pad(x, zero, [(0, 0, 0), (1, 0, 1), (1, 0, 1), (0, 0, 0)]), kernel, stride)


def _plain_valid(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=NHWC)


def _plain_transposed(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    around = [(size - 1, size - 1) for size in kernel.shape[:2]]
    turned = kernel[::-1, ::-1]
    return lax.conv_general_dilated(x, turned, (1, 1), around, lhs_dilation=(stride, stride), dimension_numbers=NHWC)


PLAIN = {
    "conv": _plain,
    "upsample": _plain_upsample,
    "insert": _plain_insert,
    "valid": _plain_valid,
    "transposed": _plain_transposed,
}


def _cpu_form(kind: str, stride: int) -> tuple[Conv, Callable[..., tuple[jax.Array, jax.Array]]]:
    """The convolution and its gradients `(x, kernel, g) -> (of x, of kernel)`."""
    if kind in PRODUCTS:
        # Seeds apart: a batched product over a few images at a time is slower than one after the other.
        forward, gradients = (_one_at_a_time(functools.partial(f, stride=stride)) for f in PRODUCTS[kind])
        return forward, gradients
    blocked = functools.partial(_blocked, kind, stride)
    return blocked, lambda x, kernel, g: jax.vjp(blocked, x, kernel)[1](g)


# ---- CPU: convolutions of blocks ------------------------------------------------------------------------------------


class Blocks(NamedTuple):
    """One axis of a convolution as a stride-1 convolution of blocks of pixels.

    Output block p is computed from input blocks p, p+1, ... of the padded input; `taps[o, i, k]` is 1 where pixel o of
    an output block takes pixel i of those input blocks times element k of the kernel.
    """

    inner: int
    """Pixels of an input block."""
    padding: tuple[int, int]
    """Zero pixels before and after the input."""
    taps: np.ndarray
    """`[outer, reach * inner, kernel]`: outer = pixels of an output block, reach = input blocks one of them needs."""
    size: int
    """Pixels of the output."""

    @property
    def outer(self) -> int:
        """Pixels of an output block."""
        return self.taps.shape[0]

    @property
    def reach(self) -> int:
        """Input blocks that an output block needs."""
        return self.taps.shape[1] // self.inner


@functools.cache
def make_blocks(kind: str, stride: int, size: int, kernel: int, factor: int) -> Blocks:
    """The axis of length `size` of a convolution `kind`, with blocks `factor` times larger than the smallest ones."""
    if kind == "conv":
        inner, outer, out = stride * factor, factor, -(-size // stride)
        before = max((out - 1) * stride + kernel - size, 0) // 2
        # Output o takes input o * stride - before + k.
        source = np.arange(outer)[:, None] * stride - before + np.arange(kernel)
        valid = np.ones(source.shape, bool)
    else:
        inner, outer, out = factor, 2 * factor, 2 * size
        # Output o takes doubled pixel j = o - before + k, which is pixel floor(j / 2); if inserted, only for odd j.
        doubled = np.arange(outer)[:, None] - (kernel - 1) // 2 + np.arange(kernel)
        source, valid = doubled // 2, (doubled % 2 == 1) | (kind == "upsample")
    first = max(0, -int(source.min()))
    reach = -(-(int(source.max()) + first + 1) // inner)
    taps = np.zeros((outer, reach * inner, kernel), np.float32)
    o, k = np.nonzero(valid)
    np.add.at(taps, (o, source[o, k] + first, k), 1)
    blocks = -(-out // outer) + reach - 1
    return Blocks(inner, (first, blocks * inner - first - size), taps, out)


def _factor(kind: str, stride: int, size: int, kernel: tuple[int, ...]) -> int:
    """Measured: doubling blocks pays up to 16 input channels, where the products are otherwise too thin."""
    return 2 if kernel[0] > 1 and kernel[2] * stride**2 <= 16 and size >= 8 else 1


def _blocked(kind: str, stride: int, x: jax.Array, kernel: jax.Array) -> jax.Array:
    n, *sizes, c = x.shape
    factor = _factor(kind, stride, min(sizes), kernel.shape)
    h, w = (make_blocks(kind, stride, size, k, factor) for size, k in zip(sizes, kernel.shape, strict=False))

    dense = kernel
    if h.inner * h.outer * w.inner * w.outer > 1:
        taps = (jnp.asarray(axis.taps, kernel.dtype) for axis in (h, w))
        dense = jnp.einsum("aik,bjl,klco->ijcabo", *taps, kernel)
        dense = dense.reshape(h.reach, h.inner, w.reach, w.inner, -1).transpose(0, 2, 1, 3, 4)
        dense = dense.reshape(h.reach, w.reach, h.inner * w.inner * c, -1)

    pixels, blocks = zip(*(split_padding(axis.padding, axis.inner) for axis in (h, w)), strict=True)
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*p, 0) for p in pixels), (0, 0, 0)])
    x = x.reshape(n, x.shape[1] // h.inner, h.inner, x.shape[2] // w.inner, w.inner, c).transpose(0, 1, 3, 2, 4, 5)
    y = _convolve(x.reshape(*x.shape[:3], -1), dense, blocks)
    y = y.reshape(*y.shape[:3], h.outer, w.outer, -1).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(n, y.shape[1] * h.outer, y.shape[3] * w.outer, -1)[:, : h.size, : w.size]


def split_padding(padding: tuple[int, int], inner: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding by pixels and by whole blocks: the latter costs nothing, but serves only if it is all there is."""
    if any(p < 0 or p % inner for p in padding):
        return padding, (0, 0)
    return (0, 0), (padding[0] // inner, padding[1] // inner)


# ---- CPU: the stride-1 convolution and its gradients ----------------------------------------------------------------


def _one_at_a_time(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` whose `vmap` is one call an element, written out: `vmap` over kernels would make a grouped convolution and
    `lax.map` a loop, both many times slower on CPU, the former on GPU too."""

    def rule(size: int, batched: tuple[bool, ...], *arguments: jax.Array) -> tuple[Any, Any]:
        pick = lambda i: (a[i] if b else a for a, b in zip(arguments, batched, strict=True))  # noqa: E731
        results = [single(*pick(i)) for i in range(size)]
        return jax.tree.map(lambda *parts: jnp.stack(parts), *results), jax.tree.map(lambda _: True, results[0])

    single = jax.custom_batching.custom_vmap(f)
    single.def_vmap(rule)
    return single


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """`[N, H, W, C]`, `[h, w, C, out]` -> `[N, H + padding - h + 1, ..., out]`."""
    return _one_at_a_time(
        lambda x, kernel: lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=NHWC)
    )(x, kernel)


def _convolve_forward(x: jax.Array, kernel: jax.Array, padding: Padding) -> tuple[jax.Array, Any]:
    return _convolve(x, kernel, padding), (x, kernel)


def _convolve_backward(padding: Padding, kept: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    # The gradient of the input is a convolution in the forward one's layout, which is fast in loops too.
    sizes = zip(kernel.shape[:2], padding, strict=True)
    turned = tuple((k - 1 - low, k - 1 - high) for k, (low, high) in sizes)
    return _convolve(g, kernel[::-1, ::-1].swapaxes(2, 3), turned), _kernel_gradient(x, g, kernel.shape[:2], padding)


_convolve.defvjp(_convolve_forward, _convolve_backward)


def _kernel_gradient(x: jax.Array, g: jax.Array, size: tuple[int, ...], padding: Padding) -> jax.Array:
    """Gradient `[h, w, C, out]`: a convolution of `x` with `g` in which images take the part of channels and channels
    that of images. A few images at a time: what is transposed then stays in the processor's cache."""
    n, out = g.shape[0], g.shape[-1]
    fitting = max(4, CHUNK // (x[0].size + g[0].size))
    chunk = max(d for d in range(1, min(n, fitting) + 1) if n % d == 0)

    def partial_sum(x: jax.Array, g: jax.Array) -> jax.Array:
        x, g = x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3)
        return lax.conv_general_dilated(x, g, (1, 1), padding, dimension_numbers=NHWC)

    def whole(x: jax.Array, g: jax.Array) -> jax.Array:
        if chunk == n:
            return partial_sum(x, g)
        parts = tuple(a.reshape(n // chunk, chunk, *a.shape[1:]) for a in (x, g))
        add = lambda total, part: (total + partial_sum(*part), None)  # noqa: E731
        return lax.scan(add, jnp.zeros((x.shape[-1], *size, out), g.dtype), parts)[0]

    return _one_at_a_time(whole)(x, g).transpose(1, 2, 0, 3)


CHUNK = 2**17
"""Numbers of input and output of the images that `_kernel_gradient` takes at a time: half a megabyte."""
