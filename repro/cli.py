"""The `repro` command: picks the subcommand, loads its module alone, and turns every failure into one line.

A command is a module of `repro.commands` with `HELP`, `add_arguments(parser)` and `run(args) -> exit code`. One that is
listed here and has no module yet does not exist for the user.
"""

import argparse
import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from repro import __version__
from repro.errors import RunError, UsageError

COMMANDS = {
    "list": ("list_", "papers, suites, tasks, presets, their cost, what is recorded so far"),
    "reproduce": ("reproduce", "train, evaluate by the paper's protocol, record, compare"),
    "evaluate": ("evaluate", "evaluate the kept agent of a run again"),
    "compare": ("compare", "published numbers against reproduced ones"),
    "report": ("report", "results/REPORT.md and one HTML page with all tables and plots"),
    "cite": ("cite", "a citation of reproduced numbers"),
    "verify": ("verify", "recompute digests and statistics of the records"),
    "parity": ("parity", "our modules on recorded official inputs and weights"),
    "import": ("importer", "official checkpoint to ours"),
    "bench": ("bench", "speed here, or compiled for an accelerator that is not here"),
    "play": ("play", "steer inside a learned model, in the browser, beside the real task"),
    "sweep": ("sweep", "the grid tasks x seeds on this machine, Ray or Slurm"),
    "results": ("results", "add run records made on another machine"),
    "data": ("data", "data sets that papers need"),
    "doctor": ("doctor", "what can run here, and the command that mends what cannot"),
}
"""Command -> module of `repro.commands`, one line of help."""

EXIT_FAILURE, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_PIPE = 1, 2, 130, 141


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are `UsageError`s that name the nearest option."""

    def error(self, message: str) -> NoReturn:
        """Raises the complaint instead of printing usage and leaving."""
        mistyped = [word.split("=")[0] for word in message.split() if word.startswith("-")]
        known = [name for name in self._option_string_actions if name.startswith("--")]
        near = [name for word in mistyped for name in difflib.get_close_matches(word, known, n=1)]
        hint = f"did you mean {near[0]}?" if near and "unrecognized" in message else f"see {self.prog} --help"
        raise UsageError(f"{message}; {hint}")


def commands() -> dict[str, str]:
    """Commands whose module exists, with their line of help."""
    folder = Path(__file__).parent / "commands"
    return {name: text for name, (module, text) in COMMANDS.items() if (folder / f"{module}.py").exists()}


def load(name: str) -> ModuleType:
    """The module of a command; `UsageError` names the nearest command, `RunError` a package that is missing."""
    known = commands()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? (repro --help shows all)" if near else f"one of: {', '.join(known)}"
        raise UsageError(f"unknown command {name!r}; {hint}")
    return importlib.import_module(f"repro.commands.{COMMANDS[name][0]}")


def usage() -> str:
    """What `repro --help` shows."""
    lines = [f"  {name:<11}{text}" for name, text in commands().items()]
    return "\n".join(
        [
            "repro: world-model papers, reproduced end to end in JAX",
            "",
            "usage: repro COMMAND [...]      (repro COMMAND --help: its options)",
            "       repro --version",
            "",
            *lines,
            "",
            "--debug (or REPRO_DEBUG=1) shows the traceback of an error.",
        ]
    )


def dispatch(argv: Sequence[str]) -> int:
    """Runs one command line; raises `UsageError` and `RunError`."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if argv else EXIT_USAGE
    if argv[0] == "--version":
        print(f"repro {__version__}")
        return 0
    if argv[0].startswith("-"):
        raise UsageError(f"the command comes first, not {argv[0]}; repro --help shows all commands")
    module = load(argv[0])
    parser = Parser(prog=f"repro {argv[0]}", description=module.HELP, allow_abbrev=False)
    module.add_arguments(parser)
    return int(module.run(parser.parse_args(argv[1:])))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `repro` and returns its exit code: 0, 1 (failed), 2 (asked for something impossible), 130 (interrupted)."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words or os.environ.get("REPRO_DEBUG", "") not in ("", "0")
    try:
        code = dispatch([word for word in words if word != "--debug"])
        sys.stdout.flush()
        return code
    except UsageError as error:
        return _fail(error, EXIT_USAGE, debug)
    except RunError as error:
        return _fail(error, EXIT_FAILURE, debug)
    except KeyboardInterrupt:
        return _fail(KeyboardInterrupt("interrupted"), EXIT_INTERRUPTED, debug)
    except BrokenPipeError:
        # The reader of our output has gone (`repro list | head`): nothing more to say, not even while shutting down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("repro", "papers"):
            raise
        return _fail(f"the package {error.name} is missing; `repro doctor` says how to mend it", EXIT_FAILURE, debug)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _fail(f"{error.strerror or error}{where} (REPRO_DEBUG=1 shows where)", EXIT_FAILURE, debug)


def _fail(error: BaseException | str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"repro: {' '.join(str(error).split())}", file=sys.stderr)
    return code
