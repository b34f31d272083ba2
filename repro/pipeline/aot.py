"""`repro bench --target`: compiles the update and the fused iteration for an accelerator that is not here.

XLA compiles for a described chip as it does for a real one, so sizes, memory and communication are those of the real
program. Nothing runs: times are bounds (roofline) and the compiler's own estimates.
"""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from repro import config as configuration
from repro import registry
from repro.errors import RunError, UsageError
from repro.pipeline import chips


def report(paper: registry.Paper, config: Any, target: str, count: int = 1) -> dict[str, Any]:
    """What `learn` and, where the environment is JAX too, one fused iteration cost on `count` chips of `target`.

    `config` is the paper's resolved configuration; its seeds are spread over the chips as far as they divide, the batch
    of each over the rest. Compiles in a process of its own, because the compilers are chosen before JAX starts.
    Raises `UsageError` where the compiler is not installed or the chips cannot share the work.
    """
    chip = chips.find(target)
    if count < 1:
        raise UsageError(f"--chips must be at least 1, got {count}")
    _require_compiler(chip.platform, target)
    request = {
        "paper": paper.name,
        "preset": config.preset,
        "suite": config.suite,
        "task": config.task,
        "config": configuration.to_json(config),
        "target": target,
        "chips": count,
    }
    child = subprocess.run(
        [sys.executable, "-m", "repro.pipeline.aot"],
        input=json.dumps(request),
        text=True,
        capture_output=True,
        env=_environment(),
    )
    lines = child.stdout.strip().splitlines()
    answer = json.loads(lines[-1]) if child.returncode == 0 and lines else None
    if answer is None:
        reasons = [line for line in child.stderr.splitlines() if "Error" in line] or child.stderr.splitlines()
        raise RunError(f"compiling for {chip.title} failed: {reasons[-1].strip()[:300] if reasons else 'no message'}")
    if "usage_error" in answer:
        raise UsageError(answer["usage_error"])
    return answer


def installed(platform: str) -> bool:
    """Whether the compiler for "tpu" or "cuda" is here."""
    if platform == "tpu":
        return importlib.util.find_spec("libtpu") is not None
    return any(d.metadata["Name"] == "jax-cuda13-plugin" for d in importlib.metadata.distributions())


def _require_compiler(platform: str, target: str) -> None:
    if installed(platform):
        return
    version = importlib.metadata.version("jax")
    packages = {
        "tpu": f'"jax[tpu]=={version}"',
        "cuda": f"--no-deps jax-cuda13-plugin=={version} jax-cuda13-pjrt=={version}",
    }
    command = f"{sys.executable} -m pip install {packages[platform]}"
    raise UsageError(f"no compiler for {target} here; install it (about 500 MB) with: {command}")


def _environment() -> dict[str, str]:
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_autotune_level=0"  # there is no GPU to tune on
    settings = {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": flags.strip(),
        "TPU_SKIP_MDS_QUERY": "1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # nothing here holds a chip
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_STDERR_LOG_LEVEL": "3",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "JAX_ENABLE_COMPILATION_CACHE": "false",  # a stored program of a chip that is not here cannot be loaded
    }
    return {**os.environ, **settings}


def render(found: dict[str, Any]) -> str:
    """The report as text."""
    chip, count, mesh = found["chip"], found["chips"], found["mesh"]
    spread = f", mesh {mesh['seeds']} seeds x {mesh['data']} data" if count > 1 else ""
    seeds = f"{found['seeds']} seed" + ("s" if found["seeds"] > 1 else "")
    task = f"{found['paper']} on {found['suite']}/{found['task']}, preset {found['preset']}"
    lines = [
        f"{task}, {seeds}, batch {' x '.join(map(str, found['batch']))}:",
        f"compiled for {count} x {chip['title']}{spread}; nothing was measured",
    ]
    for name, program in found["programs"].items():
        lines += ["", _title(name, program), *(f"  {label:<22}{text}" for label, text in _rows(program, chip))]
    peak = f"{chip['flops'] / 1e12:.0f} TFLOP/s bf16, {chip['bandwidth'] / 1e9:,.0f} GB/s, {_bytes(chip['memory'])}"
    lines += ["", f"{chip['title']}: {peak}, {chip['link'] / 1e9:.0f} GB/s to other chips ({chip['source']})"]
    return "\n".join(lines)


def _title(name: str, program: dict[str, Any]) -> str:
    if "steps" not in program:
        return f"{name} (one update of every seed)"
    steps, updates = program["steps"], program["updates"]
    return f"{name} ({steps} steps of {program['environments']} environments, {updates} updates of every seed)"


