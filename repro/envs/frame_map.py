"""From a game's frame to World Models' 64x64 image: Pillow's BILINEAR arithmetic, compiled, byte for byte the same.

The released code resizes with `scipy.misc.imresize`, which first stretches a float image so that its own smallest and
largest value, over all channels, become 0 and 255. It then takes `1.0 - image` of bytes: each byte minus one, with 0
becoming 255. A black frame therefore comes out white.
"""

from functools import cache
from typing import Any

import numba
import numpy as np

from repro.envs import resize

HALF = 1 << (resize.BITS - 1)

compiled: Any = numba.njit(nogil=True, cache=True)


def clean(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 `[H, W, 3] -> [*size, 3]` as `PIL.Image.resize(BILINEAR)`, for frames wider than high.

    Columns are always done first, as in 2018; today's Pillow begins with the rows of some tall frames.
    """
    return _shrink(np.ascontiguousarray(frame), np.arange(256, dtype=np.uint8), *_weights(frame.shape[:2], size), 0)


def world_models(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 `[H, W, 3] -> [*size, 3]`: contrast stretched, BILINEAR, minus one (release, `_process_frame`)."""
    frame = np.ascontiguousarray(frame)
    table = _stretch(int(frame.min()), int(frame.max()))
    return _shrink(frame, table, *_weights(frame.shape[:2], size), 1)


@cache
def _stretch(low: int, high: int) -> np.ndarray:
    """uint8 `[256]`: what each byte of a frame between `low` and `high` becomes, in SciPy's float64 arithmetic."""
    values = np.arange(256) / 255.0
    scale = 255.0 / ((values[high] - values[low]) or 1.0)
    return (((values - values[low]) * scale).clip(0, 255) + 0.5).astype(np.uint8)


@cache
def _weights(inputs: tuple[int, int], outputs: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """First input, and int32 weights `[outputs, taps]`, of every column, then of every row."""
    parts: list[np.ndarray] = []
    for n_in, n_out in zip(reversed(inputs), reversed(outputs), strict=True):
        index, weights = resize.taps(n_in, n_out)
        # A window that would reach over the edge begins earlier instead, with weights of 0.
        first = np.minimum(index[0], n_in - len(index))
        shifted = np.zeros((n_out, len(index)), np.int32)
        for o, shift in enumerate(index[0] - first):
            shifted[o, shift:] = weights[: len(index) - shift, o]
        parts += [first, shifted]
    return tuple(parts)


@compiled
def _shrink(
    frame: np.ndarray,
    table: np.ndarray,
    left: np.ndarray,
    across: np.ndarray,
    top: np.ndarray,
    down: np.ndarray,
    minus: int,
) -> np.ndarray:
    """Both passes of the resize, columns first, each rounded to bytes; `table` before them, `minus` after them."""
    height, width, _ = frame.shape
    columns, taps = across.shape
    rows, taps_down = down.shape
    line = np.empty((width, 3), np.int32)
    narrow = np.empty((height, columns * 3), np.int32)
    for y in range(height):
        for x in range(width):
            for channel in range(3):
                line[x, channel] = table[frame[y, x, channel]]
        for o in range(columns):
            red, green, blue = np.int32(HALF), np.int32(HALF), np.int32(HALF)
            for k in range(taps):
                weight = across[o, k]
                x = left[o] + k
                red += weight * line[x, 0]
                green += weight * line[x, 1]
                blue += weight * line[x, 2]
            narrow[y, 3 * o] = min(red >> resize.BITS, 255)
            narrow[y, 3 * o + 1] = min(green >> resize.BITS, 255)
            narrow[y, 3 * o + 2] = min(blue >> resize.BITS, 255)
    image = np.empty((rows, columns, 3), np.uint8)
    total = np.empty(columns * 3, np.int32)
    for o in range(rows):
        total[:] = HALF
        for k in range(taps_down):
            weight = down[o, k]
            for i in range(columns * 3):
                total[i] += weight * narrow[top[o] + k, i]
        for i in range(columns * 3):
            image[o, i // 3, i % 3] = (min(total[i] >> resize.BITS, 255) - minus) & 255
    return image
