"""`repro sweep`: the grid, what is skipped and continued, workers, failures, interruption, Slurm and Ray."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from repro import cli, paths
from repro import config as configuration
from repro.commands import sweep
from repro.errors import RunError
from repro.scale import launchers
from repro.scale.launchers import Job

PAPER = '''
import dataclasses
from repro.registry import Paper, Preset

@dataclasses.dataclass(frozen=True)
class Config:
    suite: str
    task: str
    preset: str
    seeds: int = 5
    first_seed: int = 0
    lr: float = 0.1
    dtype: str = "bfloat16"

    def for_platform(self, platform):
        return dataclasses.replace(self, dtype="float32") if platform == "cpu" else self

def cpu(suite, task):
    """Small."""
    return Config(suite, task, "cpu")

def paper(suite, task):
    """Large."""
    return Config(suite, task, "paper", lr=0.2)

PAPER = Paper(name="toy", title="Toy", bibtex="", suites={"line": ("a", "b"), "other": ("c",)}, default=("line", "a"),
    presets={"cpu": Preset(cpu, ""), "paper": Preset(paper, "")}, reproduce="none:none")
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A paper without code, in folders of its own; returns the folder."""
    (tmp_path / "sweep_papers" / "toy").mkdir(parents=True)
    (tmp_path / "sweep_papers" / "toy" / "__init__.py").write_text(PAPER)
    monkeypatch.setenv("REPRO_PAPERS", str(tmp_path / "sweep_papers"))
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("REPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sweep, "_platform", lambda: "cpu")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("sweep_papers")]:
        del sys.modules[name]


@pytest.fixture
def script(toy, monkeypatch):
    """Puts a Python script in place of `repro reproduce`; it finds the job's words in `sys.argv[1:]`."""

    def install(text):
        file = toy / "job.py"
        file.write_text("import sys, os, time, pathlib\nwords = sys.argv[1:]\n" + textwrap.dedent(text))
        monkeypatch.setattr(launchers, "program", lambda job: [sys.executable, str(file), *job.words])

    return install


def config(task="a", seeds=5, first_seed=0, platform="cpu"):
    from repro import registry

    made = registry.find("toy").presets["cpu"].make("line", task)
    return configuration.override(made, [f"seeds={seeds}", f"first_seed={first_seed}"]).for_platform(platform)


def record(folder, task, config_hash):
    path = folder / "results" / "runs" / "toy" / "line" / task / "abc.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"config_hash": config_hash}))


def dry_run(capsys, *words):
    assert cli.main(["sweep", "toy", "--dry-run", *words]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_grid_is_tasks_times_groups_of_seeds(toy, capsys):
    lines = dry_run(capsys, "--seeds", "5", "--seeds-per-job", "2", "--set", "lr=3")
    head = "new       repro reproduce toy --task line/{} --preset cpu --seeds {} --set lr=3"
    assert lines == [
        head.format("a", 2), head.format("a", 2) + " --set first_seed=2", head.format("a", 1) + " --set first_seed=4",
        head.format("b", 2), head.format("b", 2) + " --set first_seed=2", head.format("b", 1) + " --set first_seed=4",
    ]  # fmt: skip
    assert dry_run(capsys, "--suite", "other", "--preset", "paper") == [
        "new       repro reproduce toy --task other/c --preset paper --seeds 5"
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "d"], "unknown task of toy 'd'"),
        (["--suite", "lines"], "unknown suite of toy 'lines'"),
        (["--preset", "fast"], "unknown preset of toy 'fast'"),
        (["--jobs", "0"], "--jobs must be at least 1, got 0"),
        (["--seeds-per-job", "-1"], "--seeds-per-job must be at least 1, got -1"),
        (["--set", "learning=1"], "unknown config field 'learning'"),
        (["--launcher", "cloud"], "invalid choice: 'cloud'"),
    ],
)
def test_mistakes_are_one_line(toy, capsys, words, message):
    assert cli.main(["sweep", "toy", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_a_job_with_a_record_of_its_configuration_is_skipped(toy, capsys, platform):
    record(toy, "a", configuration.digest(config(platform=platform)))
    (toy / "results" / "runs" / "toy" / "line" / "a" / "damaged.json").write_text("{")
    states = [line.split()[0] for line in dry_run(capsys)]
    assert states == ["finished", "new"]
    assert [line.split()[0] for line in dry_run(capsys, "--seeds", "4")] == ["new", "new"]


def test_an_interrupted_run_is_continued_and_a_finished_one_is_not(toy, capsys):
    for task in "ab":
        (paths.cache() / "runs" / "toy" / "line" / task / f"{configuration.digest(config(task))}-0").mkdir(parents=True)
    (paths.cache() / "runs" / "toy" / "line" / "b" / f"{configuration.digest(config('b'))}-0" / "record.json").touch()
    first, second = dry_run(capsys)
    assert first.startswith("begun") and first.endswith("--resume")
    assert second.startswith("new") and not second.endswith("--resume")


def test_workers_run_every_job_once_and_no_more_than_asked_at_a_time(toy, script, capsys):
    script(
        """
        here = pathlib.Path(os.environ["REPRO_RESULTS"]); here.mkdir(exist_ok=True)
        busy = here / f"busy-{os.getpid()}"; busy.touch()
        print("at work:", len(list(here.glob("busy-*"))), words, flush=True)
        time.sleep(0.3); busy.unlink()
        """
    )
    assert cli.main(["sweep", "toy", "--seeds-per-job", "2", "--jobs", "2"]) == 0
    logs = [path.read_text() for path in (paths.cache() / "sweeps" / "toy").glob("*.log")]
    assert len(logs) == 6 and all(log.count("at work") == 1 for log in logs)
    assert {int(log.split()[2]) for log in logs} == {1, 2}
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and lines[-1].startswith("[6/6] line/") and all(": finished in" in x for x in lines)


def test_a_failing_job_does_not_stop_the_others_and_is_named_at_the_end(toy, script, capsys):
    script(
        """
        if "line/a" in words:
            sys.exit("repro: the environment died")
        """
    )
    assert cli.main(["sweep", "toy"]) == 1
    out, err = capsys.readouterr()
    assert "[1/2] line/a seeds 0-4: failed (exit 1): repro: the environment died (log: " in out
    assert "[2/2] line/b seeds 0-4: finished" in out
    assert err.splitlines()[-1].startswith("repro: 1 of 2 jobs failed: line/a seeds 0-4")


def test_an_interrupted_sweep_lets_its_jobs_stop_cleanly_and_starts_no_more(toy, script):
    script(
        """
        import signal
        here = pathlib.Path(os.environ["REPRO_RESULTS"]); here.mkdir(exist_ok=True)
        def stop(*_):
            (here / "stopped").write_text("checkpoint written"); sys.exit(1)
        signal.signal(signal.SIGTERM, stop)
        (here / "started").write_text(" ".join(words))
        time.sleep(60)
        """
    )
    started = toy / "results" / "started"

    def interrupt():
        while not started.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    begin = time.monotonic()
    assert cli.main(["sweep", "toy"]) == 130
    assert time.monotonic() - begin < 50
    assert (toy / "results" / "stopped").read_text() == "checkpoint written"
    assert "line/a" in started.read_text(), "the second job was never started"


def test_gpus_are_dealt_out_to_the_workers(monkeypatch):
    assert launchers.devices_of(0, 1, ["0", "1"]) == {}
    assert launchers.devices_of(1, 2, []) == {}
    dealt = [launchers.devices_of(slot, 2, ["0", "1", "2", "3"])["CUDA_VISIBLE_DEVICES"] for slot in range(2)]
    assert dealt == ["0,2", "1,3"]
    shared = [launchers.devices_of(slot, 4, ["0", "1"]) for slot in range(4)]
    assert [x["CUDA_VISIBLE_DEVICES"] for x in shared] == ["0", "1", "0", "1"]
    assert all(x["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.45" for x in shared)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert launchers.visible_gpus() == ["2", "5"]


def test_the_slurm_script_runs_the_job_of_its_array_task(toy, script, capsys, monkeypatch):
    script("print(words)")
    words = ["--launcher", "slurm", "--preset", "cpu", "--jobs", "3", "--sbatch=--gpus=1", "--set", "task=it's $HOME"]
    assert cli.main(["sweep", "toy", "--dry-run", *words]) == 0
    text = capsys.readouterr().out
    assert "#SBATCH --array=0-1%3\n" in text and "#SBATCH --gpus=1\n" in text
    for number, restarts in ((0, None), (1, "0"), (1, "2")):
        environment = {"PATH": os.environ["PATH"], "SLURM_ARRAY_TASK_ID": str(number)}
        environment |= {"SLURM_RESTART_COUNT": restarts} if restarts else {}
        done = subprocess.run(["bash"], input=text, text=True, capture_output=True, env=environment, check=True)
        expected = ["reproduce", "toy", "--task", f"line/{'ab'[number]}", "--preset", "cpu", "--seeds", "5"]
        expected += ["--set", "task=it's $HOME"] + (["--resume"] if restarts == "2" else [])
        assert done.stdout.strip() == str(expected)


def test_slurm_jobs_are_submitted_where_there_is_slurm(toy, capsys, monkeypatch):
    monkeypatch.setenv("PATH", f"{toy}/bin")
    assert cli.main(["sweep", "toy", "--launcher", "slurm"]) == 2
    file = paths.cache() / "sweeps" / "toy" / "sweep.sh"
    assert f"sbatch {file}" in capsys.readouterr().err and "--preset paper" in file.read_text()
    (toy / "bin").mkdir()
    fake = toy / "bin" / "sbatch"
    fake.write_text("#!/bin/sh\necho Submitted batch job 7\n")
    fake.chmod(0o755)
    assert cli.main(["sweep", "toy", "--launcher", "slurm"]) == 0
    assert capsys.readouterr().out == "Submitted batch job 7\n"
    fake.write_text("#!/bin/sh\necho invalid account >&2; exit 1\n")
    assert cli.main(["sweep", "toy", "--launcher", "slurm"]) == 1
    assert "invalid account" in capsys.readouterr().err


def test_ray_is_asked_for_where_it_is_missing(toy, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.main(["sweep", "toy", "--launcher", "ray"]) == 2
    assert "-m pip install ray" in capsys.readouterr().err


def test_a_job_that_ends_without_a_word_is_reported(tmp_path):
    class Silent:
        def __call__(self, job, log, slot):
            return 3

        def stop(self):
            pass

    said = []
    with pytest.raises(RunError, match="1 of 1 jobs failed: s/t seed 7"):
        launchers.run_all([Job("s", "t", range(7, 8), ())], 1, tmp_path, Silent(), said.append)
    assert said[0].startswith("[1/1] s/t seed 7: failed (exit 3): no output")
