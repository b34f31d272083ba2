"""Every layout gives the images and labels that were put in; what is wrong is said in one line."""

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest

from repro.data import images, sets
from repro.data.sets import open_set
from repro.errors import UsageError


@pytest.fixture(autouse=True)
def nothing_outside(monkeypatch, tmp_path):
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("REPRO_DATA", raising=False)


def test_class_folders_are_numbered_by_name_and_searched_below(class_folders, drawn):
    train = open_set("folder", "train", str(class_folders))
    assert train.class_names == ("cat", "dog") and train.labels.tolist() == [0, 0, 1, 1, 1]
    assert train.labels.dtype == np.int32 and len(train) == 5 and train.classes == 2
    names = [train.source.name(i) for i in range(5)]
    assert names == ["cat/0.png", "cat/1.png", "dog/3.png", "dog/4.png", "dog/a/2.png"]
    for i, number in enumerate([0, 1, 3, 4, 2]):
        assert np.array_equal(train.image(i), drawn(number))
    chosen = train.subset(np.array([4, 0]))
    assert chosen.labels.tolist() == [1, 0] and np.array_equal(chosen.image(0), drawn(2))


def test_class_folders_without_splits_are_for_training(class_folders):
    assert len(open_set("folder", "train", str(class_folders / "train"))) == 5
    with pytest.raises(UsageError, match="no val split of folder"):
        open_set("folder", "val", str(class_folders / "train"))


def packed(path: Path, encoded, splits=("train", "test")) -> None:
    files = [encoded(k) for k in range(4)]
    offsets = np.cumsum([0, *map(len, files)])
    data = np.frombuffer(b"".join(files), np.uint8)
    arrays = {"class_names": np.array(list("abcdefghij"))}
    for split in splits:
        arrays |= {f"{split}_jpeg": data, f"{split}_offsets": offsets, f"{split}_labels": np.uint8([3, 1, 4, 1])}
    np.savez(path, **arrays)


def test_packed_archives_by_name_in_a_folder_or_by_path(tmp_path, encoded, drawn, monkeypatch):
    packed(tmp_path / "cifar10_jpeg.npz", encoded)
    for location in (tmp_path, tmp_path / "cifar10_jpeg.npz"):
        test = open_set("cifar10", "test", str(location))
        assert test.labels.tolist() == [3, 1, 4, 1] and np.array_equal(test.image(2), drawn(2))
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    assert open_set("cifar10", "train").class_names[3] == "d"


def test_fetched_sets_are_found_in_the_cache(tmp_path, monkeypatch):
    (tmp_path / "cache/data").mkdir(parents=True)
    pixels = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    names = np.array([f"c{k}" for k in range(10)])
    np.savez(tmp_path / "cache/data/cifar10.npz", test_images=pixels, test_labels=np.uint8([9, 0]), class_names=names)
    monkeypatch.setenv("REPRO_DATA", str(tmp_path / "elsewhere"))
    assert np.array_equal(open_set("cifar10", "test").image(1), pixels[1])


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("form", ["binary", "python"])
def test_official_cifar_files(name, form, tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    pixels, labels = random.integers(0, 256, (5, 32, 32, 3)).astype(np.uint8), np.uint8([9, 3, 0, 7, 5])
    rows = pixels.transpose(0, 3, 1, 2).reshape(5, -1)
    ten, place = name == "cifar10", tmp_path / "here"
    place.mkdir()
    if form == "binary":
        heads = labels[:, None] if ten else np.stack([labels // 5, labels], 1)
        np.concatenate([heads, rows], 1).tofile(place / ("test_batch.bin" if ten else "test.bin"))
        # the folder is known by its training files
        for k in range(1, 6):
            np.concatenate([heads[:1], rows[:1]], 1).tofile(place / f"data_batch_{k}.bin")
    else:
        content = {b"data": rows, b"labels" if ten else b"fine_labels": labels.tolist()}
        (place / ("test_batch" if ten else "test")).write_bytes(pickle.dumps(content))
        for k in range(1, 6):
            (place / f"data_batch_{k}").write_bytes(pickle.dumps({b"data": rows[:1], b"labels": [9]}))
    test = open_set(name, "test", str(place))
    assert test.labels.tolist() == labels.tolist() and test.classes == (10 if ten else 100)
    assert np.array_equal(test.image(3), pixels[3])
    if ten:
        train = open_set(name, "train", str(place))
        assert train.labels.tolist() == [9] * 5 and np.array_equal(train.image(4), pixels[0])


def test_stl10_is_turned_upright_and_counted_from_zero(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3)).astype(np.uint8)
    for split in ("test", "unlabeled"):
        pixels.transpose(0, 3, 2, 1).tofile(tmp_path / f"{split}_X.bin")
    np.uint8([10, 1]).tofile(tmp_path / "test_y.bin")
    test = open_set("stl10", "test", str(tmp_path))
    assert test.labels.tolist() == [9, 0] and np.array_equal(test.image(1), pixels[1])
    assert open_set("stl10", "unlabeled", str(tmp_path)).labels.tolist() == [images.UNLABELLED] * 2
    np.uint8([1]).tofile(tmp_path / "test_y.bin")
    with pytest.raises(UsageError, match="1 labels for 2 images"):
        open_set("stl10", "test", str(tmp_path))


def test_fashion_mnist_becomes_three_equal_channels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28)).astype(np.uint8)
    head = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (3, 28, 28))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + pixels.tobytes()))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + (3).to_bytes(4, "big") + bytes([9, 0, 2]))
    test = open_set("fashion_mnist", "test", str(tmp_path))
    assert test.labels.tolist() == [9, 0, 2] and np.array_equal(test.image(1), np.stack([pixels[1]] * 3, -1))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + pixels.tobytes()[:-1]))
    with pytest.raises(UsageError, match="cut short"):
        open_set("fashion_mnist", "test", str(tmp_path))


