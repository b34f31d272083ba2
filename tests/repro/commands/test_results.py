"""`repro results add`: takes sound records, refuses all when one is bad, changes nothing then."""

import json
from pathlib import Path

import pytest

from repro import cli
from repro.tracker import records


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = cli.main(list(arguments))
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def made(sample, folder: Path, scores, **fields) -> Path:
    return records.save(sample.record(scores, **fields), folder)


def test_sound_records_are_added_once(sample, elsewhere, capsys):
    one, two = made(sample, elsewhere, [900.0, 910.0]), made(sample, elsewhere, [920.0], seeds=[7])
    code, out, _ = run(capsys, "results", "add", str(one), str(two))
    assert code == 0 and out.count("added:") == 2
    assert len(records.load_all(sample.results)) == 2
    code, out, _ = run(capsys, "results", "add", str(one))
    assert code == 0 and "already here" in out
    assert run(capsys, "verify")[0] == 0


def test_a_reformatted_file_is_stored_in_the_usual_form(sample, elsewhere, capsys):
    path = made(sample, elsewhere, [900.0, 910.0])
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2))
    assert run(capsys, "results", "add", str(path))[0] == 0
    assert run(capsys, "verify")[0] == 0


def test_check_changes_nothing(sample, elsewhere, capsys):
    path = made(sample, elsewhere, [900.0, 910.0])
    code, out, _ = run(capsys, "results", "add", "--check", str(path))
    assert code == 0 and "is sound" in out and not list(sample.results.rglob("*.json"))


def forge(path: Path, **changes) -> None:
    """Changes fields and makes id and file consistent again, as a careful forger would."""
    record = json.loads(path.read_text()) | changes
    record["id"] = records.digest(record)[:12]
    path.write_bytes(records.to_bytes(record))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda p: p.write_text(p.read_text().replace("910", "911", 1)), "changed after it was written"),
        (lambda p: forge(p, scores=[999.0, 998.0]), "its episodes give"),
        (lambda p: forge(p, schema=2), "newer than this suite"),
        (lambda p: forge(p, paper="dreamerv9"), "unknown paper"),
        (lambda p: forge(p, suite="dmc_audio"), "unknown suite of dreamerv3 'dmc_audio'"),
        (lambda p: forge(p, task="walker_fly"), "did you mean: walker_"),
        (lambda p: forge(p, budget_fraction=0.3), "budget_fraction"),
        (lambda p: p.write_text("{"), "not a record"),
        (lambda p: p.unlink(), "no such record"),
    ],
)
def test_one_bad_file_and_nothing_is_taken(sample, elsewhere, capsys, change, complaint):
    sound, bad = made(sample, elsewhere, [900.0, 920.0]), made(sample, elsewhere, [900.0, 910.0])
    change(bad)
    code, _, err = run(capsys, "results", "add", str(sound), str(bad))
    assert code == 2 and complaint in err and str(bad) in err and err.count("\n") == 1
    assert not list(sample.results.rglob("*.json"))


def test_the_same_record_twice_is_named(sample, elsewhere, capsys):
    path = made(sample, elsewhere, [900.0, 910.0])
    code, _, err = run(capsys, "results", "add", str(path), str(path))
    assert code == 2 and "the same record" in err
    assert run(capsys, "results", "add")[0] == 2
    assert run(capsys, "results")[0] == 2
