"""Tar archives give the same set as the folders they were made of."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from repro.data import shards
from repro.data.images import CorruptImage
from repro.data.sets import open_set
from repro.errors import UsageError


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path / "cache"))


def pack(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_class_folders_inside_archives(tmp_path, encoded, drawn):
    pack(tmp_path / "s/train-0.tar", {"cat/0.png": encoded(0), "dog/1.png": encoded(1), "readme.txt": b"no image"})
    pack(tmp_path / "s/train-1.tar", {"cat/2.png": encoded(2)})
    pack(tmp_path / "s/val-0.tar", {"dog/3.png": encoded(3), "cat/4.png": encoded(4)})
    train, val = open_set("shards", "train", str(tmp_path / "s")), open_set("shards", "val", str(tmp_path / "s"))
    assert train.class_names == ("cat", "dog") and train.labels.tolist() == [0, 1, 0]
    assert val.labels.tolist() == [1, 0] and val.source.name(0) == "val-0.tar:dog/3.png"
    for i in range(3):
        assert np.array_equal(train.image(i), drawn(i))


def test_class_numbers_beside_the_images(tmp_path, encoded, drawn):
    members = {"a.png": encoded(0), "a.cls": b"2", "b.cls": b"0\n", "b.png": encoded(1)}
    pack(tmp_path / "train/x.tar", members)
    train = open_set("shards", "train", str(tmp_path))
    assert train.labels.tolist() == [2, 0] and train.class_names == ("0", "1", "2")
    assert np.array_equal(train.image(1), drawn(1))
    (tmp_path / "classes.txt").write_text("cat\ndog\nemu\n")
    assert open_set("shards", "train", str(tmp_path)).class_names == ("cat", "dog", "emu")
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(UsageError, match="1 classes, but the archives hold label 2"):
        open_set("shards", "train", str(tmp_path))


def test_one_archive_for_each_class(tmp_path, encoded):
    pack(tmp_path / "train/n02.tar", {"n02_1.png": encoded(0)})
    pack(tmp_path / "train/n01.tar", {"n01_1.png": encoded(1), "n01_2.png": encoded(2)})
    train = open_set("imagenet22k", "train", str(tmp_path))
    assert train.class_names == ("n01", "n02") and train.labels.tolist() == [0, 0, 1]


def test_the_index_is_remembered_until_the_archive_changes(tmp_path, encoded, monkeypatch):
    pack(tmp_path / "train/x.tar", {"cat/0.png": encoded(0)})
    assert len(open_set("shards", "train", str(tmp_path))) == 1
    reads = []
    original = shards._read
    monkeypatch.setattr(shards, "_read", lambda path: reads.append(path) or original(path))
    assert len(open_set("shards", "train", str(tmp_path))) == 1 and not reads
    pack(tmp_path / "train/x.tar", {"cat/0.png": encoded(0), "cat/1.png": encoded(1)})
    assert len(open_set("shards", "train", str(tmp_path))) == 2 and len(reads) == 1


def test_bad_archives_are_named(tmp_path, encoded):
    pack(tmp_path / "a/train/x.tar", {"cat/0.png": encoded(0)}, "w:gz")
    with pytest.raises(UsageError, match="x.tar: not an uncompressed tar archive"):
        open_set("shards", "train", str(tmp_path / "a"))
    pack(tmp_path / "b/train/x.tar", {"notes.txt": b"."})
    with pytest.raises(UsageError, match="1 tar archives of train without any image"):
        open_set("shards", "train", str(tmp_path / "b"))
    pack(tmp_path / "c/train/x.tar", {"a.png": encoded(0), "a.cls": b"cat"})
    with pytest.raises(UsageError, match="must hold a whole number, not 'cat'"):
        open_set("shards", "train", str(tmp_path / "c"))
    pack(tmp_path / "d/train/x.tar", {"cat/0.png": encoded(0), "cat/1.png": encoded(1)})
    opened = open_set("shards", "train", str(tmp_path / "d"))
    with (tmp_path / "d/train/x.tar").open("r+b") as file:
        file.truncate(1024)
    with pytest.raises(CorruptImage, match="cut short"):
        opened.image(1)
