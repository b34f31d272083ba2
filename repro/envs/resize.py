"""What papers do to frames that ale-py does not: Pillow's BILINEAR, DreamerV3's gray, EfficientZero's JPEG.

The first two also inside `jit`, byte for byte the same.
"""

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

THREADS_FROM = 4
"""Frames from which threads pay (a frame takes about 0.15 ms)."""

BITS = 22
"""Pillow rounds its weights to this many binary places, and the result of each of its two passes to integers."""

RED, GREEN = 0.299, 0.587
BLUE = 1 - (RED + GREEN)


def bilinear(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 `[N, H, W, 3] -> [N, *size, 3]` by `PIL.Image.resize(BILINEAR)` (antialiased)."""
    shape = (size[1], size[0])
    return _each(lambda frame: np.asarray(Image.fromarray(frame).resize(shape, Image.Resampling.BILINEAR)), frames)


def jpeg(images: np.ndarray) -> np.ndarray:
    """uint8 `[N, H, W, 3]` after a JPEG round trip as OpenCV does it by default, with red and blue exchanged.

    EfficientZero hands its RGB images to an encoder that takes them for BGR.
    """

    def round_trip(image: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image[..., ::-1])).save(file, "JPEG", quality=95, subsampling="4:2:0")
        return np.asarray(Image.open(file))[..., ::-1]

    return _each(round_trip, images)


def _each(work: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """`work` on every image, by threads where there are several."""
    if len(images) < THREADS_FROM:
        return np.stack([work(image) for image in images])
    parts = np.array_split(images, min(len(images) // 2, os.cpu_count() or 1))
    return np.concatenate(list(_pool().map(lambda part: np.stack([work(image) for image in part]), parts)))


def luminance(images: np.ndarray) -> np.ndarray:
    """uint8 `[..., 3] -> [..., 1]`: 0.299 R + 0.587 G + the rest B in float64, truncated (DreamerV3)."""
    red, green, blue = np.moveaxis(images, -1, 0)
    return ((red * RED + green * GREEN) + blue * BLUE).astype(np.uint8)[..., None]


def bilinear_jit(frames: Any, size: tuple[int, int]) -> Any:
    """As `bilinear`, traceable.

    Every output needs a few neighbouring inputs only, so each pass is a short sum of shifted, weighted images: 10 times
    faster on a CPU than a product with the whole matrix of weights.
    """
    import jax.numpy as jnp

    def round_off(total: Any) -> Any:
        return jnp.clip((total + (1 << (BITS - 1))) >> BITS, 0, 255).astype(jnp.uint8)

    columns, weights = taps(frames.shape[2], size[1])
    terms = (frames[:, :, x].astype(jnp.int32) * w[:, None] for x, w in zip(columns, weights, strict=True))
    frames = round_off(sum(terms))
    rows, weights = taps(frames.shape[1], size[0])
    terms = (frames[:, y].astype(jnp.int32) * w[:, None, None] for y, w in zip(rows, weights, strict=True))
    return round_off(sum(terms))


def luminance_jit(images: Any) -> Any:
    """As `luminance`, traceable: exact integer arithmetic, and a table of where float64 falls just below an integer."""
    import jax.numpy as jnp

    red, green, blue = (images[..., i].astype(jnp.int32) for i in range(3))
    exact = (299 * red + 587 * green + 114 * blue) // 1000
    low = jnp.asarray(_falls_below())[red, green] == blue
    return (exact - low).astype(jnp.uint8)[..., None]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1)


@cache
def taps(inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Input indices and int32 weights `[taps, outputs]` of Pillow's triangle filter; unused taps have weight 0."""
    scale = inputs / outputs
    reach = max(scale, 1.0)
    matrix = np.zeros((outputs, inputs), np.int64)
    for o in range(outputs):
        centre = (o + 0.5) * scale
        low, high = int(max(0, centre - reach + 0.5)), int(min(inputs, centre + reach + 0.5))
        weight = np.maximum(0, 1 - np.abs((np.arange(low, high) - centre + 0.5) / reach))
        matrix[o, low:high] = weight / weight.sum() * 2**BITS + 0.5
    first = (matrix > 0).argmax(1)
    tap = np.arange((matrix > 0).sum(1).max())
    index = np.minimum(first[:, None] + tap, inputs - 1)
    weights = np.where(first[:, None] + tap < inputs, np.take_along_axis(matrix, index, 1), 0)
    return index.T, weights.T.astype(np.int32)


@cache
def _falls_below() -> np.ndarray:
    """int16 `[256 red, 256 green]`: the blue for which float64 truncates an exact integer to one less, or -1.

    114 B = -(299 R + 587 G) mod 1000 has at most one solution below 256, so one entry a pair is enough.
    """
    red, green = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    table = np.full((256, 256), -1, np.int16)
    for blue in range(256):
        total = 299 * red + 587 * green + 114 * blue
        below = (red * RED + green * GREEN) + blue * BLUE < total // 1000
        table[(total % 1000 == 0) & below] = blue
    return table
