"""The stages at work: pre-training of all seeds, probes of what came out."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from papers.ijepa import algorithm, networks
from papers.ijepa.config import Config
from papers.ijepa.program import Program
from repro.data import loader
from repro.data.device import DeviceLoader, fits
from repro.data.images import ImageSet, in_memory
from repro.data.sets import SETS
from repro.data.transforms import CentreCrop, RandomResizedCrop, Transform, normalise
from repro.evaluation.probes import Heads, LinearProbe, knn, linear_probe
from repro.nn import vit
from repro.pipeline.artefacts import Artefact, save_arrays
from repro.pipeline.seeds import keys
from repro.pipeline.stages import Job
from repro.scale import mesh as meshes

Features = dict[str, np.ndarray]
IN_MEMORY = 2**30
"""Bytes of a decoded set that is kept between two probes."""
ENCODED = 256
"""Images encoded at once for a probe."""


def crop(config: Config) -> RandomResizedCrop:
    """The only augmentation of pre-training."""
    low, high = config.data.crop_scale
    return RandomResizedCrop(config.data.size, (low, high), flip=config.data.flip)


def labelled_crop(config: Config) -> RandomResizedCrop:
    """Of images that are learned from with their labels: the published probe, fine-tuning (P appendix A.2)."""
    return RandomResizedCrop(config.data.size, (0.08, 1.0), flip=True, interpolation="bicubic")


def whole(config: Config, name: str) -> CentreCrop:
    """What is probed of a set: the image itself where it has the right size, else 8/7 of it and the centre."""
    side = config.data.size
    return CentreCrop(side, side if SETS[name].size == side else round(side * 8 / 7))


def loaders(config: Config, seeds: list[int], images: ImageSet) -> list[Any]:
    """Where the batches of each seed come from: crops made on the accelerator where the set fits there, else by
    threads. A set of small images is decoded once."""
    transform, of, batch = crop(config), config.data, config.optim.batch
    if SETS[of.name].size is not None:
        images = in_memory(images, of.workers)
    if jax.default_backend() != "cpu" and jax.device_count() == 1 and fits(images, transform):
        first = DeviceLoader(images, transform, batch, seeds[0])
        return [first, *(DeviceLoader(images, transform, batch, s, first.pixels) for s in seeds[1:])]
    part = (jax.process_index(), jax.process_count())
    return [loader.Loader(images, transform, batch, s, of.workers, part=part) for s in seeds]


class Pretrain(Job):
    """Updates of all seeds, each with its own images; leaves the target encoders at several epochs."""

    def __init__(self, config: Config, seeds: list[int], images: ImageSet, scratch: Path) -> None:
        self.config, self.scratch = config, scratch
        self.loaders = loaders(config, seeds, images)
        self.per_epoch = self.loaders[0].steps_per_epoch
        mesh = meshes.choose(len(seeds), config.run.data_parallel, config.optim.batch)
        program = Program(config, seeds, mesh, jax.default_backend())
        self.state = program.init()
        self.update = program.compiled(self.per_epoch)
        self.split = meshes.by_seed_and_batch(mesh)
        self.begin = time.monotonic()

    def step(self, index: int) -> Mapping[str, Any]:
        """One update of every seed."""
        batches = [one.batch(index)["image"] for one in self.loaders]
        if self.split is not None:
            images = jax.make_array_from_process_local_data(self.split, np.stack(batches))
        else:
            images = (np if isinstance(batches[0], np.ndarray) else jnp).stack(batches)
        now = algorithm.moment(self.config, self.per_epoch, index)
        self.state, metrics = self.update(self.state, images, now, jnp.int32(index))
        self._snapshot(index + 1)
        waited = sum(one.waited for one in self.loaders) / max(time.monotonic() - self.begin, 1e-9)
        return metrics | {"lr": now.lr, "waited_for_images": waited}

    def _snapshot(self, updates: int) -> None:
        epoch, rest = divmod(updates, self.per_epoch)
        if not rest and epoch in snapshots(self.config):
            save_arrays(self.scratch, jax.device_get(self.state.target), f"epoch{epoch}.npz")

    def write(self, folder: Path) -> None:
        """`epoch<n>.npz`: target encoders `[S, ...]`; `arrays.npz`: encoders and predictors at the end."""
        for epoch in snapshots(self.config):
            os.link(self.scratch / f"epoch{epoch}.npz", folder / f"epoch{epoch}.npz")
        save_arrays(folder, jax.device_get(self.state.online))
        skipped = {name: why for one in self.loaders for name, why in one.skipped.items()}
        (folder / "skipped.json").write_text(json.dumps(skipped))

    def close(self) -> None:
        """Ends the threads that decode."""
        for one in self.loaders:
            one.close()


def snapshots(config: Config) -> list[int]:
    """Epochs after which the encoder is probed, the last one included."""
    count = min(config.probe.snapshots, config.optim.epochs)
    return sorted({round(config.optim.epochs * (i + 1) / count) for i in range(count)})


class Given(Job):
    """Weights made by `repro import` take the place of pre-training."""

    def __init__(self, config: Config, file: Path) -> None:
        self.config, self.file = config, file

    def step(self, index: int) -> Mapping[str, Any]:
        """Nothing to do."""
        return {}

    def write(self, folder: Path) -> None:
        """The target encoder as the one of the last epoch."""
        with np.load(self.file, allow_pickle=False) as arrays:
            target = {k.removeprefix("target/"): arrays[k][None] for k in arrays.files if k.startswith("target/")}
        save_arrays(folder, target, f"epoch{self.config.optim.epochs}.npz")
        (folder / "skipped.json").write_text("{}")


# ---- probes ---------------------------------------------------------------------------------------------------------


class Encoder:
    """Features of frozen encoders: `last` `[D]`, the mean over patches of the final output, and `concat4` `[4 D]`,
    that of each of the last four blocks through the final norm."""

    def __init__(self, config: Config) -> None:
        model, grid = config.model, config.grid

        @jax.jit
        def features(params: vit.Params, images: jax.Array) -> dict[str, jax.Array]:
            outputs = list(networks.block_outputs(params, model, grid, normalise(images)))
            means = [x.mean(1) for x in outputs[-4:]]
            return {"last": means[-1], "concat4": jnp.concatenate(means, -1)}

        self.features = features

    def __call__(self, params: vit.Params, batches: Iterator[Mapping[str, np.ndarray]]) -> Features:
        """Features of all readable images, in order."""
        parts = []
        for batch in batches:
            found = self.features(params, batch["image"])
            parts.append({kind: np.asarray(x)[batch["valid"]] for kind, x in found.items()})
        return {kind: np.concatenate([part[kind] for part in parts]) for kind in parts[0]}


def pixels(batches: Iterator[Mapping[str, np.ndarray]]) -> Features:
    """The images themselves as features, in the place of an encoder's."""
    rows = [normalise(batch["image"][batch["valid"]]) for batch in batches]
    flat = np.concatenate(rows)
    return {"last": flat.reshape(len(flat), -1)}


