"""RandAugment changes half of what it is given, in every stated way; subsets are balanced."""

import numpy as np
import pytest
from PIL import Image

from repro.data import randomness
from repro.data.augment import FILL, OPERATIONS, RandAugment
from repro.data.images import ImageSet, Pixels
from repro.data.sets import open_pair, open_set
from repro.data.subsets import few_labels, listed
from repro.data.transforms import Resize
from repro.errors import UsageError


@pytest.fixture
def picture() -> Image.Image:
    """A ramp with a fine pattern, darker than half on the left."""
    ramp = np.linspace(20, 230, 32)
    image = np.stack([np.broadcast_to(ramp, (32, 32)), np.broadcast_to(ramp[:, None], (32, 32)), np.full((32, 32), 90)])
    pattern = 4 * (np.indices((32, 32)).sum(0) % 2)
    return Image.fromarray((image + pattern).transpose(1, 2, 0).astype(np.uint8))


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_keeps_size_and_grows_with_strength(name, picture):
    before = np.asarray(picture).astype(int)
    sizes = []
    for strength in (0.0, 0.3, 0.9):
        after = OPERATIONS[name](picture, strength, -1.0)
        assert after.size == picture.size and after.mode == "RGB"
        sizes.append(np.abs(np.asarray(after).astype(int) - before).mean())
    assert sizes[0] <= sizes[1] <= sizes[2] and sizes[2] > 0
    if name not in ("autocontrast", "equalize", "invert", "posterize"):
        assert sizes[0] < 1.5


def test_known_operations(picture):
    image = np.asarray(picture)
    assert np.array_equal(np.asarray(OPERATIONS["invert"](picture, 0.9, 1.0)), 255 - image)
    moved = np.asarray(OPERATIONS["translate_x"](picture, 1.0, -1.0))
    shift = round(0.45 * 32)
    assert (moved[:, :shift] == FILL).all() and np.abs(moved[:, shift + 2].astype(int) - image[:, 2]).max() < 16


def test_half_of_the_operations_are_left_out(picture):
    augment = RandAugment(Resize(32))
    rows = randomness.uniforms(0, 0, np.arange(400), augment.draws)
    unchanged = sum(np.array_equal(augment(picture, row), np.asarray(picture)) for row in rows)
    assert 60 < unchanged < 140  # a quarter, four standard errors
    assert np.array_equal(augment(picture, rows[0]), augment(picture, rows[0]))
    one = RandAugment(Resize(32), count=1, spread=0.0)
    invert = list(OPERATIONS).index("invert") / len(OPERATIONS) + 1e-6
    inverted = one(picture, np.array([0.9, invert, 0.7, 0.5, 0.5, 0.2]))
    assert np.array_equal(inverted, 255 - np.asarray(picture))


def test_few_labels_are_the_same_share_of_every_class(numbered):
    quarter = few_labels(numbered, 0.2)
    assert np.bincount(quarter.labels).tolist() == [2, 2, 2, 2]
    assert [quarter.image(i)[0, 0, 0] % 4 for i in range(8)] == quarter.labels.tolist()
    assert len(few_labels(numbered, 0.001)) == 4
    other = few_labels(numbered, 0.2, seed=1)
    assert quarter.source.indices.tolist() != other.source.indices.tolist()
    with pytest.raises(UsageError, match="between 0 and 1"):
        few_labels(numbered, 0)
    unlabelled = ImageSet("u", "train", np.full(3, -1, np.int32), ("a",), Pixels(np.zeros((3, 2, 2, 3), np.uint8), "u"))
    with pytest.raises(UsageError, match="u/train has no labels"):
        few_labels(unlabelled, 0.5)


def test_a_list_of_files_chooses_them(class_folders, tmp_path, drawn):
    images = open_set("folder", "train", str(class_folders))
    names = tmp_path / "names.txt"
    names.write_text("3.png\n0.png\n")
    chosen = listed(images, names)
    assert chosen.labels.tolist() == [1, 0] and np.array_equal(chosen.image(0), drawn(3))
    names.write_text("3.png\n9.png\n")
    with pytest.raises(UsageError, match=r"1 of 2 are not in folder/train, e.g. \['9.png'\]"):
        listed(images, names)
    with pytest.raises(UsageError, match="No such file"):
        listed(images, tmp_path / "none.txt")


def test_train_and_test_must_have_the_same_classes(class_folders):
    train, test = open_pair("folder", str(class_folders))
    assert (train.split, test.split) == ("train", "val")
    (class_folders / "val/dog").rename(class_folders / "val/emu")
    with pytest.raises(UsageError, match="2 classes in train, 2 in val; in one of them only: dog, emu"):
        open_pair("folder", str(class_folders))
