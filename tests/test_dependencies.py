"""What the code imports is what pyproject.toml declares, and every version is pinned once for every Python."""

import ast
import re
import sys
import tomllib
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from repro import paths

PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]


def requirements():
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    return [Requirement(line) for line in lines if not line.startswith("repro[")]


def imported(folder):
    modules = set()
    for path in (paths.ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.split(".")[0])
    return modules - set(sys.stdlib_module_names)


def test_imports_are_declared():
    declared = {canonicalize_name(requirement.name) for requirement in requirements()}
    distributions = metadata.packages_distributions()
    procgen = {"procgen"}  # needs numpy 1, so an environment of its own: repro/envs/procgen.py
    for module in (imported("repro") | imported("papers")) - {"repro", "papers"} - procgen:
        names = {canonicalize_name(name) for name in distributions.get(module, [module])}
        assert names & declared, f"{module} ({', '.join(names)}) is imported and not in pyproject.toml"


def test_the_core_does_not_import_a_paper():
    assert "papers" not in imported("repro")


def test_every_requirement_has_one_pin_that_satisfies_it():
    lines = [line for line in (paths.ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = [Requirement(line) for line in lines]
    assert all(re.fullmatch(r"==[^*]+", str(pin.specifier)) for pin in pins)
    for python in ("3.11", "3.12", "3.13"):
        environment = {
            "python_version": python,
            "python_full_version": f"{python}.4",
            "sys_platform": "linux",
            "platform_python_implementation": "CPython",
        }
        valid = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(environment)]
        versions = {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in valid}
        assert len(versions) == len(valid), "a package is pinned twice"
        for wanted in requirements():
            if wanted.marker is None or wanted.marker.evaluate(environment):
                version = versions[canonicalize_name(wanted.name)]
                assert wanted.specifier.contains(version), f"{wanted} on Python {python}: pinned to {version}"
