"""A batch is a function of seed and number; every image is seen once an epoch; bad images are named, not fatal."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from repro.data.images import CorruptImage
from repro.data.loader import Loader, in_order
from repro.data.sets import open_set
from repro.data.transforms import RandomResizedCrop, Resize
from repro.errors import RunError, UsageError

CROP = RandomResizedCrop(4, flip=True)


def test_an_epoch_shows_every_image_once_with_its_label(numbered):
    with Loader(numbered, Resize(8), batch=8, seed=0) as loader:
        assert loader.steps_per_epoch == 5
        batches = [loader.batch(i) for i in range(10)]
    for epoch in (batches[:5], batches[5:]):
        seen = np.concatenate([batch["sample"] for batch in epoch])
        assert sorted(seen.tolist()) == list(range(40))
    for batch in batches:
        assert batch["image"].shape == (8, 8, 8, 3) and batch["image"].dtype == np.uint8
        assert np.array_equal(batch["image"][:, 0, 0, 0], batch["sample"])
        assert np.array_equal(batch["label"], batch["sample"] % 4) and batch["label"].dtype == np.int32
    assert not np.array_equal(batches[0]["sample"], batches[5]["sample"])


def test_a_resumed_run_sees_the_same_batches(class_folders):
    images = open_set("folder", "train", str(class_folders))
    with Loader(images, CROP, batch=2, seed=3, workers=1, ahead=0) as loader:
        straight = [loader.batch(i)["image"] for i in range(7)]
    with Loader(images, CROP, batch=2, seed=3, workers=4, ahead=3) as loader:
        for i in (5, 6, 2, 0, 5):
            assert np.array_equal(loader.batch(i)["image"], straight[i])
    with Loader(images, CROP, batch=2, seed=4) as loader:
        assert not np.array_equal(loader.batch(0)["image"], straight[0])


def test_crops_change_from_epoch_to_epoch(class_folders):
    one = open_set("folder", "train", str(class_folders)).subset(np.array([0]))
    with Loader(one, CROP, batch=1, seed=0) as loader:
        assert not np.array_equal(loader.batch(0)["image"], loader.batch(1)["image"])


def test_processes_share_a_batch(numbered):
    whole = Loader(numbered, CROP, batch=8, seed=0)
    parts = [Loader(numbered, CROP, batch=8, seed=0, part=(k, 4)) for k in range(4)]
    for name in ("image", "label", "sample"):
        assert np.array_equal(np.concatenate([part.batch(3)[name] for part in parts]), whole.batch(3)[name])
    for loader in (whole, *parts):
        loader.close()


def test_the_last_batch_may_be_short(numbered):
    with Loader(numbered, Resize(8), batch=16, seed=0, drop_last=False) as loader:
        sizes = [len(loader.batch(i)["label"]) for i in range(loader.steps_per_epoch)]
    assert sizes == [16, 16, 8]


def test_a_corrupt_image_is_replaced_counted_and_named(class_folders, drawn):
    bad = class_folders / "train/dog/3.png"
    bad.write_bytes(bad.read_bytes()[:80])
    images = open_set("folder", "train", str(class_folders))
    with pytest.raises(CorruptImage, match=r"dog/3\.png"):
        images.image(2)
    with Loader(images, Resize(4), batch=5, seed=0) as loader:
        batch = loader.batch(0)
        assert list(loader.skipped) == ["dog/3.png"]
    # The next image of the set stands in for it, with its own label.
    assert sorted(batch["sample"].tolist()) == [0, 1, 3, 3, 4]
    assert np.array_equal(batch["label"], images.labels[batch["sample"]])


def test_too_many_corrupt_images_end_the_run(class_folders):
    for path in (class_folders / "train/dog").glob("*.png"):
        path.write_bytes(b"not an image")
    images = open_set("folder", "train", str(class_folders))
    with Loader(images, Resize(4), batch=5, seed=0) as loader, pytest.raises(RunError, match="of the 5 images.*dog/"):
        loader.batch(0)


def test_a_set_without_any_readable_image_ends_the_run(class_folders):
    (class_folders / "train/cat/0.png").write_bytes(b"not an image")
    one = open_set("folder", "train", str(class_folders)).subset(np.array([0]))
    with Loader(one, Resize(4), batch=1, seed=0) as loader, pytest.raises(RunError, match="none of the images"):
        loader.batch(0)


def test_a_batch_larger_than_the_set_is_refused(numbered):
    with pytest.raises(UsageError, match="a batch of 64 is more than the 40 images of numbered/train"):
        Loader(numbered, Resize(8), batch=64, seed=0)
    with pytest.raises(UsageError, match="cannot be shared among 3 processes"):
        Loader(numbered, Resize(8), batch=8, seed=0, part=(0, 3))


def test_in_order_fills_up_the_last_batch(numbered):
    batches = list(in_order(numbered, Resize(8), 16))
    assert [len(batch["label"]) for batch in batches] == [16, 16, 16]
    valid = np.concatenate([batch["valid"] for batch in batches])
    assert valid.tolist() == [True] * 40 + [False] * 8
    assert np.array_equal(np.concatenate([batch["image"][:, 0, 0, 0] for batch in batches])[valid], np.arange(40))


def test_in_order_leaves_corrupt_images_out(numbered):
    class Holed:
        def __len__(self) -> int:
            return 40

        def picture(self, i: int) -> Image.Image:
            if i == 5:
                raise CorruptImage("five", "made so")
            return numbered.picture(i)

        def name(self, i: int) -> str:
            return str(i)

    skipped: dict[str, str] = {}
    batches = list(in_order(replace(numbered, source=Holed()), Resize(8), 20, skipped=skipped))
    assert skipped == {"five": "made so"} and [int(batch["valid"].sum()) for batch in batches] == [19, 20]
    assert not batches[0]["valid"][5]
