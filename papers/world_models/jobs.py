"""The stages before C at work: collect, V, encode, M."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from papers.world_models import mdnrnn, policies, vae
from papers.world_models.config import Config, MDNRNNConfig
from repro.envs.base import HostEnv
from repro.envs.make import as_host, make
from repro.errors import RunError
from repro.optim.adam import adam_tf
from repro.pipeline.artefacts import Artefact, save_arrays
from repro.pipeline.seeds import keys
from repro.pipeline.stages import Job, Joined

FRAME = 64 * 64 * 3
STEPS = 32
"""Environment steps between two looks at the clock."""


def key_of(seed: int, purpose: Any, counter: Any = 0) -> jax.Array:
    """Random key of one run seed, purpose and moment."""
    return keys([seed], purpose, counter)[0]


class Given(Job):
    """Weights made by `repro import` take the place of a training stage."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def step(self, index: int) -> Mapping[str, Any]:
        """Nothing to do."""
        return {}

    def write(self, folder: Path) -> None:
        """The arrays as they are."""
        with np.load(self.file, allow_pickle=False) as arrays:
            save_arrays(folder, arrays)


class Collect(Job):
    """Random-policy episodes: `frames.bin` (uint8 images, one after the other), actions as C puts them out, lengths."""

    def __init__(self, config: Config, seed: int, scratch: Path) -> None:
        self.config, self.of, self.seed = config, config.collect, seed
        count = self.of.envs
        settings = config.env if config.doom else replace(config.env, never_ends=True)  # type: ignore[call-arg]
        self.env: HostEnv = as_host(make(config.suite, config.task, [1000 * seed + i for i in range(count)], settings))
        self.file = (scratch / "frames.bin").open("a+b")
        self.timestep = self.env.reset()
        self.quota = np.array([len(range(i, self.of.episodes, count)) for i in range(count)])
        self.kept = np.zeros(count, np.int64)
        self.begun = np.zeros(count, np.int64)
        self.age: np.ndarray = np.zeros(count, np.int64)
        self.running: list[list[np.ndarray]] = [[] for _ in range(count)]
        self.lengths: list[int] = []
        self.actions: list[np.ndarray] = []
        self.plans = [self._plan(i) for i in range(count)]

    def _plan(self, env: int) -> np.ndarray:
        return policies.episode_actions(self.config, self.of, self.seed, env, int(self.begun[env]))

    def step(self, index: int) -> Mapping[str, Any]:
        """A few steps of every environment."""
        for _ in range(STEPS):
            self._step()
        return {"frames": sum(self.lengths)}

    def _step(self) -> None:
        images = self.timestep.obs["image"]
        action = np.stack([plan[min(int(age), len(plan) - 1)] for plan, age in zip(self.plans, self.age, strict=True)])
        for i in map(int, np.flatnonzero(~self.timestep.is_last)):
            self.running[i].append(images[i])
        self.timestep = self.env.step(policies.for_environment(self.config, action))
        self.age += 1
        for i in map(int, np.flatnonzero(self.timestep.is_last)):
            frames, self.running[i] = self.running[i], []
            if len(frames) > self.of.min_frames and self.kept[i] < self.quota[i]:
                self.file.write(np.stack(frames).tobytes())
                self.lengths.append(len(frames))
                self.actions.append(self.plans[i][: len(frames)])
                self.kept[i] += 1
            self.begun[i] += 1
            self.plans[i] = self._plan(i)
        # The step after the last one returns the first frame of the next episode.
        self.age[self.timestep.is_first] = 0

    def done(self, steps: int) -> int:
        """Episodes kept."""
        return len(self.lengths)

    def loose(self) -> dict[str, np.ndarray]:
        """Environments, running episodes, what was kept (its frames are in the file)."""
        self.file.flush()
        os.fsync(self.file.fileno())
        empty = np.zeros((0, 64, 64, 3), np.uint8)
        return {
            **{f"env.{k}": v for k, v in self.env.state().items()},
            **{f"running.{i}": np.array(frames) if frames else empty for i, frames in enumerate(self.running)},
            **{name: getattr(self, name) for name in ("kept", "begun", "age")},
            "lengths": np.array(self.lengths, np.int64),
            "actions": np.concatenate([np.zeros((0, self.config.rnn.action), np.float32), *self.actions]),
        }

    def restore(self, loose: Mapping[str, np.ndarray]) -> None:
        """Cuts the file back to what the checkpoint knows."""
        self.timestep = self.env.restore({k[4:]: v for k, v in loose.items() if k.startswith("env.")})
        self.running = [list(loose[f"running.{i}"]) for i in range(len(self.kept))]
        self.kept, self.begun, self.age = (np.array(loose[name]) for name in ("kept", "begun", "age"))
        self.lengths = [int(n) for n in loose["lengths"]]
        self.actions = list(np.split(loose["actions"], np.cumsum(self.lengths)[:-1])) if self.lengths else []
        self.plans = [self._plan(i) for i in range(len(self.kept))]
        self.file.truncate(sum(self.lengths) * FRAME)

    def write(self, folder: Path) -> None:
        """The episodes in the order in which they ended."""
        self.file.flush()
        os.link(self.file.name, folder / "frames.bin")
        save_arrays(folder, {"lengths": self.lengths, "actions": np.concatenate(self.actions).astype(np.float16)})

    def close(self) -> None:
        """Ends the environments."""
        self.env.close()
        self.file.close()


