"""`repro bench`: how fast an online agent acts, learns and does both here, measured on its real programs.

Every figure is a median over repetitions with its range, after a warm-up, with the device synchronised.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from repro import platform, registry
from repro.envs import as_host
from repro.pipeline import flops
from repro.pipeline.agent import env_seeds
from repro.pipeline.online import LoopState, Online
from repro.scale import mesh as meshes

Figure = dict[str, float]


class Part(NamedTuple):
    """One measured piece of a paper that is no online agent."""

    seconds: Figure
    amount: float
    """What is done in that time, in `unit`."""
    unit: str
    what: str
    """The sizes, in words."""


def measure_parts(paper: registry.Paper, config: Any, seconds: float = 20.0) -> dict[str, Any]:
    """Times the pieces that the paper's own `bench` names, for about `seconds` each."""
    parts: dict[str, Part] = registry.load(paper.bench)(config, seconds)
    return {
        "paper": paper.name,
        "suite": config.suite,
        "task": config.task,
        "preset": config.preset,
        "parts": {
            name: part._asdict() | {"per_s": part.amount / part.seconds["median"]} for name, part in parts.items()
        },
        "matmul_gflops_per_s": matmul_rate("float32") / 1e9,
        "peak_memory_gib": peak_memory() / 2**30,
        "hardware": platform.describe_hardware(),
        "versions": platform.versions(("jax", "jaxlib", "flax", "numpy")),
    }


def render_parts(found: dict[str, Any]) -> str:
    """The measurements of `measure_parts` as text."""
    hardware = found["hardware"]
    machine = hardware["cpu"] if hardware["platform"] == "cpu" else hardware["device_kind"]
    lines = [
        f"{found['paper']} on {found['suite']}/{found['task']}, preset {found['preset']}",
        f"{machine}, {hardware['cpu_cores']} cores, jax {found['versions']['jax']}, "
        f"large product {found['matmul_gflops_per_s']:,.0f} GFLOP/s, peak memory {found['peak_memory_gib']:.2f} GiB",
    ]
    for name, part in found["parts"].items():
        low, middle, high = (part["seconds"][k] for k in ("min", "median", "max"))
        span = f"{middle:.4g} s ({low:.4g} to {high:.4g}, {part['seconds']['repetitions']:.0f} times)"
        lines.append(f"  {name:<18}{part['per_s']:>12,.1f} {part['unit']}/s   {span}; {part['what']}")
    return "\n".join(lines)


def measure(paper: registry.Paper, config: Any, seconds: float = 20.0) -> dict[str, Any]:
    """Times acting, updating and whole iterations of `config` for about `seconds` each.

    The replay is filled by acting in the real environment until it holds enough to learn from.
    """
    begin = time.perf_counter()
    seeds = list(range(config.first_seed, config.first_seed + config.seeds))
    algorithm, env = registry.load(paper.build)(config, env_seeds(seeds, config.loop.envs))
    env = as_host(env)
    mesh = meshes.choose(len(seeds), config.loop.data_parallel, config.loop.batch_size)
    online = Online(algorithm, env, config.loop, seeds, mesh)
    online.fused = False
    state = _initial(online)
    initialised = time.perf_counter()

    number = jnp.int32(0)
    collect = jax.jit(online.collect, donate_argnums=(1, 2))
    collect_program = collect.lower(state.agent, state.carry, state.buffer, state.timestep, number).compile()
    learn = jax.jit(online.learn, donate_argnums=(0, 1)).lower(state.agent, state.buffer, number)
    learn_program = learn.compile()
    compiled = time.perf_counter()

    operations = flops.count(jax.make_jaxpr(online.learn)(state.agent, state.buffer, number), jax.default_backend())
    rate = matmul_rate(_compute_dtype(config))
    loop = _Loop(online, env, state, collect_program, learn_program)
    loop.fill()
    acting = repeat(loop.act, seconds)
    update = repeat(loop.learn, seconds)
    whole = loop.whole(seconds)
    env.close()
    return {
        "paper": paper.name,
        "suite": config.suite,
        "task": config.task,
        "preset": config.preset,
        "seeds": len(seeds),
        "environments": env.num_envs,
        "batch": [config.loop.batch_size, config.loop.batch_length],
        "dtype": _compute_dtype(config),
        "parameters": sum(x.size for x in jax.tree.leaves(getattr(loop.agent, "params", loop.agent))) // len(seeds),
        "initialise_seconds": initialised - begin,
        "compile_seconds": compiled - initialised,
        "act_seconds": acting,
        "update_seconds": update,
        "acting_steps_per_s": env.num_envs / acting["median"],
        "updates_per_s": len(seeds) / update["median"],
        **whole,
        "update_gflop": operations / 1e9,
        "update_gflops_per_s": operations / update["median"] / 1e9,
        "matmul_gflops_per_s": rate / 1e9,
        "fraction_of_matmul_rate": operations / update["median"] / rate,
        "peak_memory_gib": peak_memory() / 2**30,
        "hardware": platform.describe_hardware(),
        "versions": platform.versions(("jax", "jaxlib", "flax", "numpy")),
    }


def _initial(online: Online) -> LoopState:
    timestep = jax.tree.map(jnp.asarray, online.env.reset())  # type: ignore[union-attr]
    placed = meshes.by_seed(online.mesh)
    agent = jax.jit(online.init_agent, out_shardings=placed)(online.seeds)
    carry = online.init_carry()
    buffer = jax.jit(lambda: online.init_buffer(agent, carry, timestep), out_shardings=placed)()
    return jax.tree.map(jnp.copy, meshes.place(LoopState(agent, carry, buffer, timestep, None), online.mesh))


