"""Every number of the paper and the presets.

"R" is the release (hardmaru/WorldModelsExperiments), "A" the article's appendix. Where they differ the release made the
published numbers; the table of differences is in this folder's README.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from repro.config import positive
from repro.envs import settings as environments
from repro.envs.settings import EnvSettings
from repro.errors import UsageError

DOOM, CAR = "vizdoom_takecover", "carracing"


@dataclass(frozen=True)
class CollectConfig:
    """Roll-outs of a random policy (R `extract.py`)."""

    episodes: int = 10_000
    min_frames: int = 0
    """Shorter episodes are thrown away; Take Cover keeps those of more than 100 frames (R)."""
    policy: Literal["held", "random_agent", "uniform"] = "random_agent"
    """Take Cover: "held" actions; CarRacing: an agent with "random_agent" weights, one an episode."""
    hold: int = 10
    """Largest number of frames that is drawn for holding an action (R)."""
    sweeps: float = 0.0
    """Take Cover: the share of roll-outs, by chance, that go from side to side instead (`policies.sweeping`): they see
    what comes late in an episode, which held actions hardly reach. Not the paper's."""
    envs: int = 4

    def __post_init__(self) -> None:
        positive(self, "episodes", "hold", "envs")
        if not 0 <= self.sweeps <= 1:
            raise ValueError("sweeps is a share, 0 to 1")
        if self.sweeps and self.policy != "held":
            raise ValueError(f"sweeps share the roll-outs with held actions; policy={self.policy} takes 0")


@dataclass(frozen=True)
class VAEConfig:
    """V (R `vae.py`, `doomrnn.py`, `vae_train.py`)."""

    latent: int = 32
    encoder_filters: tuple[int, ...] = (32, 64, 128, 256)
    decoder_width: int = 1024
    decoder_filters: tuple[int, ...] = (128, 64, 32)
    kl_tolerance: float = 0.5
    """Floor of the KL in nats a latent dimension."""
    batch: int = 100
    learning_rate: float = 1e-4
    updates: int = 1_000_000
    """10 epochs over 10,000 episodes (R; A: 1 epoch)."""
    frames: int = 0
    """V is trained on so many of the collected frames, drawn once and held in memory; 0: on all. Not the paper's."""

    def __post_init__(self) -> None:
        if len(self.encoder_filters) != 4 or len(self.decoder_filters) != 3:
            raise ValueError("encoder_filters needs 4 and decoder_filters 3 widths")
        if self.frames < 0 or 0 < self.frames < self.batch:
            raise ValueError("frames must be at least batch, or 0 for all")
        positive(self, "latent", "batch", "updates", "learning_rate")


@dataclass(frozen=True)
class MDNRNNConfig:
    """M (R `rnn.py`, `doomrnn.py`, `rnn_train.py`)."""

    latent: int = 32
    action: int = 3
    hidden: int = 256
    mixtures: int = 5
    layer_norm: bool = False
    predict_restart: bool = False
    """Restart flags are an input and are predicted (Take Cover)."""
    restart_factor: float = 10.0
    """Weight of the frames at which an episode begins, in the loss of the prediction."""
    restart_to: Literal["zeros", "fed"] = "zeros"
    """State after a restart inside a training sequence; "fed" is what the released graph computes: the state carried
    into the sequence."""
    batch: int = 100
    length: int = 999
    """Predictions in a training sequence."""
    learning_rate: float = 1e-3
    learning_rate_end: float = 1e-5
    decay: float = 1.0
    """Of the learning rate above its end, an update."""
    clip: float = 1.0
    """Limit of every entry of the gradient."""
    updates: int = 4_000

    def __post_init__(self) -> None:
        positive(self, "latent", "action", "hidden", "mixtures", "batch", "length", "updates", "learning_rate")

    @property
    def inputs(self) -> int:
        """Width of the input."""
        return self.latent + self.action + self.predict_restart

    @property
    def outputs(self) -> int:
        """Width of the output."""
        return 3 * self.mixtures * self.latent + self.predict_restart


@dataclass(frozen=True)
class ControllerConfig:
    """C: what it sees, a hidden layer of tanh units or none, a bias or none (R `model.py`)."""

    features: Literal["z", "zc", "zh", "zch"] = "zh"
    hidden: int = 0
    bias: bool = True


