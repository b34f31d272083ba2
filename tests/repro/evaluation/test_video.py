"""Animated GIFs."""

import numpy as np
import pytest
from PIL import Image

from repro.evaluation.video import write_gif


@pytest.mark.parametrize("shape", [(4, 10, 12, 3), (4, 10, 12, 1), (4, 10, 12)])
def test_a_gif_has_all_frames_and_their_size(tmp_path, shape):
    frames = np.zeros(shape, np.uint8)
    frames[:] = (60 * np.arange(4)).reshape(4, *[1] * (len(shape) - 1))
    path = tmp_path / "new" / "v.gif"
    write_gif(path, frames, fps=5)
    with Image.open(path) as image:
        assert image.n_frames == 4 and image.size == (12, 10)
        image.seek(3)
        assert abs(np.asarray(image.convert("RGB")).astype(int) - 180).max() <= 4
        assert image.info["duration"] == 200
    assert [p.name for p in path.parent.iterdir()] == ["v.gif"]


@pytest.mark.parametrize(
    "frames", [np.zeros((2, 4, 4, 3)), np.zeros((0, 4, 4, 3), np.uint8), np.zeros((2, 4, 4, 2), np.uint8)]
)
def test_anything_but_frames_is_refused(tmp_path, frames):
    with pytest.raises(ValueError, match="uint8 frames"):
        write_gif(tmp_path / "v.gif", frames)
    assert not list(tmp_path.iterdir())


def test_few_colours_keep_what_is_small_and_of_a_rare_colour(tmp_path):
    """A fireball before a wall of many browns, of which a palette cut by frequency has nothing but browns."""
    frames = np.random.default_rng(0).integers(0, 40, (2, 64, 64, 3)).astype(np.uint8) + np.array(
        [80, 60, 40], np.uint8
    )
    frames[:, 30:33, 30:33] = (250, 220, 60)
    write_gif(tmp_path / "few.gif", frames, colors=32)
    with Image.open(tmp_path / "few.gif") as gif:
        shown = np.asarray(gif.convert("RGB")).astype(int)
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) <= 32
    assert np.abs(shown[30:33, 30:33] - (250, 220, 60)).max() <= 32
