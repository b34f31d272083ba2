"""`repro reproduce dreamerv3` from the command line to the record, at the smallest size that is the real agent."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from repro.cli import main

TINY = (
    "loop.steps=480 envs=4 batch_size=2 batch_length=8 train_ratio=2 rssm.deter=32 rssm.hidden=8 rssm.classes=4 "
    "rssm.stoch=4 encoder.units=8 decoder.units=8 encoder.depth=1 decoder.depth=1 actor.units=8 agent.critic.units=8 "
    "agent.reward.units=8 agent.continuation.units=8 imagination_length=3 log_seconds=0.5 env.pixels=false "
    "fused_iterations=1"
).split()


def arguments(out: Path, *extra: str) -> list[str]:
    sets = [word for assignment in TINY for word in ("--set", assignment)]
    start = ["reproduce", "dreamerv3", "--task", "catch/catch", "--preset", "cpu", "--seeds", "2"]
    return [*start, *sets, *extra, "--out", str(out)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: Any) -> Any:
    """One finished run: exit code, path of the record, record, folder."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPRO_CACHE", str(folder / "cache"))
        code = main(arguments(folder / "out", "--quiet"))
        (path,) = (folder / "out").rglob("*.json")
        yield code, path, json.loads(path.read_text()), folder


def test_a_run_ends_in_a_complete_record(finished: Any) -> None:
    code, path, record, _ = finished
    assert code == 0 and path.stem == record["id"]
    assert path.parent.parts[-4:] == ("runs", "dreamerv3", "catch", "catch")
    assert record["seeds"] == [0, 1] and [len(e["return"]) > 10 for e in record["episodes"]] == [True, True]
    assert record["budget"] == {"used": 480, "paper": 100_000, "unit": "env_steps"}
    assert record["budget_fraction"] == pytest.approx(0.0048)
    assert record["deviations"]["agent.rssm.deter"] == {"paper": 512, "used": 32}
    assert "loop.steps" not in record["deviations"], "the budget is not a changed setting"
    assert record["config"]["agent"]["compute_dtype"] == "float32"
    # (480 - what fills the replay) agent steps at 2 / (2 * 8) updates each.
    assert 40 <= record["updates"] <= 60
    assert record["checkpoint_digest"] and record["versions"]["jax"] and record["hardware"]["platform"] == "cpu"
    assert record["throughput"]["updates_per_s"] > 0 and record["seconds"]["total"] > record["seconds"]["train"]


def test_its_command_line_is_the_run_again(finished: Any) -> None:
    record = finished[2]
    assert record["command"].startswith("repro reproduce dreamerv3 --task catch/catch --preset cpu --seeds 2 --set ")


def test_metrics_are_written_for_tensorboard_and_as_lines(finished: Any) -> None:
    cache = finished[3] / "cache"
    lines = [json.loads(line) for line in next(cache.rglob("metrics.jsonl")).read_text().splitlines()]
    assert any("loss/critic" in line for line in lines) and list(cache.rglob("events.out.tfevents*"))


def test_the_kept_agent_is_evaluated_again_by_record_and_by_folder(finished: Any, capsys: Any) -> None:
    _, path, record, folder = finished
    capsys.readouterr()
    assert main(["evaluate", record["id"], "--episodes", "3", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["seeds"] == [0, 1] and [len(r) for r in first["returns"]] == [3, 3]
    assert set(sum(first["returns"], [])) <= {-1.0, 1.0}, "catch pays 1 or -1 an episode"
    run_folder = next((folder / "cache").rglob("run.json")).parent
    assert main(["evaluate", str(run_folder), "--episodes", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["returns"] == first["returns"], "evaluation is deterministic"


def test_a_finished_run_is_not_resumed(finished: Any, capsys: Any) -> None:
    assert main(arguments(finished[3] / "out", "--quiet", "--resume")) == 2
    assert "nothing to resume for dreamerv3 catch/catch" in capsys.readouterr().err


def test_a_killed_run_goes_on_from_its_checkpoint_to_the_same_result(finished: Any, tmp_path: Path) -> None:
    environment = os.environ | {"REPRO_CACHE": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu"}
    often = ["--set", "checkpoint_minutes=0.0005"]
    command = [sys.executable, "-m", "repro", *arguments(tmp_path / "out", *often)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "checkpoint at step" in line and int(line.split("step")[1].split("(")[0].replace(",", "")) > 150:
            process.send_signal(signal.SIGKILL)
            break
    process.wait(timeout=60)
    assert not list((tmp_path / "out").rglob("*.json"))
    again = subprocess.run([*command, "--resume"], env=environment, capture_output=True, text=True, timeout=250)
    assert again.returncode == 0, again.stderr
    assert "resumed at step" in again.stderr
    (path,) = (tmp_path / "out").rglob("*.json")
    record = json.loads(path.read_text())
    assert record["resumed"] == 1
    assert record["episodes"] == finished[2]["episodes"]
    assert record["checkpoint_digest"] == finished[2]["checkpoint_digest"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dreamerv4"], "unknown paper 'dreamerv4'; did you mean: dreamerv3"),
        (["dreamerv3", "--task", "pogn"], "unknown task of dreamerv3 'pogn'; did you mean: pong"),
        (["dreamerv3", "--suite", "atari"], "unknown suite of dreamerv3 'atari'"),
        (["dreamerv3", "--preset", "huge"], "unknown preset of dreamerv3 'huge'; known: cpu, fast, paper"),
        (["dreamerv3", "--set", "lrr=1"], "unknown config field 'lrr'; did you mean"),
        (["dreamerv3", "--set", "lr=fast"], "expected a number, got 'fast'"),
        (["dreamerv3", "--set", "size=13M"], "unknown model size '13M'"),
        (["dreamerv3", "--set", "envs=0"], "envs must be at least 1"),
        (["dreamerv3", "--seeds", "0"], "--seeds must be at least 1"),
        (["dreamerv3", "--budget", "2"], "--budget must be above 0 and at most 1"),
        (["dreamerv3", "--task", "dmlab30/rooms_watermaze"], "suite dmlab30 cannot run here: DeepMind Lab has no"),
        (["dreamerv3", "--preset", "v1_2023", "--task", "bsuite/bandit"], "preset v1_2023 has no settings for bsuite"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(words: list[str], message: str, capsys: Any) -> None:
    assert main(["reproduce", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error
