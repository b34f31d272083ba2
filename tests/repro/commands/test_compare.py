"""`repro compare` from the command line: tables, JSON, exit codes."""

import json

from repro import cli
from repro.tracker import published


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = cli.main(list(arguments))
    out = capsys.readouterr()
    return code, out.out, out.err


def test_an_overview_without_records(results, capsys):
    code, out, _ = run(capsys, "compare")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:] if line.startswith("  dreamerv3")].count("dreamerv3") == 10


def test_a_paper_without_records_lists_every_row(results, capsys):
    code, out, _ = run(capsys, "compare", "dreamerv2")
    assert code == 0 and out.count("untested") >= 55 and "zaxxon" in out


def test_json_holds_numbers_and_no_nan(sample, capsys):
    sample.save([950.0, 955.0, 960.0])
    code, out, _ = run(capsys, "compare", "dreamerv3", "--suite", "dmc_proprio", "--json")
    data = json.loads(out, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
    assert code == 0 and data["contradictions"] == []
    (row,) = [r for r in data["suites"][0]["rows"] if r["group"]]
    assert row["task"] == "walker_walk" and row["label"] == "reproduced"
    assert row["reproduced"]["value"] == 955.0 and row["group"]["seeds"] == [0, 1, 2]


def test_a_contradiction_is_exit_code_1_and_changed_settings_are_not(sample, capsys):
    sample.save([50.0, 52.0, 54.0], deviations={"lr": {"paper": 1, "used": 2}})
    assert run(capsys, "compare", "dreamerv3")[0] == 0
    sample.save([50.0, 52.0, 54.0])
    code, out, _ = run(capsys, "compare", "dreamerv3", "--recorded", "--why")
    assert code == 1 and "contradicts the paper: dmc_proprio/walker_walk" in out
    assert "cheetah_run" not in out and "changed: lr 2 (paper: 1)" in out
    assert run(capsys, "compare", "--json")[0] == 1


def test_bad_requests_are_one_line(results, capsys):
    code, _, err = run(capsys, "compare", "dremer")
    assert code == 2 and "dreamerv3" in err and err.count("\n") == 1
    code, _, err = run(capsys, "compare", "dreamerv3", "--suite", "atari100")
    assert code == 2 and "atari100k" in err


def test_a_damaged_record_is_named_and_nothing_is_lost(sample, capsys):
    path = sample.save([950.0, 955.0, 960.0])
    path.write_text(path.read_text().replace("955", "956", 1))
    code, _, err = run(capsys, "compare")
    assert code == 2 and str(path) in err and path.exists()


def test_published_papers_are_known_whatever_their_spelling(results, capsys):
    assert run(capsys, "compare", "DreamerV3", "--suite", "crafter")[0] == 0
    assert "dreamerv3" in published.papers()
