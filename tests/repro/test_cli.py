"""The command line: dispatch, one-line errors, exit codes, start-up without heavy imports."""

import subprocess
import sys
import types

import pytest

from repro import __version__, cli, paths
from repro.errors import RunError, UsageError


@pytest.fixture
def command(monkeypatch):
    """Puts a stand-in for the module of `repro list` in place; returns a function that sets what its `run` does."""

    def install(run, add_arguments=lambda parser: None):
        module = types.SimpleNamespace(HELP="stand-in", add_arguments=add_arguments, run=run)
        monkeypatch.setattr(cli.importlib, "import_module", lambda name: module)

    monkeypatch.delenv("REPRO_DEBUG", raising=False)
    return install


def raises(error):
    def run(args):
        raise error

    return run


def one_line(capsys):
    err = capsys.readouterr().err
    assert err.endswith("\n") and err.count("\n") == 1 and err.startswith("repro: "), err
    return err


def test_every_listed_command_has_help_arguments_and_run():
    for name in cli.commands():
        module = cli.load(name)
        assert module.HELP
        parser = cli.Parser(prog=name)
        module.add_arguments(parser)
        assert callable(module.run)


def test_a_command_without_module_is_not_offered(monkeypatch, capsys):
    monkeypatch.setitem(cli.COMMANDS, "future", ("no_such_module", "not written yet"))
    assert "future" not in cli.commands()
    assert cli.main(["future"]) == 2
    assert "unknown command 'future'" in one_line(capsys)


def test_mistyped_command_names_the_nearest(capsys):
    assert cli.main(["doctr"]) == 2
    assert "did you mean doctor?" in one_line(capsys)


def test_mistyped_option_names_the_nearest(command, capsys):
    command(lambda args: 0, lambda parser: parser.add_argument("--episodes", type=int))
    assert cli.main(["list", "--episods", "3"]) == 2
    assert "did you mean --episodes?" in one_line(capsys)


def test_bad_option_value_is_a_usage_error(command, capsys):
    command(lambda args: 0, lambda parser: parser.add_argument("--episodes", type=int))
    assert cli.main(["list", "--episodes", "many"]) == 2
    assert "invalid int value: 'many'" in one_line(capsys)


def test_option_before_the_command_is_explained(capsys):
    assert cli.main(["--json", "list"]) == 2
    assert "the command comes first" in one_line(capsys)


def test_bare_call_shows_help_and_fails(capsys):
    assert cli.main([]) == 2
    assert "usage: repro COMMAND" in capsys.readouterr().out


def test_help_and_version_succeed(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "\n  list " in out and "\n  doctor " in out
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"repro {__version__}\n"


@pytest.mark.parametrize(
    "error, code, text",
    [
        (UsageError("no such task"), 2, "repro: no such task\n"),
        (UsageError("over\n  two lines"), 2, "repro: over two lines\n"),
        (RunError("NaN in the loss"), 1, "repro: NaN in the loss\n"),
        (KeyboardInterrupt(), 130, "repro: interrupted\n"),
        (OSError(28, "No space left on device", "/a/b"), 1, "repro: No space left on device: /a/b (REPRO_DEBUG"),
        (ModuleNotFoundError("No module named 'crafter'", name="crafter"), 1, "repro: the package crafter is missing"),
    ],
)
def test_failures_are_one_line_with_their_exit_code(command, capsys, error, code, text):
    command(raises(error))
    assert cli.main(["list"]) == code
    assert one_line(capsys).startswith(text)


def test_mistakes_of_ours_keep_their_traceback(command):
    command(raises(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["list"])
    command(raises(ModuleNotFoundError("No module named 'repro.x'", name="repro.x")))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["list"])


@pytest.mark.parametrize("by", ["option", "variable"])
def test_debug_shows_the_traceback(command, capsys, monkeypatch, by):
    command(raises(UsageError("no such task")))
    if by == "variable":
        monkeypatch.setenv("REPRO_DEBUG", "1")
    assert cli.main(["list", "--debug"] if by == "option" else ["list"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err and err.endswith("repro: no such task\n")


def test_run_decides_the_exit_code(command):
    command(lambda args: 1)
    assert cli.main(["list"]) == 1


def test_help_and_list_import_nothing_heavy():
    code = (
        "import sys; from repro.cli import main; main(['--help']); main(['list']); "
        "print([m for m in ('jax', 'flax', 'optax', 'orbax', 'scipy', 'gymnasium') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=paths.ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_python_m_repro_into_a_closed_pipe_is_silent():
    line = f"'{sys.executable}' -m repro --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=paths.ROOT, check=True)
    assert done.stdout.strip() in ("0", "141")
    assert done.stderr == ""
