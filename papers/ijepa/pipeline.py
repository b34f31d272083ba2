"""`reproduce`: pre-training, then probes of the target encoder, of an untrained one and of the pixels."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from papers.ijepa import algorithm, jobs, report
from papers.ijepa.config import CIFAR10, IMAGENETTE, Config
from repro import config as configuration
from repro.data.sets import SETS, known, open_set
from repro.errors import UsageError
from repro.evaluation import protocols
from repro.evaluation.probes.protocols import linear_protocol
from repro.nn import vit
from repro.pipeline.run import Result, Run
from repro.pipeline.seeds import keys
from repro.pipeline.stages import Artefact, Job, Stage, run_stages
from repro.tracker import published

Inputs = Mapping[str, Artefact]
RANDOM, PIXELS = "random_encoder", "raw_pixels"


def reproduce(config: Config, run: Run) -> list[Result]:
    """Runs the stages and returns what was measured."""
    reuse = Path(config.run.reuse) if config.run.reuse else None
    if reuse is not None and not (reuse / "stages").is_dir():
        raise UsageError(f"run.reuse={reuse}: no stages there; give the folder of a run")
    found = run_stages(
        run,
        stages_of(config, run.seeds),
        log_seconds=config.run.log_seconds,
        checkpoint_minutes=config.run.checkpoint_minutes,
        reuse=reuse,
    )
    skipped = json.loads((found["pretrain"].folder / "skipped.json").read_text())
    if skipped:
        names = ", ".join(list(skipped)[:5])
        run.log.say(f"{len(skipped)} images could not be decoded and were replaced: {names}")
    pictures = report.write_pictures(config, found["pretrain"], run.folder)
    run.log.say(f"masks and features: {pictures}")
    return results(config, run, found, {"skipped_images": len(skipped)})


def stages_of(config: Config, seeds: list[int]) -> list[Stage]:
    """Pre-training of all seeds, then its probes and, once, those of what needs no training."""
    known(config.data.name)
    probed = config.data.probe or config.data.name
    location = config.data.location or None
    # All that a mistake in the location could break, before anything is trained.
    train, test = (open_set(probed, getattr(known(probed), kind), location) for kind in ("train", "test"))
    of_probe = {
        "set": probed,
        "protocol": config.probe.protocol,
        "linear": configuration.to_json(protocol(config)),
        "knn": config.probe.knn,
    }
    model = {k: v for k, v in configuration.to_json(config.model).items() if k not in ("remat", "unroll")}
    splits = partial(_splits, config, train, test, probed)
    stages = [_pretraining(config, seeds, model)]

    def trained(inputs: Inputs, scratch: Path) -> Job:
        artefact = inputs["pretrain"]
        if streamed(config):
            return jobs.Stream(
                config, protocol(config), jobs.target_of(artefact, config.optim.epochs, 0), train, splits()[1]
            )
        subjects = [
            (f"seed{seed}/epoch{epoch}", seed, partial(jobs.target_of, artefact, epoch, number))
            for number, seed in enumerate(seeds)
            for epoch in jobs.snapshots(config)
        ]
        return jobs.Probe(config, protocol(config), *splits(), subjects)

    def untrained(inputs: Inputs, scratch: Path) -> Job:
        subjects: list[Any] = [(f"seed{seed}/{RANDOM}", seed, partial(_random, config, seed)) for seed in seeds]
        subjects.append((f"seed{seeds[0]}/{PIXELS}", seeds[0], lambda: None))
        return jobs.Probe(config, protocol(config), *splits(), subjects)

    settings = of_probe | {"model": model, "seeds": seeds, "snapshots": jobs.snapshots(config)}
    if streamed(config):
        updates = max(1, len(train) // min(protocol(config).batch, len(train))) * protocol(config).epochs
        stages.append(Stage("probe", updates, "updates", settings, trained, ("pretrain",)))
    else:
        count = len(seeds) * len(jobs.snapshots(config))
        stages.append(Stage("probe", count, "encoders", settings, trained, ("pretrain",)))
    if config.probe.baselines:
        del settings["snapshots"]
        stages.append(Stage("baselines", len(seeds) + 1, "encoders", settings, untrained))
    return stages


def protocol(config: Config) -> Any:
    """The linear probe's protocol, with its epochs replaced where the configuration says so."""
    of = linear_protocol(config.probe.protocol)
    if not config.probe.epochs:
        return of
    factor = config.probe.epochs / of.epochs
    return replace(of, epochs=config.probe.epochs, drops=tuple(round(e * factor) for e in of.drops))


