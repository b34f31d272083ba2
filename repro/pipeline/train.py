"""Drives `Online` to the end of its budget: compilation, progress, episodes, checkpoints, interruption, failure."""

import signal
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from repro.envs.base import HostEnv, JaxEnv, TimeStep
from repro.errors import RunError
from repro.pipeline.algorithm import Algorithm
from repro.pipeline.checkpoint import Checkpoints, tree_digest
from repro.pipeline.config import LoopConfig
from repro.pipeline.episodes import EpisodeLog
from repro.pipeline.evaluate import RollOut
from repro.pipeline.log import Progress, duration
from repro.pipeline.memory import DeviceMemory, HostMemory, Memory
from repro.pipeline.online import LoopState, Online, shapes
from repro.pipeline.run import Run
from repro.replay import UpdateRatio
from repro.scale import mesh as meshes


@dataclass
class Trained:
    """Outcome of `train`."""

    agent: Any
    """Final state of the algorithm, leading axis S."""
    episodes: list[dict[str, list[float]]]
    """Training episodes per seed, as in the run record."""
    evaluations: list[dict[str, list[float]]]
    """Evaluation episodes per seed, with the step of their evaluation."""
    steps: int
    """Environment steps per seed, action repeat included."""
    updates: int
    resumed: int
    throughput: dict[str, float]
    digest: str
    """Of the final agent state."""
    online: Online
    state: LoopState


def train(
    run: Run,
    algorithm: Algorithm,
    env: HostEnv | JaxEnv,
    loop: LoopConfig,
    step_scale: int = 1,
    describe: Callable[[Mapping[str, float]], str] | None = None,
    evaluation: HostEnv | None = None,
) -> Trained:
    """Trains for `loop.steps` agent steps per seed; continues from the newest checkpoint if `run.resume`.

    `step_scale` is the action repeat: steps in logs and records are agent steps times it. `describe` turns the mean
    metrics into a few words for the progress line. `evaluation` holds the environments of evaluations, equally many per
    seed, where `loop.evaluate_every` asks for them. Raises `RunError` when a loss is not finite, the environment dies,
    memory or disk run out, or the process is told to stop; everything up to the last checkpoint is kept.
    """
    trainer = _Trainer(run, algorithm, env, loop, step_scale, describe, evaluation)
    try:
        return trainer.run_to_the_end()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise RunError(
                f"out of device memory with {trainer.online.count} seeds: use fewer --seeds, a smaller model or batch, "
                "or --set loop.replay_storage=host"
            ) from error
        raise
    finally:
        trainer.checkpoints.close()


