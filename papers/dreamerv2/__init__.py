"""DreamerV2 (Hafner, Lillicrap, Norouzi, Ba): mastering Atari with discrete world models."""

from papers.dreamerv2 import config
from repro.envs import tasks
from repro.registry import Paper, Preset

_ATARI_55 = tuple(
    "james_bond" if game == "jamesbond" else game for game in tasks.ATARI_57 if game not in ("defender", "surround")
)
_DMC_20 = (
    "acrobot_swingup", "cartpole_balance", "cartpole_balance_sparse", "cartpole_swingup", "cartpole_swingup_sparse",
    "cheetah_run", "cup_catch", "finger_spin", "finger_turn_easy", "finger_turn_hard", "hopper_hop", "hopper_stand",
    "pendulum_swingup", "quadruped_run", "quadruped_walk", "reacher_easy", "reacher_hard", "walker_run",
    "walker_stand", "walker_walk",
)  # fmt: skip

PAPER = Paper(
    name="dreamerv2",
    title="DreamerV2: Mastering Atari with discrete world models",
    bibtex="""@inproceedings{hafner2021mastering,
  author    = {Hafner, Danijar and Lillicrap, Timothy and Norouzi, Mohammad and Ba, Jimmy},
  title     = {Mastering {Atari} with Discrete World Models},
  booktitle = {International Conference on Learning Representations},
  year      = {2021},
  eprint    = {2010.02193}
}""",
    suites={"atari_200m": _ATARI_55, "dmc_vision": (*_DMC_20, "humanoid_walk")},
    default=("atari_200m", "boxing"),
    presets={
        "paper": Preset(config.paper, "one V100: 10 days a seed (Atari)"),
        "release": Preset(config.release, "one V100: days a seed (Atari)"),
        **{name: Preset(make, "one V100: 10 days a seed") for name, make in config.ABLATIONS.items()},
        "fast": Preset(config.fast, "one GPU, about an hour"),
        "cpu": Preset(config.cpu, "2 CPU cores, about 15 min"),
    },
    reference=config.reference,
    method="dreamerv2",
    reproduce="repro.pipeline.agent:reproduce",
    build="papers.dreamerv2.build:build",
    parity="papers.dreamerv2.parity:CASES",
    importer="papers.dreamerv2.official:import_checkpoint",
)
