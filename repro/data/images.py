"""An image set: labels, class names, and a source that decodes image i. Any number of threads may read at once."""

import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from repro.errors import UsageError

UNLABELLED = -1
"""Label of images that have none."""


class CorruptImage(Exception):
    """An image cannot be decoded; the message names it and says why."""

    def __init__(self, name: str, reason: str):
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason


class Source(Protocol):
    """Where the pixels of a set come from."""

    def __len__(self) -> int: ...

    def picture(self, i: int) -> Image.Image:
        """Image i as RGB; raises `CorruptImage`."""
        ...

    def name(self, i: int) -> str:
        """What image i is called in messages."""
        ...


@dataclass(frozen=True)
class ImageSet:
    """Images with labels. `labels` is int32 `[N]`, -1 where there is none; `class_names[label]` says what it means."""

    name: str
    split: str
    labels: np.ndarray
    class_names: tuple[str, ...]
    source: Source

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> int:
        """Number of classes of the set, also of those that no image of this split has."""
        return len(self.class_names)

    def picture(self, i: int) -> Image.Image:
        """Image i as RGB; raises `CorruptImage`."""
        return self.source.picture(int(i))

    def image(self, i: int) -> np.ndarray:
        """Image i as uint8 `[H, W, 3]`; raises `CorruptImage`."""
        return np.asarray(self.picture(i))

    def subset(self, indices: np.ndarray) -> "ImageSet":
        """The images with these indices, in this order."""
        chosen = np.asarray(indices, np.int64)
        return replace(self, labels=self.labels[chosen], source=_Chosen(self.source, chosen))


def decode(data: bytes, name: str) -> Image.Image:
    """An image file as RGB; grey and palette images are converted. Raises `CorruptImage`, also for truncated files."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")
    except Exception as error:  # noqa: BLE001 - damaged files fail in every way there is
        raise CorruptImage(name, " ".join(str(error).split())[:120] or type(error).__name__) from None


class Pixels:
    """Images of one size, decoded: uint8 `[N, H, W, 3]` in memory. `broken` are those whose pixels are missing."""

    def __init__(self, pixels: np.ndarray, name: str, broken: Mapping[int, CorruptImage] | None = None):
        self.pixels, self._name, self.broken = pixels, name, dict(broken or {})

    def __len__(self) -> int:
        return len(self.pixels)

    def picture(self, i: int) -> Image.Image:
        """Image i."""
        if i in self.broken:
            raise self.broken[i]
        return Image.fromarray(self.pixels[i])

    def name(self, i: int) -> str:
        """Archive and number."""
        return f"{self._name}[{i}]"


class Packed:
    """Image files one after another in one array of bytes; file i is `data[offsets[i] : offsets[i + 1]]`."""

    def __init__(self, data: np.ndarray, offsets: np.ndarray, name: str):
        self.data, self.offsets, self._name = data, offsets, name

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def picture(self, i: int) -> Image.Image:
        """Image i, decoded now."""
        return decode(self.data[self.offsets[i] : self.offsets[i + 1]].tobytes(), self.name(i))

    def name(self, i: int) -> str:
        """Archive and number."""
        return f"{self._name}[{i}]"


class Files:
    """One image file each."""

    def __init__(self, root: Path, paths: Sequence[str]):
        self.root, self.paths = root, paths

    def __len__(self) -> int:
        return len(self.paths)

    def picture(self, i: int) -> Image.Image:
        """Image i, read and decoded now."""
        try:
            data = (self.root / self.paths[i]).read_bytes()
        except OSError as error:
            raise CorruptImage(self.name(i), error.strerror or str(error)) from None
        return decode(data, self.name(i))

    def name(self, i: int) -> str:
        """Path below the set's folder."""
        return self.paths[i]


def in_memory(images: ImageSet, workers: int = 2) -> ImageSet:
    """The set with all images decoded, once; they must be of one size. Unreadable ones stay so.

    Raises `UsageError` where sizes differ.
    """
    if isinstance(images.source, Pixels):
        return images
    pixels = np.zeros((0, 0, 0, 3), np.uint8)
    broken: dict[int, CorruptImage] = {}

    def fill(start: int) -> None:
        for i in range(start, min(start + 256, len(images))):
            try:
                image = images.image(i)
            except CorruptImage as error:
                broken[i] = error
                continue
            if image.shape != pixels.shape[1:]:
                sizes = f"{image.shape[:2]} and {pixels.shape[1:3]}"
                raise UsageError(f"{images.name}/{images.split}: images of several sizes, {sizes}; they stay encoded")
            pixels[i] = image

    for i in range(len(images)):
        try:
            pixels = np.zeros((len(images), *images.image(i).shape), np.uint8)
            break
        except CorruptImage:
            continue
    with ThreadPoolExecutor(workers, thread_name_prefix="images") as pool:
        for _ in pool.map(fill, range(0, len(images), 256)):
            pass
    return replace(images, source=Pixels(pixels, images.name, broken))


class _Chosen:
    """Some images of another source."""

    def __init__(self, source: Source, indices: np.ndarray):
        self.source, self.indices = source, indices

    def __len__(self) -> int:
        return len(self.indices)

    def picture(self, i: int) -> Image.Image:
        return self.source.picture(int(self.indices[i]))

    def name(self, i: int) -> str:
        return self.source.name(int(self.indices[i]))