class Split:
    """One split of the probed set in batches; decoded once where it is small."""

    def __init__(self, images: ImageSet, transform: Transform, workers: int) -> None:
        self.images, self.transform, self.workers = images, transform, workers
        self.skipped: dict[str, str] = {}
        self.kept: list[dict[str, np.ndarray]] | None = None

    def __call__(self) -> Iterator[dict[str, np.ndarray]]:
        """All images in order, from the start."""
        if self.kept is not None:
            return iter(self.kept)
        batches = loader.in_order(self.images, self.transform, ENCODED, self.workers, self.skipped)
        if len(self.images) * self.transform.size**2 * 3 > IN_MEMORY:
            return batches
        self.kept = list(batches)
        return iter(self.kept)

    def labels(self) -> np.ndarray:
        """Of the readable images; to be asked after they have been read once."""
        if not self.skipped:
            return self.images.labels
        names = [self.images.source.name(i) for i in range(len(self.images))]
        return self.images.labels[[name not in self.skipped for name in names]]


class Probe(Job):
    """Linear probe and nearest neighbours on computed features, one after the other for each of `subjects`: a name, and
    the encoder's parameters or None for the pixels."""

    def __init__(
        self, config: Config, protocol: LinearProbe, train: Split, test: Split, subjects: list[tuple[str, int, Any]]
    ) -> None:
        """Each subject: name, seed, function that returns parameters (or None)."""
        self.config, self.protocol, self.train, self.test, self.subjects = config, protocol, train, test, subjects
        self.encoder = Encoder(config)
        self.found: dict[str, np.ndarray] = {}

    def step(self, index: int) -> Mapping[str, Any]:
        """One subject."""
        name, seed, params_of = self.subjects[index]
        params = params_of()
        train, test = (
            pixels(split()) if params is None else self.encoder(params, split()) for split in (self.train, self.test)
        )
        labels = self.train.labels(), self.test.labels()
        result = linear_probe(train, labels[0], test, labels[1], self.protocol, keys([seed], "evaluate")[0])
        accuracies = {"linear": 100 * result.accuracy}
        if self.config.probe.knn:
            accuracies["knn"] = 100 * knn(train["last"], labels[0], test["last"], labels[1])
        for kind, value in accuracies.items():
            self.found[f"{name}/{kind}"] = np.array(value)
        self.found[f"{name}/sweep"] = np.array(json.dumps({k: round(100 * v, 2) for k, v in result.accuracies.items()}))
        return accuracies

    def loose(self) -> dict[str, np.ndarray]:
        """What was found so far."""
        return dict(self.found)

    def restore(self, loose: Mapping[str, np.ndarray]) -> None:
        """Undoes `loose`."""
        self.found = dict(loose)

    def write(self, folder: Path) -> None:
        """Accuracies in percent, `<subject>/linear`, `<subject>/knn`; `<subject>/sweep`: all settings, as JSON."""
        save_arrays(folder, self.found)


