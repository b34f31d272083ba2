"""`repro reproduce dyna` from the command line to verdict and records, bad input, and a paper made by copying."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from repro import paths
from repro.cli import main
from repro.tracker import published, records

FEW = ["--seeds", "3", "--set", "runs=4", "--set", "sweeping.resolutions=1", "--set", "shortcut_maze.planning_steps=5"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The whole chapter with few runs, as `make reproduce-dyna` makes it."""
    folder = tmp_path_factory.mktemp("dyna")
    command = [sys.executable, "-m", "repro", "reproduce", "dyna", *FEW, "--out", str(folder)]
    environment = os.environ | {"REPRO_CACHE": str(folder / "cache")}
    return folder, subprocess.run(command, cwd=paths.ROOT, env=environment, capture_output=True, text=True)


def test_the_whole_chapter_from_the_command_line_to_the_verdicts(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = finished
    assert done.returncode == 0, done.stderr
    found = {(r["suite"], r["task"], r["method"], r["metric"]): r for r in records.load_all(folder, "dyna")}
    assert len(found) == 24
    for row in published.load("dyna").facts["rows"]:
        assert (row["suite"], row["task"], row["method"], row["metric"]) in found, row
    for record in found.values():
        assert record["budget_fraction"] == 1 and record["seeds"] == [0, 1, 2]
        assert set(record["deviations"]) == {"runs", "sweeping.resolutions", "shortcut_maze.planning_steps"}
        assert record["command"].startswith(
            "repro reproduce dyna --task chapter_8/all --preset cpu --seeds 3 --set runs=4"
        )
    assert "dyna_maze/n5: " in done.stdout and "reproduced" in done.stdout
    assert "shortcut_maze/all dyna_q_plus lead_at_end: " in done.stdout and "above 0" in done.stdout
    assert done.stdout.count("record: ") == len(found)


def test_records_hold_the_exact_references_and_the_figures(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    every = records.load_all(finished[0], "dyna")
    found = {(r["task"], r["method"], r["metric"]): r for r in every if r["suite"] == "dyna_maze"}
    first = found["all", "exact_random_walk", "first_episode_steps"]["extra"]
    assert first["identical_for_all_planning_steps"] is True
    assert first["exact"] == pytest.approx({"mean": 868.7254, "std": 789.2364}, abs=1e-3)
    arrows = found["policy_after_half_of_episode_2", "dyna_q_n0", "states_with_arrow"]
    assert arrows["scores"] == [1, 1, 1]
    assert min(found["policy_after_half_of_episode_2", "dyna_q_n50", "states_with_arrow"]["scores"]) > 10
    titles = {f["title"].split(":")[0] for r in every for f in r["extra"].get("figures", [])}
    assert titles == {"Figure 8.2", "Figure 8.4", "Figure 8.5", "Example 8.4"}
    optimal = {r["suite"]: r["scores"] for r in every if r["task"] == "before"}
    assert optimal == {"blocking_maze": [10] * 3, "shortcut_maze": [16] * 3}


def test_a_part_can_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path / "cache"))
    only = ["--task", "dyna_maze/n5", "--seeds", "3", "--set", "runs=2", "--set", "dyna_maze.planning_steps=5"]
    assert main(["reproduce", "dyna", *only, "--quiet", "--out", str(tmp_path)]) == 0
    (record,) = records.load_all(tmp_path, "dyna")
    assert (record["task"], record["metric"]) == ("n5", "episodes_to_optimal_performance")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--task", "dyna_mase/n5"], "did you mean: dyna_maze"),
        (["--task", "n7"], "unknown task"),
        (["--task", "rod_maneuvering/rod"], "only printed as a picture"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--set", "runs=0"], "runs and seeds must be at least 1"),
        (["--set", "runs=-3"], "runs and seeds must be at least 1"),
        (["--set", "dyna_maze.planning_steps=0,-5"], "planning_steps must not be negative"),
        (["--set", "blocking_maze.planning_steps=-1"], "planning_steps must not be negative"),
        (["--set", "sweeping.planning_steps=0"], "planning_steps must be at least 1"),
        (["--set", "sweeping.resolutions=0"], "resolutions must be whole numbers from 1 to 11"),
        (["--set", "sweeping.resolutions=2,500"], "resolutions must be whole numbers from 1 to 11"),
        (["--set", "sweeping.resolutions="], "resolutions must be whole numbers from 1 to 11"),
        (["--set", "dyna_maze.alpha=1.5"], "alpha must be from 0 to 1"),
        (["--set", "shortcut_maze.kappa=-1"], "kappa must not be negative"),
        (["--set", "dyna_maze.episodes=1"], "episodes must be at least 2"),
        (["--set", "alpha=0.1"], "ambiguous"),
        (["--budget", "0.5"], "--budget does not apply"),
        (
            ["--task", "dyna_maze/n5", "--set", "dyna_maze.planning_steps=0"],
            "needs its number among dyna_maze.planning_steps",
        ),
    ],
)
def test_a_mistake_is_one_clear_line(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path / "cache"))
    few = ["--set", "runs=2"] if "--set" not in words else []
    assert main(["reproduce", "dyna", *words, *few, "--quiet", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert says in error and "Traceback" not in error
    assert not list(tmp_path.glob("out/**/*.json"))


def test_a_paper_copied_from_the_example_is_found_and_runs(tmp_path: Path) -> None:
    """As `papers/README.md` says: a folder, a name, nothing in `repro/`."""
    folder = tmp_path / "my_papers"
    shutil.copytree(paths.ROOT / "papers" / "dyna", folder / "planner", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "__init__.py").touch()
    for file in (folder / "planner").glob("*.py"):
        text = file.read_text().replace("papers.dyna", "my_papers.planner").replace('name="dyna"', 'name="planner"')
        file.write_text(text)
    environment = os.environ | {"REPRO_PAPERS": str(folder), "REPRO_CACHE": str(tmp_path / "cache")}

    def repro(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "repro", *words]
        return subprocess.run(command, cwd=paths.ROOT, env=environment, capture_output=True, text=True)

    listed = repro("list", "--json")
    assert listed.returncode == 0, listed.stderr
    assert [paper["name"] for paper in json.loads(listed.stdout)["papers"]] == ["planner"]
    small = ["--task", "dyna_maze/n5", "--seeds", "3", "--set", "runs=2", "--set", "dyna_maze.planning_steps=5"]
    done = repro("reproduce", "planner", *small, "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    (record,) = records.load_all(tmp_path / "out", "planner")
    assert record["paper"] == "planner" and len(record["scores"]) == 3