def _rows(program: dict[str, Any], chip: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("FLOPs", f"{program['flops'] / 1e9:,.1f} G in products and convolutions")]
    rows += [("calls to the host", str(program["host_callbacks"]))]
    if "needs" in program:
        return [*rows, ("memory of a chip", f"does not fit: needs {program['needs']} of {program['usable']} usable")]
    peak, bounds, estimate = program["peak_bytes"], program["bounds"], program["estimate_seconds"]
    slowest = max(bounds, key=lambda name: bounds[name])
    fits = "" if program["fits"] else ": does not fit"
    share = f"{_bytes(peak)} of {_bytes(chip['memory'])} ({100 * peak / chip['memory']:.1f} %){fits}"
    rows += [
        ("FLOPs of a chip", f"{program['flops_per_chip'] / 1e9:,.1f} G"),
        ("bytes of a chip", f"{program['bytes_per_chip'] / 1e9:,.2f} GB to and from memory"),
        ("memory of a chip", share),
    ]
    for kind, sent in program["collectives_per_chip"].items():
        rows.append((kind, f"{sent / 1e6:,.1f} MB a chip"))
    times = ", ".join(f"{name} {_seconds(value)}" for name, value in bounds.items())
    rows.append(("roofline", f"{times}: bound by {slowest}, at best {1 / bounds[slowest]:,.0f} a second"))
    if estimate is None:
        rows.append(("compiler's estimate", "none for this chip"))
    else:
        reached = 100 * program["flops_per_chip"] / (estimate * chip["flops"])
        text = f"{_seconds(estimate)}, {1 / estimate:,.0f} a second, {reached:.0f} % of the chip's peak"
        rows.append(("compiler's estimate", text))
    return rows


def _bytes(value: float) -> str:
    return f"{value / 2**30:.2f} GiB" if value < 10 * 2**30 else f"{value / 2**30:.0f} GiB"


def _seconds(value: float) -> str:
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


# ---- in the process that compiles ----------------------------------------------------------------------------------


