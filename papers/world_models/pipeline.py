"""`reproduce`: collect, V, encode, M, C, evaluate, for every seed; one result a published number."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from papers.world_models import controller, dream, jobs, real
from papers.world_models.config import CAR, Config
from repro import config as configuration
from repro.errors import UsageError
from repro.evaluation import protocols
from repro.evaluation.protocols import Protocol
from repro.pipeline.run import Result, Run
from repro.pipeline.stages import Artefact, Job, Stage, run_stages

STARTS = 1_000
"""First frames that dreams begin from (release: `initial_z.json`)."""


def reproduce(config: Config, run: Run) -> list[Result]:
    """Runs all stages of all seeds and returns what was measured."""
    reuse = Path(config.stages.reuse) if config.stages.reuse else None
    if reuse is not None and not (reuse / "stages").is_dir():
        raise UsageError(f"stages.reuse={reuse}: no stages there; give the folder of a run")
    stages = [stage for seed in run.seeds for stage in stages_of(config, seed)]
    found = run_stages(
        run,
        stages,
        log_seconds=config.stages.log_seconds,
        checkpoint_minutes=config.stages.checkpoint_minutes,
        reuse=reuse,
    )
    return results(config, run, found)


def temperatures(config: Config) -> tuple[float, ...]:
    """The main temperature first, then those of the table."""
    others = [tau for tau in config.dream.table if tau != config.dream.temperature]
    return (config.dream.temperature, *others)


def models(config: Config, inputs: Mapping[str, Artefact], seed: int) -> dict[str, Any]:
    """What C and the evaluations need from the stages before: parameters of V and M, first frames."""

    def stored(name: str) -> dict[str, Any]:
        arrays = inputs[f"seed{seed}/{name}"].arrays()
        return {k: controller.rounded(v) if config.quantise else jnp.asarray(v) for k, v in arrays.items()}

    found: dict[str, Any] = {"vae": stored("vae"), "rnn": stored("rnn")}
    if f"seed{seed}/encode" in inputs:
        series, kept = inputs[f"seed{seed}/encode"].arrays(), inputs[f"seed{seed}/collect"].arrays()
        first = np.concatenate([[0], np.cumsum(kept["lengths"])[:-1]])[:STARTS]
        mu, logvar = (jnp.asarray(series[name][first].astype(np.float32)) for name in ("mu", "logvar"))
        found["starts"] = dream.starts(mu, logvar)
    return found


def stages_of(config: Config, seed: int) -> list[Stage]:
    """The stages of one seed."""
    part = lambda *names: {"seed": seed, **{n: configuration.to_json(getattr(config, n)) for n in names}}  # noqa: E731
    name = lambda stage: f"seed{seed}/{stage}"  # noqa: E731
    data, encoded = (name("collect"), name("vae")), (name("collect"), name("encode"))
    frames = lambda inputs: int(inputs[name("collect")].arrays()["lengths"].sum())  # noqa: E731

    def vae_of(inputs: Mapping[str, Artefact]) -> dict[str, Any]:
        arrays = inputs[name("vae")].arrays()
        return {k: controller.rounded(v) if config.quantise else v for k, v in arrays.items()}

    stages = [
        Stage(
            name("collect"), config.collect.episodes, "episodes", part("env", "collect"),
            lambda inputs, scratch: jobs.Collect(config, seed, scratch),
        ),
        Stage(
            name("vae"), config.vae.updates, "updates", part("vae"),
            lambda inputs, scratch: jobs.TrainVAE(config, seed, inputs[name("collect")]), (name("collect"),),
        ),
        Stage(
            name("encode"), frames, "frames", {"quantise": config.quantise},
            lambda inputs, scratch: jobs.Encode(config, inputs[name("collect")], vae_of(inputs)), data,
        ),
        Stage(
            name("rnn"), config.rnn.updates, "updates", part("rnn"),
            lambda inputs, scratch: jobs.TrainRNN(config, seed, *(inputs[n] for n in encoded)), encoded,
        ),
    ]  # fmt: skip
    trained = (*data, name("encode"), name("rnn"))
    settings = part("env", "controller", "es") | {"quantise": config.quantise}
    if config.suite == CAR:
        stages.append(
            Stage(
                name("controller"), config.es.generations, "generations", settings,
                lambda inputs, scratch: jobs.RealController(config, seed, models(config, inputs, seed)),
                (name("vae"), name("rnn")),
            )
        )  # fmt: skip
        return [*stages, *_evaluations(config, seed, "controller", "")]
    for tau in temperatures(config):
        of = {**settings, "dream": {**configuration.to_json(config.dream), "temperature": tau, "table": None}}
        label = f"_tau{tau:.2f}"
        stages.append(
            Stage(
                name(f"controller{label}"), config.es.generations, "generations", of,
                partial(_dream_training, config, seed, tau),
                trained,
            )
        )  # fmt: skip
        needs = (*trained, name(f"controller{label}"))
        stages.append(
            Stage(
                name(f"dream{label}"), config.evaluation.episodes, "episodes", of | part("evaluation"),
                partial(_dream_episodes, config, seed, tau), needs,
            )
        )  # fmt: skip
        stages += _evaluations(config, seed, f"controller{label}", label)
    return stages


def _dream_training(config: Config, seed: int, tau: float, inputs: Mapping[str, Artefact], scratch: Path) -> Job:
    return jobs.DreamController(config, seed, models(config, inputs, seed), tau)


def _dream_episodes(config: Config, seed: int, tau: float, inputs: Mapping[str, Artefact], scratch: Path) -> Job:
    of = models(config, inputs, seed)
    of["controller"] = inputs[f"seed{seed}/controller_tau{tau:.2f}"].arrays()["controller"]
    return jobs.DreamEvaluate(config, seed, config.evaluation.episodes, of, tau)


def _evaluations(config: Config, seed: int, trained: str, label: str) -> list[Stage]:
    """The real environment: the controller by both protocols, and (once) random actions."""
    name = lambda stage: f"seed{seed}/{stage}"  # noqa: E731
    settings = {"seed": seed, "env": configuration.to_json(config.env), "envs": config.evaluation.envs}
    main = label in ("", f"_tau{config.dream.temperature:.2f}")

    def begin(episodes: int, inputs: Mapping[str, Artefact], scratch: Path) -> Job:
        of = models(config, inputs, seed)
        agent = real.Agent(config, of["vae"], of["rnn"])
        weights = inputs[name(trained)].arrays()["controller"]
        envs = min(config.evaluation.envs, episodes)
        policy = real.ControllerPolicy(agent, weights, envs, jobs.key_of(seed, "evaluate", 2))
        return jobs.Evaluate(config, seed, episodes, policy)

    wanted = {"evaluate": config.evaluation.episodes, "evaluate_many": config.evaluation.many if main else 0}
    stages = [
        Stage(
            name(f"{stage}{label}"), episodes, "episodes", {**settings, "episodes": episodes},
            partial(begin, episodes),
            (name("vae"), name("rnn"), name(trained)),
        )
        for stage, episodes in wanted.items()
        if episodes
    ]  # fmt: skip
    if main:
        episodes = config.evaluation.episodes
        random = lambda inputs, scratch: jobs.Evaluate(  # noqa: E731
            config, seed, episodes, real.uniform_policy(config, seed), 2 * jobs.EVALUATION_SEED
        )
        stages.append(Stage(name("random"), episodes, "episodes", {**settings, "episodes": episodes}, random))
    return stages


# ---- what goes into the records -------------------------------------------------------------------------------------


def method_of(config: Config) -> str:
    """The published row of CarRacing that the controller's variant belongs to."""
    rows = {("zh", 0): "world_models", ("z", 0): "world_models_v_only", ("z", 40): "world_models_v_only_hidden"}
    of = config.controller
    return rows.get((of.features, of.hidden), f"world_models_{of.features}_{of.hidden}")


