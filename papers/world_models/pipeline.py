"""`reproduce`: the stages collect, V, encode, M, C and evaluation of every seed; what goes into the records is in
`measured`."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from papers.world_models import controller, dream, evolve, game, jobs, measured, real, report
from papers.world_models.config import Config
from repro import config as configuration
from repro.errors import UsageError
from repro.pipeline.artefacts import Artefact, kept
from repro.pipeline.run import Result, Run
from repro.pipeline.stages import Job, Stage, Together, run_stages

STARTS = 1_000
"""First frames that dreams begin from (release: `initial_z.json`)."""

Inputs = Mapping[str, Artefact]


def reproduce(config: Config, run: Run) -> list[Result]:
    """Runs all stages of all seeds and returns what was measured."""
    reuse = Path(config.stages.reuse) if config.stages.reuse else None
    if reuse is not None and not (reuse / "stages").is_dir():
        raise UsageError(f"stages.reuse={reuse}: no stages there; give the folder of a run")
    found = run_stages(
        run,
        in_order(config, run.seeds),
        log_seconds=config.stages.log_seconds,
        checkpoint_minutes=config.stages.checkpoint_minutes,
        reuse=reuse,
    )
    first, *others = measured.results(config, run, found)
    return [replace(first, pictures=_videos(config, run, found)), *others]


def _videos(config: Config, run: Run, found: Inputs) -> dict[str, Path]:
    """Of the first seed: `dream.gif`, collected episodes above dreams of the same actions, and `agent.gif`, C in the
    real environment above C in its dream; none without an M."""
    seed, pictures = run.seeds[0], {}
    if f"seed{seed}/rnn" not in found:
        return {}
    given = models(config, found, seed)
    if collected := found.get(f"seed{seed}/collect"):
        series = {**collected.arrays(), "frames": jobs.frames_of(collected)}
        path = report.write_rollouts(config, (given["vae"], given["rnn"]), series, run.folder, seed)
        run.log.say(f"real and dreamed roll-outs: {path}")
        pictures[f"episodes of the random policy (above) and dreams of the same actions (below), seed {seed}"] = path
    trained = found[f"seed{seed}/controller{measured.labels(config)[0]}"].arrays()["controller"]
    dreams = game.DreamGame(config, given["vae"], given["rnn"], trained)
    try:
        path = game.write_film(dreams, run.folder, 4 * evolve.EVALUATION_SEED + 10_000 * seed)
    finally:
        dreams.close()
    run.log.say(f"C in the real environment and in its dream: {path}")
    pictures[f"C in the real environment (above) and in its dream (below), from the same frame on, seed {seed}"] = path
    return pictures


def models(config: Config, inputs: Inputs, seed: int) -> dict[str, Any]:
    """What C and the evaluations need from the stages before: parameters of V and M (where there is one), first frames
    of episodes."""

    def stored(name: str) -> dict[str, Any]:
        arrays = inputs[f"seed{seed}/{name}"].arrays()
        return {k: controller.rounded(v) if config.quantise else jnp.asarray(v) for k, v in arrays.items()}

    found: dict[str, Any] = {name: stored(name) for name in ("vae", "rnn") if f"seed{seed}/{name}" in inputs}
    if f"seed{seed}/encode" in inputs:
        series, kept = inputs[f"seed{seed}/encode"].arrays(), inputs[f"seed{seed}/collect"].arrays()
        first = np.concatenate([[0], np.cumsum(kept["lengths"])[:-1]])[:STARTS]
        mu, logvar = (jnp.asarray(series[name][first].astype(np.float32)) for name in ("mu", "logvar"))
        found["starts"] = dream.starts(mu, logvar)
    return found


def evaluate(config: Config, folder: Path, episodes: int) -> list[list[float]]:
    """Returns of new real episodes of every seed's kept controller (that of the main temperature)."""
    returns = []
    for seed in range(config.first_seed, config.first_seed + config.seeds):
        names = [f"seed{seed}/{name}" for name in (*networks(config), f"controller{measured.labels(config)[0]}")]
        inputs = kept(folder, names)
        of, envs = models(config, inputs, seed), min(config.evaluation.envs, episodes)
        agent, key = real.Agent(config, of["vae"], of.get("rnn")), jobs.key_of(seed, "evaluate", 3)
        policy = real.ControllerPolicy(agent, inputs[names[-1]].arrays()["controller"], envs, key)
        games = real.Games(config, episodes, envs, 3 * evolve.EVALUATION_SEED + 10_000 * seed, policy)
        try:
            returns.append(real.play(games).tolist())
        finally:
            games.env.close()
    return returns


