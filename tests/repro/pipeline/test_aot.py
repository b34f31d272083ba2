"""`repro bench --target`: chips, mistakes, the report, no calls to the host; a real compilation where compilers are."""

import dataclasses
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repro import config as configuration
from repro import registry
from repro.errors import RunError, UsageError
from repro.pipeline import aot, chips
from repro.pipeline.config import LoopConfig
from repro.pipeline.online import Online
from repro.scale import mesh as meshes
from tests.toys import HostLineWorld, LinearAgent, LineWorld

CPU = dataclasses.replace(chips.CHIPS["h100"], title="this machine", platform="cpu", flops=1e11, bandwidth=1e10)
LOOP = LoopConfig(steps=100, envs=2, train_ratio=4, batch_size=4, batch_length=4, replay_context=1, online_queue=True)


def catch(*assignments):
    """DreamerV3 at its smallest on catch, one seed."""
    paper = registry.find("dreamerv3")
    config = dataclasses.replace(paper.presets["paper"].make("catch", "catch"), seeds=1)
    small = ["size=1M", "deter=64", "agent.rssm.hidden=16", "batch_size=4", "batch_length=8"]
    return paper, configuration.override(config, [*small, *assignments])


@pytest.fixture
def everything_installed(monkeypatch):
    monkeypatch.setattr(aot, "installed", lambda platform: True)


# ---- mistakes ------------------------------------------------------------------------------------------------------


def test_unknown_targets_and_numbers_of_chips_are_one_line():
    paper, config = catch()
    with pytest.raises(UsageError, match="unknown target 'v5'; did you mean"):
        aot.report(paper, config, "v5")
    with pytest.raises(UsageError, match="--chips must be at least 1, got 0"):
        aot.report(paper, config, "v5e", 0)


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("v6e", f'{sys.executable} -m pip install "jax[tpu]=={jax.__version__}"'),
        (
            "h100",
            f"{sys.executable} -m pip install --no-deps jax-cuda13-plugin=={jax.__version__} "
            f"jax-cuda13-pjrt=={jax.__version__}",
        ),
    ],
)
def test_a_missing_compiler_is_named_with_the_command_that_installs_it(monkeypatch, target, command):
    monkeypatch.setattr(aot, "installed", lambda platform: False)
    with pytest.raises(UsageError) as error:
        aot.report(*catch(), target)
    assert str(error.value).endswith(command) and "\n" not in str(error.value)


def answer(monkeypatch, code, out="", err=""):
    monkeypatch.setattr(
        subprocess, "run", lambda *a, **k: types.SimpleNamespace(returncode=code, stdout=out, stderr=err)
    )


def test_what_goes_wrong_while_compiling_is_one_line(monkeypatch, everything_installed):
    paper, config = catch()
    answer(monkeypatch, 0, '{"usage_error": "--chips 5: TPU v5e comes in 1, 4"}')
    with pytest.raises(UsageError, match="comes in 1, 4"):
        aot.report(paper, config, "v5e", 5)
    answer(monkeypatch, 1, err="W0000 noise\nTraceback\nValueError: no such shape\nI0000 more noise")
    with pytest.raises(RunError, match="compiling for TPU v5e failed: ValueError: no such shape"):
        aot.report(paper, config, "v5e")
    answer(monkeypatch, -9)
    with pytest.raises(RunError, match="no message"):
        aot.report(paper, config, "v5e")


def test_grids_that_do_not_exist_are_refused_before_anything_is_compiled(monkeypatch):
    from jax.experimental import topologies

    monkeypatch.setattr(topologies, "get_topology_desc", lambda **options: pytest.fail("asked for"))
    with pytest.raises(UsageError, match="--chips 5: TPU v5e comes in 1, 4, 8, 16, 32, 64, 128, 256"):
        chips.devices("v5e", 5)


# ---- what is read off a program ------------------------------------------------------------------------------------


def toy(env, seeds, mesh):
    return Online(LinearAgent(env.obs_spaces, env.action_spaces), env, LOOP, seeds, mesh)


def test_the_update_and_the_fused_iteration_are_measured_from_shapes_alone():
    mesh = meshes.make(1, 1, LOOP.batch_size, jax.devices())
    online = toy(LineWorld([0, 1, 10, 11]), [0, 1], mesh)
    state, batch = aot._shapes(online)
    assert all(isinstance(x, jax.ShapeDtypeStruct) for x in jax.tree.leaves((state, batch)))
    assert batch.obs["position"].shape == (2, 4, 5, 2) and state.timestep.reward.shape == (4,)
    by_seed, number = meshes.by_seed(mesh), jax.ShapeDtypeStruct((), jnp.int32)
    learn = jax.jit(online.update, donate_argnums=0)
    split = meshes.by_seed_and_batch(mesh)
    found = aot._measure(learn, (aot._placed(state.agent, by_seed), aot._placed(batch, split), number), CPU, 1)
    # Reward model: [B, L-1, 5] x 5 and its gradient; policy: [B, L-1, 2] x [2, 3] and its gradient; two seeds.
    assert found["flops"] == 2 * 2 * (2 * 16 * 5 + 2 * 16 * 2 * 3)
    assert found["host_callbacks"] == 0 and found["fits"] and found["estimate_seconds"] is None
    assert found["peak_bytes"] > sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(batch))
    assert found["bounds"]["compute"] == found["flops"] / 1e11
    iterate = jax.jit(lambda s, i, u: online.iterate(s, i, u, 1), donate_argnums=0)
    steps, updates = online.ratio()
    whole = aot._measure(iterate, (aot._placed(state, by_seed), number, number), CPU, 1)
    acting = 2 * 4 * 2 * 3 * steps
    assert whole["flops"] == updates * found["flops"] + acting and whole["host_callbacks"] == 0