class Stream(Job):
    """The linear probe as published, on crops drawn anew in every epoch: batches of images are encoded piece by piece,
    then all classifiers of the sweep are updated."""

    def __init__(self, config: Config, protocol: LinearProbe, params: vit.Params, train: ImageSet, test: Split) -> None:
        self.config, self.protocol, self.params, self.test = config, protocol, params, test
        self.encoder = Encoder(config)
        seed, batch = config.first_seed, min(protocol.batch, len(train))
        self.loader = loader.Loader(train, labelled_crop(config), batch, seed, config.data.workers, ahead=1)
        width = config.model.width
        kinds = {"last": width, "concat4": 4 * width}
        self.heads = Heads(protocol, kinds, train.classes, self.loader.steps_per_epoch)
        self.state = self.heads.init(keys([seed], "evaluate")[0])
        self.update = jax.jit(self.heads.update, donate_argnums=0)

    @property
    def total(self) -> int:
        """Updates."""
        return self.heads.updates

    def step(self, index: int) -> Mapping[str, Any]:
        """One update."""
        batch = self.loader.batch(index)
        pieces = (
            {"image": part, "valid": np.ones(len(part), bool)}
            for part in np.array_split(batch["image"], max(1, len(batch["image"]) // ENCODED))
        )
        features = {kind: jnp.asarray(x) for kind, x in self.encoder(self.params, pieces).items()}
        self.state, losses = self.update(self.state, features, jnp.asarray(batch["label"]), jnp.int32(index))
        return {"loss": jnp.stack([x.min() for x in losses.values()]).min()}

    def write(self, folder: Path) -> None:
        """Accuracies of all settings on the test split, as `Probe`."""
        features, labels = self.encoder(self.params, self.test()), self.test.labels()
        correct = jax.jit(self.heads.correct)(self.state, features, jnp.asarray(labels))
        result = self.heads.result({k: np.asarray(v) for k, v in correct.items()}, len(labels))
        name = f"seed{self.config.first_seed}/epoch{self.config.optim.epochs}"
        sweep = json.dumps({k: round(100 * v, 2) for k, v in result.accuracies.items()})
        save_arrays(folder, {f"{name}/linear": 100 * result.accuracy, f"{name}/sweep": np.array(sweep)})

    def close(self) -> None:
        """Ends the threads."""
        self.loader.close()


def target_of(artefact: Artefact, epoch: int, number: int) -> vit.Params:
    """The target encoder of seed number `number` after an epoch."""
    return {name: jnp.asarray(p[number]) for name, p in artefact.arrays(f"epoch{epoch}.npz").items()}
