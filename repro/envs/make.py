"""One door to all environments."""

from collections.abc import Sequence
from typing import cast

from repro.envs import settings as sets
from repro.envs import tasks as names
from repro.envs.base import HostEnv, JaxEnv
from repro.envs.settings import EnvSettings
from repro.errors import UsageError
from repro.registry import load

SINGLE = {
    "dmc_proprio": "repro.envs.dmc:DMCEnv",
    "dmc_vision": "repro.envs.dmc:DMCEnv",
    "crafter": "repro.envs.crafter:CrafterEnv",
    "bsuite": "repro.envs.bsuite:BsuiteEnv",
    "procgen_hard": "repro.envs.procgen:ProcgenEnv",
    "vizdoom_takecover": "repro.envs.vizdoom:DoomEnv",
    "carracing": "repro.envs.carracing:CarRacingEnv",
}
"""Suites of Python environments, made by `f(task, seed, settings)`."""

THREADED = ("vizdoom_takecover", "carracing")
"""Suites of `SINGLE` whose environments spend their time outside Python."""

PURE_JAX = {
    "catch": "repro.envs.catch:Catch",
    "gymnax": "repro.envs.gymnax:gymnax_env",
    "minatar": "repro.envs.gymnax:gymnax_env",
    "craftax": "repro.envs.gymnax:craftax_env",
}
"""Suites of pure-JAX environments, made by `f(task, settings)`."""


def make(
    suite: str, task: str, seeds: Sequence[int], settings: EnvSettings | None = None, *, prefer_jit: bool = False
) -> HostEnv | JaxEnv:
    """N = len(seeds) environments; environment i depends on `seeds[i]` alone and equals a single one with that seed.

    `settings` default to `settings.default(suite)`. Pure-JAX suites give a `JaxEnv`, the others a
    `HostEnv`; with `prefer_jit` Atari gives a `JaxEnv` too where the settings allow it (`atari_jax.supports`).

    Raises `UsageError` for an unknown suite or task, bad seeds, and missing packages or libraries.
    """
    task = names.find(suite, task)
    settings = settings or sets.default(suite)
    if not seeds or not all(0 <= int(seed) < 2**31 for seed in seeds):
        raise UsageError(f"seeds must be one or more integers from 0 to 2147483647, not {list(seeds)}")
    seeds = [int(seed) for seed in seeds]
    if suite in ("atari100k", "atari_200m"):
        if prefer_jit:
            from repro.envs.atari_jax import AtariJaxEnv, supports

            if supports(settings):
                return AtariJaxEnv(task, seeds, settings)
        from repro.envs.atari import AtariEnv

        return AtariEnv(task, seeds, settings)
    if suite in PURE_JAX:
        from repro.envs.jax_env import JaxVectorEnv

        return JaxVectorEnv(load(PURE_JAX[suite])(task, settings), seeds)
    from repro.envs.python_env import PythonVectorEnv

    envs = [load(SINGLE[suite])(task, seed, settings) for seed in seeds]
    return PythonVectorEnv(envs, threads=suite in THREADED)


def as_host(env: HostEnv | JaxEnv) -> HostEnv:
    """The environment as one that the host steps; a `JaxEnv` is stepped by a jitted call."""
    if hasattr(env, "reset"):
        return cast(HostEnv, env)
    from repro.envs.jax_env import HostFromJax

    return HostFromJax(cast(JaxEnv, env))
