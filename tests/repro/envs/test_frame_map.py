"""World Models' frame map equals the recorded one of 2018 and Pillow's arithmetic, byte for byte."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("numba")

from repro.envs import frame_map

GOLDEN = Path(__file__).parents[2] / "golden" / "world_models" / "frame_process.npz"


def by_pillow(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize(size[::-1], Image.Resampling.BILINEAR))


def stretched_by_pillow(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The released code's steps, in its own order, on float64."""
    floats = frame / 255.0
    low, high = floats.min(), floats.max()
    stretched = (floats - low) * (255.0 / ((high - low) or 1.0))
    image = by_pillow((stretched.clip(0, 255) + 0.5).astype(np.uint8), size)
    return ((1.0 - image) * 255).round().astype(np.int64).astype(np.uint8)


def test_the_recorded_frames_of_2018_come_out_exactly() -> None:
    golden = np.load(GOLDEN)
    for task, rows in (("car", 84), ("doom", 400)):
        for frame, expected in zip(golden[f"{task}_in"], golden[f"{task}_out"], strict=True):
            np.testing.assert_array_equal(frame_map.world_models(frame[:rows], (64, 64)), expected)


@pytest.mark.parametrize("shape", [(400, 640), (200, 320), (84, 96), (64, 64), (71, 97)])
@pytest.mark.parametrize("size", [(64, 64), (17, 40)])
def test_both_maps_equal_pillow(shape: tuple[int, int], size: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(9, 231, (*shape, 3), dtype=np.uint8)
    np.testing.assert_array_equal(frame_map.clean(frame, size), by_pillow(frame, size))
    np.testing.assert_array_equal(frame_map.world_models(frame, size), stretched_by_pillow(frame, size))
    extreme = np.where(frame > 120, 255, 0).astype(np.uint8)
    np.testing.assert_array_equal(frame_map.clean(extreme, size), by_pillow(extreme, size))


def test_every_range_of_values_is_stretched_as_by_scipy() -> None:
    for low, high in ((0, 255), (0, 1), (254, 255), (3, 200), (77, 78), (1, 254)):
        frame = np.random.default_rng(low).integers(low, high + 1, (8, 8, 3), dtype=np.uint8)
        frame[0, 0] = low, high, low
        np.testing.assert_array_equal(frame_map.world_models(frame, (8, 8)), stretched_by_pillow(frame, (8, 8)))


def test_black_turns_white_and_grass_loses_one() -> None:
    assert (frame_map.world_models(np.zeros((84, 96, 3), np.uint8), (64, 64)) == 255).all()
    assert (frame_map.world_models(np.full((84, 96, 3), 9, np.uint8), (64, 64)) == 255).all()
    frame = np.broadcast_to(np.array([102, 204, 102], np.uint8), (84, 96, 3)).copy()
    frame[0, 0], frame[0, 1] = 0, 255
    assert frame_map.world_models(frame, (64, 64))[-1, -1].tolist() == [101, 203, 101]


def test_a_part_of_a_larger_array_is_read_as_it_is() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (50, 60, 4), dtype=np.uint8)
    view = frame[::2, :, 1:]
    np.testing.assert_array_equal(frame_map.clean(view, (9, 9)), by_pillow(view.copy(), (9, 9)))
