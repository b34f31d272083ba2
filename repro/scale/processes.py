"""One program in several processes, each with devices of its own: how they find each other.

After `start`, `jax.devices()` holds the devices of all processes, and meshes (`repro.scale.mesh`) span them. Every
process runs the same program on the same inputs; arrays spread over the mesh exist once.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

from repro.errors import RunError, UsageError


class Place(NamedTuple):
    """Where a process stands among the others."""

    coordinator: str
    """`host:port` on which the first process listens."""
    count: int  # type: ignore[assignment]
    index: int  # type: ignore[assignment]


def from_environment(environment: Mapping[str, str] = os.environ) -> Place | str | None:
    """The place told by `REPRO_PROCESSES=host:port,count,index`; "slurm" inside `srun` with several tasks, for which
    JAX knows the rest itself; None for a process on its own. Raises `UsageError` for a malformed value."""
    told = environment.get("REPRO_PROCESSES")
    if told is not None:
        parts = told.split(",")
        numbers = parts[1:]
        if len(parts) != 3 or ":" not in parts[0] or not all(part.strip().isdecimal() for part in numbers):
            raise UsageError(f"REPRO_PROCESSES={told!r}: expected host:port,count,index, e.g. 10.0.0.1:1234,4,0")
        count, index = map(int, numbers)
        if index >= count:
            raise UsageError(f"REPRO_PROCESSES={told!r}: the index counts from 0 and must be below {count}")
        return Place(parts[0], count, index)
    if int(environment.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in environment:
        return "slurm"
    return None


def start(seconds: int = 300) -> int:
    """Joins the other processes, if there are any, and returns how many there are; call it before JAX is used.

    Raises `RunError` if they do not meet within `seconds`.
    """
    import jax

    place = from_environment()
    if place is None:
        return 1
    try:
        if isinstance(place, Place):
            jax.distributed.initialize(*place, initialization_timeout=seconds)
        else:
            jax.distributed.initialize(cluster_detection_method=place, initialization_timeout=seconds)
    except (RuntimeError, ValueError) as error:
        raise RunError(f"the processes of this run did not meet ({str(error).splitlines()[0][:200]})") from error
    return jax.process_count()
