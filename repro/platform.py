"""The machine and the code a run ran on: compilation cache, hardware, package versions, commit."""

import ctypes
import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from repro import paths


def cpu_model() -> tuple[str, str]:
    """Name of the processor and its feature flags (empty where the system does not tell)."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine(), ""
    fields = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    return fields.get("model name") or platform.machine(), fields.get("flags") or fields.get("Features", "")


def xla_cache() -> Path:
    """Where compiled programs are kept: `.cache/xla/<jax version>-<processor>-zstd`.

    The folder names the processor because programs for another one are refused or slow, and the compression because
    JAX takes what is installed: zlib, which it falls back to, took a tenth of the time of a cold test file.
    """
    name, flags = cpu_model()
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    processor = f"{slug}-{hashlib.sha256(flags.encode()).hexdigest()[:6]}"
    return paths.cache() / "xla" / f"{metadata.version('jax')}-{processor}-zstd"


def configure_jax() -> None:
    """Keeps compiled programs in `xla_cache()`; call it before the first program is compiled.

    JAX's own defaults store nothing that compiled in under a second, which is most of this suite. A folder set through
    `JAX_COMPILATION_CACHE_DIR` is kept.
    """
    import jax

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(xla_cache()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Has the C library keep freed memory for the next request instead of giving it back to the system.

    XLA on CPU asks for the working memory of a program anew at every call. The C library's defaults map and unmap it
    each time, and the page faults cost up to half of a call (gigabytes an update where images are learned from). Four
    pools of memory and not one: threads that compile would wait for one another (a third of the time to compile).
    Nothing happens on systems whose C library has no such setting.
    """
    options = {"M_ARENA_MAX": (-8, 4), "M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, -1), "M_TOP_PAD": (-2, 2**26)}
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for number, value in options.values():
        mallopt(number, value)


def cpu_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_hardware() -> dict[str, Any]:
    """The record's `hardware`: platform, device_kind, device_count, cpu, cpu_cores. Starts JAX's backend."""
    import jax

    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "device_kind": device.device_kind,
        "device_count": jax.device_count(),
        "cpu": cpu_model()[0],
        "cpu_cores": cpu_cores(),
    }


def versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """The record's `versions`: `python` and each installed one of `packages` (distribution names); others are left
    out."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def code_version() -> dict[str, Any]:
    """The record's `code`: `commit` (None if unknown) and `dirty` (True as well where nobody can tell).

    What lies in `results/` does not make the tree dirty: runs write there. A copy of the code without git history
    names its commit in `REPRO_COMMIT` (with `-dirty` at the end if it was changed).
    """

    def git(*args: str) -> str | None:
        try:
            run = subprocess.run(["git", "-C", str(paths.ROOT), *args], capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return run.stdout.strip() if run.returncode == 0 else None

    top = git("rev-parse", "--show-toplevel")
    if top and Path(top).resolve() == paths.ROOT:
        status = git("status", "--porcelain", "--", ".", ":(exclude)results")
        return {"commit": git("rev-parse", "HEAD"), "dirty": status != ""}
    named = os.environ.get("REPRO_COMMIT", "")
    return {"commit": named.removesuffix("-dirty") or None, "dirty": not named or named.endswith("-dirty")}
