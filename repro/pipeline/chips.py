"""Accelerators as their makers describe them, and how XLA is told to compile for one that is not here."""

from dataclasses import dataclass
from typing import Any

from repro.errors import UsageError, unknown


@dataclass(frozen=True)
class Chip:
    """Peak figures of one chip."""

    title: str
    platform: str
    """Platform that JAX lowers for: "tpu" or "cuda"."""
    flops: float
    """bfloat16 matrix FLOP/s, dense."""
    bandwidth: float
    """Bytes/s of its memory."""
    memory: int
    """Bytes."""
    link: float
    """Bytes/s between chips, one direction."""
    axes: int
    """Dimensions of the network (TPU)."""
    source: str
    clock: float = 0.0
    """Cycles/s of its matrix units (TPU): what turns the compiler's cycle counts into seconds."""


CHIPS = {
    "v5e": Chip("TPU v5e", "tpu", 197e12, 819e9, 16 << 30, 200e9, 2, "cloud.google.com/tpu/docs/v5e", 1.5e9),
    "v4": Chip("TPU v4", "tpu", 275e12, 1228e9, 32 << 30, 300e9, 3, "cloud.google.com/tpu/docs/v4", 1.05e9),
    "v5p": Chip("TPU v5p", "tpu", 459e12, 2765e9, 95 << 30, 600e9, 3, "cloud.google.com/tpu/docs/v5p", 1.75e9),
    "v6e": Chip("TPU v6e", "tpu", 918e12, 1638e9, 32 << 30, 400e9, 2, "cloud.google.com/tpu/docs/v6e", 1.75e9),
    "h100": Chip("H100 SXM 80 GB", "cuda", 989e12, 3352e9, 84_942_979_072, 450e9, 0, "NVIDIA H100 data sheet"),
}

_GRIDS = {
    2: {4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"},
    3: {4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8", 256: "4x8x8"},
}

# Limits of the GPU that XLA's code generation asks for, in the text format of its target description.
_H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  device_memory_size: 84942979072 memory_bandwidth: 3352320000000 l2_cache_size: 52428800
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_core: 233472 shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
}
platform_name: "CUDA"
dnn_version_info { major: 9 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def find(target: str) -> Chip:
    """The chip called `target`; `UsageError` names the known ones."""
    if target not in CHIPS:
        raise unknown("target", target, CHIPS)
    return CHIPS[target]


def devices(target: str, count: int) -> list[Any]:
    """`count` devices of a chip that need not be here, for ahead-of-time compilation only.

    Raises `UsageError` for numbers of chips that the network of the target does not come in.
    """
    from jax.experimental import topologies

    chip = find(target)
    if chip.platform == "cuda":
        topology = topologies.get_topology_desc(
            platform="cuda", topology_name=target, target_config=_H100, topology=f"1x1x{count}"
        )
        return list(topology.devices)
    options: dict[str, Any] = {"chip_config_name": "megacore"} if target == "v4" else {}
    if count == 1:
        name = "x".join(["1"] * chip.axes)
        options["chips_per_host_bounds"] = (1, 1, 1)
    else:
        grids = _GRIDS[chip.axes]
        if count not in grids:
            raise UsageError(f"--chips {count}: {chip.title} comes in 1, {', '.join(map(str, grids))}")
        name = grids[count]
    return list(topologies.get_topology_desc(platform="tpu", topology_name=f"{target}:{name}", **options).devices)