def test_an_environment_of_the_host_is_only_asked_for_its_spaces():
    spaces = aot._Spaces(HostLineWorld([0]), 8)
    online = toy(spaces, [0, 1, 2, 3], None)
    state, batch = aot._shapes(online)
    assert not online.fused and state.environment is None
    assert batch.obs["position"].shape == (4, 4, 5, 2) and state.timestep.obs["position"].shape == (8, 2)


def test_calls_to_the_host_are_seen():
    def f(x):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct((), jnp.float32), x)

    assert aot.host_callbacks(jax.jit(f).lower(1.0).as_text()) == 1
    assert aot.host_callbacks(jax.jit(jnp.sin).lower(1.0).as_text()) == 0


def test_nothing_in_dreamerv3_calls_the_host_and_accelerators_get_plain_convolutions():
    from repro.pipeline.agent import env_seeds

    paper, config = catch("compute_dtype=bfloat16")
    algorithm, env = registry.load(paper.build)(config, env_seeds([0], config.loop.envs))
    online = Online(algorithm, env, config.loop, [0])
    state, batch = aot._shapes(online)
    number = jax.ShapeDtypeStruct((), jnp.int32)
    learn = jax.jit(online.update).trace(state.agent, batch, number)
    iterate = jax.jit(lambda s, i, u: online.iterate(s, i, u, 1)).trace(state, number, number)
    texts = {name: learn.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "tpu", "cuda")}
    texts["iterate"] = iterate.lower(lowering_platforms=("tpu",)).as_text()
    assert [aot.host_callbacks(text) for text in texts.values()] == [0, 0, 0, 0]
    # Plain: a convolution forward, one for each of the two gradients.
    convolutions = {name: text.count("stablehlo.convolution") for name, text in texts.items()}
    assert min(convolutions.values()) > 0
    # On GPU both gradients come from one function, so that of the observed image is written out and then dropped.
    assert convolutions["cuda"] - convolutions["tpu"] in (0, 1)


# ---- the report ----------------------------------------------------------------------------------------------------

PROGRAM = {
    "flops": 4e12, "host_callbacks": 0, "fits": True, "peak_bytes": 3 << 30, "flops_per_chip": 1e12,
    "bytes_per_chip": 2_000_000_000, "collectives_per_chip": {"all-reduce": 5_000_000},
    "bounds": {"compute": 0.005, "memory": 0.0024, "communication": 0.0001}, "estimate_seconds": 0.01, "updates": 1,
}  # fmt: skip


def found(**changes):
    return {
        "paper": "dreamerv3", "suite": "catch", "task": "catch", "preset": "paper", "seeds": 1, "batch": [16, 64],
        "chip": dataclasses.asdict(chips.CHIPS["v5e"]), "chips": 4, "mesh": {"seeds": 1, "data": 4},
        "programs": {"learn": PROGRAM | changes},
    }  # fmt: skip


def test_the_report_says_what_was_compiled_and_that_nothing_was_measured():
    text = aot.render(found())
    assert "4 x TPU v5e, mesh 1 seeds x 4 data; nothing was measured" in text
    assert "4,000.0 G in products and convolutions" in text and "3.00 GiB of 16 GiB (18.8 %)" in text
    assert "compute 5 ms, memory 2.4 ms, communication 0.1 ms: bound by compute, at best 200 a second" in text
    assert "10 ms, 100 a second, 51 % of the chip's peak" in text and "5.0 MB a chip" in text
    assert "197 TFLOP/s bf16, 819 GB/s, 16 GiB" in text and "cloud.google.com/tpu/docs/v5e" in text


def test_the_report_says_what_is_missing_or_too_large():
    assert "none for this chip" in aot.render(found(estimate_seconds=None))
    assert "(131.2 %): does not fit" in aot.render(found(fits=False, peak_bytes=21 << 30))
    assert "does not fit: needs 20.1G of 15.75G usable" in aot.render(found(needs="20.1G", usable="15.75G"))


# ---- real compilers ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("target", "count"), [("v5e", 1), ("v5e", 4), ("h100", 1)])
def test_dreamerv3_compiles_for_a_chip_that_is_not_here(target, count):
    if not aot.installed(chips.CHIPS[target].platform):
        pytest.skip(f"no compiler for {target} installed")
    found = aot.report(*catch(), target, count)
    assert found["mesh"] == {"seeds": 1, "data": count}
    learn, fused = found["programs"]["learn"], found["programs"]["fused iteration"]
    for program in (learn, fused):
        assert program["fits"] and program["host_callbacks"] == 0 and program["loops_of_unknown_length"] == 0
    assert learn["flops_per_chip"] == pytest.approx(learn["flops"] / count, rel=0.3)
    assert bool(learn["collectives_per_chip"].get("all-reduce")) == (count > 1)
    assert (learn["estimate_seconds"] is None) == (target == "h100")
    assert "nothing was measured" in aot.render(found)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.1G of 15.7G hbm.", ("20.1G", "15.7G")),
        (
            "RESOURCE_EXHAUSTED: memory required for HLO temporaries (29.33G) exceeds available HBM (15.75G).",
            ("29.33G", "15.75G"),
        ),
        ("RESOURCE_EXHAUSTED: no file descriptors left", None),
        ("INVALID_ARGUMENT: Used 20.1G of 15.7G", None),
    ],
)
def test_a_refusal_for_want_of_memory_is_told_from_others(message, expected):
    assert aot.too_large(message) == expected
