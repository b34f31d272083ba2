"""Settings of the training loop that every online agent shares (no jax here: `repro list` reads presets)."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LoopConfig:
    """Budget, batch and storage of one run; a number that comes from a paper is set in that paper's `config.py`."""

    steps: int
    """Agent steps per seed, summed over its environments (after action repeat)."""
    envs: int
    """Environments per seed."""
    train_ratio: float
    """Trained time steps per agent step; updates per agent step = train_ratio / (batch_size * batch_length)."""
    batch_size: int = 16
    batch_length: int = 64
    replay_context: int = 0
    """Extra time steps before the trained ones, stored sequences are batch_length + replay_context long."""
    replay_capacity: int = 1_000_000
    """Time steps per seed, shared evenly by its environments; never more than the run can fill is allocated."""
    replay_storage: Literal["device", "host"] = "device"
    online_queue: bool = False
    """Sample every newly completed sequence once before uniform sampling (DreamerV3)."""
    sampling: Literal["uniform", "within", "within_or_end", "evenly", "without_last"] = "uniform"
    """Sequences uniformly over the replay, or an episode first and then a window in it by a rule of that name in
    `repro.replay.episodes`; only finished episodes that are longer than `batch_length` are drawn then."""
    prefill: int = 0
    """Agent steps per seed before the first update; 0 waits for batch_size * batch_length sequences instead."""
    pretrain: int = 0
    """Updates made at once at the first update."""
    burst: int = 1
    """Updates are made every so many agent steps, as many as have come due (host driver)."""
    evaluate_every: int = 0
    """Agent steps per seed between evaluations of `evaluation_episodes` episodes; 0 for none, -1 for one at the end."""
    evaluate_from: int = 0
    """Agent steps per seed before the first of them."""
    evaluation_episodes: int = 1
    driver: Literal["auto", "host", "fused"] = "auto"
    """`fused` steps the environment inside the jitted program; `auto` does so where the environment can."""
    fused_iterations: int = 16
    """Fused iterations in one call of the program at most; the host looks at episodes and metrics between calls."""
    seeds_map: Literal["auto", "vmap", "unroll"] = "auto"
    """How the seeds axis is mapped, see `repro.pipeline.seeds`."""
    data_parallel: int = 1
    """Devices that share the batch of each seed (`repro.scale.mesh`); the others take further seeds."""
    max_minutes: float | None = None
    """Stop after this time of training and record what was reached as a partial run."""
    log_seconds: float = 10.0
    checkpoint_minutes: float = 5.0
    predictions: bool = True
    """Write open-loop predictions of the world model (GIF and TensorBoard) at the end of the run."""

    def __post_init__(self) -> None:
        for name in ("steps", "envs", "batch_size", "batch_length", "replay_capacity", "data_parallel"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.train_ratio < 0:
            raise ValueError("train_ratio must not be negative")
        if min(self.prefill, self.pretrain, self.evaluate_from) < 0 or min(self.burst, self.evaluation_episodes) < 1:
            raise ValueError("prefill, pretrain and evaluate_from must be at least 0, burst and evaluation_episodes 1")
        if self.replay_capacity // self.envs < self.stored_length:
            raise ValueError(f"replay_capacity must hold {self.stored_length} steps for each environment")

    @property
    def stored_length(self) -> int:
        """Length of the sequences the replay returns."""
        return self.batch_length + self.replay_context

    @property
    def updates_per_step(self) -> float:
        """Gradient updates per agent step."""
        return self.train_ratio / (self.batch_size * self.batch_length)
