"""Dense layers as Keras has them (Glorot-uniform kernels), with or without layer norm: DreamerV1, DreamerV2."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from repro.nn.initializers import glorot_uniform
from repro.nn.layers import Linear
from repro.nn.params import Draw

Activation = Callable[[jax.Array], jax.Array]


class GlorotLinear(Linear):
    """`Linear` with a Glorot-uniform kernel."""

    def __init__(self, inputs: int, outputs: int, *, draw: Draw):
        self.kernel = nnx.Param(glorot_uniform(draw, (inputs, outputs), inputs, outputs))
        self.bias = nnx.Param(jnp.zeros(outputs))


class LayerNorm(nnx.Module):
    """(x - mean) / sqrt(variance + eps) * scale + offset over the last axis, computed in float32 (Ba et al. 2016)."""

    def __init__(self, units: int, *, eps: float = 1e-3):
        self.scale = nnx.Param(jnp.ones(units))
        self.offset = nnx.Param(jnp.zeros(units))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        """Keeps shape and dtype."""
        y = x.astype(jnp.float32)
        y = y - y.mean(-1, keepdims=True)
        y = y * lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.eps)
        return (y * self.scale[...] + self.offset[...]).astype(x.dtype)


class Dense(nnx.Module):
    """Linear map, layer norm if wanted, activation."""

    def __init__(self, inputs: int, units: int, act: Activation = jax.nn.elu, *, norm: bool = False, draw: Draw):
        self.linear = GlorotLinear(inputs, units, draw=draw)
        self.norm = LayerNorm(units) if norm else None
        self.act = act

    def __call__(self, *parts: jax.Array) -> jax.Array:
        """`[..., inputs] -> [..., units]`; the inputs may come in parts."""
        return self.activate(self.linear(*parts))

    def activate(self, x: jax.Array) -> jax.Array:
        """What follows the linear map."""
        return self.act(x if self.norm is None else self.norm(x))


class DenseStack(nnx.Module):
    """`layers` dense layers of `units` and, if `outputs` is given, a linear output."""

    def __init__(
        self,
        inputs: int,
        units: int,
        layers: int,
        outputs: int | None = None,
        act: Activation = jax.nn.elu,
        *,
        norm: bool = False,
        draw: Draw,
    ):
        widths = [inputs] + [units] * layers
        self.layers = nnx.List([Dense(i, o, act, norm=norm, draw=draw) for i, o in itertools.pairwise(widths)])
        self.out = None if outputs is None else GlorotLinear(units, outputs, draw=draw)

    def __call__(self, *parts: jax.Array) -> jax.Array:
        """`[..., inputs] -> [..., units]` or `[..., outputs]`."""
        first, *rest = self.layers
        x = first(*parts)
        for layer in rest:
            x = layer(x)
        return x if self.out is None else self.out(x)
