"""How each paper turns episodes into a score, as data: a protocol is stored in every run record, so that whoever reads
the record can recompute the score from the raw episode returns.

No jax here; steps are always counted in the protocol's `step_unit`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from repro.errors import UsageError, unknown

Episodes = Sequence[Mapping[str, Sequence[float]]]
"""One mapping a seed: `step` (budget used when the episode ended), `return` and usually `length`, equally long."""


@dataclass(frozen=True)
class Protocol:
    """A scoring rule.

    Kinds: `last_bin` cuts the budget into equal bins `(start + k*width, start + (k+1)*width]` and averages the
    episodes that end in the last complete one; `final` averages the episodes of the last evaluation; `statistic`
    averages given samples (`return` only), for numbers that are not episode returns.
    """

    name: str
    description: str
    kind: Literal["last_bin", "final", "statistic"] = "last_bin"
    episodes: Literal["training", "evaluation"] = "training"
    """Whether the scored episodes are those of training or of separate evaluation."""
    step_unit: str = "env_steps"
    bin_width: int = 0
    bin_start: int = 0
    curve_width: int = 0
    """Bin width of the learning curve, that of the published curve; 0 means `bin_width`."""
    earlier_bin: bool = False
    """An empty last bin is replaced by the last earlier one with episodes (else the seed has no score)."""
    evaluation_episodes: int = 0
    """Episodes in one evaluation (0 where training episodes are scored)."""
    evaluate_every: int = 0
    """Steps between evaluations; 0 means once, at the end."""
    aggregate: Literal["mean", "median"] = "mean"
    """How the scores of seeds (or samples) become the number of the table."""
    source: str = ""

    def __post_init__(self) -> None:
        for name, known in (
            ("kind", ("last_bin", "final", "statistic")),
            ("episodes", ("training", "evaluation")),
            ("aggregate", ("mean", "median")),
        ):
            if getattr(self, name) not in known:
                raise unknown(f"{name} of protocol {self.name!r}", str(getattr(self, name)), known)
        if self.kind == "last_bin" and not self.bin_width > 0:
            raise UsageError(f"protocol {self.name!r}: bin_width must be positive, not {self.bin_width}")
        if min(self.bin_start, self.curve_width, self.evaluation_episodes, self.evaluate_every) < 0:
            raise UsageError(f"protocol {self.name!r}: widths, starts and numbers of episodes cannot be negative")


def from_dict(data: Mapping[str, Any]) -> Protocol:
    """The protocol stored in a record; `UsageError` where a field is unknown, missing or of the wrong type."""
    known = {f.name: (int,) if f.type is int else (bool,) if f.type is bool else (str,) for f in fields(Protocol)}
    for name, value in data.items():
        if name not in known:
            raise unknown("field of a protocol", name, known)
        if type(value) not in known[name]:
            raise UsageError(f"field {name} of a protocol must be {known[name][0].__name__}, not {value!r}")
    for name in ("name", "description"):
        if not data.get(name):
            raise UsageError(f"a protocol needs a {name}")
    return Protocol(**data)


def to_dict(protocol: Protocol) -> dict[str, Any]:
    """The JSON form kept in a record."""
    return asdict(protocol)


def _as_protocol(protocol: Protocol | Mapping[str, Any]) -> Protocol:
    return protocol if isinstance(protocol, Protocol) else from_dict(protocol)


def _binned(steps: np.ndarray, returns: np.ndarray, width: int, start: int, budget: float) -> list[list[float]]:
    """`[bin end, mean return]` of every complete bin that holds an episode; bins are open below, closed above."""
    complete = math.floor((budget - start) / width)
    index = np.ceil((steps - start) / width).astype(np.int64) - 1
    points = []
    if start and np.any(steps <= start):  # evaluations at or before the start form a first point of their own
        points.append([float(start), float(returns[steps <= start].mean())])
    for k in np.unique(index[(index >= 0) & (index < complete)]):
        points.append([float(start + (k + 1) * width), float(returns[index == k].mean())])
    return points


def learning_curve(
    protocol: Protocol | Mapping[str, Any], episodes: Episodes, budget: float
) -> list[list[list[float]]]:
    """Per seed the points `[step, score]` up to `budget` (in `step_unit`); bins without episodes are left out.

    Bins are those of the published curve (`curve_width`), so that both can be compared at the same step.
    """
    protocol = _as_protocol(protocol)
    curves: list[list[list[float]]] = []
    for seed in episodes:
        returns = np.asarray(seed["return"], np.float64)
        if protocol.kind == "statistic" or "step" not in seed or not len(returns):
            curves.append([])
            continue
        steps = np.asarray(seed["step"], np.float64)
        returns, steps = returns[steps <= budget], steps[steps <= budget]
        if protocol.kind == "final":
            points = [[float(s), float(returns[steps == s].mean())] for s in np.unique(steps)]
        else:
            width = protocol.curve_width or protocol.bin_width
            points = _binned(steps, returns, width, protocol.bin_start, budget)
        curves.append(points)
    return curves


def final_scores(protocol: Protocol | Mapping[str, Any], episodes: Episodes, budget: float) -> list[float | None]:
    """One score a seed after `budget` steps (the smaller of the used and the paper's budget), None where there is none.

    With a partial budget the last complete bin counts.
    """
    protocol = _as_protocol(protocol)
    scores: list[float | None] = []
    for seed in episodes:
        returns = np.asarray(seed["return"], np.float64)
        if protocol.kind == "statistic":
            scores.append(float(returns.mean()) if len(returns) else None)
            continue
        steps = np.asarray(seed["step"], np.float64)
        returns, steps = returns[steps <= budget], steps[steps <= budget]
        if not len(returns):
            scores.append(None)
        elif protocol.kind == "final":
            scores.append(float(returns[steps == steps.max()].mean()))
        else:
            points = _binned(steps, returns, protocol.bin_width, protocol.bin_start, budget)
            last = (
                protocol.bin_start + math.floor((budget - protocol.bin_start) / protocol.bin_width) * protocol.bin_width
            )
            found = bool(points) and (protocol.earlier_bin or points[-1][0] == last)
            scores.append(points[-1][1] if found else None)
    return scores


def _training(name: str, unit: str, width: int, curve: int, source: str) -> Protocol:
    return Protocol(
        name=name,
        description=f"mean undiscounted return of the training episodes that end in the last {width:,} {unit} "
        "of the budget, per seed; seeds averaged",
        step_unit=unit,
        bin_width=width,
        curve_width=curve,
        source=source,
    )


_V3 = "DreamerV3: training episodes, no separate evaluation (Nature 640:647, Extended Data Table 3; v2 tables 6-12)"


def _probe(name: str, description: str, source: str) -> Protocol:
    return Protocol(
        name=f"ijepa_{name}",
        description=f"{description}, of the frozen target encoder after the last epoch, in percent of the test split, "
        "per seed",
        kind="final",
        episodes="evaluation",
        step_unit="epochs",
        evaluation_episodes=1,
        source=source,
    )


_BEST = "best of features (last, concat4), heads and rates of the linear probe, chosen on the test split"
_NEAREST = "vote of the 20 nearest training images by cosine (temperature 0.07)"
_IJEPA = "I-JEPA: section 5, appendix A.2; no spread is published"

PROTOCOLS: dict[tuple[str, str], Protocol] = {
    ("dreamerv3", "atari100k"): _training("dreamerv3_atari100k", "frames", 10_000, 20_000, _V3),
    ("dreamerv3", "atari_200m"): _training("dreamerv3_atari_200m", "frames", 2_000_000, 10_000_000, _V3),
    ("dreamerv3", "dmlab30"): _training("dreamerv3_dmlab30", "frames", 2_000_000, 5_000_000, _V3),
    ("dreamerv3", "procgen_hard"): _training("dreamerv3_procgen_hard", "frames", 1_000_000, 2_500_000, _V3),
    ("dreamerv3", "dmc_vision"): _training("dreamerv3_dmc_vision", "env_steps", 40_000, 50_000, _V3),
    ("dreamerv3", "dmc_proprio"): _training("dreamerv3_dmc_proprio", "env_steps", 20_000, 25_000, _V3),
    ("dreamerv3", "minecraft_diamond"): _training("dreamerv3_minecraft", "env_steps", 2_000_000, 5_000_000, _V3),
    ("dreamerv1", "dmc_vision"): Protocol(
        name="dreamerv1_dmc_vision",
        description="one evaluation episode (mode of the actor, sampled latent) every 10,000 env steps from 5,000 on; "
        "mean of the last 100,000 env steps (10 episodes), per seed; seeds averaged",
        episodes="evaluation",
        step_unit="env_steps",
        bin_width=100_000,
        bin_start=5_000,
        earlier_bin=True,
        evaluation_episodes=1,
        evaluate_every=10_000,
        source="DreamerV1: released curves; the paper does not state how its table averages evaluations",
    ),
    ("dreamerv2", "atari_200m"): Protocol(
        name="dreamerv2_atari_200m",
        description="one greedy evaluation episode every 100,000 frames; mean of the last complete bin of 1M frames "
        "(198M to 199M at the full budget), per seed; a run that stopped early keeps its last bin; seeds averaged",
        episodes="evaluation",
        step_unit="frames",
        bin_width=1_000_000,
        earlier_bin=True,
        evaluation_episodes=1,
        evaluate_every=100_000,
        source="DreamerV2: reproduces all 55 values of Table K.1 from the released runs",
    ),
    ("dreamerv2", "dmc_vision"): Protocol(
        name="dreamerv2_dmc_vision",
        description="mean return of the training episodes of the last 30,000 env steps, per seed; seeds averaged",
        step_unit="env_steps",
        bin_width=30_000,
        earlier_bin=True,
        source="DreamerV2: released curves (bins of 30 episodes)",
    ),
    ("iris", "atari100k"): Protocol(
        name="iris_atari100k",
        description="mean of 100 evaluation episodes (sampled, temperature 0.5) after training, per seed; "
        "seeds averaged",
        kind="final",
        episodes="evaluation",
        step_unit="env_steps",
        evaluation_episodes=100,
        source="IRIS: five runs a game, 100 episodes a run",
    ),
    ("efficientzero", "atari100k"): Protocol(
        name="efficientzero_atari100k",
        description="mean of 32 evaluation episodes (50 simulations, most visited action) after training, per seed; "
        "seeds averaged",
        kind="final",
        episodes="evaluation",
        step_unit="env_steps",
        evaluation_episodes=32,
        source="EfficientZero: Table 1 (3 runs, 32 evaluation episodes each)",
    ),
    ("world_models", "carracing"): Protocol(
        name="world_models_carracing",
        description="mean of 100 consecutive episodes of one trained controller, per seed",
        kind="final",
        episodes="evaluation",
        step_unit="generations",
        evaluation_episodes=100,
        source="World Models: results tables",
    ),
    ("world_models", "vizdoom_takecover"): Protocol(
        name="world_models_vizdoom_takecover",
        description="mean of 100 consecutive episodes of one trained controller, per seed",
        kind="final",
        episodes="evaluation",
        step_unit="generations",
        evaluation_episodes=100,
        source="World Models: temperature table",
    ),
    ("ijepa", "imagenet1k_linear"): _probe("imagenet1k_linear", _BEST, _IJEPA),
    ("ijepa", "imagenet1k_1pct"): _probe("imagenet1k_1pct", "fine-tuned on 1 % of the labels", _IJEPA),
    ("ijepa", "linear_transfer"): _probe("linear_transfer", _BEST, _IJEPA),
    ("ijepa", "ijepa_data_model_scaling"): _probe("data_model_scaling", _BEST, _IJEPA),
    ("ijepa", "imagenette_linear"): _probe("imagenette_linear", _BEST, "stable-pretraining's benchmark (online probe)"),
    ("ijepa", "imagenette_knn"): _probe("imagenette_knn", _NEAREST, "stable-pretraining's benchmark"),
    ("ijepa", "cifar10_linear"): _probe("cifar10_linear", _BEST, "looped-jepa's report (tuned linear probe)"),
    ("ijepa", "cifar10_knn"): _probe("cifar10_knn", _NEAREST, "a public model card (20 neighbours)"),
}
"""Protocol of the published numbers by paper and suite."""


def of(paper: str, suite: str) -> Protocol:
    """The protocol of the published numbers; `UsageError` where none is recorded."""
    try:
        return PROTOCOLS[paper, suite]
    except KeyError:
        raise unknown("protocol", f"{paper}/{suite}", [f"{p}/{s}" for p, s in PROTOCOLS]) from None
