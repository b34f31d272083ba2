"""The parity runner on made-up golden directories."""

import json

import numpy as np
import pytest

from repro import cli
from repro.errors import UsageError
from repro.interop import parity

ARRAYS = {
    "w": np.array([2.0], np.float32),
    "x": np.array([1.0, 2.0], np.float32),
    "out/y": np.array([2.0, 4.0], np.float32),
    "out/n": np.array([2, 4]),
    "note": np.array(0),
}
SPEC = {
    "what": "y = w x",
    "config": {"function": "scale"},
    "weights": ["w"],
    "inputs": ["x"],
    "outputs": [{"name": "out/y", "kind": "float", "tol": 1e-3}, {"name": "out/n", "kind": "exact"}],
    "ignore": ["note"],
}


def directory(path, spec=SPEC, arrays=ARRAYS, name="case"):
    path.mkdir(exist_ok=True)
    content = {"paper": "made_up", "format": 1, "conventions": {}, "cases": {name: spec}}
    (path / "cases.json").write_text(json.dumps(content))
    np.savez(path / f"{name}.npz", **arrays)
    return path


def run(path, function, name="case"):
    return parity.check(parity.Golden(path).load(name), {"scale": function})


def scale(case):
    y = case.weights["w"] * case.inputs["x"]
    return {"out/y": y, "out/n": y.astype(int)}


def test_a_right_implementation_passes_with_the_size_of_its_error(tmp_path):
    assert run(directory(tmp_path), scale) == parity.Result("case", True, 0.0, "", "")
    off = run(directory(tmp_path), lambda case: scale(case) | {"out/y": np.array([2.0, 4.002], np.float32)})
    # The tolerance is a share of the largest reference: 4e-3.
    assert off.passed and off.worst == "out/y" and off.error == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("change", "worst"),
    [
        ({"out/y": np.array([2.0, 4.1])}, "out/y"),
        ({"out/y": np.array([2.0, np.nan])}, "out/y"),
        ({"out/y": np.array([[2.0, 4.0]])}, "out/y"),
        ({"out/n": np.array([2, 5])}, "out/n"),
    ],
)
def test_a_wrong_value_shape_or_nan_fails_and_is_named(tmp_path, change, worst):
    result = run(directory(tmp_path), lambda case: scale(case) | change)
    assert not result.passed and result.worst == worst


def test_missing_outputs_exceptions_and_unknown_functions_fail_that_case_alone(tmp_path):
    assert "missing" in run(directory(tmp_path), lambda case: {}).message
    assert run(directory(tmp_path), lambda case: 1 / 0).message.startswith("ZeroDivisionError")
    unknown = parity.check(parity.Golden(directory(tmp_path)).load("case"), {})
    assert not unknown.passed and "no implementation of 'scale'" in unknown.message


def test_absolute_and_elementwise_tolerances_and_masks(tmp_path):
    reference = np.array([1e6, 1.0])
    make = parity.Output
    assert parity.difference(reference + 1, make(reference, "float", 1e-5)) == pytest.approx(0.1)
    assert parity.difference(reference + 1, make(reference, "float", 1e-5, absolute=True)) == pytest.approx(1e5)
    assert parity.difference(reference + 1, make(reference, "float", 1e-5, elementwise=1e-2)) == pytest.approx(50)
    masked = make(reference, "exact", where=np.array([0, 1]))
    assert parity.difference(np.array([7.0, 1.0]), masked) == 0.0
    assert parity.difference(np.zeros(2), make(np.zeros(2), "float", 0.0)) == 0.0
    assert parity.difference(np.full(2, 1e-6), make(np.zeros(2), "float", 1e-5)) == pytest.approx(0.1)
    assert parity.difference(np.array(0.9), make(reference, "statistical")) == pytest.approx(0.9)
    assert parity.difference(np.zeros((0, 3)), make(np.zeros((0, 3)), "float", 0.0)) == 0.0
    assert parity.difference(np.zeros((0, 2)), make(np.zeros((0, 3)), "float", 0.0)) == float("inf")


