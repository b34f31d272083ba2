"""Videos as animated GIFs."""

import os
from pathlib import Path

import numpy as np


def write_gif(path: Path, frames: np.ndarray, fps: float = 10.0, colors: int = 256) -> None:
    """Writes uint8 frames `[T, H, W, 3]` (or `[T, H, W, 1]`, `[T, H, W]` for gray) as an endless GIF, atomically; few
    `colors` a frame (without dithering) make a small file, in which small things of a rare colour keep it.

    Raises `ValueError` for any other shape or type, or for no frames.
    """
    from PIL import Image

    frames = np.asarray(frames)
    if frames.ndim == 4 and frames.shape[-1] == 1:
        frames = frames[..., 0]
    gray, color = frames.ndim == 3, frames.ndim == 4 and frames.shape[-1] == 3
    if frames.dtype != np.uint8 or not (gray or color) or not len(frames):
        raise ValueError(f"expected uint8 frames [T, H, W, 3], got {frames.dtype} {frames.shape}")
    images = [Image.fromarray(frame) for frame in frames]
    if colors < 256:
        # Median cut, the default, gives a fireball of ten pixels the colour of the wall behind it.
        octree = Image.Quantize.FASTOCTREE
        images = [image.quantize(colors, octree, dither=Image.Dither.NONE) for image in images]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    images[0].save(partial, format="GIF", save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0)
    os.replace(partial, path)
