"""Layers without padding, of stride 2: the convolutional stacks of World Models, DreamerV1 and DreamerV2."""

import jax
import jax.numpy as jnp
from flax import nnx

from repro.nn.conv import transposed_conv2d, valid_conv2d
from repro.nn.initializers import glorot_uniform
from repro.nn.params import Draw


class Conv2D(nnx.Module):
    """VALID convolution of stride 2 with bias; Glorot-uniform kernel, zero bias, as Keras has it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, draw: Draw):
        area = kernel * kernel
        self.kernel = nnx.Param(glorot_uniform(draw, (kernel, kernel, inputs, outputs), area * inputs, area * outputs))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., H, W, inputs]` -> `[..., (H-k)//2 + 1, (W-k)//2 + 1, outputs]`."""
        return valid_conv2d(x, self.kernel[...]) + self.bias[...]


class ConvTranspose2D(nnx.Module):
    """VALID transposed convolution of stride 2 with bias; Glorot-uniform kernel, zero bias, as Keras has it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, draw: Draw):
        area = kernel * kernel
        self.kernel = nnx.Param(glorot_uniform(draw, (kernel, kernel, inputs, outputs), area * inputs, area * outputs))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., H, W, inputs]` -> `[..., 2(H-1) + k, 2(W-1) + k, outputs]`."""
        return transposed_conv2d(x, self.kernel[...]) + self.bias[...]
