"""`repro sweep`: the grid tasks x seeds of a paper on this machine, a Ray cluster or Slurm."""

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from repro import config as configuration
from repro import paths, registry
from repro.commands import reproduce
from repro.errors import RunError, UsageError
from repro.scale import launchers
from repro.scale.launchers import Job

HELP = "the grid tasks x seeds of a paper; finished jobs are skipped, interrupted ones continued"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("paper", help="e.g. dreamerv3; `repro list` shows all")
    parser.add_argument("--suite", help="all tasks of a suite where no --task is given (default: the paper's first)")
    parser.add_argument("--task", action="append", metavar="T", help="task or suite/task; may be given several times")
    parser.add_argument("--preset", metavar="P", help="default: `cpu` without an accelerator, `paper` with one")
    parser.add_argument("--seeds", type=int, metavar="N", help="seeds of every task (default: the preset's)")
    parser.add_argument("--seeds-per-job", type=int, metavar="M", help="seeds that train in one program (default: all)")
    parser.add_argument("--budget", type=float, metavar="F", help="fraction of the preset's budget, e.g. 0.1")
    parser.add_argument("--set", action="append", default=[], metavar="key=value", help="override any config field")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the records (default: results/)")
    parser.add_argument("--launcher", choices=("local", "ray", "slurm"), default="local")
    parser.add_argument("--jobs", type=int, metavar="K", help="jobs at a time (default: local 1, Ray and Slurm all)")
    parser.add_argument(
        "--sbatch", action="append", default=[], metavar="OPTION", help="line of the Slurm script, --sbatch=--gpus=1"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the jobs (Slurm: the script) and run nothing")


def run(args: argparse.Namespace) -> int:
    """Plans the grid, skips what is finished, runs the rest; returns the exit code."""
    paper = registry.find(args.paper)
    if args.task is None:
        suite = args.suite or paper.default[0]
        args.task = [f"{suite}/{task}" for task in paper.suites.get(suite, ())] or None
    tasks = reproduce.checked_tasks(paper, args)
    for name in ("jobs", "seeds_per_job"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    # Slurm and Ray jobs are taken to run on accelerators; this machine is asked.
    platform = _platform() if args.launcher == "local" else "gpu"
    preset = args.preset or ("cpu" if platform == "cpu" else "paper")
    jobs = plan(paper, tasks, preset, args, platform)
    todo = [job for job in jobs if job.state != "finished"]
    folder = paths.cache() / "sweeps" / paper.name
    begun = sum(job.state == "begun" for job in todo)
    counts = f"{len(jobs)} jobs, {len(jobs) - len(todo)} finished before, {begun} to continue"
    print(f"{paper.name}, preset {preset}: {counts}; logs in {folder}", file=sys.stderr, flush=True)
    if args.launcher == "slurm" and todo:
        script = launchers.slurm_script(f"repro-{paper.name}", todo, args.jobs, folder, args.sbatch)
        if args.dry_run:
            print(script, end="")
        else:
            print(launchers.submit(script, folder / "sweep.sh"))
    elif args.dry_run:
        for job in jobs:
            print(f"{job.state:<9} {job.command}")
    elif args.launcher == "ray" and todo:
        launchers.run_all(todo, args.jobs or len(todo), folder, launchers.Ray(), _say)
    elif todo:
        workers = args.jobs or 1
        launchers.run_all(todo, workers, folder, launchers.Local(workers), _say)
    return 0


def plan(
    paper: registry.Paper, tasks: Sequence[tuple[str, str]], preset: str, args: argparse.Namespace, platform: str
) -> list[Job]:
    """The grid tasks x groups of seeds.

    A job is finished when a record of its configuration exists, begun when this machine has a run of it without a
    record; both are found by the configuration's digest, in which `platform` decides the compute dtype.
    """
    jobs = []
    for suite, task in tasks:
        whole = reproduce.configure(paper, preset, suite, task, args)
        recorded = _recorded(args.out or paths.results(), paper.name, suite, task)
        seeds = range(whole.first_seed, whole.first_seed + whole.seeds)
        for i in range(0, len(seeds), args.seeds_per_job or len(seeds)):
            group = seeds[i : i + (args.seeds_per_job or len(seeds))]
            config = dataclasses.replace(whole, seeds=len(group), first_seed=group[0])
            words = _words(paper.name, suite, task, preset, group, args, group[0] - whole.first_seed)
            if recorded & {_digest(config, name) for name in ("cpu", "gpu", "tpu")}:
                jobs.append(Job(suite, task, group, words, "finished"))
            elif _begun(paper.name, suite, task, _digest(config, platform)):
                jobs.append(Job(suite, task, group, (*words, "--resume"), "begun"))
            else:
                jobs.append(Job(suite, task, group, words))
    return jobs


def _digest(config: Any, platform: str) -> str:
    return configuration.digest(config.for_platform(platform) if hasattr(config, "for_platform") else config)


def _recorded(results: Path, paper: str, suite: str, task: str) -> set[str]:
    found = set()
    for path in (results / "runs" / paper / suite / task).glob("*.json"):
        try:
            found.add(json.loads(path.read_text()).get("config_hash"))
        except (OSError, ValueError, AttributeError):
            continue  # `repro verify` is there for damaged records
    return found


def _begun(paper: str, suite: str, task: str, digest: str) -> bool:
    runs = (paths.cache() / "runs" / paper / suite / task).glob(f"{digest}-*")
    return any(not (run / "record.json").exists() for run in runs)


def _words(
    paper: str, suite: str, task: str, preset: str, seeds: range, args: argparse.Namespace, offset: int
) -> tuple[str, ...]:
    words = ["reproduce", paper, "--task", f"{suite}/{task}", "--preset", preset, "--seeds", str(len(seeds))]
    if args.budget is not None:
        words += ["--budget", f"{args.budget:g}"]
    for assignment in [*args.set, *([f"first_seed={seeds[0]}"] if offset else [])]:
        words += ["--set", assignment]
    if args.out is not None:
        words += ["--out", str(args.out.absolute())]
    return tuple(words)


def _platform() -> str:
    """JAX's platform, asked in a process of its own so that the sweep holds no device."""
    code = "import jax; print(jax.default_backend())"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if answer.returncode:
        reason = answer.stderr.strip().splitlines()[-1:] or ["no message"]
        raise RunError(f"JAX does not start here: {reason[0]}; `repro doctor` says more")
    return answer.stdout.split()[-1]


def _say(line: str) -> None:
    print(line, flush=True)
