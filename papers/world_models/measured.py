"""What the stages measured as results: one a published row."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from papers.world_models.config import Config
from repro.evaluation import protocols
from repro.evaluation.protocols import Protocol
from repro.pipeline.artefacts import Artefact
from repro.pipeline.run import Result, Run

CAR_METHODS = {
    ("zh", 0): "world_models",
    ("z", 0): "world_models_v_only",
    ("z", 40): "world_models_v_only_hidden",
}
"""Published rows of CarRacing by what the controller sees and its hidden units."""


def temperatures(config: Config) -> tuple[float, ...]:
    """The main temperature first, then those of the table; CarRacing's C is trained without any (one number)."""
    if not config.doom or config.weights:
        return (config.dream.temperature,)
    return (config.dream.temperature, *(tau for tau in config.dream.table if tau != config.dream.temperature))


def labels(config: Config) -> tuple[str, ...]:
    """What the names of the stages of each controller end in, the main one first."""
    return tuple(f"_tau{tau:.2f}" for tau in temperatures(config)) if config.doom else ("",)


def results(config: Config, run: Run, found: Mapping[str, Artefact]) -> list[Result]:
    """One result for every published row that was measured."""
    of = _Results(config, run, found)
    main = labels(config)[0]
    measured = []
    if config.doom:
        for label in labels(config):
            method = f"world_models{label}" if not config.weights else "world_models_released_controller"
            measured.append(of.episodes(f"evaluate{label}", method))
            if not config.weights:
                measured.append(of.episodes(f"dream{label}", method, "dream", task="take_cover_dream"))
        method = measured[0].method
        if not config.weights:
            free = {"budget_used": 1, "budget_paper": 1}
            measured.append(of.episodes("dream_random", "random", "dream", task="take_cover_dream", **free))
    else:
        variant = (config.controller.features, config.controller.hidden)
        method = CAR_METHODS.get(variant, f"world_models_{variant[0]}_{variant[1]}")
        measured.append(of.episodes(f"evaluate{main}", method))
    if not config.weights:
        measured.append(of.evaluations(f"controller{main}", method, "take_cover_dream" if config.doom else ""))
    if config.evaluation.many:
        metric = "episode_return_consecutive_rollouts"
        measured.append(of.episodes(f"evaluate_many{main}", method, "many", metric=metric))
    return [*measured, of.episodes("random", "random", budget_used=1, budget_paper=1)]


class _Results:
    def __init__(self, config: Config, run: Run, found: Mapping[str, Artefact]) -> None:
        self.config, self.seeds, self.found = config, run.seeds, found
        self.used, self.full = config.es.generations, run.reference.es.generations
        if config.weights:
            self.used = self.full
        first = found[f"seed{run.seeds[0]}/random"]
        self.versions = {k: str(v) for k, v in first.arrays("versions.npz").items()}
        self.extra = self._facts()

    def arrays(self, stage: str) -> list[dict[str, np.ndarray]]:
        """The stage's arrays, per seed."""
        return [self.found[f"seed{seed}/{stage}"].arrays() for seed in self.seeds]

    def episodes(self, stage: str, method: str, kind: str = "", **of: Any) -> Result:
        """Episodes of one finished controller, or of random actions."""
        of = {"budget_used": self.used, "budget_paper": self.full, **of}
        many = self.config.evaluation.many if kind == "many" else self.config.evaluation.episodes
        protocol = protocols.of("world_models", self.config.suite)
        protocol = dataclasses.replace(
            protocol,
            name=f"{protocol.name}_{kind}" if kind else protocol.name,
            description=f"mean of {many} consecutive episodes of one trained controller"
            + (", in the dream" if kind == "dream" else "")
            + ", per seed",
            evaluation_episodes=many,
        )
        episodes = [
            {
                "step": [float(of["budget_used"])] * len(arrays["returns"]),
                "return": arrays["returns"].astype(float).tolist(),
                "length": arrays.get("lengths", arrays["returns"]).astype(float).tolist(),
            }
            for arrays in self.arrays(stage)
        ]
        return Result(
            protocol, episodes, step_unit="generations", method=method, versions=self.versions, extra=self.extra, **of
        )

    def evaluations(self, stage: str, method: str, task: str) -> Result:
        """The evaluations during training: the best so far of the distribution's mean."""
        count = self.config.es.evaluation_rollouts
        protocol = Protocol(
            name=f"world_models_{count}_rollouts",
            description=f"mean of {count} roll-outs, always from the same seeds, of the mean of CMA-ES's "
            "distribution; the best one evaluated so far, per seed",
            kind="final",
            episodes="evaluation",
            step_unit="generations",
            evaluation_episodes=1,
            evaluate_every=self.config.es.evaluate_every,
            source="World Models: appendix, Evolution Strategies",
        )
        episodes = [
            {
                "step": arrays["evaluations"][:, 0].tolist(),
                "return": np.maximum.accumulate(arrays["evaluations"][:, 1]).tolist(),
            }
            for arrays in self.arrays(stage)
        ]
        return Result(
            protocol, episodes, self.used, self.full, "generations", method=method, task=task,
            metric="episode_return_1024_rollouts", versions=self.versions, extra=self.extra,
        )  # fmt: skip

    def _facts(self) -> dict[str, Any]:
        """What V, M and C were made of, per seed."""
        if self.config.weights:
            return {}
        main = f"controller{labels(self.config)[0]}"
        return {
            "frames": [int(arrays["lengths"].sum()) for arrays in self.arrays("collect")],
            "generation_mean_best_worst_sigma": [np.round(a["history"], 3).tolist() for a in self.arrays(main)],
        }
