"""`repro list` over a folder of stand-in papers."""

import json
import textwrap

import pytest

from repro import cli

PAPER = """
from repro.registry import Paper, Preset

def full(suite, task):
    '''The published protocol, untouched.'''

PAPER = Paper(
    name="toy",
    title="A toy paper with a title that is long enough to need a second line when it is shown in eighty columns",
    bibtex="",
    suites={"maze": ("blocking", "shortcut"), "lab": ("room_1",)},
    default=("maze", "blocking"),
    presets={"paper": Preset(full, "1 GPU, about 3 h"), "cpu": Preset(lambda s, t: None, "2 CPU cores, 1 min")},
    reproduce="nowhere:run",
    unavailable={"lab": "no package can be installed for it"},
)
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    package = tmp_path / "toy_papers" / "toy"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(textwrap.dedent(PAPER))
    (package.parent / "notes").mkdir()
    (package.parent / "notes" / "__init__.py").write_text("")
    record = tmp_path / "results" / "runs" / "toy" / "maze" / "blocking" / "0123456789ab.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    monkeypatch.setenv("REPRO_PAPERS", str(package.parent))
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "results"))


def test_json_holds_everything(toy, capsys):
    assert cli.main(["list", "--json"]) == 0
    [paper] = json.loads(capsys.readouterr().out)["papers"]
    assert paper["name"] == "toy" and paper["default"] == "maze/blocking"
    assert paper["suites"]["maze"] == {
        "tasks": ["blocking", "shortcut"],
        "records": {"blocking": 1},
        "unavailable": None,
    }
    assert paper["suites"]["lab"]["unavailable"] == "no package can be installed for it"
    assert paper["presets"]["paper"] == {"cost": "1 GPU, about 3 h", "doc": "The published protocol, untouched."}


def test_text_fits_eighty_columns_and_says_what_matters(toy, capsys):
    assert cli.main(["list", "toy", "--tasks"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "1 runs of 1 tasks" not in text
    for words in ("1 run of 1 task", "blocking*, shortcut", "cannot run here: no package", "2 CPU cores, 1 min"):
        assert words in text


def test_unknown_paper_names_the_nearest(toy, capsys):
    assert cli.main(["list", "toi"]) == 2
    assert "did you mean: toy?" in capsys.readouterr().err


def test_empty_folder_is_not_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPRO_PAPERS", str(tmp_path))
    assert cli.main(["list"]) == 0
    assert "no paper" in capsys.readouterr().out
