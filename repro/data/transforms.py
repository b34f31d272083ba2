"""Crops and resizes, all with Pillow on uint8 (antialiased), as the published pre-processing of I-JEPA and its probes.

A transform gets a picture and as many uniform random numbers as it states in `draws`; the numbers come from the loader,
so the result is a function of seed, epoch and sample. Normalisation is left to the device (`normalise`).
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels in [0, 1]; I-JEPA normalises every set with them."""

Interpolation = Literal["bilinear", "bicubic"]
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


Box = tuple[int, int, int, int]
"""Top, left, height, width."""


class Transform(Protocol):
    """Picture of any size -> uint8 `[size, size, 3]`."""

    @property
    def size(self) -> int:
        """Side of the result in pixels."""
        ...

    @property
    def draws(self) -> int:
        """How many uniform numbers it needs."""
        ...

    def __call__(self, picture: Image.Image, uniforms: np.ndarray) -> np.ndarray:
        """`uniforms` is float64 `[draws]` in [0, 1)."""
        ...


def normalise(images: Any) -> Any:
    """uint8 `[..., 3]` -> float32, (x / 255 - MEAN) / STD; for arrays of NumPy and JAX alike."""
    return (images.astype(np.float32) / np.float32(255) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)


@dataclass(frozen=True)
class RandomResizedCrop:
    """A crop whose area is a uniform share of the image and whose log aspect ratio is uniform, resized to a square.

    Ten tries; if none fits, the largest central crop within the range of ratios (Szegedy et al. 2015; the defaults are
    I-JEPA's pre-training, which never flips).
    """

    size: int
    scale: tuple[float, float] = (0.3, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = False
    interpolation: Interpolation = "bilinear"

    TRIES = 10

    @property
    def draws(self) -> int:
        """Area and ratio of each try, top, left, flip."""
        return 2 * self.TRIES + 3

    def box(self, height: int, width: int, uniforms: np.ndarray) -> Box:
        """Top, left, height and width of the crop of an image of this size."""
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        *tries, top, left, _ = uniforms.tolist()
        for share, place in zip(tries[::2], tries[1::2], strict=True):
            area = height * width * (self.scale[0] + share * (self.scale[1] - self.scale[0]))
            aspect = math.exp(low + place * (high - low))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                return int(top * (height - h + 1)), int(left * (width - w + 1)), h, w
        return self._central(height, width)

    def boxes(self, height: int, width: int, uniforms: np.ndarray) -> np.ndarray:
        """`box` for many images of one size: `[B, draws]` -> int64 `[B, 4]`. Far faster than one by one."""
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        share, place = uniforms[:, : 2 * self.TRIES : 2], uniforms[:, 1 : 2 * self.TRIES : 2]
        area = height * width * (self.scale[0] + share * (self.scale[1] - self.scale[0]))
        aspect = np.exp(low + place * (high - low))
        w, h = (np.rint(np.sqrt(side)).astype(int) for side in (area * aspect, area / aspect))
        fits = (0 < w) & (w <= width) & (0 < h) & (h <= height)
        first = np.arange(len(uniforms)), fits.argmax(1)
        w, h = w[first], h[first]
        top, left = uniforms[:, -3] * (height - h + 1), uniforms[:, -2] * (width - w + 1)
        found = np.stack([top.astype(int), left.astype(int), h, w], 1)
        return np.where(fits.any(1, keepdims=True), found, self._central(height, width))

    def _central(self, height: int, width: int) -> Box:
        w, h = width, height
        if width / height < self.ratio[0]:
            h = round(w / self.ratio[0])
        elif width / height > self.ratio[1]:
            w = round(h * self.ratio[1])
        return (height - h) // 2, (width - w) // 2, h, w

    def __call__(self, picture: Image.Image, uniforms: np.ndarray) -> np.ndarray:
        """The crop, mirrored with probability 1/2 if `flip`."""
        crop = np.asarray(
            resized_crop(picture, self.box(picture.height, picture.width, uniforms), self.size, self.interpolation)
        )
        return crop[:, ::-1] if self.flip and uniforms[-1] < 0.5 else crop


@dataclass(frozen=True)
class CentreCrop:
    """The shorter side resized to `resize`, the central square of side `size` cut out (evaluation)."""

    size: int
    resize: int
    interpolation: Interpolation = "bicubic"

    draws = 0

    def __call__(self, picture: Image.Image, uniforms: np.ndarray) -> np.ndarray:
        """The longer side is rounded down, the offset to even halves."""
        width, height = picture.size
        shorter = min(width, height)
        sides = [self.resize if side == shorter else self.resize * side // shorter for side in (width, height)]
        left, top = (round((side - self.size) / 2) for side in sides)
        whole = picture.resize((sides[0], sides[1]), FILTERS[self.interpolation])
        return np.asarray(whole.crop((left, top, left + self.size, top + self.size)))


@dataclass(frozen=True)
class Resize:
    """The whole image, whatever its shape, resized to a square; mirrored with probability 1/2 if `flip`."""

    size: int
    flip: bool = False
    interpolation: Interpolation = "bicubic"

    draws = 1

    def __call__(self, picture: Image.Image, uniforms: np.ndarray) -> np.ndarray:
        """An image of the right size stays as it is."""
        image = np.asarray(picture.resize((self.size, self.size), FILTERS[self.interpolation]))
        return image[:, ::-1] if self.flip and uniforms[0] < 0.5 else image


def resized_crop(picture: Image.Image, box: Box, size: int, interpolation: Interpolation) -> Image.Image:
    """The box (top, left, height, width) cut out and resized to `size` squared; nothing around it is looked at."""
    top, left, height, width = (int(side) for side in box)
    # Cut first: Pillow's own `box` argument would let the filter see the pixels around it.
    return picture.crop((left, top, left + width, top + height)).resize((size, size), FILTERS[interpolation])