def test_cases_may_be_json_files_and_outputs_may_depend_on_other_arrays(tmp_path):
    spec = SPEC | {"file": "case.json", "outputs": [{"name": "out/*", "kind": "exact", "where": "note"}]}
    directory(tmp_path, spec)
    (tmp_path / "case.json").write_text(json.dumps({k: v.tolist() for k, v in ARRAYS.items()} | {"note": [1, 0]}))
    case = parity.Golden(tmp_path).load("case")
    assert case.outputs["out/y"].where.tolist() == [1, 0] and case.inputs["x"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: (p / "cases.json").unlink(), "no cases.json"),
        (lambda p: (p / "cases.json").write_text("{"), "not valid JSON"),
        (lambda p: (p / "cases.json").write_text("[]"), "expected an object"),
        (lambda p: (p / "case.npz").unlink(), "missing"),
        (lambda p: (p / "case.npz").write_bytes(b"PK\x03\x04 torn"), "cannot be read"),
        (lambda p: directory(p, {k: v for k, v in SPEC.items() if k != "inputs"}), "lacks 'inputs'"),
        (lambda p: directory(p, SPEC | {"ignore": []}), "'note' matches no pattern"),
        (lambda p: directory(p, SPEC | {"ignore": ["*"]}), "matches several patterns"),
        (
            lambda p: directory(p, SPEC | {"outputs": [{"name": "out/*", "kind": "exact", "where": "q"}]}),
            "no array 'q'",
        ),
    ],
)
def test_a_bad_directory_is_one_clear_line(tmp_path, spoil, message):
    spoil(directory(tmp_path))
    with pytest.raises(UsageError, match=message.replace("[", r"\[")):
        parity.Golden(tmp_path).load("case")


PACKAGE = """
from repro.registry import Paper
PAPER = Paper(name="made_up", title="", bibtex="", suites={}, default=("", ""), presets={}, reproduce="",
              parity="papers.made_up.cases:CASES")
"""
CASES = "CASES = {'scale': lambda case: {'out/y': case.weights['w'] * case.inputs['x'], 'out/n': [2, 4]}}"


@pytest.fixture
def made_up_paper(tmp_path, monkeypatch):
    """A paper of its own, found by the command line."""
    import papers

    folder = tmp_path / "papers" / "made_up"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(PACKAGE)
    (folder / "cases.py").write_text(CASES)
    monkeypatch.setenv("REPRO_PAPERS", str(tmp_path / "papers"))
    monkeypatch.setattr(papers, "__path__", [*papers.__path__, str(tmp_path / "papers")])


def test_the_command_prints_a_line_a_case_and_its_exit_code_counts(tmp_path, capsys, made_up_paper):
    good = directory(tmp_path / "good")
    assert cli.main(["parity", "made-up", "--golden", str(good)]) == 0
    assert "case  ok    largest error 0 of the tolerance" in capsys.readouterr().out
    arrays = ARRAYS | {"out/y": np.array([2.0, 5.0])}
    bad = directory(tmp_path / "bad", arrays=arrays)
    assert cli.main(["parity", "made_up", "--golden", str(bad), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["passed"] and found["cases"][0]["worst"] == "out/y" and found["cases"][0]["error"] > 1


def test_the_command_refuses_other_papers_and_unknown_cases(tmp_path, capsys, made_up_paper):
    good = directory(tmp_path / "good")
    assert cli.main(["parity", "made_up", "--golden", str(good), "--case", "nonsense"]) == 2
    assert "no case 'nonsense'; it has: case" in capsys.readouterr().err
    content = json.loads((good / "cases.json").read_text()) | {"paper": "other"}
    (good / "cases.json").write_text(json.dumps(content))
    assert cli.main(["parity", "made_up", "--golden", str(good)]) == 2
    assert "recorded for other" in capsys.readouterr().err
