"""Dyna (Sutton 1990, 1991) as in chapter 8 of Sutton and Barto, *Reinforcement Learning: An Introduction* (2018)."""

from papers.dyna import config
from repro.registry import Paper, Preset

_COST = "2 CPU cores, about 4 min for all four experiments"

PAPER = Paper(
    name="dyna",
    title="Dyna: an integrated architecture for learning, planning, and reacting",
    bibtex="""@article{sutton1991dyna,
  author  = {Sutton, Richard S.},
  title   = {Dyna, an integrated architecture for learning, planning, and reacting},
  journal = {ACM SIGART Bulletin},
  volume  = {2},
  number  = {4},
  pages   = {160--163},
  year    = {1991}
}
@book{sutton2018reinforcement,
  author    = {Sutton, Richard S. and Barto, Andrew G.},
  title     = {Reinforcement Learning: An Introduction},
  edition   = {2nd},
  publisher = {MIT Press},
  year      = {2018}
}""",
    suites={
        "chapter_8": ("all",),
        "dyna_maze": ("all", "n0", "n5", "n50", "policy_after_half_of_episode_2"),
        "blocking_maze": ("all", "before", "after"),
        "shortcut_maze": ("all", "before", "after"),
        "prioritized_sweeping_mazes": ("all",),
        "kaelbling_grid_3277": ("shortest_path",),
        "rod_maneuvering": ("rod",),
    },
    default=("chapter_8", "all"),
    presets={"paper": Preset(config.paper, _COST), "cpu": Preset(config.cpu, _COST)},
    method="dyna_q",
    reproduce="papers.dyna.experiments:reproduce",
    parity="papers.dyna.parity:CASES",
    unavailable={
        "kaelbling_grid_3277": "the grid of 3,277 states was only printed as a picture",
        "rod_maneuvering": "the obstacles around the rod were only printed as a picture",
    },
)