@dataclass(frozen=True)
class ESConfig:
    """Training of C (R `train.py`, `es.py`)."""

    population: int = 64
    rollouts: int = 16
    """Episodes of one member; their mean is its fitness."""
    generations: int = 1_800
    sigma: float = 0.1
    weight_decay: float = 0.01
    """Times the mean square of the weights, added to the cost with the release's sign: larger weights are better."""
    evaluate_every: int = 25
    """Generations between evaluations of the distribution's mean; the best one evaluated is kept."""
    evaluation_rollouts: int = 1_024
    envs: int = 16
    """Real environments stepped at once (CarRacing)."""

    def __post_init__(self) -> None:
        if self.population < 4:
            raise ValueError("population must be at least 4")
        positive(self, "rollouts", "generations", "sigma", "evaluate_every", "evaluation_rollouts", "envs")


@dataclass(frozen=True)
class DreamConfig:
    """The environment generated by M (A, section on VizDoom)."""

    temperature: float = 1.15
    """tau of the published agent; the released code says 1.25."""
    table: tuple[float, ...] = (0.10, 0.50, 1.00, 1.30)
    """Further temperatures at each of which a controller is trained and scored (the paper's table)."""
    max_steps: int = 2_100
    products: Literal["float32", "bfloat16"] = "float32"
    """Factors of M's matrix products while dreaming; sums are float32."""

    def __post_init__(self) -> None:
        if not all(tau > 0 for tau in (self.temperature, *self.table)):
            raise ValueError("temperatures must be above 0 (towards 0 the likeliest component is always taken)")
        positive(self, "max_steps")


@dataclass(frozen=True)
class EvaluationConfig:
    """Scoring in the real environment."""

    episodes: int = 100
    """Consecutive episodes of one controller (tables of the paper)."""
    many: int = 1_024
    """Roll-outs of the second protocol (A); 0 leaves it out."""
    envs: int = 4

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.many < 0 or self.envs < 1:
            raise ValueError("episodes and envs must be at least 1, many at least 0")


@dataclass(frozen=True)
class StagesConfig:
    """How stages run; none of it changes a number (`together`: but for rounding)."""

    log_seconds: float = 10.0
    checkpoint_minutes: float = 5.0
    together: Literal["auto", "yes", "no"] = "auto"
    """Whether M of all seeds is trained in one program (sums may be rounded otherwise); "auto": except on a CPU, where
    it is no faster."""
    reuse: str = ""
    """Folder of another run whose fitting artefacts are taken instead of being made again."""