def frames_of(collected: Artefact) -> np.ndarray:
    """uint8 `[F, 64, 64, 3]`, memory-mapped."""
    return np.memmap(collected.folder / "frames.bin", np.uint8, "r").reshape(-1, 64, 64, 3)


def drawn(count: int, seed: int, frames: np.ndarray) -> np.ndarray:
    """`count` of `[F, 64, 64, 3]` frames without repetition, in their order, in memory; all as they are if it is 0."""
    if not count:
        return frames
    if count > len(frames):
        raise RunError(f"{len(frames)} frames were collected, fewer than vae.frames={count}")
    # Epochs shuffle with [seed, epoch].
    chosen = np.random.default_rng([seed, 2**20]).choice(len(frames), count, replace=False)
    return np.asarray(frames[np.sort(chosen)])


class TrainVAE(Job):
    """Adam on batches of frames, shuffled anew every epoch, the last incomplete batch of an epoch left out."""

    def __init__(self, config: Config, seed: int, frames: np.ndarray) -> None:
        self.of, self.seed, self.frames = config.vae, seed, drawn(config.vae.frames, seed, frames)
        self.per_epoch = len(self.frames) // self.of.batch
        if not self.per_epoch:
            raise RunError(f"{len(self.frames)} frames were collected, fewer than vae.batch={self.of.batch}")
        optimiser = adam_tf(self.of.learning_rate)
        params = vae.init(key_of(seed, "init"), self.of)
        self.state = (params, optimiser.init(params))
        self.epoch = -1
        self.order: np.ndarray = np.zeros(0, np.int64)

        def update(state: Any, images: jax.Array, number: jax.Array) -> Any:
            params, moments = state
            normal = jax.random.normal(key_of(seed, "learn", number), (len(images), self.of.latent))
            pixels = images.astype(jnp.float32) / 255

            def objective(params: vae.Params) -> Any:
                losses = vae.loss(params, pixels, normal, self.of.kl_tolerance)
                return losses.total, losses

            gradient, losses = jax.grad(objective, has_aux=True)(params)
            change, moments = optimiser.update(gradient, moments)
            metrics = {"loss": losses.total, "reconstruction": losses.reconstruction, "kl": losses.kl}
            return (optax.apply_updates(params, change), moments), metrics

        self.update = jax.jit(update, donate_argnums=0)

    def step(self, index: int) -> Mapping[str, Any]:
        """One update."""
        epoch, batch = divmod(index, self.per_epoch)
        if epoch != self.epoch:
            self.epoch, self.order = epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self.frames))
        chosen = np.sort(self.order[batch * self.of.batch : (batch + 1) * self.of.batch])
        self.state, metrics = self.update(self.state, self.frames[chosen], jnp.int32(index))
        return metrics

    def write(self, folder: Path) -> None:
        """The parameters."""
        save_arrays(folder, self.state[0])


