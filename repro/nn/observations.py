"""Encoder and decoder of DreamerV1 and DreamerV2: the convolutional stacks of World Models (Ha and Schmidhuber 2018)
for an image of 64x64 pixels, dense layers for vectors."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from repro.envs.base import Space, Spaces
from repro.errors import UsageError
from repro.nn.conv_transpose import Conv2D, ConvTranspose2D
from repro.nn.dense import Activation, DenseStack, GlorotLinear, LayerNorm
from repro.nn.distributions import Normal
from repro.nn.params import Draw

SIDE = 64
"""The stacks have no padding: 64 -> 31 -> 14 -> 6 -> 2 and 1 -> 5 -> 13 -> 30 -> 64."""


def image_key(spaces: Spaces) -> str | None:
    """The one image key; `UsageError` for several images or another size than 64x64."""
    images = [k for k, s in spaces.items() if s.image]
    if len(images) > 1:
        raise UsageError(f"one image key is supported, not {', '.join(images)}")
    if images and spaces[images[0]].shape[:2] != (SIDE, SIDE):
        shape = spaces[images[0]].shape
        raise UsageError(f"images must be {SIDE}x{SIDE}, not {shape[0]}x{shape[1]}; set env.size={SIDE},{SIDE}")
    return images[0] if images else None


def normalize(image: jax.Array, dtype: Any) -> jax.Array:
    """uint8 -> [-0.5, 0.5]: image / 255 - 0.5."""
    return image.astype(dtype) / 255 - 0.5


class ImageEncoder(nnx.Module):
    """Four 4x4 convolutions of stride 2; `depth`, 2 depth, 4 depth and 8 depth channels."""

    def __init__(self, channels: int, depth: int, act: Activation, *, norm: bool = False, draw: Draw):
        widths = [channels, depth, 2 * depth, 4 * depth, 8 * depth]
        self.convs = nnx.List([Conv2D(i, o, 4, draw=draw) for i, o in itertools.pairwise(widths)])
        self.norms = nnx.List([LayerNorm(o) for o in widths[1:]]) if norm else None
        self.act = act
        self.size = 4 * widths[-1]

    def __call__(self, image: jax.Array) -> jax.Array:
        """Normalised images `[..., 64, 64, C]` -> `[..., 32 depth]` in the order row, column, channel."""
        batch = image.shape[:-3]
        x = self.maps(image.reshape(-1, *image.shape[-3:]))[-1]
        return x.reshape(*batch, -1)

    def maps(self, x: jax.Array) -> list[jax.Array]:
        """The output of every stage, `[N, H, W, C]`."""
        stages = []
        for i, conv in enumerate(self.convs):
            x = conv(x)
            x = self.act(x if self.norms is None else self.norms[i](x))
            stages.append(x)
        return stages


class ImageDecoder(nnx.Module):
    """Linear map to one pixel of 32 depth channels, then transposed convolutions (5, 5, 6, 6) to the mean image."""

    def __init__(self, inputs: int, channels: int, depth: int, act: Activation, *, norm: bool = False, draw: Draw):
        widths = [32 * depth, 4 * depth, 2 * depth, depth, channels]
        self.linear = GlorotLinear(inputs, widths[0], draw=draw)
        layers = zip(itertools.pairwise(widths), (5, 5, 6, 6), strict=True)
        self.convs = nnx.List([ConvTranspose2D(i, o, k, draw=draw) for (i, o), k in layers])
        self.norms = nnx.List([LayerNorm(o) for o in widths[1:-1]]) if norm else None
        self.act = act

    def __call__(self, *features: jax.Array) -> jax.Array:
        """Features `[..., inputs]`, in parts -> `[..., 64, 64, C]` float32."""
        x = self.linear(*features)
        batch = x.shape[:-1]
        return self.maps(x.reshape(-1, 1, 1, x.shape[-1]))[-1].astype(jnp.float32).reshape(*batch, SIDE, SIDE, -1)

    def maps(self, x: jax.Array) -> list[jax.Array]:
        """The output of every stage, `[N, H, W, C]`, from `[N, 1, 1, 32 depth]`."""
        stages = []
        for i, conv in enumerate(self.convs):
            x = conv(x)
            if i < len(self.convs) - 1:
                x = self.act(x if self.norms is None else self.norms[i](x))
            stages.append(x)
        return stages


class Encoder(nnx.Module):
    """All observation keys -> one embedding: image first, then the vectors (in sorted order) through dense layers."""

    def __init__(
        self,
        spaces: Spaces,
        depth: int,
        act: Activation,
        *,
        units: int,
        layers: int,
        dense_act: Activation,
        norm: bool = False,
        draw: Draw,
    ):
        self.image = image_key(spaces)
        self.vectors = vector_keys(spaces)
        self.size = 0
        if self.image:
            self.cnn = ImageEncoder(spaces[self.image].shape[2], depth, act, norm=norm, draw=draw)
            self.size += self.cnn.size
        if self.vectors:
            inputs = sum(math.prod(s.shape) for s in self.vectors.values())
            self.mlp = DenseStack(inputs, units, layers, act=dense_act, norm=norm, draw=draw)
            self.size += units

    def __call__(self, obs: Mapping[str, jax.Array], dtype: Any) -> jax.Array:
        """Observations `[..., *shape]` -> `[..., size]` in the compute dtype."""
        parts = []
        if self.image:
            parts.append(self.cnn(normalize(obs[self.image], dtype)))
        if self.vectors:
            values = [(obs[k], len(s.shape)) for k, s in self.vectors.items()]
            flat = [x.astype(dtype).reshape(*x.shape[: x.ndim - axes], -1) for x, axes in values]
            parts.append(self.mlp(jnp.concatenate(flat, -1)))
        return jnp.concatenate(parts, -1)


class Decoder(nnx.Module):
    """Features -> a normal distribution of unit variance for every observation key."""

    def __init__(
        self,
        spaces: Spaces,
        inputs: int,
        depth: int,
        act: Activation,
        *,
        units: int,
        layers: int,
        dense_act: Activation,
        norm: bool = False,
        draw: Draw,
    ):
        self.image = image_key(spaces)
        self.vectors = vector_keys(spaces)
        if self.image:
            self.cnn = ImageDecoder(inputs, spaces[self.image].shape[2], depth, act, norm=norm, draw=draw)
        if self.vectors:
            self.mlp = DenseStack(inputs, units, layers, act=dense_act, norm=norm, draw=draw)
            outputs = {k: GlorotLinear(units, math.prod(s.shape), draw=draw) for k, s in self.vectors.items()}
            self.vector = nnx.Dict(outputs)

    def __call__(self, *features: jax.Array) -> dict[str, jax.Array]:
        """Means `[..., *shape]`, float32; of the image in [-0.5, 0.5]."""
        means = {}
        if self.image:
            means[self.image] = self.cnn(*features)
        if self.vectors:
            x = self.mlp(*features)
            for key, space in self.vectors.items():
                y = self.vector[key](x).astype(jnp.float32)
                means[key] = y.reshape(*y.shape[:-1], *space.shape)
        return means


def vector_keys(spaces: Spaces) -> dict[str, Space]:
    """The vector keys in sorted order; `UsageError` for observations in classes, which these papers have not."""
    found = {k: s for k, s in sorted(spaces.items()) if not s.image}
    for key, space in found.items():
        if space.discrete:
            raise UsageError(f"observation {key!r} has {space.classes} classes; images and vectors are supported")
    return found


def log_likelihood(mean: jax.Array, target: jax.Array, axes: int) -> jax.Array:
    """Log-density of unit-variance normals, summed over the last `axes` axes, constant included."""
    return Normal(mean, jnp.ones(())).log_prob(target).sum(tuple(range(-axes, 0)))
