"""What the device crops is what the host crops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from repro.data import randomness
from repro.data.device import DeviceLoader, fits, resized_crops
from repro.data.images import CorruptImage, ImageSet, Pixels, in_memory
from repro.data.loader import Loader
from repro.data.sets import open_set
from repro.data.transforms import RandomResizedCrop, Resize, resized_crop
from repro.errors import UsageError


@pytest.fixture
def noisy() -> ImageSet:
    """Twenty images of 10 x 14 pixels of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 10, 14, 3)).astype(np.uint8)
    return ImageSet("noisy", "train", np.arange(20, dtype=np.int32) % 3, tuple("abc"), Pixels(pixels, "noisy"))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crops_equal_those_of_pillow(interpolation):
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    boxes = [(0, 0, 30, 40), (3, 5, 7, 9), (29, 39, 1, 1), (10, 0, 12, 30), (0, 8, 30, 12)]
    expected = [np.asarray(resized_crop(Image.fromarray(image), box, 12, interpolation)) for box in boxes]
    flips = jnp.array([False, True, False, True, False])
    images = jnp.broadcast_to(jnp.asarray(image), (5, *image.shape))
    found = np.asarray(resized_crops(images, jnp.array(boxes), flips, 12, interpolation)).astype(int)
    for one, wanted, flip in zip(found, expected, flips.tolist(), strict=True):
        difference = np.abs(one - (wanted[:, ::-1] if flip else wanted))
        assert difference.max() <= 1 and (difference > 0).mean() < 0.05  # ties


def test_many_boxes_are_the_single_ones():
    for crop in (RandomResizedCrop(8), RandomResizedCrop(8, scale=(0.9, 1.0), ratio=(0.5, 0.6))):
        numbers = randomness.uniforms(0, 0, np.arange(300), crop.draws)
        for size in ((10, 14), (32, 32), (40, 9)):
            assert crop.boxes(*size, numbers).tolist() == [list(crop.box(*size, row)) for row in numbers]


def test_batches_are_those_of_the_host(noisy):
    crop = RandomResizedCrop(8, flip=True)
    device = DeviceLoader(noisy, crop, batch=6, seed=1)
    with Loader(noisy, crop, batch=6, seed=1) as host:
        assert device.steps_per_epoch == host.steps_per_epoch == 3
        for index in (0, 4, 2):
            ours, theirs = device.batch(index), host.batch(index)
            assert isinstance(ours["image"], jax.Array) and ours["image"].dtype == np.uint8
            assert np.abs(np.asarray(ours["image"]).astype(int) - theirs["image"]).max() <= 1
            assert all(np.array_equal(ours[name], theirs[name]) for name in ("label", "sample"))


def test_a_broken_image_is_replaced_as_on_the_host(noisy):
    broken = {k: CorruptImage(str(k), "made so") for k in (19,)}
    images = ImageSet("noisy", "train", noisy.labels, noisy.class_names, Pixels(noisy.source.pixels, "noisy", broken))
    crop = RandomResizedCrop(8)
    device = DeviceLoader(images, crop, batch=20, seed=0)
    with Loader(images, crop, batch=20, seed=0) as host:
        ours, theirs = device.batch(0), host.batch(0)
        assert np.array_equal(ours["sample"], theirs["sample"]) and (ours["sample"] == 0).sum() == 2
        assert np.abs(np.asarray(ours["image"]).astype(int) - theirs["image"]).max() <= 1
        assert device.skipped == host.skipped == {"19": "made so"}


def test_a_set_is_decoded_once(class_folders, drawn):
    bad = class_folders / "train/dog/3.png"
    bad.write_bytes(b"no image")
    encoded = open_set("folder", "train", str(class_folders))
    decoded = in_memory(encoded)
    for path in (class_folders / "train").rglob("*.png"):
        path.unlink()
    assert np.array_equal(decoded.image(0), drawn(0)) and np.array_equal(decoded.labels, encoded.labels)
    with pytest.raises(CorruptImage, match=r"dog/3\.png"):
        decoded.image(2)
    assert fits(decoded, RandomResizedCrop(8)) and not fits(encoded, RandomResizedCrop(8))
    assert in_memory(decoded) is decoded


def test_what_cannot_lie_on_the_device_is_refused(class_folders, noisy):
    assert not fits(noisy, Resize(8))
    with pytest.raises(UsageError, match="use the ordinary loader"):
        DeviceLoader(open_set("folder", "train", str(class_folders)), RandomResizedCrop(8), 2, 0)
    with pytest.raises(UsageError, match="a batch of 21 of the 20 images"):
        DeviceLoader(noisy, RandomResizedCrop(8), 21, 0)
    Image.new("RGB", (3, 3)).save(class_folders / "train/dog/3.png")
    with pytest.raises(UsageError, match="images of several sizes"):
        in_memory(open_set("folder", "train", str(class_folders)))