def results(config: Config, run: Run, found: Mapping[str, Artefact]) -> list[Result]:
    """One result for every published row that was measured."""
    base = protocols.of("world_models", config.suite)
    base = dataclasses.replace(base, evaluation_episodes=config.evaluation.episodes)
    seeds = run.seeds
    generations, full = config.es.generations, run.reference.es.generations
    packages = {k: str(v) for k, v in found[f"seed{seeds[0]}/random"].arrays("versions.npz").items()}
    facts = _facts(config, found, seeds)

    def result(stage: str, method: str, protocol: Protocol = base, **of: Any) -> Result:
        of = {"budget_used": generations, "budget_paper": full, **of}
        arrays = [found[f"seed{seed}/{stage}"].arrays() for seed in seeds]
        episodes = [
            {
                "step": [float(of["budget_used"])] * len(a["returns"]),
                "return": a["returns"].tolist(),
                "length": a.get("lengths", a["returns"]).astype(float).tolist(),
            }
            for a in arrays
        ]
        return Result(protocol, episodes, step_unit="generations", method=method, versions=packages, **of)

    def curve(stage: str, method: str, task: str) -> Result:
        count = config.es.evaluation_rollouts
        protocol = Protocol(
            f"world_models_{count}_rollouts",
            f"mean of {count} roll-outs of the mean of CMA-ES's distribution, always with the same seeds; the best "
            "evaluation so far",
            "final", "evaluation", "generations", evaluation_episodes=1, evaluate_every=config.es.evaluate_every,
            source="World Models: appendix, Evolution Strategies",
        )  # fmt: skip
        episodes = []
        for seed in seeds:
            evaluated = found[f"seed{seed}/{stage}"].arrays()["evaluations"]
            best = np.maximum.accumulate(evaluated[:, 1])
            episodes.append({"step": evaluated[:, 0].tolist(), "return": best.tolist()})
        metric = "episode_return_1024_rollouts"
        return Result(
            protocol, episodes, generations, full, "generations", method=method, metric=metric, task=task,
            versions=packages, extra=facts,
        )  # fmt: skip

    many = dataclasses.replace(base, name=f"{base.name}_many", evaluation_episodes=config.evaluation.many)
    random = result("random", "random", budget_used=1, budget_paper=1)
    if config.suite == CAR:
        method = method_of(config)
        measured = [result("evaluate", method, extra=facts), curve("controller", method, ""), random]
        if config.evaluation.many:
            measured.append(result("evaluate_many", method, many, metric="episode_return_1024_consecutive"))
        return measured
    measured = []
    for tau in temperatures(config):
        label, method = f"tau{tau:.2f}", f"world_models_tau{tau:.2f}"
        dreamed = dataclasses.replace(base, name=f"{base.name}_dream", description=f"{base.description}, in the dream")
        measured.append(result(f"evaluate_{label}", method, extra=facts))
        measured.append(result(f"dream_{label}", method, dreamed, task="take_cover_dream"))
    main = f"tau{config.dream.temperature:.2f}"
    measured += [curve(f"controller_{main}", f"world_models_{main}", "take_cover_dream"), random]
    if config.evaluation.many:
        measured.append(
            result(f"evaluate_many_{main}", f"world_models_{main}", many, metric="episode_return_1024_rollouts")
        )
    return measured


def _facts(config: Config, found: Mapping[str, Artefact], seeds: list[int]) -> dict[str, Any]:
    """What the stages before C were made of, and the course of CMA-ES, per seed."""
    facts: dict[str, Any] = {"frames": [], "random_mean": [], "evolution": []}
    main = "controller" if config.suite == CAR else f"controller_tau{config.dream.temperature:.2f}"
    for seed in seeds:
        facts["frames"].append(int(found[f"seed{seed}/collect"].arrays()["lengths"].sum()))
        facts["random_mean"].append(float(found[f"seed{seed}/random"].arrays()["returns"].mean()))
        facts["evolution"].append(np.round(found[f"seed{seed}/{main}"].arrays()["history"], 3).tolist())
    return facts
