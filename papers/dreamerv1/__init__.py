"""DreamerV1 (Hafner, Lillicrap, Ba, Norouzi): dream to control, learning behaviors by latent imagination."""

from papers.dreamerv1 import config
from repro.envs import tasks
from repro.registry import Paper, Preset

_DMC_20 = (
    "acrobot_swingup", "cartpole_balance", "cartpole_balance_sparse", "cartpole_swingup", "cartpole_swingup_sparse",
    "cheetah_run", "cup_catch", "finger_spin", "finger_turn_easy", "finger_turn_hard", "hopper_hop", "hopper_stand",
    "pendulum_swingup", "quadruped_run", "quadruped_walk", "reacher_easy", "reacher_hard", "walker_run",
    "walker_stand", "walker_walk",
)  # fmt: skip

PAPER = Paper(
    name="dreamerv1",
    title="DreamerV1: Dream to Control, learning behaviors by latent imagination",
    bibtex="""@inproceedings{hafner2020dream,
  author    = {Hafner, Danijar and Lillicrap, Timothy and Ba, Jimmy and Norouzi, Mohammad},
  title     = {Dream to Control: Learning Behaviors by Latent Imagination},
  booktitle = {International Conference on Learning Representations},
  year      = {2020},
  eprint    = {1912.01603}
}""",
    suites={"dmc_vision": _DMC_20, "atari_200m": tasks.ATARI_57},
    default=("dmc_vision", "walker_walk"),
    presets={
        "paper": Preset(config.paper, "one V100: 15 hours a seed"),
        "discrete": Preset(config.discrete, "one V100: days a seed (Atari)"),
        "fast": Preset(config.fast, "one GPU, about an hour"),
        "cpu": Preset(config.cpu, "2 CPU cores, about 15 min"),
    },
    reference=config.reference,
    method="dreamerv1",
    reproduce="repro.pipeline.agent:reproduce",
    build="papers.dreamerv1.build:build",
    parity="papers.dreamerv1.parity:CASES",
    importer="papers.dreamerv1.official:import_checkpoint",
)
