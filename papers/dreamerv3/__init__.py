"""DreamerV3 (Hafner, Pasukonis, Ba, Lillicrap): mastering diverse control tasks through world models."""

from papers.dreamerv3 import config
from repro.envs import tasks
from repro.registry import Paper, Preset

_DMC_18 = (
    "acrobot_swingup", "cartpole_balance", "cartpole_balance_sparse", "cartpole_swingup", "cartpole_swingup_sparse",
    "cheetah_run", "cup_catch", "finger_spin", "finger_turn_easy", "finger_turn_hard", "hopper_hop", "hopper_stand",
    "pendulum_swingup", "reacher_easy", "reacher_hard", "walker_run", "walker_stand", "walker_walk",
)  # fmt: skip
_DMC_20 = tuple(sorted((*_DMC_18, "quadruped_run", "quadruped_walk")))
_DMLAB_30 = (
    "explore_goal_locations_large", "explore_goal_locations_small", "explore_object_locations_large",
    "explore_object_locations_small", "explore_object_rewards_few", "explore_object_rewards_many",
    "explore_obstructed_goals_large", "explore_obstructed_goals_small", "language_answer_quantitative_question",
    "language_execute_random_task", "language_select_described_object", "language_select_located_object",
    "lasertag_one_opponent_large", "lasertag_one_opponent_small", "lasertag_three_opponents_large",
    "lasertag_three_opponents_small", "natlab_fixed_large_map", "natlab_varying_map_randomized",
    "natlab_varying_map_regrowth", "psychlab_arbitrary_visuomotor_mapping", "psychlab_continuous_recognition",
    "psychlab_sequential_comparison", "psychlab_visual_search", "rooms_collect_good_objects_test",
    "rooms_exploit_deferred_effects_test", "rooms_keys_doors_puzzle", "rooms_select_nonmatching_object",
    "rooms_watermaze", "skymaze_irreversible_path_hard", "skymaze_irreversible_path_varied",
)  # fmt: skip

PAPER = Paper(
    name="dreamerv3",
    title="DreamerV3: Mastering diverse control tasks through world models",
    bibtex="""@article{hafner2025dreamerv3,
  title   = {Mastering diverse control tasks through world models},
  author  = {Hafner, Danijar and Pasukonis, Jurgis and Ba, Jimmy and Lillicrap, Timothy},
  journal = {Nature},
  volume  = {640},
  pages   = {647--653},
  year    = {2025}
}""",
    suites={
        "dmc_proprio": _DMC_20,
        "atari100k": tasks.ATARI_26,
        "atari_200m": tasks.ATARI_57,
        "dmc_vision": _DMC_20,
        "crafter": tasks.SUITES["crafter"],
        "bsuite": tasks.BSUITE,
        "procgen_hard": tasks.PROCGEN,
        "dmlab30": _DMLAB_30,
        "minecraft_diamond": ("diamond",),
        "minatar": tasks.MINATAR,
        "catch": ("catch",),
    },
    default=("dmc_proprio", "walker_walk"),
    presets={
        "paper": Preset(config.paper, "one A100: 0.1 (Atari 100k) to 9 days a seed"),
        "v2_2024": Preset(config.v2_2024, "one A100: 0.1 to 16 days a seed"),
        "v1_2023": Preset(config.v1_2023, "one V100: 0.5 to 17 days a seed"),
        "fast": Preset(config.fast, "one GPU, under an hour"),
        "cpu": Preset(config.cpu, "2 CPU cores, about 15 min"),
    },
    reference=config.reference,
    method="dreamerv3",
    reproduce="repro.pipeline.agent:reproduce",
    build="papers.dreamerv3.build:build",
    predictions="papers.dreamerv3.report:open_loop_video",
    parity="papers.dreamerv3.parity:CASES",
    importer="papers.dreamerv3.official:import_checkpoint",
    unavailable={
        "dmlab30": "DeepMind Lab has no Python package; its preset and published table are kept",
        "minecraft_diamond": "MineRL and MineDojo do not install on Python 3.11 or later; preset and table are kept",
    },
)
