"""Pillow's BILINEAR for batches of frames, on the host and inside `jit`, byte for byte the same."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

_POOL_FROM = 4
"""Frames from which threads pay (a frame takes about 0.15 ms)."""

_pool: list[ThreadPoolExecutor] = []


def bilinear(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 `[N, H, W, 3] -> [N, *size, 3]` by `PIL.Image.resize(BILINEAR)` (antialiased)."""
    out = np.empty((len(frames), *size, 3), np.uint8)

    def work(part: np.ndarray) -> None:
        for i in part:
            out[i] = np.asarray(Image.fromarray(frames[i]).resize((size[1], size[0]), Image.Resampling.BILINEAR))

    if len(frames) < _POOL_FROM:
        work(np.arange(len(frames)))
    else:
        if not _pool:
            _pool.append(ThreadPoolExecutor(os.cpu_count() or 1))
        list(_pool[0].map(work, np.array_split(np.arange(len(frames)), min(len(frames) // 2, os.cpu_count() or 1))))
    return out


RED, GREEN = 0.299, 0.587
BLUE = 1 - (RED + GREEN)


def luminance(images: np.ndarray) -> np.ndarray:
    """uint8 `[..., 3] -> [..., 1]`: 0.299 R + 0.587 G + the rest B in float64, truncated (DreamerV3)."""
    red, green, blue = np.moveaxis(images, -1, 0)
    return ((red * RED + green * GREEN) + blue * BLUE).astype(np.uint8)[..., None]