class _Trainer:
    def __init__(
        self,
        run: Run,
        algorithm: Algorithm,
        env: Any,
        loop: LoopConfig,
        step_scale: int,
        describe: Callable[[Mapping[str, float]], str] | None,
        evaluation: HostEnv | None,
    ) -> None:
        self.run, self.env, self.loop, self.step_scale = run, env, loop, step_scale
        self.describe = describe or (lambda metrics: "")
        self.mesh = meshes.choose(len(run.seeds), loop.data_parallel, loop.batch_size)
        self.online = Online(algorithm, env, loop, run.seeds, self.mesh)
        self.episodes = EpisodeLog(self.online.count, loop.envs, step_scale)
        self.checkpoints = Checkpoints(run.folder / "checkpoints", run.config_hash)
        self.total = loop.steps // loop.envs
        self.step = 0  # vector steps done
        self.updates = 0
        self.resumed = 0
        self.ratio = UpdateRatio(loop.updates_per_step)
        self.metrics: dict[str, jax.Array] = {}
        self.progress = Progress(loop.steps, loop.log_seconds)
        self.deadline = float("inf")
        self.last_checkpoint = time.monotonic()
        self.stop_signal: int | None = None
        self.programs: Future[DeviceMemory] | None = None
        self.busy = (0.0, 0, 0)  # seconds, vector steps, updates measured after compilation
        self.roll_out = RollOut(algorithm, evaluation, run.seeds) if evaluation is not None else None
        self.evaluations: list[dict[str, list[float]]] = [
            {"step": [], "return": [], "length": []} for _ in range(self.online.count)
        ]
        self.next_evaluation = loop.evaluate_from if loop.evaluate_every > 0 else loop.steps
        self.evaluating = 0.0  # seconds

    # ---- start -----------------------------------------------------------------------------------------------------

    def _initial_state(self) -> LoopState:
        online = self.online
        environment, timestep = self.env.init() if online.fused else (None, self.env.reset())
        timestep = jax.tree.map(jnp.asarray, timestep)
        carry = online.init_carry()
        agent_shapes = jax.eval_shape(online.init_agent, online.seeds)
        placed = meshes.by_seed(self.mesh)
        make_buffer = jax.jit(lambda: self._buffer(agent_shapes, carry, timestep), out_shardings=placed)
        if not online.fused and self.loop.replay_storage == "device":
            # The long compilation begins before there are parameters: their shapes suffice.
            like = LoopState(agent_shapes, carry, jax.eval_shape(make_buffer), timestep, None)
            self.programs = ThreadPoolExecutor(1).submit(DeviceMemory, online, like)
        agent = jax.jit(online.init_agent, out_shardings=placed)(online.seeds)
        return meshes.place(LoopState(agent, carry, make_buffer(), timestep, environment), self.mesh)

    def _buffer(self, agent: Any, carry: Any, timestep: TimeStep) -> Any:
        in_program = self.online.fused or self.loop.replay_storage == "device"
        return self.online.init_buffer(agent, carry, timestep) if in_program else None

    def _kept(self, state: LoopState) -> LoopState:
        """The state as a checkpoint holds it: an emulator's state (a pointer) is replaced by what brings it back."""
        if self.online.fused and hasattr(self.env, "save"):
            return state._replace(environment=self.env.save(state.environment))
        return state

    def _restore(self, template: LoopState) -> LoopState:
        _, state, loose, meta = self.checkpoints.restore(self._kept(template))
        self.episodes.restore(meta["episodes"])
        self.step, self.updates, self.resumed = meta["step"], meta["updates"], meta["resumed"] + 1
        self.ratio.restore(meta["ratio"])
        self.evaluations, self.next_evaluation = meta["evaluations"], meta["next_evaluation"]
        if self.roll_out is not None:
            own = {k.removeprefix("evaluation/"): v for k, v in loose.items() if k.startswith("evaluation/")}
            self.roll_out.timestep = self.roll_out.env.restore(own) if own else None
            loose = {k: v for k, v in loose.items() if not k.startswith("evaluation/")}
        if not self.online.fused:
            timestep = self.env.restore(loose)
            state = state._replace(timestep=jax.tree.map(jnp.asarray, timestep))
        elif hasattr(self.env, "load"):
            state = state._replace(environment=self.env.load(state.environment))
        self.run.log.say(f"resumed at step {self._agent_steps():,}")
        return meshes.place(state, self.mesh)

    def _agent_steps(self) -> int:
        return self.step * self.loop.envs

    # ---- the two drivers -------------------------------------------------------------------------------------------

    def run_to_the_end(self) -> Trained:
        with self.run.phase("initialise"):
            state = self._initial_state()
            if self.run.resume and self.checkpoints.latest() is not None:
                state = self._restore(state)
            # An environment may show one array both as state and as observation; a donated buffer must be unique.
            state = jax.tree.map(jnp.copy, state)
        previous = {s: signal.signal(s, self._on_signal) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            state = self._drive_fused(state) if self.online.fused else self._drive_host(state)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        self._check_finite()
        seconds, steps, updates = self.busy
        rate = 1 / seconds if seconds > 0 else 0.0
        scale = self.online.count * self.loop.envs * self.step_scale
        return Trained(
            agent=state.agent,
            episodes=self.episodes.finished,
            evaluations=self.evaluations,
            steps=self._agent_steps() * self.step_scale,
            updates=self.updates,
            resumed=self.resumed,
            throughput={"env_steps_per_s": steps * scale * rate, "updates_per_s": updates * self.online.count * rate},
            digest=tree_digest(state.agent),
            online=self.online,
            state=state,
        )

    def _drive_host(self, state: LoopState) -> LoopState:
        online = self.online
        with self.run.phase("compile"):
            memory = self._memory(state)
        agent, carry, _, timestep, _ = state
        # A prefill is counted in steps; sampling by episode needs one that is over.
        first = self.loop.prefill
        wanted = 1 if first else min(self.loop.batch_size * self.loop.batch_length, online.replay.capacity // 2)
        ready = False
        begin = (time.monotonic(), self.step, self.updates)
        try:
            with self.run.phase("train"):
                while self.step < self.total and not self._out_of_time():
                    actions, carry = memory.collect(agent, carry, timestep, self.step)
                    self.step += 1
                    self._note(self.step, timestep)
                    ready = ready or (self._agent_steps() >= first and memory.items() >= wanted)
                    # Dispatch order matters: actions first (the environments need them), then the updates, which run
                    # while the host steps the environments.
                    for _ in range(self._updates_due() if ready else 0):
                        agent, self.metrics = memory.learn(agent, self.updates)
                        self.updates += 1
                    self._evaluate(agent)
                    if self.step < self.total:
                        timestep = self._step_environment(jax.device_get(actions))
                    state = LoopState(agent, carry, memory.buffer, timestep, None)
                    self._housekeeping(state, begin, memory)
                jax.block_until_ready(agent)
        finally:
            memory.close()
        self._measure(begin)
        return state

    def _updates_due(self) -> int:
        """The ratio is asked once for every environment, as in the official loop; in bursts only now and then."""
        steps = self._agent_steps()
        if self.loop.burst > 1 and steps // self.loop.burst == (steps - self.loop.envs) // self.loop.burst:
            return 0
        more = max(0, self.loop.pretrain - 1) if self.ratio.previous is None else 0
        return more + sum(self.ratio(step) for step in range(steps - self.loop.envs + 1, steps + 1))

    def _memory(self, state: LoopState) -> Memory:
        if self.programs is not None:
            memory = self.programs.result()
            memory.buffer = state.buffer
            return memory
        return HostMemory(self.online, state, self.run.folder / "replay", self.step if self.resumed else None)

    def _step_environment(self, actions: dict[str, np.ndarray]) -> TimeStep:
        try:
            return self.env.step(actions)
        except (RunError, KeyboardInterrupt):
            raise
        except Exception as error:
            raise RunError(
                f"the environment died at step {self._agent_steps():,} ({type(error).__name__}: {error}); "
                "continue from the last checkpoint with --resume"
            ) from error

    def _drive_fused(self, state: LoopState) -> LoopState:
        online = self.online
        steps, updates = online.ratio()
        before = min(online.steps_before_learning(), self.total)
        chunks = (self.total - before) // steps
        per_call = max(n for n in range(1, self.loop.fused_iterations + 1) if chunks % n == 0)
        placed, seen_placed = meshes.by_seed(self.mesh), meshes.by_seed(self.mesh, axis=1)
        walk = jax.jit(online.walk, static_argnums=2, donate_argnums=0, out_shardings=(placed, seen_placed))
        with self.run.phase("compile"):
            number = jax.ShapeDtypeStruct((), jnp.int32)
            iterate = jax.jit(
                online.iterate, static_argnums=3, donate_argnums=0, out_shardings=(placed, seen_placed, placed)
            )
            program = iterate.lower(shapes(state, self.mesh), number, number, per_call).compile()
        begin = (time.monotonic(), self.step, self.updates)
        with self.run.phase("train"):
            if self.step < before:
                state, seen = walk(state, jnp.int32(self.step), before - self.step)
                self._note_all(seen)
                begin = (time.monotonic(), self.step, self.updates)
            while self.step + per_call * steps <= self.total and not self._out_of_time():
                state, seen, self.metrics = program(state, jnp.int32(self.step), jnp.int32(self.updates))
                self.updates += per_call * updates
                self._note_all(seen)
                self._evaluate(state.agent)
                self._housekeeping(state, begin)
            if self.step < self.total and not self._out_of_time():
                state, seen = walk(state, jnp.int32(self.step), self.total - self.step)
                self._note_all(seen)
            self._evaluate(state.agent)
            jax.block_until_ready(state.agent)
        self._measure(begin)
        return state

    # ---- between steps ---------------------------------------------------------------------------------------------

    def _note(self, step: int, timestep: TimeStep) -> None:
        arrays = (timestep.reward, timestep.is_first, timestep.is_last)
        self.episodes.add(step, *(np.asarray(x) for x in arrays))

    def _note_all(self, seen: TimeStep) -> None:
        rewards, first, last = (np.asarray(x) for x in (seen.reward, seen.is_first, seen.is_last))
        for row in zip(rewards, first, last, strict=True):
            self.step += 1
            self.episodes.add(self.step, *row)

    def _evaluate(self, agent: Any) -> None:
        """Plays evaluation episodes if it is time, and notes them."""
        steps = self._agent_steps()
        if self.roll_out is None or self.loop.evaluate_every == 0 or steps < self.next_evaluation:
            return
        begin = time.monotonic()
        number = len(self.evaluations[0]["step"]) * 1_000_000 % (2**31 - 2_000_000)
        for log, found in zip(
            self.evaluations, self.roll_out(agent, self.loop.evaluation_episodes, number), strict=True
        ):
            log["step"] += [steps * self.step_scale] * len(found[0])
            log["return"] += found[0]
            log["length"] += found[1]
        scores = [float(np.mean(log["return"][-self.loop.evaluation_episodes :])) for log in self.evaluations]
        self.run.log.scalars(
            steps * self.step_scale,
            {f"evaluation/return_seed{s}": v for s, v in zip(self.run.seeds, scores, strict=True)},
        )
        shown = " ".join(f"{score:.4g}" for score in scores[:8])
        self.run.log.say(f"evaluation at step {steps:,}: return {shown}")
        while self.loop.evaluate_every > 0 and self.next_evaluation <= steps:
            self.next_evaluation += self.loop.evaluate_every
        if self.loop.evaluate_every < 0:
            self.next_evaluation = sys.maxsize
        self.evaluating += time.monotonic() - begin

    def _out_of_time(self) -> bool:
        """Whether `max_minutes` have passed since the first call (after compilation)."""
        if self.loop.max_minutes is not None and self.deadline == float("inf"):
            self.deadline = time.monotonic() + 60 * self.loop.max_minutes
        return time.monotonic() > self.deadline

    def _measure(self, begin: tuple[float, int, int]) -> None:
        self.busy = (time.monotonic() - begin[0] - self.evaluating, self.step - begin[1], self.updates - begin[2])

    def _housekeeping(self, state: LoopState, begin: tuple[float, int, int], memory: Memory | None = None) -> None:
        if self.progress.due():
            self._measure(begin)
            self._report()
        due = time.monotonic() - self.last_checkpoint > 60 * self.loop.checkpoint_minutes
        if due or self.stop_signal is not None:
            self._check_finite()
            if memory is not None:
                memory.save(self.step)
            self._checkpoint(state)
        if self.stop_signal is not None:
            name = signal.Signals(self.stop_signal).name
            raise RunError(f"stopped by {name} at step {self._agent_steps():,}; continue with --resume")

    def _report(self) -> None:
        means = self._check_finite()
        recent = self.episodes.recent()
        known = [value for value in recent if value is not None]
        seconds, steps, updates = self.busy
        step = self._agent_steps() * self.step_scale
        speed = {"speed/updates_per_s": updates / seconds if seconds else 0.0}
        score = {f"episode/return_seed{s}": v for s, v in zip(self.run.seeds, recent, strict=True)}
        self.run.log.scalars(step, {**means, **score, **speed})
        shown = "return " + " ".join("-" if v is None else f"{v:.4g}" for v in recent[:8]) if known else "return -"
        detail = f"{self.updates:,} updates  {shown}  {self.describe(means)}".rstrip()
        self.run.log.say(self.progress.line(self._agent_steps(), detail))

    def _check_finite(self) -> dict[str, float]:
        """Mean metrics over seeds; `RunError` if one of them is not finite for some seed."""
        fetched = {name: np.asarray(value) for name, value in self.metrics.items()}
        for name, value in fetched.items():
            bad = ~np.isfinite(value.reshape(self.online.count, -1)).all(1)
            if bad.any():
                seed = self.run.seeds[int(np.argmax(bad))]
                raise RunError(
                    f"{name} of seed {seed} is not finite after {self.updates:,} updates; the last checkpoint is from "
                    "before that: continue from it with --resume, or change the learning rate or dtype with --set"
                )
        return {name: float(value.mean()) for name, value in fetched.items()}

    def _checkpoint(self, state: LoopState) -> None:
        begin = time.monotonic()
        loose = {} if self.online.fused else dict(self.env.state())
        if self.roll_out is not None and self.roll_out.timestep is not None:
            loose |= {f"evaluation/{k}": v for k, v in self.roll_out.env.state().items()}
        meta = {
            "step": self.step,
            "updates": self.updates,
            "resumed": self.resumed,
            "ratio": self.ratio.state(),
            "episodes": self.episodes.state(),
            "evaluations": self.evaluations,
            "next_evaluation": self.next_evaluation,
        }
        self.checkpoints.save(self.step, self._kept(state), loose, meta)
        self.last_checkpoint = time.monotonic()
        self.run.log.say(f"checkpoint at step {self._agent_steps():,} ({duration(self.last_checkpoint - begin)})")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stop_signal is not None:  # asked twice: now
            raise KeyboardInterrupt
        self.stop_signal = number