@dataclass(frozen=True)
class Config:
    """One run of World Models."""

    suite: str
    task: str
    preset: str
    env: EnvSettings
    collect: CollectConfig = field(default_factory=CollectConfig)
    vae: VAEConfig = field(default_factory=VAEConfig)
    rnn: MDNRNNConfig = field(default_factory=MDNRNNConfig)
    controller: ControllerConfig = field(default_factory=ControllerConfig)
    es: ESConfig = field(default_factory=ESConfig)
    dream: DreamConfig = field(default_factory=DreamConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    quantise: bool = True
    """Weights of V and M are rounded to 4 decimals for all that follows their training (R: how they are stored)."""
    weights: str = ""
    """Folder made by `repro import world_models`: that agent is evaluated instead of trained."""
    stages: StagesConfig = field(default_factory=StagesConfig)
    seeds: int = 1
    first_seed: int = 0

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError("seeds must be at least 1")
        if self.vae.latent != self.rnn.latent:
            raise ValueError("vae.latent and rnn.latent must be equal; latent=N sets both")
        if self.collect.episodes < self.collect.envs:
            raise ValueError("collect.episodes must be at least collect.envs")

    def with_latent(self, text: str) -> "Config":
        """`--set latent=16`: V's and M's width of z together."""
        if not text.isdigit() or not int(text):
            raise UsageError(f"config field 'latent': expected a whole number above 0, got {text!r}")
        latent = int(text)
        return replace(self, vae=replace(self.vae, latent=latent), rnn=replace(self.rnn, latent=latent))

    @property
    def doom(self) -> bool:
        """Whether C is trained in the dream."""
        return self.suite == DOOM

    @property
    def remembers(self) -> bool:
        """Whether M is needed: to dream, or because C sees its state."""
        return self.doom or self.controller.features != "z"


def paper(suite: str, task: str) -> Config:
    """The released settings at full size: 10,000 roll-outs, 1,800 generations; 906 ± 21 and 1092 ± 556."""
    if suite == CAR:
        return Config(suite, task, "paper", environments.world_models_car())
    return Config(
        suite,
        task,
        "paper",
        environments.world_models_doom(),
        collect=CollectConfig(policy="held", min_frames=100),
        # 10 epochs of 30,809 batches: the frames of the authors' own data (R `gpu_jobs.log.txt`).
        vae=VAEConfig(latent=64, updates=308_090),
        # 400 epochs of 61 batches.
        rnn=MDNRNNConfig(
            latent=64, action=1, hidden=512, predict_restart=True, length=499, decay=0.99999, updates=24_400
        ),
        controller=ControllerConfig("zch", bias=False),
    )


HOLD = 60
"""Longest hold of the smaller presets' collecting policy. In so few roll-outs with at most ten frames a direction M
hardly sees the player stay at a wall and dreams that nothing happens there: CMA-ES then finds controllers that hide at
the wall of the dream."""


def fast(suite: str, task: str) -> Config:
    """For one GPU. Take Cover: the settings of record 2bd2f2f14d2e, whose two controllers solve the game
    (800 roll-outs, half of which sweep, z of 32, M at the paper's width, 575 generations). CarRacing: 1,000 roll-outs,
    a tenth of the updates of V and M, 200 generations of 8 roll-outs.
    """
    full = paper(suite, task)
    if suite == CAR:
        return replace(
            full,
            preset="fast",
            collect=replace(full.collect, episodes=1_000),
            vae=replace(full.vae, updates=20_000),
            rnn=replace(full.rnn, updates=3_000),
            es=replace(full.es, generations=200, rollouts=8),
            evaluation=replace(full.evaluation, many=0),
        )
    small = cpu(suite, task)
    return replace(
        small,
        preset="fast",
        collect=replace(small.collect, episodes=800, sweeps=0.5),
        vae=replace(small.vae, batch=100, frames=25_000, updates=10_000),
        rnn=replace(small.rnn, hidden=512, batch=100, length=249, updates=16_000, decay=0.999781),
        es=replace(full.es, generations=575),
    )


def cpu(suite: str, task: str) -> Config:
    """Two CPU cores, about an hour and a half a seed for Take Cover: 1,000 roll-outs, V and M at CarRacing's size (z of
    32, 256 units) with short training in small batches, 200 generations in the dream at one temperature. CarRacing: 100
    roll-outs, 15 generations of 32 real episodes each.
    """
    full = paper(suite, task)
    if suite == CAR:
        return replace(
            full,
            preset="cpu",
            collect=replace(full.collect, episodes=100),
            vae=replace(full.vae, updates=4_000, batch=32, learning_rate=2e-4),
            rnn=replace(full.rnn, updates=1_000, batch=64, length=249),
            es=replace(full.es, population=16, rollouts=2, generations=15, evaluation_rollouts=32),
            dream=replace(full.dream, table=()),
            evaluation=replace(full.evaluation, many=0),
            seeds=2,
        )
    return replace(
        full,
        preset="cpu",
        collect=replace(full.collect, episodes=1_000, hold=HOLD),
        # Half as many dimensions with twice the floor: the same nats for V to spend.
        vae=replace(full.vae, latent=32, kl_tolerance=1.0, updates=6_000, batch=32, learning_rate=3e-4),
        # Annealed: the learning rate falls to a thirtieth (the paper's, over its 24,400 updates, to four fifths).
        rnn=replace(full.rnn, latent=32, hidden=256, updates=5_000, batch=64, length=127, decay=0.9993),
        es=replace(full.es, rollouts=8, generations=200, evaluation_rollouts=512),
        dream=replace(full.dream, table=(), products="bfloat16"),
        evaluation=replace(full.evaluation, many=0),
        seeds=2,
    )
