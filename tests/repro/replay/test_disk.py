"""Marks survive a killed process and a full disk."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from repro.errors import RunError
from repro.replay.disk import Disk

ROWS, CAPACITY = 2, 5
SHAPES = [((ROWS, CAPACITY, 4), np.dtype(np.uint8)), ((ROWS, CAPACITY, 1), np.dtype(np.float32))]


def disk(folder):
    return Disk(folder, {"length": 1}, SHAPES)


class Writer:
    """Adds step after step to both rows and rewrites the one before."""

    def __init__(self, folder):
        self.disk = disk(folder)
        self.rings = self.disk.create()
        self.step = 0

    def advance(self, count):
        rows = np.arange(ROWS)
        for _ in range(count):
            slots = np.full(ROWS, self.step % CAPACITY)
            if self.step >= CAPACITY:
                self.disk.before_overwrite([0, 1], rows, slots, np.full(ROWS, self.step - CAPACITY))
            for ring in self.rings:
                ring[rows, slots] = self.step % 250
            if self.step:
                previous = (slots - 1) % CAPACITY
                self.disk.before_overwrite([1], rows, previous, np.full(ROWS, self.step - 1))
                self.rings[1][rows, previous] += 0.5
            self.step += 1

    def save(self):
        self.disk.save(self.step, {"step": np.asarray(self.step)}, np.full(ROWS, self.step))

    def contents(self):
        return [np.array(ring) for ring in self.rings]


def loaded(folder, mark):
    rings, state = disk(folder).load(mark)
    assert state["step"] == mark
    return [np.array(ring) for ring in rings]


def test_a_record_cut_short_anywhere_was_not_needed(tmp_path):
    """Killed while the journal was written: the storage had not been touched by that write."""
    writer = Writer(tmp_path)
    writer.advance(8)
    writer.save()
    at_mark = writer.contents()
    writer.advance(1)
    after_one = writer.contents()
    complete = (tmp_path / "journal-1").stat().st_size
    writer.advance(1)
    journal = (tmp_path / "journal-1").read_bytes()
    assert len(journal) > complete
    for length in range(complete, len(journal), 7):
        for ring, old in zip(writer.rings, after_one, strict=True):
            ring[...] = old
        (tmp_path / "journal-1").write_bytes(journal[:length])
        for now, wanted in zip(loaded(tmp_path, 8), at_mark, strict=True):
            np.testing.assert_array_equal(now, wanted)


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_saving_keeps_the_marks_that_are_complete(tmp_path, monkeypatch, when):
    writer = Writer(tmp_path)
    writer.advance(8)
    writer.save()
    contents = {8: writer.contents()}
    writer.advance(3)
    contents[11] = writer.contents()
    replace = os.replace

    def dies(source, target):
        if when == "after":
            replace(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        writer.save()
    monkeypatch.undo()
    marks = [8] if when == "before" else [8, 11]
    assert disk(tmp_path).marks() == marks
    for mark in reversed(marks):
        for now, wanted in zip(loaded(tmp_path, mark), contents[mark], strict=True):
            np.testing.assert_array_equal(now, wanted)


def test_journal_holds_every_slot_at_most_once(tmp_path):
    writer = Writer(tmp_path)
    writer.advance(8)
    writer.save()
    writer.advance(2 * CAPACITY)
    size = (tmp_path / "journal-1").stat().st_size
    writer.advance(3 * CAPACITY)
    assert (tmp_path / "journal-1").stat().st_size == size
    writer.save()
    writer.advance(1)
    writer.save()
    assert sorted(path.name for path in tmp_path.glob("journal-*")) == ["journal-2", "journal-3"]


def test_full_disk_is_one_line_and_the_mark_stays(tmp_path, monkeypatch):
    writer = Writer(tmp_path)
    writer.advance(8)
    writer.save()
    at_mark = writer.contents()

    class Full:
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            pass

    monkeypatch.setattr(writer.disk, "_journal", Full())
    with pytest.raises(RunError, match="the disk is full: free space"):
        writer.advance(1)
    for now, wanted in zip(loaded(tmp_path, 8), at_mark, strict=True):
        np.testing.assert_array_equal(now, wanted)

    def no_room(file, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(RunError, match="one file of the replay needs 0.0 GB"):
        disk(tmp_path / "other").create()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_killed_process_leaves_the_newest_mark_loadable(tmp_path):
    """A process writes and saves without pause; SIGKILL; the newest mark equals a run that stopped there."""
    program = textwrap.dedent(f"""
        import importlib.util, pathlib
        spec = importlib.util.spec_from_file_location("writer", {__file__!r})
        writer = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(writer)
        writing = writer.Writer(pathlib.Path({str(tmp_path)!r}))
        while True:
            writing.advance(3)
            writing.save()
    """)
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("mark-??.npz")) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    mark = disk(tmp_path).marks()[-1]
    undisturbed = Writer(tmp_path / "undisturbed")
    undisturbed.advance(mark)
    for now, wanted in zip(loaded(tmp_path, mark), undisturbed.contents(), strict=True):
        np.testing.assert_array_equal(now, wanted)
