"""Meshes: what is chosen, and that eight devices give the numbers of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from repro.errors import UsageError
from repro.scale import mesh as meshes


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    script = Path(__file__).with_name("eight_devices.py")
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8",
        # Devices wait for one another: with as few threads as cores they may all wait.
        "NPROC": "64",
        "REPRO_CACHE": str(tmp_path_factory.mktemp("cache")),
    }
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("run", "mesh"),
    [
        ("host", {"seeds": 2, "data": 2}),
        ("host_replay", {"seeds": 2, "data": 2}),
        ("fused", {"seeds": 2, "data": 4}),
    ],
)
def test_a_run_on_a_mesh_equals_the_run_on_one_device(found, run, mesh):
    result = found[run]
    assert result["mesh"] == mesh and result["devices"] == mesh["seeds"] * mesh["data"]
    assert result["same_episodes"] and result["updates"][0] == result["updates"][1] > 5
    assert result["difference"] < 1e-4


def test_an_update_of_dreamerv3_on_a_mesh_equals_the_one_on_one_device(found):
    result = found["dreamerv3"]
    assert result["difference"] < 1e-4 and result["gradient"] > 0.1
    assert "all-reduce" in result["collectives"]


def test_seeds_on_different_devices_never_communicate_and_gradients_of_shared_batches_are_reduced(found):
    assert found["seeds"] == []
    assert "all-reduce" in found["data"]


def test_one_device_has_no_mesh_and_nothing_changes():
    assert meshes.choose(seeds=4, data_parallel=1, batch_size=16, devices=jax.devices()[:1]) is None
    x = {"a": jnp.arange(4.0)}
    assert meshes.place(x, None) is x and meshes.split_batch(x, None) is x and meshes.by_seed(None) is None
    assert meshes.each_seed(jnp.sin, None) is jnp.sin


@pytest.mark.parametrize(
    ("seeds", "data_parallel", "devices", "shape"),
    [(8, 1, 8, (8, 1)), (5, 1, 8, (5, 1)), (6, 2, 8, (3, 2)), (1, 8, 8, (1, 8)), (3, 4, 8, (1, 4)), (4, 1, 3, (2, 1))],
)
def test_as_many_seeds_lie_side_by_side_as_divide_evenly(seeds, data_parallel, devices, shape):
    mesh = meshes.choose(seeds, data_parallel, 16, jax.devices()[:1] * devices)
    assert mesh.devices.shape == shape and mesh.axis_names == ("seeds", "data")


def test_impossible_meshes_are_refused_in_one_line():
    with pytest.raises(UsageError, match="data_parallel=4, but there are 2 devices"):
        meshes.choose(1, 4, 16, jax.devices()[:1] * 2)
    with pytest.raises(UsageError, match="a batch of 16 sequences does not split over 3 devices"):
        meshes.choose(1, 3, 16, jax.devices()[:1] * 3)
