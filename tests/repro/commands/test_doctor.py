"""`repro doctor`: its checks, what it says is missing, and what mends it."""

import json
import sys

import pytest

from repro import cli, paths
from repro.commands import doctor
from repro.envs import packages


@pytest.fixture
def answers(monkeypatch):
    """Replaces the probing processes: a function that sets what each answers (everything works unless told)."""
    told = {doctor.JAX: (True, '{"platform": "cpu", "device_kind": "cpu", "device_count": 1}')}
    monkeypatch.setattr(doctor, "_python", lambda code, cpu=False: told.get(code, (True, "")))
    return told


def test_everything_works(answers, capsys):
    code = cli.main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == (0 if found["ok"] else 1)
    assert found["jax"] == {"ok": True, "platform": "cpu", "device_kind": "cpu", "device_count": 1}
    assert all(verdict["ok"] for verdict in found["suites"].values())
    assert found["cache"]["free_gb"] > 0


def test_missing_package_names_the_extra(answers, capsys):
    line = "repro.errors.UsageError: suite crafter needs the package crafter; run: pip install -e .[crafter]"
    answers[doctor.probe("crafter")] = (False, line)
    verdict = doctor.examine()["suites"]["crafter"]
    assert verdict["reason"] == "suite crafter needs the package crafter"
    assert verdict["mend"] == doctor.mend("crafter") and "crafter" in verdict["mend"]
    cli.main(["doctor"])
    assert f"run: {verdict['mend']}" in capsys.readouterr().out


def test_rendering_that_fails_names_the_system_packages(answers):
    line = f"repro.errors.UsageError: DMC pixels cannot be rendered here (ImportError: EGL); run: {packages.RENDERING}"
    answers[doctor.probe("dmc_vision")] = (False, line)
    suites = doctor.examine()["suites"]
    assert suites["dmc_vision"]["mend"] == packages.RENDERING and "libegl1" in packages.RENDERING
    assert suites["dmc_proprio"]["ok"]


def test_a_suite_that_runs_where_another_does_shares_its_answer(answers):
    answers[doctor.probe("atari100k")] = (False, "ImportError: libale broken")
    suites = doctor.examine()["suites"]
    assert suites["atari_200m"] == suites["atari100k"]
    assert suites["atari100k"]["reason"] == "ImportError: libale broken"
    assert suites["atari100k"]["mend"] == doctor.mend()


def test_broken_jax_is_a_line_and_a_failure(answers, capsys):
    answers[doctor.JAX] = (False, "RuntimeError: Unable to initialize backend 'tpu'")
    assert cli.main(["doctor"]) == 1
    assert "Unable to initialize backend 'tpu'" in capsys.readouterr().out


def test_gpu_that_jax_does_not_use_is_said(answers, monkeypatch):
    monkeypatch.setattr(doctor, "_nvidia", lambda: True)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    found = doctor.examine()["jax"]
    assert found["ok"] and "does not use it" in found["reason"] and "cuda" in found["mend"]


def test_missing_or_wrong_core_package_fails(answers, monkeypatch, capsys):
    version = doctor.metadata.version

    def without_flax(name):
        if name == "flax":
            raise doctor.metadata.PackageNotFoundError(name)
        return "0.1" if name == "optax" else version(name)

    monkeypatch.setattr(doctor.metadata, "version", without_flax)
    assert cli.main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "flax missing (wanted" in text and "optax 0.1 (wanted" in text


def test_core_packages_are_those_of_this_python():
    wanted = doctor.required_packages()["jax"]["wanted"]
    assert (">=0.11.2" in wanted) == (sys.version_info >= (3, 12))


def test_probes_run_in_a_process_that_may_crash_or_hang(monkeypatch):
    assert doctor._python("print('a'); print('b')") == (True, "b")
    assert doctor._python("import no_such_package") == (False, "ModuleNotFoundError: No module named 'no_such_package'")
    assert doctor._python("import os; os.abort()") == (False, "crashed with signal 6")
    monkeypatch.setattr(doctor, "PROBE_SECONDS", 0.2)
    assert doctor._python("import time; time.sleep(5)") == (False, "no answer within 0.2 s")


def test_mending_follows_the_environment(monkeypatch):
    monkeypatch.setattr(doctor.sys, "prefix", str(paths.ROOT / ".venv"))
    assert doctor.mend() == "make env" and doctor.mend("aot") == "make env EXTRAS=aot"
    monkeypatch.setattr(doctor.sys, "prefix", "/usr")
    assert doctor.mend("aot").endswith(f"-e '{paths.ROOT}[aot]'")