def stages_of(config: Config, seed: int) -> list[Stage]:
    """The stages of one seed, in their order."""
    if config.weights:
        return [*_given(config, seed), *_evaluations(config, seed, measured.labels(config)[0])]
    collect, encode = f"seed{seed}/collect", f"seed{seed}/encode"
    vae, rnn = f"seed{seed}/vae", f"seed{seed}/rnn"

    def encoding(inputs: Inputs, scratch: Path) -> Job:
        arrays = inputs[vae].arrays()
        params = {k: controller.rounded(v) if config.quantise else v for k, v in arrays.items()}
        return jobs.Encode(jobs.frames_of(inputs[collect]), params)

    frames = lambda inputs: int(inputs[collect].arrays()["lengths"].sum())  # noqa: E731
    of_vision = [
        Stage(
            collect, config.collect.episodes, "episodes", _settings(config, seed, "env", "collect"),
            lambda inputs, scratch: jobs.Collect(config, seed, scratch),
        ),
        Stage(
            vae, config.vae.updates, "updates", _settings(config, seed, "vae"),
            lambda inputs, scratch: jobs.TrainVAE(config, seed, jobs.frames_of(inputs[collect])), (collect,),
        ),
    ]  # fmt: skip
    of_memory = [
        Stage(encode, frames, "frames", {"quantise": config.quantise}, encoding, (collect, vae)),
        Stage(
            rnn, config.rnn.updates, "updates", _settings(config, seed, "rnn"),
            lambda inputs, scratch: jobs.TrainRNN(config, seed, *(inputs[n].arrays() for n in (collect, encode))),
            (collect, encode),
        ),
    ]  # fmt: skip
    trained = [*of_vision, *(of_memory if config.remembers else [])]
    return [*trained, *_controllers(config, seed, tuple(stage.name for stage in trained))]


def in_order(config: Config, seeds: Sequence[int]) -> list[Stage | Together]:
    """The stages of all seeds: one seed after the other, but for M where it is trained together."""
    each = [stages_of(config, seed) for seed in seeds]
    together = {"auto": jax.default_backend() != "cpu", "yes": True, "no": False}[config.stages.together]
    if len(each) == 1 or config.weights or not config.remembers or not together:
        return [stage for stages in each for stage in stages]
    memory = next(i for i, stage in enumerate(each[0]) if stage.name.endswith("/rnn"))
    before = [stage for stages in each for stage in stages[:memory]]
    after = [stage for stages in each for stage in stages[memory + 1 :]]
    return [*before, Together(tuple(stages[memory] for stages in each), jobs.TrainRNNs), *after]


def networks(config: Config) -> tuple[str, ...]:
    """The stages that C's features come from."""
    return ("vae", "rnn") if config.remembers else ("vae",)


def _settings(config: Config, seed: int, *parts: str) -> dict[str, Any]:
    return {"seed": seed, **{part: configuration.to_json(getattr(config, part)) for part in parts}}


