"""Mapped files that can be put back to what they were at a mark.

`folder/ring-<i>` hold the storage. From a mark on, whatever is about to be overwritten is first appended to
`folder/journal-<epoch>`; putting the journals back from the newest to that of a mark, each from its end to its
beginning, restores the storage of the mark. The page cache outlives the process, so this holds whenever a process is
killed; it does not cover power failure.
"""

import errno
import json
import os
from collections.abc import Iterable, Sequence
from io import BufferedWriter, BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from repro.errors import RunError

KEPT_MARKS = 2


class Disk:
    """The files of one replay. `rings`: shape `[rows, capacity, elements]` and dtype of every leaf."""

    def __init__(self, folder: Path, layout: dict[str, Any], rings: Sequence[tuple[tuple[int, ...], np.dtype]]) -> None:
        self.folder, self.layout, self.shapes = folder, layout, rings
        self.rings: list[np.ndarray] = []
        self.epoch = 0
        self._journal: BufferedWriter | None = None
        self._added_at_mark = np.zeros(0, np.int64)
        self._saved: dict[int, np.ndarray] = {}

    def create(self) -> list[np.ndarray]:
        """New empty files; those of an earlier replay in this folder are removed. `RunError` on a full disk."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for pattern in ("mark-*", "journal-*", "ring-*", "layout.json"):
            for old in self.folder.glob(pattern):
                old.unlink()
        for i, (shape, dtype) in enumerate(self.shapes):
            self._reserve(self._ring_path(i), int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        self._write_whole(self.folder / "layout.json", json.dumps(self.layout).encode())
        self._map()
        return self.rings

    def before_overwrite(self, leaves: Iterable[int], rows: np.ndarray, slots: np.ndarray, numbers: np.ndarray) -> None:
        """To be called before slots that hold the steps `numbers` are written: keeps what the mark needs, once."""
        if self._journal is None:
            return
        of_mark = numbers < self._added_at_mark[rows]
        for leaf in leaves:
            needed = of_mark & ~self._saved[leaf][rows, slots] if leaf in self._saved else of_mark
            row, slot = rows[needed], slots[needed]
            if not len(row):
                continue
            record = BytesIO()
            np.save(record, np.stack([np.full(len(row), leaf), row, slot]).astype(np.int64))
            np.save(record, self.rings[leaf][row, slot])
            try:
                self._journal.write(record.getbuffer())
                self._journal.flush()
            except OSError as error:
                raise disk_error(error) from error
            self._saved.setdefault(leaf, np.zeros(self.rings[leaf].shape[:2], bool))[row, slot] = True

    def save(self, mark: int, state: dict[str, np.ndarray], added: np.ndarray) -> None:
        """Commits a mark (see the module). `state` is what is not in the rings; `added` `[rows]` counts their steps."""
        marks = self.marks()
        if marks and mark <= marks[-1]:
            raise RunError(f"replay mark {mark} is not newer than {marks[-1]}")
        epoch = self.epoch + 1
        try:
            self._journal_path(epoch).write_bytes(b"")
            temporary = self.folder / "mark.tmp"
            with temporary.open("wb") as file:
                np.savez(file, epoch=np.asarray(epoch), **state)  # type: ignore[arg-type]
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._mark_path(mark))
        except OSError as error:
            raise disk_error(error) from error
        self.epoch = epoch
        self.journal_from(added)
        for old in [*marks, mark][:-KEPT_MARKS]:
            self._mark_path(old).unlink()
        oldest = min(self._epoch_of(kept) for kept in self.marks())
        for number in self._epochs():
            if number < oldest:
                self._journal_path(number).unlink()

    def load(self, mark: int) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        """The rings as they were at `mark`, and its state. Later marks are gone afterwards."""
        try:
            layout = json.loads((self.folder / "layout.json").read_text())
        except (OSError, ValueError) as error:
            raise RunError(f"no replay in {self.folder}; start without --resume") from error
        if layout != self.layout:
            differing = ", ".join(k for k in self.layout if layout.get(k) != self.layout[k])
            raise RunError(f"the replay in {self.folder} belongs to another configuration ({differing} differ)")
        if mark not in self.marks():
            known = ", ".join(map(str, self.marks())) or "none"
            raise RunError(f"the replay in {self.folder} has no mark {mark} (marks: {known})")
        try:
            with np.load(self._mark_path(mark)) as file:
                state = dict(file)
            self._map()
        except (OSError, ValueError, BadZipFile) as error:
            raise RunError(f"the replay in {self.folder} is damaged ({error}); start without --resume") from error
        self.epoch = int(state.pop("epoch"))
        # Newest first, also when deleting: killed in here, the next load does the rest.
        for later in reversed([m for m in self.marks() if m > mark]):
            self._mark_path(later).unlink()
        epochs = [number for number in reversed(self._epochs()) if number >= self.epoch]
        for number in epochs:
            self._undo(number)
        for number in epochs:
            self._journal_path(number).unlink()
        return self.rings, state

    def journal_from(self, added: np.ndarray) -> None:
        """Starts to journal what is overwritten from now on."""
        if self._journal is not None:
            self._journal.close()
        self._journal = self._journal_path(self.epoch).open("wb")
        self._added_at_mark = added
        self._saved = {}

    def marks(self) -> list[int]:
        """All marks, oldest first."""
        return sorted(int(path.stem.removeprefix("mark-")) for path in self.folder.glob("mark-*.npz"))

    def _undo(self, epoch: int) -> None:
        records = []
        with self._journal_path(epoch).open("rb") as file:
            while True:
                try:
                    index, rows = np.load(file), np.load(file)
                except (EOFError, ValueError, OSError):
                    break  # the end, or a record whose write was cut short: its slots were not touched yet
                records.append((index, rows))
        for (leaf, row, slot), rows in reversed(records):
            self.rings[int(leaf[0])][row, slot] = rows

    def _map(self) -> None:
        self.rings = [
            np.memmap(self._ring_path(i), dtype, "r+", shape=shape) for i, (shape, dtype) in enumerate(self.shapes)
        ]

    def _reserve(self, path: Path, size: int) -> None:
        """A file of zeros with its space allocated: a mapped file that meets a full disk later kills the process."""
        try:
            with path.open("wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
                else:
                    file.truncate(size)
        except OSError as error:
            raise disk_error(error, size) from error

    def _write_whole(self, path: Path, data: bytes) -> None:
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(data)
        os.replace(temporary, path)

    def _epochs(self) -> list[int]:
        return sorted(int(path.name.removeprefix("journal-")) for path in self.folder.glob("journal-*"))

    def _epoch_of(self, mark: int) -> int:
        with np.load(self._mark_path(mark)) as file:
            return int(file["epoch"])

    def _ring_path(self, leaf: int) -> Path:
        return self.folder / f"ring-{leaf}"

    def _mark_path(self, mark: int) -> Path:
        return self.folder / f"mark-{mark}.npz"

    def _journal_path(self, epoch: int) -> Path:
        return self.folder / f"journal-{epoch}"


def disk_error(error: OSError, size: int | None = None) -> RunError:
    """One line for a failed write."""
    if error.errno == errno.ENOSPC:
        needed = "" if size is None else f" (one file of the replay needs {size / 1e9:.1f} GB)"
        return RunError(f"the disk is full{needed}: free space, or use a smaller replay")
    return RunError(f"the replay cannot be written: {error}")
