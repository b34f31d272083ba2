"""`repro cite`: complete, well-formed, and honest about what was run."""

import json
import re
from pathlib import Path

from repro import __version__, cli, paths
from repro.tracker import cite, published, records
from repro.tracker.report import data


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = cli.main(list(arguments))
    out = capsys.readouterr()
    return code, out.out, out.err


def test_bibtex_of_a_record_holds_everything(sample, capsys):
    path = sample.save([955.0, 960.0, 950.0])
    code, out, _ = run(capsys, "cite", path.stem)
    assert code == 0
    digest = records.digest(records.load(path))
    for part in (
        f"repro {__version__}", "955 (95 \\% interval 942.6 to 967.4, 3 seeds)", "Example CPU (2 cores)",
        "commit " + "c" * 40, f"sha256:{digest}", "reproduced against the published 935.7", "(500,000 env steps)",
        "@article{hafner2025mastering",
    ):  # fmt: skip
        assert part in out, part
    assert out.count("{") == out.count("}")


def test_a_papers_citation_has_one_entry_a_recorded_row(sample, capsys):
    sample.save([955.0, 960.0, 950.0])
    sample.save([600.0, 610.0, 620.0], task="cheetah_run", deviations={"size": {"paper": "200M", "used": "1M"}})
    code, out, _ = run(capsys, "cite", "dreamerv3")
    assert code == 0 and out.count("@misc{") == 2
    assert "changed settings" in out and "size 1M (paper: 200M)" in out


def test_partial_runs_say_so(sample, capsys):
    sample.save([400.0, 410.0, 420.0], used=100_000, code={"commit": "d" * 40, "dirty": True})
    out = run(capsys, "cite", "dreamerv3", "--format", "text")[1]
    assert "20.00% of the paper's budget (100,000 env steps)" in out and "partial" in out
    assert "with local changes" in out and "Original: Hafner, Danijar" in out


def test_stages_of_other_machines_are_named_and_counted():
    here = {"platform": "cpu", "cpu": "Example CPU", "cpu_cores": 2}
    card = {"platform": "gpu", "device_kind": "Example GPU", "device_count": 1, "cpu": "Other CPU", "cpu_cores": 16}
    record = {
        "hardware": here,
        "extra": {"made_on": {"vae": card, "rnn": card, "collect": here | {"cpu_cores": 1}}},
        "seconds": {"collect": 300.0, "vae": 20.0, "rnn": 30.0, "evaluate": 50.0, "total": 60.0},
        "config": {"stages": {"reuse": "other"}},
    }
    assert cite.hardware(record) == "Example CPU (2 cores); rnn, vae on 1 x Example GPU"
    assert data.seconds(record) == 400
    assert cite.hardware(record | {"extra": {}}) == "Example CPU (2 cores)"
    # Without stages phases are noted inside one another.
    assert data.seconds(record | {"config": {}}) == 60


def test_csl_is_valid_json_with_the_original(sample, capsys):
    sample.save([955.0, 960.0, 950.0])
    items = json.loads(run(capsys, "cite", "dreamerv3", "--format", "csl")[1])
    ours, original = items
    assert (
        ours["type"] == "dataset" and ours["version"] == __version__ and ours["issued"]["date-parts"] == [[2026, 1, 2]]
    )
    assert original["type"] == "article-journal" and original["container-title"] == "Nature"
    assert original["author"][0] == {"family": "Hafner", "given": "Danijar"}
    assert original["issued"]["date-parts"] == [[2025]]


def test_every_papers_bibtex_is_understood():
    for paper in published.papers():
        bibtex = published.load(paper).facts["bibtex"]
        items = cite.csl([], bibtex)
        assert len(items) == bibtex.count("@") and bibtex.count("{") == bibtex.count("}")
        for item in items:
            assert item["title"] and item["author"] and item["issued"], (paper, item)
            names = [part for person in item["author"] for part in person.values()]
            assert not re.search(r"[{}\\\\]", " ".join([item["title"], *names])), item


def test_nothing_recorded_and_unknown_names_are_one_line(results, capsys):
    code, _, err = run(capsys, "cite", "iris")
    assert code == 2 and "no record of iris yet" in err
    assert run(capsys, "cite", "nonsense")[0] == 2
    assert run(capsys, "cite", "iris", "--format", "docx")[0] == 2


def test_the_suites_own_citation_file_names_this_version():
    text = Path(paths.ROOT / "CITATION.cff").read_text()
    assert f"version: {__version__}" in text and "cff-version: 1.2.0" in text