class _Loop:
    """The host driver's loop in pieces."""

    def __init__(self, online: Online, env: Any, state: LoopState, collect: Any, learn: Any) -> None:
        self.online, self.env, self.collect_program, self.learn_program = online, env, collect, learn
        self.agent, self.carry, self.buffer, self.timestep, _ = state
        self.steps = self.updates = 0

    def act(self) -> None:
        """One decision in every environment, fetched by the host; the environments stand still."""
        self.actions, self.carry, self.buffer = self.collect_program(
            self.agent, self.carry, self.buffer, self.timestep, jnp.int32(self.steps)
        )
        self.actions = jax.device_get(self.actions)
        self.steps += 1

    def step(self) -> None:
        """One decision and one step of every environment."""
        self.act()
        self.timestep = self.env.step(self.actions)

    def dispatch(self) -> None:
        """One update of all seeds, not waited for."""
        self.agent, self.buffer, self.metrics = self.learn_program(self.agent, self.buffer, jnp.int32(self.updates))
        self.updates += 1

    def learn(self) -> None:
        """One update of all seeds."""
        self.dispatch()
        jax.block_until_ready((self.agent, self.metrics))

    def fill(self) -> None:
        """Acts until the replay can be sampled well: a few sequences in every environment."""
        for _ in range(min(3 * self.online.loop.stored_length, self.online.replay.capacity)):
            self.step()

    def whole(self, seconds: float) -> dict[str, Any]:
        """Acting and updating at the configured ratio: agent steps a second of all seeds, overhead over updates."""
        steps, updates = self.online.ratio()

        def iteration() -> None:
            for i in range(max(steps, 1)):
                self.step()
                for _ in range((i + 1) * updates // steps - i * updates // steps):
                    self.dispatch()
            jax.block_until_ready(self.agent)

        figure = repeat(iteration, seconds, most=50)
        return {
            "iteration": {"vector_steps": steps, "updates": updates},
            "iteration_seconds": figure,
            "agent_steps_per_s": steps * self.env.num_envs / figure["median"],
        }


def repeat(f: Callable[[], Any], seconds: float, most: int = 200) -> Figure:
    """Median, minimum and maximum seconds of `f`, called after one warm-up for about `seconds` (3 to `most` times)."""
    f()
    times: list[float] = []
    while len(times) < 3 or (sum(times) < seconds and len(times) < most):
        begin = time.perf_counter()
        f()
        times.append(time.perf_counter() - begin)
    return {"median": statistics.median(times), "min": min(times), "max": max(times), "repetitions": len(times)}


def matmul_rate(dtype: str, size: int | None = None) -> float:
    """Measured FLOP/s of a square matrix product in `dtype`, the best of five."""
    size = size or (2048 if jax.default_backend() == "cpu" else 8192)
    a = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(dtype))
    product = jax.jit(lambda x: x @ a)
    jax.block_until_ready(product(a))
    return 2 * size**3 / repeat(lambda: jax.block_until_ready(product(a)), 0.0, most=5)["min"]


def peak_memory() -> int:
    """Bytes: of the device where it tells, else of this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _compute_dtype(config: Any) -> str:
    return getattr(getattr(config, "agent", None), "compute_dtype", "float32")


def render(found: dict[str, Any]) -> str:
    """The measurements as text."""

    def span(figure: Figure, unit: float = 1.0, digits: int = 3) -> str:
        low, middle, high = (figure[k] * unit for k in ("min", "median", "max"))
        return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f}, {figure['repetitions']:.0f} times)"

    hardware = found["hardware"]
    machine = hardware["cpu"] if hardware["platform"] == "cpu" else hardware["device_kind"]
    ratio = found["iteration"]
    rows = {
        "initialise, compile": f"{found['initialise_seconds']:.1f} s, {found['compile_seconds']:.1f} s",
        "act, all environments": span(found["act_seconds"], 1e3, 2) + " ms",
        "": f"{found['acting_steps_per_s']:,.0f} steps/s",
        "update, all seeds": span(found["update_seconds"]) + " s",
        " ": f"{found['updates_per_s']:.2f} updates/s, counting each seed's",
        "whole iteration": span(found["iteration_seconds"])
        + f" s for {ratio['vector_steps']} steps of each environment and {ratio['updates']} updates",
        "  ": f"{found['agent_steps_per_s']:,.1f} agent steps/s",
        "work of an update": f"{found['update_gflop']:,.0f} GFLOP at {found['update_gflops_per_s']:,.0f} GFLOP/s, "
        f"{found['fraction_of_matmul_rate']:.0%} of a large product's {found['matmul_gflops_per_s']:,.0f}",
        "peak memory": f"{found['peak_memory_gib']:.2f} GiB",
    }
    head = (
        f"{found['paper']} on {found['suite']}/{found['task']}, preset {found['preset']}: {found['seeds']} seeds, "
        f"{found['environments']} environments, batch {found['batch'][0]} x {found['batch'][1]}, {found['dtype']}, "
        f"{found['parameters']:,} parameters\n{machine}, {hardware['cpu_cores']} cores, jax {found['versions']['jax']}"
    )
    return "\n".join([head, *(f"  {name:<23}{text}" for name, text in rows.items())])
