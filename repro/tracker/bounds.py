"""The possible range of a score, per suite and task: what lies outside was not played."""

import math

from repro.evaluation.statistics import Estimate

_ATARI = {
    "pong": (-21.0, 21.0),
    "boxing": (-100.0, 100.0),
    "freeway": (0.0, 38.0),
    "bowling": (0.0, 300.0),
    "tennis": (-24.0, 24.0),
    "surround": (-10.0, 10.0),
}
"""Games whose score has an end."""

_ATARI_FROM_ZERO = frozenset(
    """
    air_raid alien amidar assault asterix asteroids atlantis bank_heist battle_zone beam_rider berzerk breakout
    carnival centipede chopper_command crazy_climber defender demon_attack elevator_action frostbite gopher
    gravitar hero james_bond jamesbond kangaroo krull kung_fu_master
    montezuma_revenge ms_pacman name_this_game phoenix pooyan qbert riverraid road_runner robotank seaquest solaris
    space_invaders star_gunner time_pilot tutankham up_n_down venture video_pinball wizard_of_wor yars_revenge
    zaxxon
    """.split()
)
"""Games without negative rewards."""

_RANGES = {
    "dmc_proprio": (0.0, 1000.0),
    "dmc_vision": (0.0, 1000.0),
    "carracing": (-1000.0, 1000.0),
    "vizdoom_takecover": (0.0, 2100.0),
    "crafter": (-2.0, 22.0),
    "bsuite": (0.0, 1.0),
    "procgen_hard": (-100.0, math.inf),
    "minecraft_diamond": (-2.0, 13.0),
}
"""DeepMind Control: 1000 steps of a reward in [0, 1]. CarRacing: 1000 for all tiles, -0.1 a step and -100 outside the
field. Take Cover: 1 a step, cut at 2100. Crafter: 22 achievements and health. BSuite: its own normalised score."""

_METRICS = {"success_rate": (0.0, 100.0), "top1_accuracy": (0.0, 100.0), "crafter_score_percent": (0.0, 100.0)}


def score_range(suite: str, task: str, metric: str = "episode_return") -> tuple[float, float]:
    """Lowest and highest possible score; infinite where nothing is known."""
    if metric in _METRICS:
        return _METRICS[metric]
    if metric not in ("episode_return", "bsuite_score"):
        return -math.inf, math.inf
    if suite.startswith("atari"):
        if task in _ATARI:
            return _ATARI[task]
        return (0.0 if task in _ATARI_FROM_ZERO else -math.inf), math.inf
    low, high = _RANGES.get(suite, (-math.inf, math.inf))
    slack = 1e-4 * (high - low) if math.isfinite(high - low) else 0.0  # float32 sums of a thousand rewards
    return low - slack, high + slack


def clip(estimate: Estimate | None, suite: str, task: str, metric: str) -> Estimate | None:
    """An estimate whose interval stays within the possible range: the true mean cannot lie outside either."""
    if estimate is None or not math.isfinite(estimate.half_width):
        return estimate
    low, high = score_range(suite, task, metric)
    return estimate._replace(low=max(estimate.low, low), high=min(estimate.high, high))
