"""`repro doctor`: what is installed, what can run here, and the exact command that mends what is missing."""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

from repro import paths, platform
from repro.envs import tasks

HELP = "what is installed, which suites can run here, and the exact command that mends what is missing"

PYTHONS = ((3, 11), (3, 13))
PROBE_SECONDS = 120


EXTRAS = {
    "crafter": "crafter",
    "bsuite": "bsuite",
    "minatar": "jaxenvs",
    "gymnax": "jaxenvs",
    "craftax": "jaxenvs",
    "vizdoom_takecover": "vizdoom",
    "carracing": "carracing",
}
"""Suite -> extra of pyproject.toml; the others need the core alone."""

SAME = {"atari_200m": "atari100k", "gymnax": "minatar"}
"""Suites that run where another one does."""

PROBE = """
from repro.envs.make import make
env = make({suite!r}, {task!r}, [0])
getattr(env, "reset", list)()
"""
JAX = """
import json, jax
d = jax.devices()
print(json.dumps({"platform": d[0].platform, "device_kind": d[0].device_kind, "device_count": len(d)}))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--json", action="store_true", help="everything, as JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the state of this installation; 0 if the core works, 1 otherwise."""
    found = examine()
    print(json.dumps(found, indent=1) if args.json else show(found))
    return 0 if found["ok"] else 1


def examine() -> dict[str, Any]:
    """Everything `repro doctor` knows, as plain data."""
    required = required_packages()
    with ThreadPoolExecutor(platform.cpu_cores()) as pool:
        jax = pool.submit(_python, JAX)
        probes = {suite: pool.submit(_python, probe(suite), cpu=True) for suite in tasks.SUITES if suite not in SAME}
        answers = {suite: probes[SAME.get(suite, suite)].result() for suite in tasks.SUITES}
        devices = _devices(jax.result())
    python_ok = PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]
    return {
        "ok": python_ok and devices["ok"] and all(package["ok"] for package in required.values()),
        "python": {"version": platform.versions()["python"], "executable": sys.executable, "ok": python_ok},
        "packages": required,
        "packages_mend": mend(),
        "jax": devices,
        "cpu": platform.cpu_model()[0],
        "cpu_cores": platform.cpu_cores(),
        "suites": {suite: _verdict(suite, answer) for suite, answer in answers.items()},
        "compilers": {
            "tpu": importlib.util.find_spec("libtpu") is not None,
            "h100": importlib.util.find_spec("jax_cuda13_plugin") is not None,
            "mend": mend("aot"),
        },
        "cache": {"folder": str(paths.cache()), "free_gb": _free_gb(paths.cache())},
        "results": {"folder": str(paths.results()), "free_gb": _free_gb(paths.results())},
    }


def probe(suite: str) -> str:
    """A program that starts one environment of the suite.

    Its last task, for craftax: the pixel task builds its textures at first, for minutes, and stopping it then leaves a
    truncated file behind that breaks the package.
    """
    return PROBE.format(suite=suite, task=tasks.SUITES[suite][-1])


def required_packages() -> dict[str, dict[str, Any]]:
    """Each package of the core that this Python needs: version wanted, version found (None if missing), ok."""
    from packaging.requirements import Requirement

    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
    found = {}
    for line in project["dependencies"]:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate():
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            version = None
        ok = version is not None and requirement.specifier.contains(version, prereleases=True)
        found[requirement.name] = {"wanted": str(requirement.specifier), "version": version, "ok": ok}
    return found


def mend(extra: str = "") -> str:
    """The command that installs the core, with an extra of pyproject.toml."""
    if Path(sys.prefix) == paths.ROOT / ".venv":
        return f"make env EXTRAS={extra}" if extra else "make env"
    root = f"'{paths.ROOT}[{extra}]'" if extra else str(paths.ROOT)
    return f"{sys.executable} -m pip install -c {paths.ROOT / 'constraints.txt'} -e {root}"


