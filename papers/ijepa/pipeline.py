"""`reproduce`: pre-training, then probes of the target encoder, of an untrained one and of the pixels."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from papers.ijepa import algorithm, finetune, jobs, report
from papers.ijepa.config import CIFAR10, IMAGENETTE, Config
from repro import config as configuration
from repro.data.get import ensure
from repro.data.images import ImageSet
from repro.data.sets import known, open_pair, open_set
from repro.data.subsets import few_labels
from repro.errors import UsageError
from repro.evaluation import protocols
from repro.evaluation.probes import LinearProbe
from repro.evaluation.probes.protocols import ONE_PERCENT, linear_protocol
from repro.nn import vit
from repro.pipeline.artefacts import Artefact, kept
from repro.pipeline.run import Result, Run
from repro.pipeline.seeds import keys
from repro.pipeline.stages import Job, Stage, run_alone, run_stages
from repro.tracker import published

Inputs = Mapping[str, Artefact]
RANDOM, PIXELS = "random_encoder", "raw_pixels"
COMPUTED = ("fused_attention", "remat", "unroll")
"""Fields of the model that change no number."""


def reproduce(config: Config, run: Run) -> list[Result]:
    """Runs the stages and returns what was measured."""
    reuse = Path(config.run.reuse) if config.run.reuse else None
    if reuse is not None and not (reuse / "stages").is_dir():
        raise UsageError(f"run.reuse={reuse}: no stages there; give the folder of a run")
    for name in sorted({config.data.name, config.data.probe} - {""}):
        ensure(name, config.data.location or None, run.log.say)
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
    first, *others = results(config, run, found, {"skipped_images": len(skipped)})
    caption = f"images, contexts, targets and principal components of the patch features, seed {run.seeds[0]}"
    return [replace(first, pictures={caption: pictures}), *others]


def evaluate(config: Config, folder: Path, episodes: int) -> list[list[float]]:
    """Accuracy (percent) of the kept encoders, the linear probe of each made again; there are no episodes to count."""
    config = replace(config, probe=replace(config.probe, snapshots=1, knn=False, baselines=False))
    seeds = list(range(config.first_seed, config.first_seed + config.seeds))
    found = run_alone(stages_of(config, seeds)[1], kept(folder, ["pretrain"]))
    return [[float(found[f"seed{seed}/epoch{config.optim.epochs}/linear"])] for seed in seeds]


def stages_of(config: Config, seeds: list[int]) -> list[Stage]:
    """Pre-training of all seeds, then its probes and, once, those of what needs no training."""
    probed, location = config.data.probe or config.data.name, config.data.location or None
    # All that a mistake in the location could break, before anything is trained.
    train, test = open_pair(probed, location)
    model = {k: v for k, v in configuration.to_json(config.model).items() if k not in COMPUTED}
    settings: dict[str, Any] = {"set": probed, "protocol": config.probe.protocol, "model": model, "seeds": seeds}
    settings["size"] = config.data.size
    stages = [_pretraining(config, seeds, model)]
    if config.probe.protocol == "small":
        return [*stages, *_small(config, seeds, (train, test), settings)]
    if len(seeds) > 1:
        raise UsageError(f"the {config.probe.protocol} probe is of one encoder: use --seeds 1")
    split = jobs.Split(test, jobs.whole(config, probed), config.data.workers)
    epoch = config.optim.epochs
    if config.probe.protocol == "one_percent":
        tuning = ONE_PERCENT.get(config.task, ONE_PERCENT["vit_h14"])
        labelled, name = few_labels(train, 0.01, 0), f"seed{seeds[0]}/epoch{epoch}/linear"
        updates = tuning.epochs * max(1, len(labelled) // tuning.batch)

        def start(inputs: Inputs, scratch: Path) -> Job:
            return finetune.Tune(
                config, tuning, jobs.target_of(inputs["pretrain"], epoch, 0), labelled, split, name
            )  # fmt: skip

        settings["tuning"] = asdict(tuning)
        return [*stages, Stage("probe", updates, "updates", settings, start, ("pretrain",))]
    linear = protocol(config)
    updates = linear.epochs * max(1, len(train) // min(linear.batch, len(train)))

    def stream(inputs: Inputs, scratch: Path) -> Job:
        return jobs.Stream(config, linear, jobs.target_of(inputs["pretrain"], epoch, 0), train, split)

    settings["linear"] = asdict(linear)
    return [*stages, Stage("probe", updates, "updates", settings, stream, ("pretrain",))]


def _small(config: Config, seeds: list[int], sets: tuple[ImageSet, ImageSet], settings: dict[str, Any]) -> list[Stage]:
    """Probes on features computed once: of every seed and snapshot; of untrained encoders; of the pixels."""
    transform = jobs.whole(config, settings["set"])
    splits = [jobs.Split(images, transform, config.data.workers) for images in sets]
    epochs, linear = jobs.snapshots(config), protocol(config)

    def trained(inputs: Inputs, scratch: Path) -> Job:
        subjects = [
            (f"seed{seed}/epoch{epoch}", seed, partial(jobs.target_of, inputs["pretrain"], epoch, number))
            for number, seed in enumerate(seeds)
            for epoch in epochs
        ]
        return jobs.Probe(config, linear, splits[0], splits[1], subjects)

    def untrained(inputs: Inputs, scratch: Path) -> Job:
        subjects: list[Any] = [(f"seed{seed}/{RANDOM}", seed, partial(_random, config, seed)) for seed in seeds]
        # The pixels have no seed: they are probed once.
        subjects.append((f"seed{seeds[0]}/{PIXELS}", seeds[0], lambda: None))
        return jobs.Probe(config, linear, splits[0], splits[1], subjects)

    of = settings | {"linear": asdict(linear), "knn": config.probe.knn}
    count = len(seeds) * len(epochs)
    stages = [Stage("probe", count, "encoders", of | {"epochs": epochs}, trained, ("pretrain",))]
    if config.probe.baselines:
        stages.append(Stage("baselines", len(seeds) + 1, "encoders", of, untrained))
    return stages


def protocol(config: Config) -> LinearProbe:
    """The linear probe's protocol, with its epochs replaced where the configuration says so."""
    name = config.probe.protocol
    of = linear_protocol((config.data.probe if name == "transfer" else name) or name)
    if not config.probe.epochs:
        return of
    factor = config.probe.epochs / of.epochs
    return replace(of, epochs=config.probe.epochs, drops=tuple(round(e * factor) for e in of.drops))


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
            # What is not trained has no budget to fall short of.
            used = max(epochs.values())
            full = used if method in (RANDOM, PIXELS) else run.reference.optim.epochs
            more = dict(extra)
            if kind == "linear":
                more["sweep"] = {k: v for k, v in sweeps.items() if k.split("/")[1] in epochs}
            made.append(
                Result(
                    protocols.of("ijepa", suite),
                    episodes,
                    used,
                    full,
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
