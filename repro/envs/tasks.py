"""Names of suites and tasks, as in the published tables. Plain data: nothing is imported to list them."""

from repro.errors import unknown

ATARI_26 = (
    "alien", "amidar", "assault", "asterix", "bank_heist", "battle_zone", "boxing", "breakout", "chopper_command",
    "crazy_climber", "demon_attack", "freeway", "frostbite", "gopher", "hero", "jamesbond", "kangaroo", "krull",
    "kung_fu_master", "ms_pacman", "pong", "private_eye", "qbert", "road_runner", "seaquest", "up_n_down",
)  # fmt: skip
"""The games of Atari 100k (Kaiser et al. 2020)."""

ATARI_57 = tuple(sorted((
    *ATARI_26, "asteroids", "atlantis", "beam_rider", "berzerk", "bowling", "centipede", "defender", "double_dunk",
    "enduro", "fishing_derby", "gravitar", "ice_hockey", "montezuma_revenge", "name_this_game", "phoenix", "pitfall",
    "riverraid", "robotank", "skiing", "solaris", "space_invaders", "star_gunner", "surround", "tennis", "time_pilot",
    "tutankham", "venture", "video_pinball", "wizard_of_wor", "yars_revenge", "zaxxon",
)))  # fmt: skip
"""The games of MuZero and DreamerV3; DreamerV2's 55 are these without defender and surround."""

ATARI_EXTRA = ("air_raid", "carnival", "elevator_action", "journey_escape", "pooyan")
"""Further games in the score files of DreamerV1 and DreamerV2."""

DMC = (
    "acrobot_swingup", "acrobot_swingup_sparse", "cartpole_balance", "cartpole_balance_sparse", "cartpole_swingup",
    "cartpole_swingup_sparse", "cartpole_three_poles", "cartpole_two_poles", "cheetah_run", "cup_catch", "dog_fetch",
    "dog_run", "dog_stand", "dog_trot", "dog_walk", "finger_spin", "finger_turn_easy", "finger_turn_hard", "fish_swim",
    "fish_upright", "hopper_hop", "hopper_stand", "humanoid_run", "humanoid_stand", "humanoid_walk",
    "manipulator_bring_ball", "manipulator_bring_peg", "manipulator_insert_ball", "manipulator_insert_peg",
    "pendulum_swingup", "point_mass_easy", "point_mass_hard", "quadruped_escape", "quadruped_fetch", "quadruped_run",
    "quadruped_walk", "reacher_easy", "reacher_hard", "stacker_stack_2", "stacker_stack_4", "swimmer_swimmer15",
    "swimmer_swimmer6", "walker_run", "walker_stand", "walker_walk",
)  # fmt: skip

BSUITE = (
    "bandit", "bandit_noise", "bandit_scale", "cartpole", "cartpole_noise", "cartpole_scale", "cartpole_swingup",
    "catch", "catch_noise", "catch_scale", "deep_sea", "deep_sea_stochastic", "discounting_chain", "memory_len",
    "memory_size", "mnist", "mnist_noise", "mnist_scale", "mountain_car", "mountain_car_noise", "mountain_car_scale",
    "umbrella_distract", "umbrella_length",
)  # fmt: skip

PROCGEN = (
    "bigfish", "bossfight", "caveflyer", "chaser", "climber", "coinrun", "dodgeball", "fruitbot", "heist", "jumper",
    "leaper", "maze", "miner", "ninja", "plunder", "starpilot",
)  # fmt: skip

MINATAR = ("Asterix-MinAtar", "Breakout-MinAtar", "Freeway-MinAtar", "SpaceInvaders-MinAtar")

GYMNAX = (
    "Acrobot-v1", "CartPole-v1", "Catch-bsuite", "DeepSea-bsuite", "MemoryChain-bsuite", "MountainCar-v0",
    "MountainCarContinuous-v0", "Pendulum-v1", "UmbrellaChain-bsuite", *MINATAR,
)  # fmt: skip

CRAFTAX = ("classic_pixels", "classic_symbolic")

SUITES: dict[str, tuple[str, ...]] = {
    "atari100k": ATARI_26,
    "atari_200m": tuple(sorted((*ATARI_57, *ATARI_EXTRA))),
    "dmc_proprio": DMC,
    "dmc_vision": DMC,
    "crafter": ("reward",),
    "bsuite": BSUITE,
    "procgen_hard": PROCGEN,
    "catch": ("catch",),
    "minatar": MINATAR,
    "gymnax": GYMNAX,
    "craftax": CRAFTAX,
    "vizdoom_takecover": ("take_cover",),
    "carracing": ("carracing_v0",),
}

ALIASES = {"james_bond": "jamesbond", "ball_in_cup_catch": "cup_catch"}
"""Spellings of some published tables."""


def tasks(suite: str) -> tuple[str, ...]:
    """Known tasks of a suite; `UsageError` for an unknown suite."""
    if suite not in SUITES:
        raise unknown("suite", suite, SUITES)
    return SUITES[suite]


def find(suite: str, task: str) -> str:
    """The task's own name (aliases resolved; `bsuite` also takes `name/index`); `UsageError` for an unknown one."""
    known = tasks(suite)
    name = ALIASES.get(task, task)
    base, _, index = name.partition("/")
    if name in known or (suite == "bsuite" and base in known and index.isdecimal()):
        return name
    raise unknown(f"{suite} task", task, known)