def test_tiny_imagenet_takes_labels_of_val_from_its_list(tmp_path, encoded, drawn):
    names = [f"n{k:08d}" for k in range(200)]
    (tmp_path / "wnids.txt").write_text("\n".join(reversed(names)))
    for name in names:
        (tmp_path / "train" / name).mkdir(parents=True)
    (tmp_path / "train" / names[7] / "images").mkdir()
    (tmp_path / "train" / names[7] / "images/x.png").write_bytes(encoded(1))
    (tmp_path / "val/images").mkdir(parents=True)
    (tmp_path / "val/images/v.png").write_bytes(encoded(2))
    (tmp_path / "val/val_annotations.txt").write_text(f"v.png\t{names[9]}\t0\t0\t1\t1\nw.png\tn99999999\t0\t0\t1\t1\n")
    train, val = (open_set("tiny_imagenet", split, str(tmp_path)) for split in ("train", "val"))
    assert train.labels.tolist() == [7] and np.array_equal(train.image(0), drawn(1))
    assert val.labels.tolist() == [9] and np.array_equal(val.image(0), drawn(2))


def test_an_unknown_set_or_split_is_named():
    with pytest.raises(UsageError, match="did you mean: cifar10"):
        open_set("cifar", "train")
    with pytest.raises(UsageError, match="cifar10 has no split 'val'; it has: train, test"):
        open_set("cifar10", "val")


@pytest.mark.parametrize("name", sets.SETS)
def test_a_missing_set_says_how_to_obtain_it(name, tmp_path):
    about = sets.SETS[name]
    with pytest.raises(UsageError) as error:
        open_set(name, about.train, str(tmp_path / "nothing"))
    assert about.advice in str(error.value) and "REPRO_DATA" in str(error.value) and "\n" not in str(error.value)


def test_wrong_layouts_are_named(tmp_path, encoded, class_folders):
    (tmp_path / "flat/val").mkdir(parents=True)
    (tmp_path / "flat/val/1.png").write_bytes(encoded(1))
    (tmp_path / "flat/train/empty").mkdir(parents=True)
    with pytest.raises(UsageError, match="images without class folders.*val/<class>/<image>"):
        open_set("imagenet1k", "val", str(tmp_path / "flat"))
    with pytest.raises(UsageError, match="1 class folders without any image"):
        open_set("imagenet1k", "train", str(tmp_path / "flat"))
    with pytest.raises(UsageError, match="2 classes in val, imagenet1k has 1000"):
        open_set("imagenet1k", "val", str(class_folders))
    with pytest.raises(UsageError, match="no train split of cifar100 in a layout that is read"):
        open_set("cifar100", "train", str(tmp_path / "flat"))


def test_damaged_archives_are_named(tmp_path, encoded):
    packed(tmp_path / "cifar10_jpeg.npz", encoded)
    whole = (tmp_path / "cifar10_jpeg.npz").read_bytes()
    (tmp_path / "cifar10_jpeg.npz").write_bytes(whole[:-200])
    with pytest.raises(UsageError, match="cifar10_jpeg.npz: damaged"):
        open_set("cifar10", "test", str(tmp_path))
    np.savez(
        tmp_path / "cifar10_jpeg.npz",
        test_jpeg=np.zeros(5, np.uint8),
        test_offsets=np.array([0, 3, 9]),
        test_labels=np.uint8([1, 2]),
        class_names=np.array(list("abcdefghij")),
    )
    with pytest.raises(UsageError, match="does not fit"):
        open_set("cifar10", "test", str(tmp_path))
