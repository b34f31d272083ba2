"""Environments: `make(suite, task, seeds, settings)` gives N of them behind one protocol (`repro.envs.base`)."""

from repro.envs.base import HostEnv, JaxEnv
from repro.envs.make import as_host, make
from repro.envs.settings import EnvSettings

__all__ = ["EnvSettings", "HostEnv", "JaxEnv", "as_host", "make"]
