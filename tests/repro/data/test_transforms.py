"""Crops are Pillow's, boxes have the published distribution, evaluation crops the centre."""

import numpy as np
import pytest
from PIL import Image

from repro.data import randomness
from repro.data.transforms import MEAN, STD, CentreCrop, RandomResizedCrop, Resize, normalise, resized_crop


def test_boxes_fit_and_follow_the_ranges():
    crop = RandomResizedCrop(8, scale=(0.3, 1.0))
    boxes = np.array([crop.box(60, 90, row) for row in randomness.uniforms(0, 0, np.arange(4000), crop.draws)])
    top, left, height, width = boxes.T
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 60).all() and (left + width <= 90).all()
    area, ratio = height * width / 5400, width / height
    assert 0.27 < area.min() and 0.74 < ratio.min() * 1.02 and ratio.max() < 1.36
    # Area is uniform where every box fits: up to that of a square of the shorter side with the lowest ratio.
    small = area[area < 0.49]
    assert abs(np.mean(small) - (0.3 + 0.49) / 2) < 0.01
    # Places are uniform: a box is as often in the upper half of its room as in the lower.
    room = 60 - height
    assert abs((2 * top[room > 4] > room[room > 4]).mean() - 0.5) < 0.03


def test_a_box_that_never_fits_becomes_the_centre_within_the_ratios():
    crop = RandomResizedCrop(8, scale=(1.0, 1.0))
    for row in randomness.uniforms(0, 0, np.arange(20), crop.draws):
        assert crop.box(20, 100, row) == (0, (100 - 27) // 2, 20, 27)
        assert crop.box(100, 20, row) == ((100 - 27) // 2, 0, 27, 20)


def test_a_crop_looks_at_nothing_around_its_box():
    image = np.zeros((20, 20, 3), np.uint8)
    image[5:10, 5:10] = 200
    assert (np.asarray(resized_crop(Image.fromarray(image), (5, 5, 5, 5), 3, "bicubic")) == 200).all()


def test_flips_are_mirror_images_of_half_of_the_samples():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8))
    plain, flips = RandomResizedCrop(8), RandomResizedCrop(8, flip=True)
    rows = randomness.uniforms(3, 0, np.arange(200), plain.draws)
    mirrored = 0
    for row in rows:
        one, other = plain(picture, row), flips(picture, row)
        assert np.array_equal(other, one) or np.array_equal(other, one[:, ::-1])
        mirrored += not np.array_equal(other, one)
    assert 70 < mirrored < 130


@pytest.mark.parametrize("size", [(30, 20), (20, 30), (20, 20)])
def test_the_centre_is_cut_out_of_the_shorter_side(size):
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 2 - 4 : height // 2 + 4, width // 2 - 4 : width // 2 + 4] = 255
    found = CentreCrop(size=8, resize=20, interpolation="bilinear")(Image.fromarray(image), np.zeros(0))
    assert found.shape == (8, 8, 3) and (found == 255).all()


def test_resize_leaves_an_image_of_the_right_size():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    assert np.array_equal(Resize(8)(Image.fromarray(image), np.array([0.1])), image)
    assert np.array_equal(Resize(8, flip=True)(Image.fromarray(image), np.array([0.1])), image[:, ::-1])
    assert Resize(5)(Image.fromarray(image[:4]), np.array([0.9])).shape == (5, 5, 3)


def test_normalised_pixels_have_the_stated_scale():
    found = normalise(np.array([[0, 0, 0], [255, 255, 255]], np.uint8))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found * STD + MEAN, [[0, 0, 0], [1, 1, 1]], atol=1e-6)


def test_random_numbers_are_uniform_and_depend_on_every_part_of_the_position():
    many = randomness.uniforms(0, 0, np.arange(2000), 10)
    assert (many >= 0).all() and (many < 1).all()
    counts = np.histogram(many, 20, (0, 1))[0]
    assert np.sum((counts - 1000) ** 2 / 1000) < 44  # chi-square with 19 degrees of freedom, p = 0.001
    assert abs(np.corrcoef(many[:, 0], many[:, 1])[0, 1]) < 0.08 and len(np.unique(many)) == many.size
    others = [randomness.uniforms(1, 0, np.arange(2000), 10), randomness.uniforms(0, 1, np.arange(2000), 10)]
    assert all(abs(np.corrcoef(many.ravel(), other.ravel())[0, 1]) < 0.03 for other in others)
    assert np.array_equal(randomness.uniforms(0, 0, np.array([7]), 10)[0], many[7])


def test_a_permutation_visits_all_and_looks_shuffled():
    orders = [randomness.permutation(0, epoch, 1000) for epoch in range(2)]
    assert all(np.array_equal(np.sort(order), np.arange(1000)) for order in orders)
    assert (orders[0] == orders[1]).sum() < 10 and abs(np.corrcoef(orders[0], np.arange(1000))[0, 1]) < 0.12
