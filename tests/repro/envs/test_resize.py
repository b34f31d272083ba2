"""The image operations equal the libraries that the papers used, byte for byte, on the host and inside `jit`."""

from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from repro.envs import resize

GOLDEN = Path(__file__).parents[2] / "golden" / "envs"


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 210, 160, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(64, 64), (84, 84), (96, 96), (30, 50), (210, 160), (300, 200)])
def test_bilinear_on_host_and_in_jit_equals_pillow(frames: np.ndarray, size: tuple[int, int]) -> None:
    pillow = [Image.fromarray(f).resize(size[::-1], Image.Resampling.BILINEAR) for f in frames]
    expected = np.stack([np.asarray(image) for image in pillow])
    np.testing.assert_array_equal(resize.bilinear(frames, size), expected)
    np.testing.assert_array_equal(resize.bilinear(frames[:1], size), expected[:1])  # without threads
    jitted = jax.jit(resize.bilinear_jit, static_argnums=1)
    np.testing.assert_array_equal(jitted(frames, size), expected)


def test_bilinear_of_extreme_frames_does_not_overflow() -> None:
    frames = np.full((2, 210, 160, 3), 255, np.uint8)
    frames[1, ::2] = 0
    np.testing.assert_array_equal(resize.bilinear_jit(frames, (64, 64)), resize.bilinear(frames, (64, 64)))


def test_luminance_in_jit_equals_float64_for_every_colour() -> None:
    jitted = jax.jit(resize.luminance_jit)
    weights = np.array([0.299, 0.587, 1 - (0.299 + 0.587)])
    green, blue = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8), indexing="ij")
    for start in range(0, 256, 32):
        red = np.arange(start, start + 32, dtype=np.uint8)
        colours = np.stack(np.broadcast_arrays(red[:, None, None], green, blue), -1)
        expected = (colours * weights).sum(-1, keepdims=True).astype(np.uint8)
        np.testing.assert_array_equal(resize.luminance(colours), expected)
        np.testing.assert_array_equal(jitted(colours), expected)


def test_jpeg_round_trip_equals_the_official_one() -> None:
    golden = np.load(GOLDEN / "efficientzero_frames.npz")
    np.testing.assert_array_equal(resize.jpeg(golden["warped"]), golden["decoded"])
    many = np.concatenate([golden["warped"]] * 3)  # with threads
    np.testing.assert_array_equal(resize.jpeg(many), np.concatenate([golden["decoded"]] * 3))
