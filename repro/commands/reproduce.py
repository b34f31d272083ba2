"""`repro reproduce`: train a paper's agent, evaluate it by the paper's protocol, write the record, compare."""

import argparse
import dataclasses
import errno
import sys
from pathlib import Path
from typing import Any

from repro import config as configuration
from repro import paths, registry
from repro.errors import RunError, UsageError, unknown

HELP = "train, evaluate by the paper's protocol, write the run record, compare with the published number"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("paper", help="e.g. dreamerv3; `repro list` shows all")
    parser.add_argument("--suite", help="where a task belongs to several suites")
    parser.add_argument("--task", action="append", metavar="T", help="task or suite/task; may be given several times")
    parser.add_argument("--preset", metavar="P", help="default: `cpu` without an accelerator, `paper` with one")
    parser.add_argument("--seeds", type=int, metavar="N", help="number of seeds trained at once")
    parser.add_argument("--budget", type=float, metavar="F", help="fraction of the preset's budget, e.g. 0.1")
    parser.add_argument("--set", action="append", default=[], metavar="key=value", help="override any config field")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the record (default: results/)")
    parser.add_argument("--resume", action="store_true", help="continue the interrupted run with the same settings")
    parser.add_argument("--quiet", action="store_true", help="no progress lines")


def run(args: argparse.Namespace) -> int:
    """Runs every task in turn; returns the exit code."""
    paper = registry.find(args.paper)
    tasks = checked_tasks(paper, args)
    # All mistakes in the settings come to light before anything heavy is loaded.
    for suite, task in tasks:
        configure(paper, args.preset or "cpu", suite, task, args)

    from repro import platform

    platform.configure_jax()
    for suite, task in tasks:
        _reproduce(paper, suite, task, args)
    return 0


def checked_tasks(paper: registry.Paper, args: argparse.Namespace) -> list[tuple[str, str]]:
    """(suite, task) for every `--task`, the default one without; `UsageError` for whatever cannot be run."""
    tasks = [_split(paper, task, args.suite) for task in args.task or [_default_task(paper, args.suite)]]
    for suite, _ in tasks:
        if suite in paper.unavailable:
            raise UsageError(f"{paper.name}: suite {suite} cannot run here: {paper.unavailable[suite]}")
    if args.preset is not None and args.preset not in paper.presets:
        raise unknown(f"preset of {paper.name}", args.preset, paper.presets)
    if args.seeds is not None and args.seeds < 1:
        raise UsageError(f"--seeds must be at least 1, got {args.seeds}")
    if args.budget is not None and not 0 < args.budget <= 1:
        raise UsageError(f"--budget must be above 0 and at most 1, got {args.budget:g}")
    return tasks


def _split(paper: registry.Paper, task: str, suite: str | None) -> tuple[str, str]:
    if "/" in task:
        suite, task = task.split("/", 1)
    return paper.suite_of(task, suite), task


def _default_task(paper: registry.Paper, suite: str | None) -> str:
    if suite is None or suite == paper.default[0]:
        return "/".join(paper.default)
    if suite not in paper.suites:
        raise unknown(f"suite of {paper.name}", suite, paper.suites)
    return f"{suite}/{paper.suites[suite][0]}"


def configure(paper: registry.Paper, preset: str, suite: str, task: str, args: argparse.Namespace) -> Any:
    """The preset's configuration with `--seeds`, `--budget` and `--set` applied."""
    config = paper.presets[preset].make(suite, task)
    if args.seeds is not None:
        config = dataclasses.replace(config, seeds=args.seeds)
    if args.budget is not None and hasattr(config, "part_of_budget"):
        config = config.part_of_budget(args.budget)
    elif args.budget is not None:
        if not hasattr(config, "loop"):
            raise UsageError(f"{paper.name} runs at its full budget in minutes: --budget does not apply")
        steps = max(config.loop.envs, round(config.loop.steps * args.budget))
        config = dataclasses.replace(config, loop=dataclasses.replace(config.loop, steps=steps))
    return configuration.override(config, args.set)


def _reproduce(paper: registry.Paper, suite: str, task: str, args: argparse.Namespace) -> None:
    import jax

    from repro.pipeline import run as runs

    accelerator = jax.default_backend() != "cpu"
    preset = args.preset or ("paper" if accelerator else "cpu")
    config = configure(paper, preset, suite, task, args)
    if hasattr(config, "for_platform"):
        config = config.for_platform(jax.default_backend())
    device = jax.devices()[0]
    found = f"{jax.device_count()} x {device.device_kind}" if accelerator else "no accelerator found"
    others = ", ".join(name for name in paper.presets if name != preset)
    chosen = "as asked" if args.preset else f"because {found}"
    print(
        f"{paper.title.split(':')[0]} on {suite}/{task}: preset {preset} ({chosen}), {config.seeds} seeds; "
        f"cost: {paper.presets[preset].cost}. Another: --preset {others.replace(', ', '|')}",
        file=sys.stderr,
        flush=True,
    )
    request = runs.Run(
        paper=paper,
        config=config,
        reference=paper.reference_for(config),
        command=_command(paper, preset, suite, task, args),
        results=args.out or paths.results(),
        resume=args.resume,
        quiet=args.quiet,
    )
    try:
        with request.phase("total"):
            results = registry.load(paper.reproduce)(config, request)
        written = runs.finish(request, results)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise RunError("the disk is full: free space, then continue with --resume") from error
        raise
    _show(paper, written)


def _command(paper: registry.Paper, preset: str, suite: str, task: str, args: argparse.Namespace) -> str:
    words = ["reproduce", paper.name, "--task", f"{suite}/{task}", "--preset", preset]
    for name in ("seeds", "budget"):
        if getattr(args, name) is not None:
            words += [f"--{name}", f"{getattr(args, name):g}"]
    for assignment in args.set:
        words += ["--set", assignment]
    import shlex

    return shlex.join(["repro", *words])


def _show(paper: registry.Paper, written: list[Path]) -> None:
    from repro.tracker import compare

    print(compare.render_records(paper.name, written))
    for path in written:
        print(f"record: {path}")
