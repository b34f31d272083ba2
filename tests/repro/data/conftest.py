"""Small image sets, made here."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repro.data.images import ImageSet, Pixels

Drawn = Callable[[int], np.ndarray]


@pytest.fixture
def drawn() -> Drawn:
    """An image of 12 x 16 pixels by number."""
    return lambda number: np.random.default_rng(number).integers(0, 256, (12, 16, 3)).astype(np.uint8)


@pytest.fixture
def encoded(drawn: Drawn) -> Callable[[int], bytes]:
    """The same, losslessly packed."""

    def png(number: int) -> bytes:
        data = io.BytesIO()
        Image.fromarray(drawn(number)).save(data, "PNG")
        return data.getvalue()

    return png


@pytest.fixture
def class_folders(tmp_path: Path, encoded: Callable[[int], bytes]) -> Path:
    """Two classes, five training and three validation images; image k is `drawn(k)`."""
    places = ["train/cat/0", "train/cat/1", "train/dog/a/2", "train/dog/3", "train/dog/4", "val/cat/5", "val/dog/6"]
    for number, place in enumerate(places):
        path = tmp_path / "pets" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(number))
    for other in ("train/cat/notes.txt", "train/cat/._0.png", "train/.hidden/7.png"):
        (tmp_path / "pets" / other).parent.mkdir(exist_ok=True)
        (tmp_path / "pets" / other).write_text("no image of the set")
    return tmp_path / "pets"


@pytest.fixture
def numbered() -> ImageSet:
    """Forty images of 8 x 8; every pixel of image i has the value i."""
    pixels = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None, None], (40, 8, 8, 3))
    return ImageSet("numbered", "train", np.arange(40, dtype=np.int32) % 4, tuple("abcd"), Pixels(pixels, "numbered"))
