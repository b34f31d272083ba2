"""`repro verify` from the command line."""

import json
import sys
from types import ModuleType

import pytest

from repro import cli
from repro.errors import UsageError


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = cli.main(list(arguments))
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.fixture
def evaluate(monkeypatch):
    """Stands in for the pipeline: returns what `evaluate.returns` says."""
    module = ModuleType("repro.pipeline.evaluate")
    module.returns = []
    module.rerun = lambda record, episodes=10: module.returns
    monkeypatch.setitem(sys.modules, "repro.pipeline.evaluate", module)
    return module


def test_no_records_and_sound_records(sample, capsys):
    assert run(capsys, "verify") == (0, "no record yet\n", "")
    sample.save([900.0, 950.0])
    sample.save([900.0, 951.0])
    code, out, _ = run(capsys, "verify")
    assert code == 0 and "2 records, all hold" in out


def test_a_changed_record_is_named_and_the_others_still_checked(sample, capsys):
    sound, changed = sample.save([900.0, 950.0]), sample.save([900.0, 951.0])
    changed.write_text(changed.read_text().replace("951", "952", 1))
    code, out, _ = run(capsys, "verify")
    assert code == 1 and f"{changed}: changed after it was written" in out and f"{sound}: holds" in out
    data = json.loads(run(capsys, "verify", "--json")[1])
    assert not data["holds"] and [bool(r["problems"]) for r in data["records"]].count(True) == 1


def test_one_record_by_id_or_file(sample, capsys):
    path = sample.save([900.0, 950.0])
    assert run(capsys, "verify", path.stem[:6])[0] == 0
    assert run(capsys, "verify", str(path))[0] == 0
    code, _, err = run(capsys, "verify", "ffffffff")
    assert code == 2 and "no record 'ffffffff'" in err
    assert run(capsys, "verify", "nowhere.json")[0] == 2


def test_rerun_says_whether_the_number_holds(sample, capsys, evaluate):
    path = sample.save([900.0, 950.0, 930.0])
    evaluate.returns = [[905.0, 900.0], [950.0, 940.0], [930.0, 935.0]]
    code, out, _ = run(capsys, "verify", path.stem, "--rerun")
    assert code == 0 and "now 926.7" in out and out.rstrip().endswith("holds")
    evaluate.returns = [[100.0, 110.0], [105.0, 100.0], [100.0, 102.0]]
    code, out, _ = run(capsys, "verify", path.stem, "--rerun")
    assert code == 1 and "FAILS" in out


def test_rerun_without_a_kept_agent_is_one_line(sample, capsys, evaluate):
    def missing(record, episodes=10):
        raise UsageError("no kept run")

    evaluate.rerun = missing
    path = sample.save([900.0, 950.0, 930.0])
    code, _, err = run(capsys, "verify", path.stem, "--rerun")
    assert code == 2 and "no kept run" in err
    assert run(capsys, "verify", "--rerun", "--episodes", "1")[0] == 2