def streamed(config: Config) -> bool:
    """Whether the probe sees new crops in every epoch, as published; small sets are encoded once."""
    return config.probe.protocol != "small"


def _splits(config: Config, train: Any, test: Any, probed: str) -> tuple[jobs.Split, jobs.Split]:
    transform = jobs.whole(config, train, SETS[probed].size)
    workers = config.data.workers
    return jobs.Split(train, transform, workers), jobs.Split(test, transform, workers)


def _random(config: Config, seed: int) -> vit.Params:
    return jax.jit(lambda key: algorithm.init(config, key).target)(keys([seed], "init")[0])


def _pretraining(config: Config, seeds: list[int], model: Mapping[str, Any]) -> Stage:
    if config.weights:
        file = Path(config.weights) / "params.npz"
        if not file.is_file():
            raise UsageError(f"weights={config.weights}: no params.npz there; make it with `repro import ijepa`")
        if len(seeds) > 1:
            raise UsageError("weights=DIR is one encoder: use --seeds 1")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        return Stage("pretrain", 1, "files", {"sha256": digest}, lambda inputs, scratch: jobs.Given(config, file))
    images = open_set(config.data.name, known(config.data.name).train, config.data.location or None)
    updates = config.optim.epochs * (len(images) // config.optim.batch)
    data = {k: v for k, v in configuration.to_json(config.data).items() if k not in ("location", "workers", "probe")}
    settings = {
        "seeds": seeds, "model": model, "data": data, "snapshots": jobs.snapshots(config),
        **{part: configuration.to_json(getattr(config, part)) for part in ("mask", "optim")},
    }  # fmt: skip
    begin = lambda inputs, scratch: jobs.Pretrain(config, seeds, images, scratch)  # noqa: E731
    return Stage("pretrain", updates, "updates", settings, begin)


# ---- records --------------------------------------------------------------------------------------------------------

KNN = {CIFAR10: "cifar10_knn", IMAGENETTE: "imagenette_knn"}
"""Suite of the nearest-neighbour figures."""


def results(config: Config, run: Run, found: Inputs, extra: Mapping[str, Any]) -> list[Result]:
    """One result for every published row and baseline that was measured."""
    table = published.load_or_empty("ijepa")
    accuracies: dict[str, Any] = {}
    for stage in ("probe", "baselines"):
        accuracies |= found[stage].arrays() if stage in found else {}
    sweeps = {name: json.loads(str(v)) for name, v in accuracies.items() if name.endswith("/sweep")}
    made = []
    for kind in ("linear", "knn"):
        suite = config.suite if kind == "linear" else KNN.get(config.suite, "")
        if not suite or not any(name.endswith(f"/{kind}") for name in accuracies):
            continue
        for method, epochs in _methods(config, table.method(suite)).items():
            episodes = [_episodes(accuracies, f"seed{seed}", epochs, kind) for seed in run.seeds]
            if not any(one["return"] for one in episodes):
                continue
            used = max(epochs.values())
            more = dict(extra)
            if kind == "linear":
                more["sweep"] = {k: v for k, v in sweeps.items() if k.split("/")[1] in epochs}
            made.append(
                Result(
                    protocols.of("ijepa", suite),
                    episodes,
                    used,
                    run.reference.optim.epochs if used > 1 else used,
                    "epochs",
                    method=method,
                    suite=suite,
                    metric="top1_accuracy",
                    extra=more,
                )  # fmt: skip
            )
    return made


def _methods(config: Config, own: str) -> dict[str, dict[str, float]]:
    """Method of each record -> the subjects' names and the epochs that they stand for."""
    method = own if config.mask.strategy == "multiblock" else f"ijepa_{config.mask.strategy}"
    return {
        method: {f"epoch{epoch}": float(epoch) for epoch in jobs.snapshots(config)},
        RANDOM: {RANDOM: 1.0},
        PIXELS: {PIXELS: 1.0},
    }


def _episodes(found: Mapping[str, Any], seed: str, epochs: Mapping[str, float], kind: str) -> dict[str, list[float]]:
    values = {epoch: found.get(f"{seed}/{name}/{kind}") for name, epoch in epochs.items()}
    kept = {epoch: float(value) for epoch, value in sorted(values.items()) if value is not None}
    return {"step": list(kept), "return": list(kept.values())}
