"""Parts of a labelled set, for learning from few labels."""

from pathlib import Path

import numpy as np

from repro.data import randomness
from repro.data.images import ImageSet
from repro.errors import UsageError


def few_labels(images: ImageSet, share: float, seed: int = 0) -> ImageSet:
    """The same share of every class, at least one image of each, chosen by `seed`."""
    if not 0 < share <= 1:
        raise UsageError(f"a share of the labels lies between 0 and 1, not {share}")
    order = randomness.permutation(seed, 0, len(images))
    chosen = []
    for label in np.unique(images.labels[images.labels >= 0]):
        of_class = order[images.labels[order] == label]
        chosen.append(of_class[: max(1, round(share * len(of_class)))])
    if not chosen:
        raise UsageError(f"{images.name}/{images.split} has no labels")
    return images.subset(np.sort(np.concatenate(chosen)))


def listed(images: ImageSet, file: Path) -> ImageSet:
    """The images whose file names (without folders) are the lines of `file`, as SimCLR's list of 1 % of ImageNet.

    Raises `UsageError` where one of them is not in the set.
    """
    try:
        wanted = file.read_text().split()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; it should name one image file a line") from None
    number = {images.source.name(i).rsplit("/", 1)[-1]: i for i in range(len(images))}
    missing = [name for name in wanted if name not in number]
    if missing or not wanted:
        what = f"{len(missing)} of {len(wanted)} are not in {images.name}/{images.split}, e.g. {missing[:1]}"
        raise UsageError(f"{file}: {what if wanted else 'no image file is named there'}")
    return images.subset(np.array([number[name] for name in wanted]))
