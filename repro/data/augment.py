"""RandAugment (Cubuk et al. 2020) as vision transformers are fine-tuned with it: "m9, mstd 0.5, inc" of MAE."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from repro.data.transforms import Transform

FILL = (124, 116, 104)
"""Colour of what is moved in from outside: the mean of ImageNet."""

Operation = Callable[[Image.Image, float, float], Image.Image]
"""Called with the picture, the strength in [0, 1] and a sign."""


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return lambda picture, strength, sign: kind(picture).enhance(1 + sign * 0.9 * strength)


def _affine(matrix: Callable[[Image.Image, float], tuple[float, ...]]) -> Operation:
    def move(picture: Image.Image, strength: float, sign: float) -> Image.Image:
        of = matrix(picture, sign * strength)
        return picture.transform(picture.size, Image.Transform.AFFINE, of, Image.Resampling.BICUBIC, fillcolor=FILL)

    return move


def _brighten_dark(picture: Image.Image, strength: float, sign: float) -> Image.Image:
    added = min(128, int(110 * strength))
    table = [min(255, level + added) if level < 128 else level for level in range(256)]
    return picture.point(table * 3)


OPERATIONS: dict[str, Operation] = {
    "autocontrast": lambda picture, strength, sign: ImageOps.autocontrast(picture),
    "equalize": lambda picture, strength, sign: ImageOps.equalize(picture),
    "invert": lambda picture, strength, sign: ImageOps.invert(picture),
    "rotate": lambda picture, strength, sign: picture.rotate(
        sign * 30 * strength, Image.Resampling.BICUBIC, fillcolor=FILL
    ),
    "posterize": lambda picture, strength, sign: ImageOps.posterize(picture, max(1, 4 - int(4 * strength))),
    "solarize": lambda picture, strength, sign: ImageOps.solarize(picture, 256 - min(256, int(256 * strength))),
    "solarize_add": _brighten_dark,
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear_x": _affine(lambda picture, by: (1, 0.3 * by, 0, 0, 1, 0)),
    "shear_y": _affine(lambda picture, by: (1, 0, 0, 0.3 * by, 1, 0)),
    "translate_x": _affine(lambda picture, by: (1, 0, 0.45 * by * picture.width, 0, 1, 0)),
    "translate_y": _affine(lambda picture, by: (1, 0, 0, 0, 1, 0.45 * by * picture.height)),
}
"""All grow with the strength (the "increasing" set)."""


@dataclass(frozen=True)
class RandAugment:
    """After the crop, `count` operations chosen at random, each done with probability 1/2 and a strength around
    `magnitude` of 10."""

    crop: Transform
    count: int = 2
    magnitude: float = 9.0
    spread: float = 0.5
    """Standard deviation of the magnitude."""

    @property
    def size(self) -> int:
        """Of the crop."""
        return self.crop.size

    @property
    def draws(self) -> int:
        """For each operation: which, whether, two for the strength, the sign."""
        return self.crop.draws + 5 * self.count

    def __call__(self, picture: Image.Image, uniforms: np.ndarray) -> np.ndarray:
        """The crop, changed."""
        changed = Image.fromarray(np.ascontiguousarray(self.crop(picture, uniforms[: self.crop.draws])))
        kinds = list(OPERATIONS.values())
        for which, whether, first, second, sign in uniforms[self.crop.draws :].reshape(self.count, 5).tolist():
            if whether < 0.5:
                continue
            normal = math.sqrt(-2 * math.log(1 - first)) * math.cos(2 * math.pi * second)
            strength = min(10.0, max(0.0, self.magnitude + self.spread * normal)) / 10
            changed = kinds[int(which * len(kinds))](changed, strength, 1.0 if sign < 0.5 else -1.0)
        return np.asarray(changed)
