"""Sets that fit into the accelerator's memory, cropped there: the host draws boxes, so no step waits for images."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from repro.data import randomness
from repro.data.images import ImageSet, Pixels
from repro.data.transforms import Interpolation, RandomResizedCrop, Transform
from repro.errors import UsageError

LIMIT = 2 * 2**30
"""Bytes of pixels that are kept on the device."""


def fits(images: ImageSet, transform: Transform) -> bool:
    """Whether `DeviceLoader` can make these batches: decoded images of one size, random resized crops."""
    source = images.source
    return isinstance(source, Pixels) and source.pixels.nbytes <= LIMIT and isinstance(transform, RandomResizedCrop)


class DeviceLoader:
    """As `repro.data.loader.Loader`, with the images of a batch already on the device. The order of samples and the
    boxes are the same; the pixels are too, up to one grey level.

    Several seeds share one copy of the set through `pixels`.
    """

    def __init__(
        self, images: ImageSet, transform: RandomResizedCrop, batch: int, seed: int, pixels: jax.Array | None = None
    ):
        source = images.source
        if not fits(images, transform) or not isinstance(source, Pixels):
            raise UsageError(f"{images.name}/{images.split} does not fit on the device; use the ordinary loader")
        if not 1 <= batch <= len(images):
            raise UsageError(f"a batch of {batch} of the {len(images)} images of {images.name}/{images.split}")
        self.images, self.transform, self.batch_size, self.seed = images, transform, batch, seed
        self.pixels = jnp.asarray(source.pixels) if pixels is None else pixels
        self.steps_per_epoch = len(images) // batch
        readable = np.setdiff1d(np.arange(len(images)), list(source.broken))
        # The image that stands in for each: itself, or the next that is readable.
        self._instead = readable[np.searchsorted(readable, np.arange(len(images))) % len(readable)]
        self.skipped = {error.name: error.reason for error in source.broken.values()}
        self.waited = 0.0
        self._order = (-1, np.arange(0))

    def batch(self, index: int) -> dict[str, jax.Array | np.ndarray]:
        """`image` uint8 `[B, S, S, 3]` on the device, `label` int32 `[B]`, `sample` int64 `[B]`; returns at once."""
        epoch, step = divmod(index, self.steps_per_epoch)
        if self._order[0] != epoch:
            self._order = epoch, randomness.permutation(self.seed, epoch, len(self.images))
        samples = self._order[1][step * self.batch_size : (step + 1) * self.batch_size]
        numbers = randomness.uniforms(self.seed, epoch, samples, self.transform.draws)
        height, width = self.pixels.shape[1:3]
        boxes = self.transform.boxes(height, width, numbers)
        samples, flips = self._instead[samples], self.transform.flip & (numbers[:, -1] < 0.5)
        images = _take(self.pixels, samples, boxes, flips, self.transform.size, self.transform.interpolation)
        return {"image": images, "label": self.images.labels[samples], "sample": samples}

    def close(self) -> None:
        """Nothing to end."""


@partial(jax.jit, static_argnums=(4, 5))
def _take(
    pixels: jax.Array, samples: jax.Array, boxes: jax.Array, flips: jax.Array, size: int, interpolation: Interpolation
) -> jax.Array:
    return resized_crops(pixels[samples], boxes, flips, size, interpolation)


def resized_crops(
    images: jax.Array, boxes: jax.Array, flips: jax.Array, size: int, interpolation: Interpolation
) -> jax.Array:
    """Boxes (top, left, height, width) `[B, 4]` of images uint8 `[B, H, W, 3]`, resized to uint8 `[B, size, size, 3]`
    and mirrored where `flips` `[B]`: first along rows, then along columns, rounded after each, as Pillow does."""
    top, left, height, width = jnp.moveaxis(boxes, -1, 0)
    across = _weights(left, width, images.shape[2], size, interpolation)
    across = jnp.where(flips[:, None, None], across[:, ::-1], across)
    down = _weights(top, height, images.shape[1], size, interpolation)
    highest = jax.lax.Precision.HIGHEST
    x = _round(jnp.einsum("bsw,bhwc->bhsc", across, images.astype(jnp.float32), precision=highest))
    x = _round(jnp.einsum("bsh,bhwc->bswc", down, x, precision=highest))
    return x.astype(jnp.uint8)


def _weights(start: jax.Array, length: jax.Array, inputs: int, outputs: int, kind: Interpolation) -> jax.Array:
    """How much each of `inputs` pixels counts for each of `outputs`: `[B, outputs, inputs]`; 0 outside the box."""
    scale = (length / outputs)[:, None, None]
    centre = (jnp.arange(outputs) + 0.5)[:, None] * scale
    x = jnp.arange(inputs) - start[:, None, None]
    # Wider than a pixel when the box shrinks: that is the antialiasing.
    distance = jnp.abs(x + 0.5 - centre) / jnp.maximum(scale, 1.0)
    weights = _triangle(distance) if kind == "bilinear" else _cubic(distance)
    weights = jnp.where((x >= 0) & (x < length[:, None, None]), weights, 0.0)
    return weights / weights.sum(-1, keepdims=True)


def _triangle(x: jax.Array) -> jax.Array:
    return jnp.maximum(1 - x, 0.0)


def _cubic(x: jax.Array) -> jax.Array:
    """Keys' kernel with a = -1/2."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0.0))


def _round(x: jax.Array) -> jax.Array:
    return jnp.clip(jnp.floor(x + 0.5), 0, 255)
