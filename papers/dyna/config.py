"""Settings of the four experiments; where the book is silent the comment says what is assumed and why."""

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Agent:
    """What every experiment sets."""

    alpha: float
    epsilon: float = 0.1
    """Stated for Example 8.1, assumed elsewhere."""
    gamma: float = 0.95
    """Stated for Examples 8.1 and 8.4."""

    def __post_init__(self) -> None:
        for name in ("alpha", "epsilon", "gamma"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1")
        steps = getattr(self, "planning_steps", 0)
        if min(steps if isinstance(steps, tuple) else (steps,), default=-1) < 0:
            raise ValueError("planning_steps must not be negative")


@dataclass(frozen=True)
class DynaMaze(Agent):
    """Example 8.1; every number is the book's but the criterion."""

    alpha: float = 0.1
    planning_steps: tuple[int, ...] = (0, 5, 50)
    episodes: int = 50
    near_optimal_steps: float = 25.0
    """An episode is near-optimal when its mean over the runs is at most this (not defined in the book)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.episodes < 2:
            raise ValueError("episodes must be at least 2")


@dataclass(frozen=True)
class ChangingMaze(Agent):
    """Examples 8.2 and 8.3. Only the steps are stated; with these settings the curves fit the axes of the figures."""

    alpha: float = 1.0
    planning_steps: int = 50
    kappa: float = 1e-3
    steps: int = 3000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kappa < 0:
            raise ValueError("kappa must not be negative")
        if self.steps < 1:
            raise ValueError("steps must be at least 1")


@dataclass(frozen=True)
class Sweeping(Agent):
    """Example 8.4: at most 5 updates a step is stated; alpha, theta and the tolerance are those of public code."""

    alpha: float = 0.5
    planning_steps: int = 5
    theta: float = 1e-4
    resolutions: tuple[int, ...] = (1, 2, 3)
    tolerance: float = 1.2
    """Solved when the greedy path is at most this many times as long as the shortest."""
    episodes: int = 400
    """A run that is not solved by then counts its updates until then."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.planning_steps < 1:
            raise ValueError("planning_steps must be at least 1: prioritised sweeping learns by planning alone")
        if self.theta < 0 or self.tolerance < 1 or self.episodes < 1:
            raise ValueError("theta must not be negative, tolerance and episodes at least 1")
        if not self.resolutions or not all(1 <= k <= 11 for k in self.resolutions):
            raise ValueError("maze resolutions must be whole numbers from 1 to 11")


@dataclass(frozen=True)
class DynaConfig:
    """One seed is one repetition of the book's experiments with `runs` runs each (30 in Example 8.1)."""

    suite: str
    task: str
    preset: str
    seeds: int = 34
    """34 x 30 = 1,020 runs."""
    first_seed: int = 0
    runs: int = 30
    dyna_maze: DynaMaze = field(default_factory=DynaMaze)
    blocking_maze: ChangingMaze = field(default_factory=ChangingMaze)
    shortcut_maze: ChangingMaze = field(default_factory=lambda: ChangingMaze(steps=6000))
    sweeping: Sweeping = field(default_factory=Sweeping)

    def __post_init__(self) -> None:
        if self.runs < 1 or self.seeds < 1:
            raise ValueError("runs and seeds must be at least 1")
        known = {f"n{n}" for n in self.dyna_maze.planning_steps}
        if self.task[:1] == "n" and self.task not in known:
            raise ValueError(f"task {self.task} needs its number among dyna_maze.planning_steps")


def paper(suite: str, task: str) -> DynaConfig:
    """The book's experiments in full, 1,020 runs: about 4 minutes on two CPU cores."""
    return DynaConfig(suite, task, "paper")


def cpu(suite: str, task: str) -> DynaConfig:
    """The same as `paper`."""
    return replace(paper(suite, task), preset="cpu")