def compile_all(paper: registry.Paper, config: Any, target: str, count: int) -> dict[str, Any]:
    """The work of `report`; needs the environment variables that it sets."""
    import jax

    from repro.pipeline.agent import env_seeds
    from repro.pipeline.online import Online
    from repro.scale import mesh as meshes

    chip = chips.find(target)
    if hasattr(config, "for_platform"):
        config = config.for_platform(chip.platform)
    found = {
        "paper": paper.name,
        "suite": config.suite,
        "task": config.task,
        "preset": config.preset,
        "target": target,
        "chip": dataclasses.asdict(chip),
        "chips": count,
        "seeds": config.seeds,
        "versions": {"jax": jax.__version__, "libtpu": _version("libtpu"), "cuda": _version("jax-cuda13-pjrt")},
    }
    if not paper.build:
        mesh, batch, named = registry.load(paper.compiled)(config, chips.devices(target, count))
        programs = {name: _measure(jitted, shapes, chip, count) for name, (jitted, shapes) in named.items()}
        return found | {"mesh": dict(mesh.shape), "batch": batch, "programs": programs}
    seeds = list(range(config.first_seed, config.first_seed + config.seeds))
    rows = math.gcd(len(seeds), count)
    # A mesh even for one chip: it is what names the device to compile for.
    mesh = meshes.make(rows, count // rows, config.loop.batch_size, chips.devices(target, count))

    build = registry.load(paper.build)
    one = dataclasses.replace(config, loop=dataclasses.replace(config.loop, envs=1), seeds=1)
    algorithm, env = build(one, env_seeds(seeds[:1], 1))
    fused = hasattr(env, "init")
    if fused:
        algorithm, env = build(config, env_seeds(seeds, config.loop.envs))
    else:
        env = _Spaces(env, len(seeds) * config.loop.envs)
    online = Online(algorithm, env, config.loop, seeds, mesh)

    state, batch = _shapes(online)
    number = jax.ShapeDtypeStruct((), "int32")
    by_seed, split = meshes.by_seed(mesh), meshes.by_seed_and_batch(mesh)
    learn = jax.jit(online.update, donate_argnums=0, out_shardings=(by_seed, by_seed, split))
    agent = _placed(state.agent, by_seed)
    programs = {"learn": _measure(learn, (agent, _placed(batch, split), number), chip, count)}
    programs["learn"]["updates"] = 1
    if fused:
        steps, updates = online.ratio()
        iterate = jax.jit(
            lambda state, step, update: online.iterate(state, step, update, 1),
            donate_argnums=0,
            out_shardings=(by_seed, meshes.by_seed(mesh, axis=1), by_seed),
        )
        arguments = (_placed(state, by_seed), number, number)
        programs["fused iteration"] = _measure(iterate, arguments, chip, count)
        programs["fused iteration"] |= {"updates": updates, "steps": steps, "environments": env.num_envs}
    return found | {
        "mesh": dict(mesh.shape),
        "batch": [config.loop.batch_size, config.loop.batch_length],
        "observations": {k: list(s.shape) for k, s in algorithm.obs_spaces.items()},
        "actions": {k: s.classes or list(s.shape) for k, s in algorithm.action_spaces.items()},
        "programs": programs,
    }


class _Spaces:
    """Stands for an environment stepped by the host, of which the update sees only the spaces."""

    def __init__(self, env: Any, num_envs: int) -> None:
        self.num_envs, self.obs_spaces, self.action_spaces = num_envs, env.obs_spaces, env.action_spaces
        if hasattr(env, "close"):
            env.close()


def _shapes(online: Any) -> tuple[Any, Any]:
    """Shapes of the loop's state and of a batch `[S, B, L, ...]`; nothing is computed."""
    import jax
    import jax.numpy as jnp

    from repro.envs.base import TimeStep
    from repro.pipeline.online import LoopState

    env = online.env
    if online.fused:
        environment, timestep = jax.eval_shape(env.init)
    else:
        count, environment = env.num_envs, None
        obs = {k: jax.ShapeDtypeStruct((count, *s.shape), s.dtype) for k, s in env.obs_spaces.items()}
        flag = jax.ShapeDtypeStruct((count,), jnp.bool_)
        timestep = TimeStep(obs, jax.ShapeDtypeStruct((count,), jnp.float32), flag, flag, flag)
    agent = jax.eval_shape(online.init_agent, online.seeds)
    carry = jax.eval_shape(online.init_carry)
    buffer = jax.eval_shape(online.init_buffer, agent, carry, timestep)
    batch = jax.eval_shape(lambda b: online.sample(b, jnp.int32(0))[1], buffer)
    return LoopState(agent, carry, buffer, timestep, environment), batch


def _placed(tree: Any, sharding: Any) -> Any:
    import jax

    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _measure(jitted: Callable[..., Any], arguments: Sequence[Any], chip: chips.Chip, count: int) -> dict[str, Any]:
    """Compiles, and reads everything off the program."""
    import jax

    from repro.pipeline import flops, hlo

    traced = jitted.trace(*arguments)  # type: ignore[attr-defined]
    found: dict[str, Any] = {"flops": flops.count(traced.jaxpr, chip.platform)}
    lowered = traced.lower()
    found["host_callbacks"] = host_callbacks(lowered.as_text())
    begin = time.monotonic()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        short = too_large(str(error))
        if short is None:
            raise
        return found | {"fits": False, "needs": short[0], "usable": short[1]}
    found["compile_seconds"] = round(time.monotonic() - begin, 1)
    memory = compiled.memory_analysis()
    parts = {
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "code": memory.generated_code_size_in_bytes,
    }
    cost = hlo.cost(compiled.as_text())
    # cuDNN and cuBLAS calls hide their FLOPs from the text; there an even share is assumed.
    own = cost.flops if chip.platform == "tpu" else found["flops"] / count
    bounds = {"compute": own / chip.flops, "memory": cost.bytes / chip.bandwidth}
    if cost.collectives:
        bounds["communication"] = sum(cost.collectives.values()) / chip.link
    # XLA's own `optimal_seconds` counts a loop body once and is negative for most programs with loops.
    estimate = cost.cycles / chip.clock if cost.cycles and chip.clock else None
    return found | {
        "fits": sum(parts.values()) <= chip.memory,
        "memory": parts,
        "peak_bytes": sum(parts.values()),
        "flops_per_chip": own,
        "bytes_per_chip": cost.bytes,
        "collectives_per_chip": dict(cost.collectives),
        "loops_of_unknown_length": cost.endless,
        "bounds": bounds,
        "estimate_seconds": estimate,
        "optimal_seconds": (compiled.cost_analysis() or {}).get("optimal_seconds"),
    }


def too_large(message: str) -> tuple[str, str] | None:
    """What a program needs and what a chip has, from the compiler's refusal ("29.33G", "15.75G"); None if it is about
    something else."""
    wordings = (r"Used ([\d.]+[KMG]) of ([\d.]+[KMG])", r"\(([\d.]+[KMG])\) exceeds available HBM \(([\d.]+[KMG])\)")
    found = [m for m in (re.search(wording, message) for wording in wordings) if m]
    return (found[0].group(1), found[0].group(2)) if found and "RESOURCE_EXHAUSTED" in message else None


def host_callbacks(lowered: str) -> int:
    """Calls back to the host in a lowered program's text."""
    return len(re.findall(r"custom_call @\w*callback\w*|is_host_transfer = true", lowered))


def main() -> None:
    """Reads a request from standard input, writes the answer as the last line of standard output."""
    request = json.load(sys.stdin)
    paper = registry.find(request["paper"])
    template = paper.presets[request["preset"]].make(request["suite"], request["task"])
    config = configuration.from_json(template, request["config"])
    try:
        with contextlib.redirect_stdout(sys.stderr):
            answer = compile_all(paper, config, request["target"], request["chips"])
    except UsageError as error:
        answer = {"usage_error": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
