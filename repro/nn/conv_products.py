"""Convolutions without padding on CPU, as products of matrices over a few images at a time, so that the windows of the
images never leave the processor's cache. Used through `repro.nn.conv`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def _valid(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Every window of the image as a row, times the kernel as a matrix."""
    matrix = kernel.reshape(-1, kernel.shape[-1])

    def some(x: jax.Array) -> jax.Array:
        windows = _windows(x, kernel.shape, stride)
        return (windows.reshape(-1, matrix.shape[0]) @ matrix).reshape(*windows.shape[:3], -1)

    return _in_parts(some, _part(_outputs(x.shape, kernel.shape, stride) * matrix.shape[0]), x)


def _transposed(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Every pixel times the kernel as a matrix is a window of the output; windows are added where they overlap."""
    h, w, channels, out = kernel.shape
    tall, wide = -(-h // stride), -(-w // stride)
    whole = jnp.pad(kernel, ((0, tall * stride - h), (0, wide * stride - w), (0, 0), (0, 0)))
    matrix = whole.transpose(2, 0, 1, 3).reshape(channels, -1)

    def some(x: jax.Array) -> jax.Array:
        n, height, width, _ = x.shape
        y = (x.reshape(-1, channels) @ matrix).reshape(n, height, width, tall, stride, wide, stride, out)
        total: Any = 0
        for a in range(tall):
            for b in range(wide):
                shift = ((0, 0), (a, tall - 1 - a), (0, 0), (b, wide - 1 - b), (0, 0), (0, 0))
                total += jnp.pad(y[:, :, :, a, :, b].transpose(0, 1, 3, 2, 4, 5), shift)
        rows, columns = stride * (height + tall - 1), stride * (width + wide - 1)
        return total.reshape(n, rows, columns, out)[:, : stride * (height - 1) + h, : stride * (width - 1) + w]

    return _in_parts(some, _part(x[0, :, :, 0].size * matrix.shape[1]), x)


def _valid_gradients(x: jax.Array, kernel: jax.Array, g: jax.Array, stride: int) -> tuple[jax.Array, jax.Array]:
    of_x = _transposed(g, kernel.swapaxes(2, 3), stride)
    unused = [(0, size - used) for size, used in zip(x.shape[1:3], of_x.shape[1:3], strict=True)]
    of_kernel = _sum_of_windows(x, g, kernel.shape, stride)
    return jnp.pad(of_x, [(0, 0), *unused, (0, 0)]), of_kernel.reshape(kernel.shape)


def _transposed_gradients(x: jax.Array, kernel: jax.Array, g: jax.Array, stride: int) -> tuple[jax.Array, jax.Array]:
    turned = kernel.swapaxes(2, 3)
    of_kernel = _sum_of_windows(g, x, turned.shape, stride).reshape(turned.shape)
    return _valid(g, turned, stride), of_kernel.swapaxes(2, 3)


PRODUCTS: dict[str, tuple[Callable[..., jax.Array], Callable[..., tuple[jax.Array, jax.Array]]]] = {
    "valid": (_valid, _valid_gradients),
    "transposed": (_transposed, _transposed_gradients),
}


def _sum_of_windows(x: jax.Array, g: jax.Array, kernel: tuple[int, ...], stride: int) -> jax.Array:
    """Sum over images and positions of window times `g`: `[h * w * C, out]`."""
    size = kernel[0] * kernel[1] * kernel[2]

    def some(x: jax.Array, g: jax.Array) -> jax.Array:
        return _windows(x, kernel, stride).reshape(-1, size).T @ g.reshape(-1, g.shape[-1])

    parts, n = _part(_outputs(x.shape, kernel, stride) * size), x.shape[0]
    if parts >= n:
        return some(x, g)
    add = lambda total, part: (total + some(*part), None)  # noqa: E731
    return lax.scan(add, jnp.zeros((size, g.shape[-1]), g.dtype), (_cut(x, parts), _cut(g, parts)))[0]


def _windows(x: jax.Array, kernel: tuple[int, ...], stride: int) -> jax.Array:
    """`[N, H, W, C]` -> `[N, H', W', h * w * C]`."""
    h, w = kernel[:2]
    rows, columns = ((size - k) // stride * stride + 1 for size, k in zip(x.shape[1:3], (h, w), strict=True))
    steps = [(a, b) for a in range(h) for b in range(w)]
    return jnp.concatenate([x[:, a : a + rows : stride, b : b + columns : stride] for a, b in steps], -1)


def _outputs(x: tuple[int, ...], kernel: tuple[int, ...], stride: int) -> int:
    return ((x[1] - kernel[0]) // stride + 1) * ((x[2] - kernel[1]) // stride + 1)


PART = 2**20
"""Numbers worked on at a time: four megabytes."""


def _part(numbers: int) -> int:
    """How many images are worked on at a time when each makes so many numbers."""
    return max(1, PART // numbers)


def _cut(x: jax.Array, part: int) -> jax.Array:
    """`[N, ...]` -> `[parts, N / parts, ...]` of at most `part` images each, zeros added where it does not divide."""
    n = x.shape[0]
    parts = -(-n // part)
    each = -(-n // parts)
    x = jnp.pad(x, [(0, parts * each - n), *[(0, 0)] * (x.ndim - 1)])
    return x.reshape(parts, each, *x.shape[1:])


def _in_parts(f: Callable[[jax.Array], jax.Array], part: int, x: jax.Array) -> jax.Array:
    if part >= x.shape[0]:
        return f(x)
    y = lax.map(f, _cut(x, part))
    return y.reshape(-1, *y.shape[2:])[: x.shape[0]]
