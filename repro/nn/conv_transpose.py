"""VALID convolutions and transposed convolutions of stride 2, the stacks of World Models, DreamerV1 and DreamerV2.

Images `[..., H, W, C]`, kernels `[k, k, in, out]`. On GPU and TPU these are the plain operations. On CPU, where the
plain gradients are up to twenty times slower than the products they amount to, both directions are one matrix product:
convolutions of patches, transposed convolutions of pixels whose contributions are added up where they overlap. That
form is as fast inside loops as outside, and `vmap` over kernels makes it a batched product.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from repro.nn.conv import NHWC, _one_at_a_time
from repro.nn.initializers import glorot_uniform
from repro.nn.params import Draw

Conv = Callable[[jax.Array, jax.Array], jax.Array]


def conv2d_valid(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of stride 2 without padding: `[..., H, W, in]` -> `[..., (H-k)//2 + 1, (W-k)//2 + 1, out]`."""
    return _batched(_by_platform("conv"), x, kernel)


def conv2d_transpose(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The transpose of `conv2d_valid`: pixel (i, j) adds `x[i, j] @ kernel` to the k x k outputs from (2i, 2j) on.

    `[..., H, W, in]` -> `[..., 2(H-1) + k, 2(W-1) + k, out]`; the layer that TensorFlow calls Conv2DTranspose, whose
    kernels have the last two axes swapped.
    """
    return _batched(_by_platform("transpose"), x, kernel)


def _batched(f: Conv, x: jax.Array, kernel: jax.Array) -> jax.Array:
    y = f(x.reshape(-1, *x.shape[-3:]), kernel)
    return y.reshape(*x.shape[:-3], *y.shape[1:])


# ---- the platform's form --------------------------------------------------------------------------------------------


@functools.cache
def _by_platform(kind: str) -> Conv:
    """The operation as the platform that the program is compiled for likes it, forward and backward."""
    plain, product = {"conv": (_plain_conv, _patches_conv), "transpose": (_plain_transpose, _overlap_add)}[kind]

    def product_gradients(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vjp(product, x, kernel)[1](g)

    def plain_gradients(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        (of_x,) = jax.linear_transpose(lambda x: plain(x, kernel), x)(g)
        (of_kernel,) = jax.linear_transpose(lambda kernel: plain(x, kernel), kernel)(g)
        return of_x, of_kernel

    @jax.custom_vjp
    def apply(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.platform_dependent(x, kernel, cpu=product, tpu=plain, default=_one_at_a_time(plain))

    def forward(x: jax.Array, kernel: jax.Array) -> Any:
        return apply(x, kernel), (x, kernel)

    def backward(kept: Any, g: jax.Array) -> Any:
        apart = _one_at_a_time(plain_gradients)
        return lax.platform_dependent(*kept, g, cpu=product_gradients, tpu=plain_gradients, default=apart)

    apply.defvjp(forward, backward)
    return apply


def _plain_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=NHWC)


def _plain_transpose(x: jax.Array, kernel: jax.Array) -> jax.Array:
    pad = [(k - 1, k - 1) for k in kernel.shape[:2]]
    flipped = kernel[::-1, ::-1]
    return lax.conv_general_dilated(x, flipped, (1, 1), pad, lhs_dilation=(2, 2), dimension_numbers=NHWC)


# ---- CPU: products --------------------------------------------------------------------------------------------------


def _patches_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The patches of all outputs as rows, times the kernel as a matrix; cells of 2x2 pixels first, as far as they go:
    with few channels there are then fewer and larger pieces to put together."""
    n, height, wide, inputs = x.shape
    size, outputs = kernel.shape[0], kernel.shape[3]
    rows, columns, half = (height - size) // 2 + 1, (wide - size) // 2 + 1, -(-size // 2)
    down, across = rows + half - 1, columns + half - 1
    x = jnp.pad(x, ((0, 0), (0, max(0, 2 * down - height)), (0, max(0, 2 * across - wide)), (0, 0)))
    cells = x[:, : 2 * down, : 2 * across].reshape(n, down, 2, across, 2, inputs)
    cells = cells.transpose(0, 1, 3, 2, 4, 5).reshape(n, down, across, 4 * inputs)
    odd = 2 * half - size
    kernel = jnp.pad(kernel, ((0, odd), (0, odd), (0, 0), (0, 0))).reshape(half, 2, half, 2, inputs, outputs)
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(-1, outputs)
    patches = [cells[:, i : i + rows, j : j + columns] for i in range(half) for j in range(half)]
    flat = jnp.concatenate(patches, -1).reshape(n * rows * columns, -1)
    return (flat @ kernel).reshape(n, rows, columns, outputs)


def _overlap_add(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """What each pixel adds to its k x k outputs by one product, then the sum over pixels, in cells of 2x2 outputs."""
    n, height, wide, inputs = x.shape
    size, outputs = kernel.shape[0], kernel.shape[3]
    half = -(-size // 2)
    odd = 2 * half - size
    kernel = jnp.pad(kernel, ((0, odd), (0, odd), (0, 0), (0, 0))).transpose(2, 0, 1, 3).reshape(inputs, -1)
    y = (x.reshape(-1, inputs) @ kernel).reshape(n, height, wide, half, 2, half, 2, outputs)
    rows, columns = height + half - 1, wide + half - 1
    total = sum(
        jnp.pad(
            y[:, :, :, i, :, j].transpose(0, 1, 3, 2, 4, 5),
            ((0, 0), (i, half - 1 - i), (0, 0), (j, half - 1 - j), (0, 0), (0, 0)),
        )
        for i in range(half)
        for j in range(half)
    )
    y = jnp.asarray(total).reshape(n, 2 * rows, 2 * columns, outputs)
    return y[:, : 2 * (height - 1) + size, : 2 * (wide - 1) + size]


# ---- layers ---------------------------------------------------------------------------------------------------------


class Conv2D(nnx.Module):
    """VALID convolution of stride 2 with bias; Glorot-uniform kernel, zero bias, as Keras has it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, draw: Draw):
        area = kernel * kernel
        self.kernel = nnx.Param(glorot_uniform(draw, (kernel, kernel, inputs, outputs), area * inputs, area * outputs))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., H, W, inputs]` -> `[..., (H-k)//2 + 1, (W-k)//2 + 1, outputs]`."""
        return conv2d_valid(x, self.kernel[...]) + self.bias[...]


class ConvTranspose2D(nnx.Module):
    """VALID transposed convolution of stride 2 with bias; Glorot-uniform kernel, zero bias, as Keras has it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, draw: Draw):
        area = kernel * kernel
        self.kernel = nnx.Param(glorot_uniform(draw, (kernel, kernel, inputs, outputs), area * inputs, area * outputs))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., H, W, inputs]` -> `[..., 2(H-1) + k, 2(W-1) + k, outputs]`."""
        return conv2d_transpose(x, self.kernel[...]) + self.bias[...]
