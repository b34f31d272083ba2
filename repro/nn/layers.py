"""Layers of the Dreamer line. Kernels and inputs share the compute dtype; parameters are created in float32."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from repro.nn.norm import rms_norm
from repro.nn.params import Draw

Conv = Callable[[jax.Array, jax.Array], jax.Array]


def symlog(x: jax.Array) -> jax.Array:
    """sign(x) ln(1 + |x|): compresses large magnitudes (DreamerV3, eq. 9)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: jax.Array) -> jax.Array:
    """Inverse of `symlog`."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))


class Linear(nnx.Module):
    """`[..., inputs] -> [..., outputs]`, with bias. The inputs may come in parts, which are not concatenated."""

    def __init__(self, inputs: int, outputs: int, *, scale: float = 1.0, draw: Draw):
        self.kernel = nnx.Param(draw((inputs, outputs), inputs, scale))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, *parts: jax.Array) -> jax.Array:
        """Affine map of the concatenation of `parts` over the last axis."""
        return affine(self.kernel[...], self.bias[...], *parts)


def affine(kernel: jax.Array, bias: jax.Array, *parts: jax.Array) -> jax.Array:
    """The function of `Linear`."""
    y, start = bias, 0
    for x in parts:
        # As a product of two matrices: with more axes the gradient of the kernel is three times slower on CPUs.
        flat = x.reshape(-1, x.shape[-1]) @ kernel[start : start + x.shape[-1]]
        y = flat.reshape(*x.shape[:-1], -1) + y
        start += x.shape[-1]
    return y


@jax.custom_vjp
def known_linear(value: jax.Array, kernel: jax.Array, bias: jax.Array, *parts: jax.Array) -> jax.Array:
    """`value`, which the caller computed as `Linear` of `parts` without gradients, as a function of its arguments."""
    return value


def _known_linear_forward(value: jax.Array, kernel: jax.Array, bias: jax.Array, *parts: jax.Array) -> Any:
    return value, (kernel, parts)


def _known_linear_backward(saved: Any, gradient: jax.Array) -> Any:
    kernel, parts = saved
    _, vjp = jax.vjp(affine, kernel, jnp.zeros_like(gradient, shape=gradient.shape[-1:]), *parts)
    return None, *vjp(gradient)


known_linear.defvjp(_known_linear_forward, _known_linear_backward)


class BlockLinear(nnx.Module):
    """Block-diagonal affine map: block b of the outputs sees block b of the inputs only.

    The kernel is `[blocks, inputs / blocks, outputs / blocks]`. Its initial scale counts all inputs, not those of one
    block, so weights are sqrt(blocks) smaller than block-wise initialisation would make them (DreamerV3's code).
    """

    def __init__(self, inputs: int, outputs: int, blocks: int, *, scale: float = 1.0, draw: Draw):
        shape = (blocks, inputs // blocks, outputs // blocks)
        self.kernel = nnx.Param(draw(shape, inputs, scale))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[..., inputs] -> [..., outputs]`."""
        return block_product(x, self.kernel[...]) + self.bias[...]


def block_product(x: jax.Array, kernel: jax.Array, pieces: int = 1) -> Any:
    """Block-diagonal product: x `[..., blocks * i]`, kernel `[blocks, i, o]` -> `[..., blocks * o]`.

    With several `pieces`, the outputs of each block are cut into so many; the same piece of all blocks is one array
    `[..., blocks * o / pieces]`, and a tuple of them is returned.
    """
    blocks, inputs, outputs = kernel.shape
    x = x.reshape(*x.shape[:-1], blocks, inputs)
    # Written out because `einsum` swaps the operands, which makes the result feature-major and its copy back slow.
    y = lax.dot_general(x, kernel, (((x.ndim - 1,), (1,)), ((x.ndim - 2,), (0,))))
    cut = [jnp.moveaxis(part, 0, -2).reshape(*y.shape[1:-1], -1) for part in jnp.split(y, pieces, -1)]
    return tuple(cut) if pieces > 1 else cut[0]


class Conv2D(nnx.Module):
    """2-D convolution with bias; `apply(x, kernel)` is one of `repro.nn.conv`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, apply: Conv, *, scale: float = 1.0, draw: Draw):
        shape = (kernel, kernel, inputs, outputs)
        self.kernel = nnx.Param(draw(shape, kernel * kernel * inputs, scale))
        self.bias = nnx.Param(jnp.zeros(outputs))
        self.apply = apply

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[N, H, W, inputs]` -> `[N, H', W', outputs]`."""
        return self.apply(x, self.kernel[...]) + self.bias[...]


class RMSNorm(nnx.Module):
    """x / sqrt(mean(x^2) + eps) * scale over the last axis, computed in float32."""

    def __init__(self, units: int, *, eps: float = 1e-4):
        self.scale = nnx.Param(jnp.ones(units))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        """Keeps shape and dtype."""
        return rms_norm(x, self.scale[...], self.eps)


class Hidden(nnx.Module):
    """A hidden layer: linear map, RMSNorm, activation (a name in `jax.nn`)."""

    def __init__(self, inputs: int, units: int, act: str = "silu", *, draw: Draw):
        self.linear = Linear(inputs, units, draw=draw)
        self.norm = RMSNorm(units)
        self.act = act

    def __call__(self, *parts: jax.Array) -> jax.Array:
        """`[..., inputs] -> [..., units]`."""
        return self.activate(self.linear(*parts))

    def activate(self, x: jax.Array) -> jax.Array:
        """What follows the linear map."""
        return getattr(jax.nn, self.act)(self.norm(x))


class MLP(nnx.Module):
    """`layers` hidden layers of `units`."""

    def __init__(self, inputs: int, units: int, layers: int, act: str = "silu", *, draw: Draw):
        widths = [inputs] + [units] * layers
        self.layers = nnx.List([Hidden(i, o, act, draw=draw) for i, o in itertools.pairwise(widths)])

    def __call__(self, *parts: jax.Array) -> jax.Array:
        """`[..., inputs] -> [..., units]`; at least one layer."""
        return self.after_first(self.layers[0].linear(*parts))

    def after_first(self, x: jax.Array) -> jax.Array:
        """The rest of the computation from what the first layer's linear map gives."""
        x = self.layers[0].activate(x)
        for layer in self.layers[1:]:
            x = layer(x)
        return x