def _given(config: Config, seed: int) -> list[Stage]:
    """V, M and C of an imported agent."""
    folder, stages = Path(config.weights), []
    for name in (*networks(config), "controller"):
        file = folder / f"{name}.npz"
        if not file.is_file():
            raise UsageError(f"weights={folder}: no {name}.npz there; make it with `repro import world_models`")
        label = measured.labels(config)[0] if name == "controller" else ""
        digest = {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        begin = lambda inputs, scratch, file=file: jobs.Given(file)  # noqa: E731
        stages.append(Stage(f"seed{seed}/{name}{label}", 1, "files", digest, begin))
    return stages


def _controllers(config: Config, seed: int, before: tuple[str, ...]) -> list[Stage]:
    """C; for Take Cover first at the main temperature, then at all those of the table together, each with its
    evaluations."""
    settings = _settings(config, seed, "env", "controller", "es") | {"quantise": config.quantise}
    if not config.doom:
        name, training = f"seed{seed}/controller", partial(_real_training, config, seed)
        stage = Stage(name, config.es.generations, "generations", settings, training, before)
        return [stage, *_evaluations(config, seed, "")]
    of = _settings(config, seed, "env", "dream") | {"quantise": config.quantise}
    of |= {"episodes": config.evaluation.episodes}
    dreaming = partial(_dream_random, config, seed)
    stages = [Stage(f"seed{seed}/dream_random", of["episodes"], "episodes", of, dreaming, before)]
    tau_of = dict(zip(measured.labels(config), measured.temperatures(config), strict=True))
    main, *others = tau_of
    # The main one does not depend on the table: a run with another table can take it over.
    alone: dict[str, Any] = {"temperature": tau_of[main], "table": None}
    groups = [([main], [""], alone)]
    if others:
        groups.append((others, others, {"temperature": None, "table": [tau_of[label] for label in others]}))
    for labels, suffixes, told in groups:
        of = settings | {"dream": configuration.to_json(config.dream) | told}
        trained = f"seed{seed}/{controller_of(config, labels[0])[0]}"
        training = partial(_dream_training, config, seed, [tau_of[label] for label in labels], suffixes)
        stages.append(Stage(trained, config.es.generations, "generations", of, training, before))
        for label in labels:
            told = {"temperature": tau_of[label], "table": None}
            of = settings | {"dream": configuration.to_json(config.dream) | told}
            of["episodes"] = episodes = config.evaluation.episodes
            dreaming = partial(_dream_episodes, config, seed, label, tau_of[label])
            stages.append(Stage(f"seed{seed}/dream{label}", episodes, "episodes", of, dreaming, (*before, trained)))
            stages += _evaluations(config, seed, label)
    return stages


def controller_of(config: Config, label: str) -> tuple[str, str]:
    """Where the controller of a temperature is kept: stage and array."""
    main = label == measured.labels(config)[0]
    return (f"controller{label}", "controller") if main else ("controllers", f"controller{label}")


def _dream_training(
    config: Config, seed: int, taus: Sequence[float], suffixes: Sequence[str], inputs: Inputs, scratch: Path
) -> Job:
    return evolve.DreamController(config, seed, models(config, inputs, seed), taus, suffixes)


def _real_training(config: Config, seed: int, inputs: Inputs, scratch: Path) -> Job:
    return evolve.RealController(config, seed, models(config, inputs, seed))


def _dream_episodes(config: Config, seed: int, label: str, tau: float, inputs: Inputs, scratch: Path) -> Job:
    stage, array = controller_of(config, label)
    of = models(config, inputs, seed) | {"controller": inputs[f"seed{seed}/{stage}"].arrays()[array]}
    return evolve.DreamEvaluate(config, seed, config.evaluation.episodes, of, tau)


def _dream_random(config: Config, seed: int, inputs: Inputs, scratch: Path) -> Job:
    of = models(config, inputs, seed)
    return evolve.DreamRandom(config, seed, config.evaluation.episodes, of, config.dream.temperature)


def _evaluations(config: Config, seed: int, label: str) -> list[Stage]:
    """The real environment: the controller by one or (the main one) both protocols, and once random actions."""
    settings = {"seed": seed, "env": configuration.to_json(config.env), "envs": config.evaluation.envs}
    trained, array = controller_of(config, label)
    needs = tuple(f"seed{seed}/{name}" for name in (*networks(config), trained))
    main = label == measured.labels(config)[0]

    def begin(episodes: int, inputs: Inputs, scratch: Path) -> Job:
        of = models(config, inputs, seed)
        envs = min(config.evaluation.envs, episodes)
        policy = real.ControllerPolicy(
            real.Agent(config, of["vae"], of.get("rnn")), inputs[needs[-1]].arrays()[array], envs,
            jobs.key_of(seed, "evaluate", 2),
        )  # fmt: skip
        return evolve.Evaluate(config, seed, episodes, policy)

    def random(inputs: Inputs, scratch: Path) -> Job:
        policy = real.uniform_policy(config, seed)
        return evolve.Evaluate(config, seed, config.evaluation.episodes, policy, 2 * evolve.EVALUATION_SEED)

    def stage(name: str, episodes: int, start: Any, needs: tuple[str, ...]) -> Stage:
        return Stage(f"seed{seed}/{name}", episodes, "episodes", settings | {"episodes": episodes}, start, needs)

    episodes, many = config.evaluation.episodes, config.evaluation.many if main else 0
    stages = [stage(f"evaluate{label}", episodes, partial(begin, episodes), needs)]
    if many:
        stages.append(stage(f"evaluate_many{label}", many, partial(begin, many), needs))
    return [*stages, stage("random", episodes, random, ())] if main else stages
