"""From observations to tokens and from features back: encoder and decoder of DreamerV3. Sizes as in `networks`."""

import itertools
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from papers.dreamerv3.agent_config import DecoderConfig, EncoderConfig, RSSMConfig
from repro.envs.base import Space, Spaces
from repro.nn import conv
from repro.nn.distributions import SquaredError, SymlogSquaredError, categorical
from repro.nn.layers import MLP, BlockLinear, Conv2D, Hidden, Linear, RMSNorm, symlog
from repro.nn.params import Draw

Features = tuple[jax.Array, jax.Array]


def width(space: Space) -> int:
    """Numbers that represent a value of `space`: one-hot for classes."""
    return math.prod(space.shape) * (space.classes or 1)


def vectorize(values: Mapping[str, jax.Array], spaces: Spaces, dtype: Any, squash: Any = None) -> jax.Array:
    """Dict of `[..., *shape]` -> `[..., sum of widths]`: keys in sorted order, classes as one-hot."""
    parts = []
    for key in sorted(spaces):
        space, x = spaces[key], values[key]
        if space.classes:
            x = jax.nn.one_hot(x, space.classes, dtype=dtype)
        elif squash:
            x = squash(x)
        batch = x.shape[: x.ndim - len(space.shape) - bool(space.classes)]
        parts.append(x.astype(dtype).reshape(*batch, width(space)))
    return jnp.concatenate(parts, -1)


class ConvBlock(nnx.Module):
    """Convolution, RMSNorm over channels, activation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, apply: Any, act: str, *, draw: Draw):
        self.conv = Conv2D(inputs, outputs, kernel, apply, draw=draw)
        self.norm = RMSNorm(outputs)
        self.act = act

    def __call__(self, x: jax.Array) -> jax.Array:
        """`[N, H, W, inputs]` -> `[N, H', W', outputs]`."""
        return getattr(jax.nn, self.act)(self.norm(self.conv(x)))


class Encoder(nnx.Module):
    """Observations -> tokens: an MLP over all vector keys, convolutions over all image keys, concatenated."""

    def __init__(self, config: EncoderConfig, spaces: Spaces, *, draw: Draw):
        self.vectors = {k: s for k, s in sorted(spaces.items()) if not s.image}
        self.images = {k: s for k, s in sorted(spaces.items()) if s.image}
        self.squash = symlog if config.symlog else None
        self.size = 0
        if self.vectors:
            inputs = sum(map(width, self.vectors.values()))
            self.mlp = MLP(inputs, config.units, config.layers, config.act, draw=draw)
            self.size += config.units
        if self.images:
            shapes = [s.shape for s in self.images.values()]
            channels = [sum(s[2] for s in shapes)] + [config.depth * m for m in config.mults]
            whole = [config.outer and stage == 0 for stage in range(len(config.mults))]
            halve = partial(conv.conv2d, stride=2) if config.strided else conv.conv2d_pool
            self.cnn = nnx.List(
                [
                    ConvBlock(i, o, config.kernel, conv.conv2d if w else halve, config.act, draw=draw)
                    for (i, o), w in zip(itertools.pairwise(channels), whole, strict=True)
                ]
            )
            scale = 2 ** whole.count(False)
            self.size += math.prod(side // scale for side in shapes[0][:2]) * channels[-1]

    def __call__(self, obs: Mapping[str, jax.Array], dtype: Any) -> jax.Array:
        """Dict of `[..., *shape]` -> tokens `[..., size]` in the compute dtype."""
        tokens = []
        if self.vectors:
            tokens.append(self.mlp(vectorize(obs, self.vectors, dtype, self.squash)))
        if self.images:
            x = jnp.concatenate([obs[k] for k in self.images], -1)
            batch = x.shape[:-3]
            x = x.reshape(-1, *x.shape[-3:]).astype(dtype) / 255 - 0.5
            for block in self.cnn:
                x = block(x)
            tokens.append(x.reshape(*batch, -1))
        return jnp.concatenate(tokens, -1)


class Decoder(nnx.Module):
    """Features -> one distribution a key of the observation."""

    def __init__(self, config: DecoderConfig, spaces: Spaces, rssm: RSSMConfig, *, draw: Draw):
        c, flat = config, rssm.stoch * rssm.classes
        self.config = config
        self.vectors = {k: s for k, s in spaces.items() if not s.image}
        self.images = {k: s for k, s in spaces.items() if s.image}
        if self.vectors:
            self.mlp = MLP(flat + rssm.deter, c.units, c.layers, c.act, draw=draw)
            self.vector = nnx.Dict(
                {k: Linear(c.units, width(s), scale=c.outscale, draw=draw) for k, s in self.vectors.items()}
            )
        if self.images:
            scale = 2 ** (len(c.mults) - c.outer)
            side = [x // scale for x in next(iter(self.images.values())).shape[:2]]
            channels = [c.depth * m for m in c.mults]
            self.map_shape = (*side, channels[-1])
            self.deter_map = BlockLinear(rssm.deter, math.prod(self.map_shape), c.blocks, draw=draw)
            self.stoch_hidden = Hidden(flat, 2 * c.units, c.act, draw=draw)
            self.stoch_map = Linear(2 * c.units, math.prod(self.map_shape), draw=draw)
            self.map_norm = RMSNorm(channels[-1])
            double = conv.insert_conv2d if c.strided else conv.upsample_conv2d
            # As in the encoder stage 0 has the finest map: the stages run backwards.
            self.cnn = nnx.List(
                [ConvBlock(i, o, c.kernel, double, c.act, draw=draw) for o, i in itertools.pairwise(channels)]
            )
            last = conv.conv2d if c.outer else double
            outputs = sum(s.shape[2] for s in self.images.values())
            self.image = Conv2D(channels[0], outputs, c.kernel, last, scale=c.outscale, draw=draw)

    def __call__(self, features: Features) -> dict[str, Any]:
        """Features `[..., D]`, `[..., S*K]` -> key: distribution of `[..., *shape]`; images in [0, 1]."""
        deter, stoch = features
        batch = deter.shape[:-1]
        outputs: dict[str, Any] = {}
        if self.vectors:
            x = self.mlp(stoch, deter)
            for key, space in self.vectors.items():
                y = self.vector[key](x).astype(jnp.float32)
                if space.classes:
                    outputs[key] = categorical(y.reshape(*batch, *space.shape, space.classes))
                else:
                    squared = SymlogSquaredError if self.config.symlog else SquaredError
                    outputs[key] = squared(y.reshape(*batch, *space.shape))
        if self.images:
            image = self._image(deter.reshape(-1, deter.shape[-1]), stoch.reshape(-1, stoch.shape[-1]))
            image = image.astype(jnp.float32).reshape(*batch, *image.shape[1:])
            start = 0
            for key, space in self.images.items():
                outputs[key] = SquaredError(image[..., start : start + space.shape[2]])
                start += space.shape[2]
        return outputs

    def _image(self, deter: jax.Array, stoch: jax.Array) -> jax.Array:
        # The block-linear map yields (block, row, column, channel of the block): blocks side by side as channels.
        height, wide, channels = self.map_shape
        blocks = self.config.blocks
        x = self.deter_map(deter).reshape(-1, blocks, height, wide, channels // blocks)
        x = jnp.moveaxis(x, 1, 3).reshape(-1, *self.map_shape)
        x = x + self.stoch_map(self.stoch_hidden(stoch)).reshape(x.shape)
        x = getattr(jax.nn, self.config.act)(self.map_norm(x))
        for block in reversed(self.cnn):
            x = block(x)
        return jax.nn.sigmoid(self.image(x))