class Encode(Job):
    """Posteriors of all frames, float16: what M is trained on."""

    BATCH = 200

    def __init__(self, frames: np.ndarray, params: Mapping[str, Any]) -> None:
        self.frames, self.params = frames, params
        self.encode = jax.jit(lambda params, images: vae.encode(params, images.astype(jnp.float32) / 255))
        self.found: list[np.ndarray] = []

    def step(self, index: int) -> Mapping[str, Any]:
        """A batch of frames; the last one is filled up."""
        images = self.frames[index * self.BATCH : (index + 1) * self.BATCH]
        full = np.zeros((self.BATCH, *images.shape[1:]), np.uint8)
        full[: len(images)] = images
        both = np.stack(self.encode(self.params, full), 1)
        self.found.append(both[: len(images)].astype(np.float16))
        return {}

    def done(self, steps: int) -> int:
        """Frames."""
        return min(steps * self.BATCH, len(self.frames))

    def loose(self) -> dict[str, np.ndarray]:
        """What was found so far."""
        return {"found": np.concatenate(self.found)} if self.found else {}

    def restore(self, loose: Mapping[str, np.ndarray]) -> None:
        """Undoes `loose`."""
        self.found = [loose["found"]] if "found" in loose else []

    def write(self, folder: Path) -> None:
        """Mean and log-variance, `[F, D]` each."""
        mu, logvar = np.moveaxis(np.concatenate(self.found), 1, 0)
        save_arrays(folder, {"mu": mu, "logvar": logvar})


class TrainRNN(Job):
    """Adam on sequences whose latents are sampled anew every time.

    Take Cover: the episodes of an epoch follow one another in `batch` rows, cut into pieces of `length` + 1 frames; the
    LSTM state goes on from piece to piece. CarRacing: a batch of different episodes, from their first frames.
    """

    def __init__(self, config: Config, seed: int, kept: Mapping[str, Any], series: Mapping[str, Any]) -> None:
        """`kept`: lengths and actions of the episodes; `series`: mu and logvar of all frames."""
        self.config, self.of, self.seed = config, config.rnn, seed
        of = self.of
        action = policies.for_model(config, kept["actions"].astype(np.float32))
        self.lengths = kept["lengths"]
        self.first = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])
        restart = np.zeros(len(action), np.float32)
        restart[self.first] = 1
        # All frames stay on the device, where every update takes its own.
        self.frames = jax.device_put((series["mu"], series["logvar"], action, restart))
        piece = of.batch * (of.length + 1)
        self.per_epoch = len(action) // piece if of.predict_restart else max(1, len(self.lengths) // of.batch)
        if of.predict_restart and not self.per_epoch or not of.predict_restart and len(self.lengths) < of.batch:
            have = f"{len(action):,} frames in {len(self.lengths):,} episodes"
            raise RunError(f"{have} are too few for rnn.batch={of.batch} sequences of rnn.length={of.length}")
        if not of.predict_restart and self.lengths.min() <= of.length:
            raise RunError(f"rnn.length={of.length} must be less than an episode's {self.lengths.min()} frames")
        params = mdnrnn.init(key_of(seed, "init", 1), of)
        self.state = (params, _rnn_optimiser(of).init(params), mdnrnn.zero_state(of, of.batch))
        self.epoch = -1
        self.order: np.ndarray = np.zeros(0, np.int64)
        self.update = jax.jit(partial(rnn_update, of), donate_argnums=0)

    def step(self, index: int) -> Mapping[str, Any]:
        """One update."""
        numbers = (np.int32(n) for n in (index, self.per_epoch, self.seed))
        self.state, metrics = self.update(self.state, self.frames, self.rows(index), *numbers)
        return metrics

    def rows(self, index: int) -> np.ndarray:
        """The frames of update `index`, `[B, T + 1]`."""
        epoch, number = divmod(index, self.per_epoch)
        if epoch != self.epoch:
            self._shuffle(epoch)
        return self.order[number]

    def _shuffle(self, epoch: int) -> None:
        """`order` becomes the frames of every batch of the epoch, `[batches, rows, length + 1]`."""
        of, random = self.of, np.random.default_rng([self.seed, epoch, 1])
        episodes = random.permutation(len(self.lengths))
        if of.predict_restart:
            self.order = pieces(self.first, self.lengths, episodes, of.batch, of.length + 1)
        else:
            starts = self.first[episodes[: self.per_epoch * of.batch]]
            starts = starts + random.integers(0, self.lengths.min() - of.length, len(starts))
            self.order = (starts[:, None] + np.arange(of.length + 1)).reshape(self.per_epoch, of.batch, -1)
        self.epoch = epoch

    def write(self, folder: Path) -> None:
        """The parameters."""
        save_arrays(folder, self.state[0])