def _python(code: str, cpu: bool = False) -> tuple[bool, str]:
    """Runs a program in a process of its own, where a crash or a hang is only an answer: worked?, last line."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(paths.ROOT), *sys.path[1:]])}
    if cpu:
        environment["JAX_PLATFORMS"] = "cpu"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=PROBE_SECONDS, env=environment
        )
    except subprocess.TimeoutExpired:
        return False, f"no answer within {PROBE_SECONDS} s"
    if done.returncode < 0:
        return False, f"crashed with signal {-done.returncode}"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else ""


def _devices(answer: tuple[bool, str]) -> dict[str, Any]:
    worked, line = answer
    if not worked:
        return {"ok": False, "reason": line, "mend": mend()}
    found = {"ok": True, **json.loads(line)}
    asked_for_cpu = os.environ.get("JAX_PLATFORMS", "").startswith("cpu")
    if found["platform"] == "cpu" and not asked_for_cpu and _nvidia():
        found |= {"reason": "an NVIDIA GPU is here and JAX does not use it", "mend": mend("cuda")}
    return found


def _nvidia() -> bool:
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _verdict(suite: str, answer: tuple[bool, str]) -> dict[str, Any]:
    """Whether a suite can run; if not, why and what mends it."""
    worked, line = answer
    if worked:
        return {"ok": True}
    reason, _, command = line.removeprefix("repro.errors.UsageError: ").partition("; run: ")
    if suite.startswith("dmc") and "needs the package" in reason and sys.version_info >= (3, 13):
        command = f"{sys.executable} -m pip install --no-deps dm-control==1.0.50"
    elif "needs the package" in reason and suite != "procgen_hard":
        command = mend(EXTRAS.get(suite, ""))
    return {"ok": False, "reason": reason, "mend": command or mend(EXTRAS.get(suite, ""))}


def _free_gb(folder: Path) -> float:
    while not folder.exists():
        folder = folder.parent
    return round(shutil.disk_usage(folder).free / 1e9, 1)


def show(found: dict[str, Any]) -> str:
    """What `examine` found, as text."""
    python, jax = found["python"], found["jax"]
    lines = [f"python    {python['version']}  {'ok' if python['ok'] else 'needs 3.11, 3.12 or 3.13: make env'}"]
    wrong = [
        f"{name} {package['version'] or 'missing'} (wanted {package['wanted'] or 'any'})"
        for name, package in found["packages"].items()
        if not package["ok"]
    ]
    lines.append(f"packages  {len(found['packages'])} of the core, {', '.join(wrong) if wrong else 'all ok'}")
    if wrong:
        lines.append(f"          run: {found['packages_mend']}")
    main = ("jax", "flax", "numpy", "ale-py", "dm-control", "mujoco")
    have = {name: version for name, version in platform.versions(main).items() if name != "python"}
    lines.append("          " + ", ".join(f"{name} {version}" for name, version in have.items()))
    if jax["ok"]:
        lines.append(f"jax       {jax['device_count']} x {jax['device_kind']} ({jax['platform']})")
    if "reason" in jax:
        lines += [f"jax       {jax['reason']}", f"          run: {jax['mend']}"]
    lines.append(f"cpu       {found['cpu']}, {found['cpu_cores']} cores")
    for place in ("cache", "results"):
        lines.append(f"{place:<10}{found[place]['folder']}, {found[place]['free_gb']} GB free")
    compilers = [name for name in ("tpu", "h100") if found["compilers"][name]]
    lines.append(f"targets   repro bench --target compiles for: {', '.join(compilers) or 'none'}")
    if len(compilers) < 2:
        lines.append(f"          both with: {found['compilers']['mend']}")
    lines.append("suites")
    for suite, verdict in found["suites"].items():
        lines.append(f"  {suite:<14}{'ok' if verdict['ok'] else verdict['reason']}")
        if not verdict["ok"]:
            lines.append(f"{'':16}run: {verdict['mend']}")
    return "\n".join(lines)
