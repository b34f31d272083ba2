"""Images inside uncompressed tar archives, read in place.

The label of an image is, in this order: the whole number in the member `<key>.cls` beside it (WebDataset), the folder
it lies in inside the archive, or the name of the archive (one archive a class, as ImageNet is given out).
"""

import hashlib
import os
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from repro import paths
from repro.data.images import CorruptImage, decode
from repro.data.layouts import ENDINGS, Parts
from repro.errors import UsageError


class Index(NamedTuple):
    """Where the images of one archive are, `[n]` each; `label` is a whole number or a folder as text, "" if neither."""

    offset: np.ndarray
    size: np.ndarray
    name: np.ndarray
    label: np.ndarray


class Shards:
    """File i is `size[i]` bytes at `offset[i]` of archive `tar[i]`."""

    def __init__(self, tars: Sequence[Path], tar: np.ndarray, index: Index):
        self.tars, self.tar, self.index = tars, tar, index
        self._files = [path.open("rb") for path in tars]

    def __len__(self) -> int:
        return len(self.tar)

    def picture(self, i: int) -> Image.Image:
        """Image i, read and decoded now."""
        handle, size = self._files[self.tar[i]].fileno(), int(self.index.size[i])
        data = os.pread(handle, size, int(self.index.offset[i]))  # threads share the file but no position in it
        if len(data) < size:
            raise CorruptImage(self.name(i), "the archive is cut short")
        return decode(data, self.name(i))

    def name(self, i: int) -> str:
        """Archive and member."""
        return f"{self.tars[self.tar[i]].name}:{self.index.name[i]}"


def shards(place: Path, split: str) -> Parts | None:
    """`place/<split>/*.tar` or `place/*<split>*.tar`, or one archive; for train also `place/*.tar` with other names."""
    tars = _archives(place, split)
    if not tars:
        return None
    each = [_index(path) for path in tars]
    index = Index(*(np.concatenate(part) for part in zip(*each, strict=True)))
    tar = np.repeat(np.arange(len(tars)), [len(of.offset) for of in each])
    if not len(tar):
        raise UsageError(f"{place}: {len(tars)} tar archives of {split} without any image ({', '.join(ENDINGS)})")
    labels, names = _labels(index, [tars[k].stem for k in tar], place)
    return Parts(labels, names, Shards(tars, tar, index))


def _archives(place: Path, split: str) -> list[Path]:
    if place.is_file():
        return [place] if place.suffix == ".tar" else []
    if (place / split).is_dir():
        return sorted((place / split).glob("*.tar"))
    every = sorted(place.glob("*.tar"))
    named = [path for path in every if split in re.split(r"[^a-z]+", path.stem.lower())]
    if named or split != "train":
        return named
    others = {"val", "test", "validation"}
    return [path for path in every if not others & set(re.split(r"[^a-z]+", path.stem.lower()))]


def _labels(index: Index, archives: list[str], place: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    given = [label or archive for label, archive in zip(index.label.tolist(), archives, strict=True)]
    if all(label.isdigit() for label in index.label.tolist()):
        labels = np.array([int(label) for label in given], np.int32)
        listed = place / "classes.txt"
        names = listed.read_text().split() if listed.is_file() else [str(k) for k in range(labels.max() + 1)]
        if labels.max() >= len(names):
            raise UsageError(f"{listed}: {len(names)} classes, but the archives hold label {labels.max()}")
        return labels, tuple(names)
    names = sorted(set(given))
    number = {name: k for k, name in enumerate(names)}
    return np.array([number[label] for label in given], np.int32), tuple(names)


def _index(path: Path) -> Index:
    """Index of an archive, remembered in the cache: to find a million files means reading a million headers."""
    status = path.stat()
    identity = f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}"
    kept = paths.cache() / "data" / "index" / f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.npz"
    if kept.is_file():
        with np.load(kept, allow_pickle=False) as archive:
            return Index(*(archive[name] for name in Index._fields))
    index = _read(path)
    kept.parent.mkdir(parents=True, exist_ok=True)
    new = kept.with_name(f"{os.getpid()}-{kept.name}")
    np.savez(new, **index._asdict())  # type: ignore[arg-type]
    new.replace(kept)
    return index


def _read(path: Path) -> Index:
    rows: list[tuple[int, int, str, str]] = []
    classes: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                key, _, ending = member.name.rpartition(".")
                if not member.isfile():
                    continue
                if ending == "cls":
                    content = archive.extractfile(member)
                    classes[key] = content.read(20).decode().strip() if content else ""
                elif f".{ending.lower()}" in ENDINGS:
                    rows.append((member.offset_data, member.size, member.name, key))
    except (tarfile.TarError, OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path}: not an uncompressed tar archive, or damaged ({error}); unpack .tar.gz first"
        ) from None
    labels = [classes.get(key, "") or Path(name).parent.name for _, _, name, key in rows]
    wrong = [label for key, label in classes.items() if not label.isdigit()]
    if wrong:
        raise UsageError(f"{path}: a .cls file must hold a whole number, not {wrong[0]!r}")
    offset, size = (np.array([row[k] for row in rows], np.int64) for k in (0, 1))
    return Index(offset, size, np.array([row[2] for row in rows], str), np.array(labels, str))
