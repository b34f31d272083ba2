"""Several processes with one program: how they are told apart, and that they compute together what one computes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from repro.errors import UsageError
from repro.scale import processes
from repro.scale.processes import Place


def test_places_come_from_the_environment():
    assert processes.from_environment({}) is None
    assert processes.from_environment({"REPRO_PROCESSES": "node1:99,4,3"}) == Place("node1:99", 4, 3)
    slurm = {"SLURM_NTASKS": "4", "SLURM_PROCID": "1"}
    assert processes.from_environment(slurm) == "slurm"
    assert processes.from_environment(slurm | {"REPRO_PROCESSES": "a:1,2,0"}) == Place("a:1", 2, 0)
    assert processes.from_environment({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}) is None
    assert processes.from_environment({"SLURM_NTASKS": "4"}) is None, "a batch script outside srun is one process"


@pytest.mark.parametrize("value", ["node1,4,3", "node1:99,4", "node1:99,four,3", "", "node1:99,2,2"])
def test_malformed_places_are_refused(value):
    with pytest.raises(UsageError, match="REPRO_PROCESSES"):
        processes.from_environment({"REPRO_PROCESSES": value})


def test_two_processes_share_a_batch_and_get_the_update_of_one():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    script = str(Path(__file__).with_name("one_of_two.py"))
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2",
    }
    running = [
        subprocess.Popen(
            [sys.executable, script],
            env=environment | {"REPRO_PROCESSES": f"localhost:{port},2,{index}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    answers = [process.communicate(timeout=200) for process in running]
    assert all(process.returncode == 0 for process in running), answers[0][1][-2000:] + answers[1][1][-2000:]
    first, second = (json.loads(out.splitlines()[-1]) for out, _ in answers)
    assert (first["processes"], first["devices"], first["own"]) == (2, 4, 2)
    assert (first["index"], second["index"]) == (0, 1)
    assert first["difference"] < 1e-6 and second["difference"] < 1e-6
    assert first["policy"] == second["policy"]