class TrainRNNs(Joined):
    """M of several seeds in one program: its steps through time are short, and an accelerator that waits for them does
    those of all seeds in the same time."""

    parts: Sequence[TrainRNN]

    def __init__(self, parts: Sequence[TrainRNN]) -> None:
        super().__init__(parts)
        longest = max(len(part.frames[0]) for part in parts)
        fill = lambda x: jnp.pad(x, [(0, longest - len(x))] + [(0, 0)] * (x.ndim - 1))  # noqa: E731
        each = zip(*(part.frames for part in parts), strict=True)
        self.frames = tuple(jnp.stack([fill(x) for x in of]) for of in each)
        for part in parts:
            del part.frames
        self.per_epoch = np.array([part.per_epoch for part in parts], np.int32)
        self.seeds = np.array([part.seed for part in parts], np.int32)
        one = partial(rnn_update, parts[0].of)
        self.update = jax.jit(jax.vmap(one, in_axes=(0, 0, 0, None, 0, 0)), donate_argnums=0)

    def step(self, index: int) -> Mapping[str, Any]:
        """One update of every seed."""
        rows = np.stack([part.rows(index) for part in self.parts])
        self.state, metrics = self.update(self.state, self.frames, rows, np.int32(index), self.per_epoch, self.seeds)
        return metrics


def _rnn_optimiser(of: MDNRNNConfig) -> optax.GradientTransformation:
    return adam_tf(partial(mdnrnn.learning_rate, of), of.clip)


def rnn_update(
    of: MDNRNNConfig,
    state: Any,
    frames: tuple[jax.Array, ...],
    rows: jax.Array,
    number: jax.Array,
    per_epoch: jax.Array,
    seed: jax.Array,
) -> Any:
    """Update `number` of M from the frames `rows` `[B, T + 1]` of (mu, logvar, action, restart) `[F, ...]`: the new
    state (parameters, moments, LSTM state) and losses. Every argument but `of` may have an axis of seeds."""
    params, moments, carried = state
    mu, logvar, action, restart = (x[rows.T] for x in frames)
    carried = jax.tree.map(lambda x: jnp.where(number % per_epoch == 0, 0.0, x), carried)
    normal = jax.random.normal(keys(seed[None], "learn", number + 2**30)[0], mu.shape)
    latent = vae.sample(mu.astype(jnp.float32), logvar.astype(jnp.float32), normal)
    batch = mdnrnn.Batch(latent, action, restart if of.predict_restart else None)

    def objective(params: mdnrnn.Params) -> Any:
        losses, last = mdnrnn.loss(params, of, batch, carried)
        return losses.total, (losses, last)

    gradient, (losses, last) = jax.grad(objective, has_aux=True)(params)
    change, moments = _rnn_optimiser(of).update(gradient, moments)
    metrics = {"loss": losses.total, "latent": losses.latent, "restart": losses.restart}
    carried = last if of.predict_restart else carried
    return (optax.apply_updates(params, change), moments, carried), metrics


def pieces(first: np.ndarray, lengths: np.ndarray, order: np.ndarray, batch: int, length: int) -> np.ndarray:
    """Frame numbers `[pieces, batch, length]`: the episodes in `order` one after the other, what is too much at the end
    left out, in `batch` rows, cut along time (release, `doomrnn/rnn_train.py`)."""
    frames = np.concatenate([np.arange(first[e], first[e] + lengths[e]) for e in order])
    count = len(frames) // (batch * length)
    return frames[: count * batch * length].reshape(batch, count, length).swapaxes(0, 1)
