"""Records are whole, unchangeable and hard to lose."""

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from repro.errors import UsageError
from repro.tracker import records


def test_a_saved_record_reads_back_equal_and_is_named_by_its_digest(sample):
    record = sample.record([900.0, 950.0, 940.0])
    path = records.save(record, sample.results)
    loaded = records.load(path)
    assert {k: v for k, v in loaded.items() if k != "id"} == record
    assert path == sample.results / f"runs/dreamerv3/dmc_proprio/walker_walk/{loaded['id']}.json"
    assert records.digest(loaded).startswith(loaded["id"])


def test_numpy_numbers_are_stored_as_plain_ones(sample):
    record = sample.record([900.0, 950.0])
    record["scores"] = [np.float64(s) for s in record["scores"]]
    record["updates"] = np.int64(7)
    assert records.load(records.save(record, sample.results))["updates"] == 7


def test_saving_twice_is_harmless_and_an_existing_file_is_never_replaced(sample):
    record = sample.record([900.0])
    path = records.save(record, sample.results)
    assert records.save(record, sample.results) == path
    path.write_text("someone else's")
    with pytest.raises(UsageError, match="not replaced"):
        records.save(record, sample.results)
    assert path.read_text() == "someone else's"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_any_changed_byte_changes_the_digest_or_breaks_the_file(sample):
    path = sample.save([900.0, 950.0])
    original = path.read_bytes()
    generator = random.Random(0)
    for _ in range(200):
        at = generator.randrange(len(original))
        changed = bytearray(original)
        changed[at] ^= 1 << generator.randrange(7)
        path.write_bytes(bytes(changed))
        try:
            loaded = records.load(path)
        except UsageError as error:
            assert str(path) in str(error)
        else:  # whitespace between tokens: same content, other bytes
            assert records.to_bytes(loaded) != bytes(changed)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not a record"),
        ("{", "not a record"),
        ("[1]", "holds a list"),
        ('{"schema": NaN}', "the number NaN"),
        ('{"schema": 2}', "newer than this suite"),
        ('{"schema": "1"}', "schema is '1'"),
        ('{"schema": 1}', "lacks the field"),
        ("[" * 100_000, "not a record"),
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, text: str, complaint: str):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=complaint) as caught:
        records.load(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_record_in_the_wrong_place_is_named(sample):
    path = sample.save([900.0])
    other = path.parent.parent / "cheetah_run" / path.name
    other.parent.mkdir()
    path.rename(other)
    with pytest.raises(UsageError, match="belongs at"):
        records.load_all(sample.results)


def test_names_cannot_leave_the_results_folder(sample):
    for name in ("../../etc", "a/b", ".hidden", ""):
        with pytest.raises(UsageError, match="folder name|is empty"):
            records.save(sample.record([900.0], suite="dmc_proprio") | {"task": name}, sample.results)
    assert not list(sample.results.rglob("*.json"))


def _write_many(root: Path, template: dict, worker: int, count: int) -> None:
    for i in range(count):
        records.save(template | {"created": f"2026-01-02T03:{worker:02}:{i % 60:02}Z", "updates": i}, root)


def test_many_writers_and_kills_never_lose_or_tear_a_record(sample):
    """Eight processes write 40 records each, pairs of them the same ones; four others are killed while they write."""
    context = multiprocessing.get_context("fork")
    template = sample.record([900.0, 950.0], budget=50_000.0 * 10)
    whole = [
        context.Process(target=_write_many, args=(sample.results, template, worker // 2, 40)) for worker in range(8)
    ]
    doomed = [
        context.Process(target=_write_many, args=(sample.results, template, 10 + worker, 10**6)) for worker in range(4)
    ]
    for process in (*whole, *doomed):
        process.start()
    generator = random.Random(1)
    for process in doomed:
        time.sleep(generator.uniform(0.05, 0.2))
        os.kill(process.pid, signal.SIGKILL)
    for process in (*whole, *doomed):
        process.join(60)
    assert all(process.exitcode == 0 for process in whole)
    found = records.load_all(sample.results)  # every file that has a record's name is whole and valid
    written = {(r["created"], r["updates"]) for r in found}
    assert {(f"2026-01-02T03:{w:02}:{i:02}Z", i) for w in range(4) for i in range(40)} <= written
    assert len(found) == len(written)


def test_left_over_temporary_files_are_no_records(sample):
    path = sample.save([900.0])
    (path.parent / f".{path.name}.123-abc").write_text('{"half')
    assert len(records.load_all(sample.results)) == 1
    assert json.loads(path.read_text())["scores"] == [900.0]
