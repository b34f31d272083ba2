"""Readers of the layouts that image sets are distributed in: `(location, split) -> Parts`, `None` for another."""

import gzip
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from repro.data.images import UNLABELLED, Files, Packed, Pixels, Source
from repro.errors import UsageError
from repro.interop import pickles

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STL10 = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
FASHION = (
    "t-shirt_top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot",
)  # fmt: skip


class Parts(NamedTuple):
    """What an `ImageSet` is made of, besides its name."""

    labels: np.ndarray
    class_names: tuple[str, ...]
    source: Source


def class_folders(place: Path, split: str) -> Parts | None:
    """`place/split/<class>/**/image`, or `place/<class>/**/image` where no folder has the name of a split.

    Classes are numbered in the order of their folders' names, as torchvision does.
    """
    if not place.is_dir():
        return None
    inside = _folders(place)
    root = place / split
    if split not in inside:
        if split != "train" or {"train", "val", "test"} & set(inside):
            return None
        root = place
    classes = _folders(root)
    if not classes:
        if not any(entry.name.lower().endswith(ENDINGS) for entry in os.scandir(root)):
            return None
        raise UsageError(f"{root}: images without class folders; they should lie in {split}/<class>/<image>")
    found: list[str] = []
    labels: list[int] = []
    for number, name in enumerate(classes):
        files = _images_below(root, name)
        found += files
        labels += [number] * len(files)
    if not found:
        raise UsageError(f"{root}: {len(classes)} class folders without any image ({', '.join(ENDINGS)})")
    return Parts(np.array(labels, np.int32), tuple(classes), Files(root, found))


def _folders(place: Path) -> list[str]:
    return sorted(e.name for e in os.scandir(place) if e.is_dir() and not e.name.startswith("."))


def _images_below(root: Path, folder: str) -> list[str]:
    """Paths of the images in a folder and its subfolders, relative to `root`, sorted."""
    found = []
    for entry in sorted(os.scandir(root / folder), key=lambda entry: entry.name):
        path = f"{folder}/{entry.name}"
        if entry.is_dir():
            found += _images_below(root, path)
        elif entry.name.lower().endswith(ENDINGS) and not entry.name.startswith("."):
            found.append(path)
    return found


def packed(place: Path, split: str) -> Parts | None:
    """An archive with `<split>_jpeg`, `<split>_offsets`, `<split>_labels` and `class_names`."""
    arrays = _archive(place, [f"{split}_jpeg", f"{split}_offsets", f"{split}_labels", "class_names"])
    if arrays is None:
        return None
    data, offsets, labels, names = arrays
    if len(offsets) != len(labels) + 1 or offsets[-1] > len(data) or (np.diff(offsets) < 0).any():
        raise UsageError(f"{place}: {split}_offsets does not fit {split}_labels and {split}_jpeg; fetch it again")
    return Parts(labels.astype(np.int32), _names(names), Packed(data, offsets, f"{place.name}:{split}"))


def pixels(place: Path, split: str) -> Parts | None:
    """An archive with `<split>_images` uint8 `[N, H, W, 3]`, `<split>_labels` and `class_names`."""
    arrays = _archive(place, [f"{split}_images", f"{split}_labels", "class_names"])
    if arrays is None:
        return None
    images, labels, names = arrays
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or len(images) != len(labels):
        raise UsageError(f"{place}: {split}_images must be uint8 [N, H, W, 3] and as many as {split}_labels")
    return Parts(labels.astype(np.int32), _names(names), Pixels(images, f"{place.name}:{split}"))


def _archive(place: Path, wanted: Sequence[str]) -> list[np.ndarray] | None:
    """These arrays of an `.npz` file; `None` if it is no such file or lacks one."""
    if place.suffix != ".npz" or not place.is_file():
        return None
    try:
        with np.load(place, allow_pickle=False) as archive:
            return [archive[name] for name in wanted] if set(wanted) <= set(archive.files) else None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{place}: damaged ({' '.join(str(error).split())[:100]}); fetch it again") from None


def _names(array: np.ndarray) -> tuple[str, ...]:
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in array.tolist())


def cifar10(place: Path, split: str) -> Parts | None:
    """The folder of the official binary or Python version."""
    files = [f"data_batch_{k}" for k in range(1, 6)] if split == "train" else ["test_batch"]
    if (place / f"{files[0]}.bin").is_file():
        table = np.concatenate([_records(place / f"{name}.bin", 3073) for name in files])
        return _cifar(place, table[:, 0], table[:, 1:], CIFAR10)
    if (place / files[0]).is_file():
        batches = [_pickled(place / name, "labels") for name in files]
        labels, rows = (np.concatenate(part) for part in zip(*batches, strict=True))
        return _cifar(place, labels, rows, CIFAR10)
    return None


