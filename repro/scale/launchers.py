"""Where the jobs of a sweep run: on this machine, on a Ray cluster, or as a Slurm job array."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, Protocol

from repro import paths
from repro.errors import RunError, UsageError
from repro.pipeline.log import duration


@dataclass(frozen=True)
class Job:
    """One `repro reproduce`: a task and the seeds that train together."""

    suite: str
    task: str
    seeds: range
    words: tuple[str, ...]
    """The command line after `repro`."""
    state: Literal["new", "begun", "finished"] = "new"

    @property
    def label(self) -> str:
        """E.g. `catch/catch seeds 0-4`."""
        first, last = self.seeds[0], self.seeds[-1]
        return f"{self.suite}/{self.task} " + (f"seed {first}" if first == last else f"seeds {first}-{last}")

    @property
    def command(self) -> str:
        """The command line as a shell takes it."""
        return shlex.join(["repro", *self.words])


class Runner(Protocol):
    """Something that runs jobs and can be told to stop those at work."""

    def __call__(self, job: Job, log: Path, slot: int) -> int:
        """Exit code of the job, run as worker number `slot` with its output in `log`."""
        ...

    def stop(self) -> None:
        """Asks the jobs at work to stop."""
        ...


def program(job: Job) -> list[str]:
    """The process that does a job."""
    return [sys.executable, "-m", "repro", *job.words]


def run_all(jobs: Sequence[Job], workers: int, logs: Path, runner: Runner, say: Callable[[str], None]) -> None:
    """Runs the jobs, `workers` at a time, with one line each when it ends; `RunError` names those that failed."""
    logs.mkdir(parents=True, exist_ok=True)
    slots: SimpleQueue[int] = SimpleQueue()
    for slot in range(workers):
        slots.put(slot)
    done: list[Job] = []
    failed: list[str] = []

    def work(job: Job) -> None:
        log = logs / f"{job.label.replace('/', '-').replace(' ', '-')}.log"
        slot, begin = slots.get(), time.monotonic()
        try:
            code = runner(job, log, slot)
        finally:
            slots.put(slot)
        done.append(job)
        line = f"[{len(done)}/{len(jobs)}] {job.label}: "
        if code == 0:
            say(f"{line}finished in {duration(time.monotonic() - begin)}")
        else:
            failed.append(job.label)
            say(f"{line}failed (exit {code}): {_last_line(log)} (log: {log})")

    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    pool = ThreadPoolExecutor(workers)
    try:
        for future in [pool.submit(work, job) for job in jobs]:
            future.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        runner.stop()
        raise
    finally:
        pool.shutdown()
        signal.signal(signal.SIGTERM, previous)
    if failed:
        raise RunError(f"{len(failed)} of {len(jobs)} jobs failed: {'; '.join(failed)}; the same command tries again")


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.exists() else []
    return lines[-1].strip()[:200] if lines else "no output"


# ---- this machine --------------------------------------------------------------------------------------------------


class Local:
    """Processes on this machine; its GPUs are dealt out to them.

    Each has a session of its own: an interruption from the keyboard reaches the sweep alone, which then asks every job
    once to write its checkpoint and stop.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.gpus = visible_gpus()
        self.running: set[subprocess.Popen[bytes]] = set()

    def __call__(self, job: Job, log: Path, slot: int) -> int:
        """Runs the job to its end."""
        environment = os.environ | devices_of(slot, self.workers, self.gpus)
        with open(log, "ab") as output:
            process = subprocess.Popen(
                program(job), stdout=output, stderr=output, cwd=paths.ROOT, env=environment, start_new_session=True
            )
        self.running.add(process)
        code = process.wait()
        self.running.discard(process)
        return code

    def stop(self) -> None:
        """Asks the jobs at work to stop."""
        for process in list(self.running):
            process.send_signal(signal.SIGTERM)


def visible_gpus() -> list[str]:
    """Numbers of the GPUs that this process may use, without starting JAX."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return [str(i) for i, line in enumerate(x for x in listed.stdout.splitlines() if x.startswith("GPU "))]


def devices_of(slot: int, workers: int, gpus: Sequence[str]) -> dict[str, str]:
    """Environment variables that give worker `slot` of `workers` its own GPUs, or its share of one."""
    if not gpus or workers == 1:
        return {}
    if workers <= len(gpus):
        return {"CUDA_VISIBLE_DEVICES": ",".join(gpus[slot::workers])}
    sharing = -(-workers // len(gpus))
    return {
        "CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)],
        "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / sharing:.2f}",  # JAX takes three quarters otherwise
    }


# ---- Ray -----------------------------------------------------------------------------------------------------------


class Ray:
    """Ray tasks of one GPU each (one CPU where the cluster has no GPU); the nodes share this file system."""

    def __init__(self) -> None:
        try:
            import ray
        except ImportError:
            command = f"{sys.executable} -m pip install ray"
            raise UsageError(f"the launcher ray needs the package ray; install it with: {command}") from None
        ray.init(ignore_reinit_error=True, log_to_driver=False)
        gpus = 1 if ray.cluster_resources().get("GPU", 0) else 0

        def work(command: list[str], log: str, folder: str) -> int:
            with open(log, "ab") as output:
                return subprocess.run(command, stdout=output, stderr=output, cwd=folder).returncode

        self._ray, self._task = ray, ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(work)

    def __call__(self, job: Job, log: Path, slot: int) -> int:
        """Runs the job to its end."""
        return self._ray.get(self._task.remote(program(job), str(log), str(paths.ROOT)))

    def stop(self) -> None:
        """Leaves the cluster, which ends the tasks."""
        self._ray.shutdown()


# ---- Slurm ---------------------------------------------------------------------------------------------------------


def slurm_script(name: str, jobs: Sequence[Job], workers: int | None, logs: Path, options: Sequence[str]) -> str:
    """A batch script with one array task a job, at most `workers` at once; a requeued task resumes its run."""
    limit = f"%{workers}" if workers else ""
    head = [
        "#!/bin/bash",
        f"#SBATCH --job-name={name}",
        f"#SBATCH --array=0-{len(jobs) - 1}{limit}",
        f"#SBATCH --output={logs}/%A_%a.log",
        *(f"#SBATCH {option}" for option in options),
    ]
    commands = [f"  {shlex.quote(shlex.join(program(job)))}  # {job.label}" for job in jobs]
    body = [
        "set -eu",
        f"cd {shlex.quote(str(paths.ROOT))}",
        "jobs=(",
        *commands,
        ")",
        'job="${jobs[$SLURM_ARRAY_TASK_ID]}"',
        'if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then job="$job --resume"; fi',
        'eval "exec $job"',
    ]
    return "\n".join([*head, "", *body]) + "\n"


def submit(script: str, file: Path) -> str:
    """Writes the script and hands it to `sbatch`; returns its answer. `UsageError` where there is no Slurm."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(script)
    if shutil.which("sbatch") is None:
        raise UsageError(f"sbatch is not installed here; the script is written: sbatch {file} on a machine with Slurm")
    done = subprocess.run(["sbatch", str(file)], capture_output=True, text=True)
    if done.returncode:
        raise RunError(f"sbatch refused {file}: {(done.stderr or done.stdout).strip()[:300]}")
    return done.stdout.strip()