def cifar100(place: Path, split: str) -> Parts | None:
    """The folder of the official binary or Python version; the 100 fine labels."""
    if (place / f"{split}.bin").is_file():
        table = _records(place / f"{split}.bin", 3074)
        listed = place / "fine_label_names.txt"
        names = listed.read_text().split() if listed.is_file() else [str(k) for k in range(100)]
        return _cifar(place, table[:, 1], table[:, 2:], names)
    if (place / split).is_file():
        labels, rows = _pickled(place / split, "fine_labels")
        meta = pickles.read(place / "meta")["fine_label_names"] if (place / "meta").is_file() else range(100)
        return _cifar(place, labels, rows, _names(np.array(list(meta))))
    return None


def _cifar(place: Path, labels: np.ndarray, rows: np.ndarray, names: Sequence[str]) -> Parts:
    images = np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return Parts(labels.astype(np.int32), tuple(names), Pixels(images, place.name))


def _pickled(path: Path, labels: str) -> tuple[np.ndarray, np.ndarray]:
    content: Any = pickles.read(path)
    by_name = {key.decode() if isinstance(key, bytes) else key: value for key, value in content.items()}
    return np.array(by_name[labels]), np.asarray(by_name["data"], np.uint8)


def _records(path: Path, size: int) -> np.ndarray:
    data = np.fromfile(path, np.uint8)
    if not len(data) or len(data) % size:
        raise UsageError(f"{path}: {len(data)} bytes are no whole number of records of {size}; unpack it again")
    return data.reshape(-1, size)


def stl10(place: Path, split: str) -> Parts | None:
    """The folder of the official binary version; images are stored column by column, labels begin at 1."""
    if not (place / f"{split}_X.bin").is_file():
        return None
    table = _records(place / f"{split}_X.bin", 3 * 96 * 96)
    labels = np.full(len(table), UNLABELLED, np.int32)
    if split != "unlabeled":
        labels = np.fromfile(place / f"{split}_y.bin", np.uint8).astype(np.int32) - 1
        if len(labels) != len(table):
            raise UsageError(f"{place}: {len(labels)} labels for {len(table)} images in {split}; unpack it again")
    # Turned upright image by image when it is read: 2.7 GB are not copied.
    return Parts(labels, STL10, Pixels(table.reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1), place.name))


def fashion_mnist(place: Path, split: str) -> Parts | None:
    """The folder of the four idx files, packed or not; grey levels become three equal channels."""
    prefix = "train" if split == "train" else "t10k"
    images, labels = _idx(place, f"{prefix}-images-idx3-ubyte"), _idx(place, f"{prefix}-labels-idx1-ubyte")
    if images is None or labels is None:
        return None
    return Parts(labels.astype(np.int32), FASHION, Pixels(np.repeat(images[..., None], 3, -1), place.name))


def _idx(place: Path, name: str) -> np.ndarray | None:
    """An idx file: two zero bytes, type 8 (uint8), number of axes, each size as a big-endian int32, the data."""
    plain, zipped = place / name, place / f"{name}.gz"
    if zipped.is_file():
        data = gzip.decompress(zipped.read_bytes())
    elif plain.is_file():
        data = plain.read_bytes()
    else:
        return None
    shape = np.frombuffer(data, ">i4", data[3], 4)
    if data[:3] != b"\0\0\x08" or len(data) != 4 + 4 * len(shape) + int(shape.prod()):
        raise UsageError(f"{place / name}: not an idx file of bytes, or cut short; fetch it again")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def tiny_imagenet(place: Path, split: str) -> Parts | None:
    """The folder of tiny-imagenet-200: `wnids.txt`, `train/<wnid>/images/`, `val/images/` + `val_annotations.txt`."""
    if not (place / "wnids.txt").is_file():
        return None
    names = tuple(sorted((place / "wnids.txt").read_text().split()))
    number = {name: k for k, name in enumerate(names)}
    listed = place / "val" / "val_annotations.txt"
    if split == "train" or not listed.is_file():
        found = [(path, number[name]) for name in names for path in _images_below(place / split, name)]
    else:
        rows = [line.split("\t") for line in listed.read_text().splitlines() if line]
        found = [(f"images/{row[0]}", number[row[1]]) for row in rows if row[1] in number]
    if not found:
        raise UsageError(f"{place / split}: no image of the classes in wnids.txt")
    return Parts(np.array([k for _, k in found], np.int32), names, Files(place / split, [path for path, _ in found]))
