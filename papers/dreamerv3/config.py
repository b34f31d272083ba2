"""DreamerV3: budgets, environments and presets. The agent's own numbers are in `agent_config.py`.

Sources: "C" is the released configuration (`configs.yaml` of danijar/dreamerv3 at e3f0224), "ED2" Extended Data
Table 2 of the Nature article, "2024" and "2023" the releases that went with arXiv v2 (29eb964) and v1 (8fa35f8).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from papers.dreamerv3.agent_config import AgentConfig, size
from repro.envs import settings as environments
from repro.envs.settings import EnvSettings
from repro.errors import UsageError
from repro.evaluation.protocols import PROTOCOLS, Protocol
from repro.pipeline.config import LoopConfig

Release = Literal["paper", "v2_2024", "v1_2023"]


@dataclass(frozen=True)
class Config:
    """One run of DreamerV3."""

    suite: str
    task: str
    preset: str
    env: EnvSettings
    loop: LoopConfig
    agent: AgentConfig
    release: Release = "paper"
    """Which of the three published agents the settings stand for; their table is what the run is compared with."""
    differences: tuple[str, ...] = ()
    """What that release does otherwise and no field here expresses."""
    seeds: int = 5
    first_seed: int = 0

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError("seeds must be at least 1")
        if self.agent.replay_context != self.loop.replay_context:
            raise ValueError("agent.replay_context and loop.replay_context must be equal")

    def protocol(self) -> Protocol:
        """How the release's numbers were scored (specification 2.2); for other suites: the last twentieth."""
        if self.release == "v1_2023" and self.suite in _PROTOCOLS_2023:
            return _PROTOCOLS_2023[self.suite]
        if ("dreamerv3", self.suite) in PROTOCOLS:
            return PROTOCOLS["dreamerv3", self.suite]
        budget = reference(self).loop.steps * self.env.action_repeat
        return Protocol(
            name=f"dreamerv3_{self.suite}",
            description=f"mean return of the training episodes of the last {budget // 20:,} env steps, per seed",
            step_unit="env_steps",
            bin_width=budget // 20,
            earlier_bin=True,
            source="DreamerV3: training episodes, no separate evaluation; bin width chosen here",
        )

    def method(self) -> str:
        """The published numbers of the release."""
        return "dreamerv3_2023" if self.release == "v1_2023" else "dreamerv3"

    def with_size(self, name: str) -> "Config":
        """The same run with another model size (1M ... 400M)."""
        return replace(self, agent=size(name, self.agent))

    def for_platform(self, platform: str) -> "Config":
        """float32 on CPU, where bfloat16 is slower; unchanged elsewhere."""
        return self if platform != "cpu" else replace(self, agent=replace(self.agent, compute_dtype="float32"))


def _scored_2023(suite: str, unit: str, width: int, start: int = 0) -> Protocol:
    return Protocol(
        name=f"dreamerv3_2023_{suite}",
        description=f"mean return of the training episodes of the last {width:,} {unit} of the budget, per seed",
        step_unit=unit,
        bin_width=width,
        bin_start=start,
        curve_width=50_000 if suite == "dmc_vision" else 25_000 if suite == "dmc_proprio" else 20_000,
        earlier_bin=True,
        source="DreamerV3 2023: averaging that reproduces the released numbers (specification 2.2)",
    )


_PROTOCOLS_2023 = {
    "atari100k": _scored_2023("atari100k", "frames", 20_000),
    "dmc_proprio": _scored_2023("dmc_proprio", "env_steps", 100_000),
    "dmc_vision": _scored_2023("dmc_vision", "env_steps", 300_000, start=100_000),
}

_LOOP = LoopConfig(
    steps=1,
    envs=16,  # C:55
    train_ratio=32,  # C:46
    batch_size=16,  # C:10, ED5
    batch_length=64,  # C:11, ED5
    replay_context=1,  # C:15
    replay_capacity=5_000_000,  # C:40, ED5
    online_queue=True,  # C:42
)


def _config(
    suite: str, task: str, preset: str, env: EnvSettings, width: str, steps: float, envs: int, ratio: float
) -> Config:
    loop = replace(_LOOP, steps=int(steps), envs=envs, train_ratio=ratio)
    return Config(suite, task, preset, env, loop, size(width))


def _crafter() -> EnvSettings:
    return environments.crafter()


# Suite -> environment, model size, agent steps, environments, train ratio.
_PAPER: dict[str, tuple[Callable[[], EnvSettings], str, float, int, float]] = {
    # ED2 gives ratio 128, every release 256 (C:33); the released numbers come with the releases.
    "atari100k": (environments.dreamerv3_atari100k, "200M", 100_000, 1, 256),
    "atari_200m": (environments.dreamerv3_atari, "200M", 50_000_000, 16, 32),  # ED2, C:30
    "dmc_proprio": (environments.dmc_proprio, "1M", 1_000_000, 16, 1024),  # ED2, C:36
    "dmc_vision": (environments.dmc_vision, "200M", 1_000_000, 16, 256),  # ED2, C:36
    "crafter": (_crafter, "200M", 1_000_000, 1, 512),  # C:32
    "procgen_hard": (environments.procgen, "200M", 50_000_000, 16, 32),  # ED2 (C:31 has 64)
    "bsuite": (EnvSettings, "200M", 1_000_000, 1, 1024),  # ED2; an episode count ends the run in the benchmark
    "dmlab30": (EnvSettings, "200M", 25_000_000, 16, 32),  # ED2, C:34
    "minecraft_diamond": (EnvSettings, "200M", 100_000_000, 64, 32),  # ED2, C:35
    # Not in the papers: small environments that run inside the jitted program.
    "minatar": (EnvSettings, "1M", 1_000_000, 16, 64),
    "catch": (environments.catch, "1M", 100_000, 16, 64),
}

_RELEASE_2024: dict[str, tuple[Callable[[], EnvSettings], str, float, int, float]] = {
    "atari100k": (environments.dreamerv3_2024_atari100k, "200M", 100_000, 1, 256),
    "atari_200m": (environments.dreamerv3_2024_atari, "200M", 50_000_000, 16, 32),
    "dmc_proprio": (lambda: environments.dmc_proprio(repeat=2), "12M", 250_000, 16, 512),
    "dmc_vision": (lambda: environments.dmc_vision(repeat=2), "12M", 500_000, 16, 512),
    "crafter": (_crafter, "200M", 1_000_000, 1, 512),
    "procgen_hard": (environments.procgen, "200M", 50_000_000, 16, 64),
    "bsuite": (EnvSettings, "200M", 1_000_000, 1, 1024),
    "dmlab30": (EnvSettings, "200M", 25_000_000, 16, 32),
    "minecraft_diamond": (EnvSettings, "200M", 100_000_000, 64, 32),
}

_RELEASE_2023: dict[str, tuple[Callable[[], EnvSettings], str, float, int, float]] = {
    "atari100k": (environments.dreamerv3_2023_atari100k, "12M", 100_000, 1, 1024),
    "atari_200m": (environments.dreamerv3_2023_atari, "200M", 50_000_000, 8, 64),
    "dmc_proprio": (lambda: environments.dmc_proprio(repeat=2), "12M", 250_000, 4, 512),
    "dmc_vision": (lambda: environments.dmc_vision(repeat=2), "12M", 500_000, 4, 512),
    "crafter": (_crafter, "200M", 1_000_000, 1, 512),
}

DIFFERENCES_2024 = (
    "imagined weights start from the true continuation flag instead of the predicted one",
    "the first update copies the critic into the slow critic",
)
DIFFERENCES_2023 = (
    "dense GRU with LayerNorm, fan-average initialisation, learned initial state, 32 x 32 latents",
    "4 x 4 stride-2 convolutions without sigmoid, 2 to 5 MLP layers by size",
    "two-hot bins uniform in symlog space; hard continue target; no stored latents",
    "three Adam optimisers with global clipping; continuous actors learn by backpropagation",
    "1M steps of replay, random prefill",
)


def _lookup(table: dict, suite: str, preset: str) -> tuple:
    if suite not in table:
        raise UsageError(f"preset {preset} has no settings for {suite}; it has: {', '.join(table)}")
    return table[suite]


def paper(suite: str, task: str) -> Config:
    """Today's agent (Nature, December 2024 code) at the paper's budget; one A100 takes 0.1 (Atari 100k) to 9 days a
    seed. Reaches 125 % human-normalised mean on Atari 100k, 843 mean on DMC proprio."""
    env, width, steps, envs, ratio = _lookup(_PAPER, suite, "paper")
    return _config(suite, task, "paper", env(), width, steps, envs, ratio)


def v2_2024(suite: str, task: str) -> Config:
    """The 2024 release, which made the released score files (arXiv v2): strided CNN, actor unimix, action repeat 2 on
    DMC. Reaches 125 % mean on Atari 100k, 754 mean on DMC proprio at 500K steps, 786 on DMC vision at 1M."""
    env, width, steps, envs, ratio = _lookup(_RELEASE_2024, suite, "v2_2024")
    config = _config(suite, task, "v2_2024", env(), width, steps, envs, ratio)
    mults = (1, 2, 3, 4, 4)
    agent = replace(
        config.agent,
        encoder=replace(config.agent.encoder, strided=True, outer=True, mults=mults),
        decoder=replace(config.agent.decoder, strided=True, outer=True, mults=mults),
        actor=replace(config.agent.actor, unimix=0.01),
    )
    return replace(config, agent=agent, release="v2_2024", differences=DIFFERENCES_2024)


def v1_2023(suite: str, task: str) -> Config:
    """Environments, budgets, ratios and loss scales of the 2023 release (arXiv v1) on today's networks; what no field
    expresses is listed in `differences`. That release reached 112 % mean on Atari 100k, 743 on DMC proprio."""
    env, width, steps, envs, ratio = _lookup(_RELEASE_2023, suite, "v1_2023")
    config = _config(suite, task, "v1_2023", env(), width, steps, envs, ratio)
    agent = replace(
        config.agent,
        scales=replace(config.agent.scales, dynamics=0.5),
        actor=replace(config.agent.actor, unimix=0.01),
        replay_critic=False,
    )
    loop = replace(config.loop, replay_capacity=1_000_000, online_queue=False)
    return replace(config, agent=agent, loop=loop, release="v1_2023", differences=DIFFERENCES_2023)


def fast(suite: str, task: str) -> Config:
    """The 12M model at the full number of environment steps of Atari 100k or DMC proprio (500K), fewer updates (ratio
    32 and 128), one GPU, under an hour for five seeds; other suites: a tenth of the paper's budget."""
    if suite == "dmc_proprio":
        config = v2_2024(suite, task).with_size("1M")
        return replace(config, preset="fast", loop=replace(config.loop, train_ratio=128))
    config = replace(paper(suite, task).with_size("12M"), preset="fast")
    if suite == "atari100k":
        return replace(config, loop=replace(config.loop, train_ratio=32))
    return replace(config, loop=replace(config.loop, steps=config.loop.steps // 10))


# Agent steps and environments of the `cpu` preset; chosen, like its batch and learning rate, for the time they take and
# on DMC cartpole_swingup (seed 100), a task of which no record is kept.
_CPU = {
    "dmc_proprio": (25_000, 4),
    "dmc_vision": (10_000, 4),
    "atari100k": (15_000, 1),
    "catch": (20_000, 16),
    "minatar": (20_000, 16),
}


def cpu(suite: str, task: str) -> Config:
    """The real task with the 1M model, small batches, imagination from their last 8 states and a tenfold learning rate;
    two seeds on two CPU cores in about 15 minutes: 10 % of the steps on DMC proprio, 15 % on Atari 100k, compared with
    the published curve there."""
    base = v2_2024(suite, task) if suite in ("dmc_proprio", "dmc_vision") else paper(suite, task)
    steps, envs = _CPU.get(suite, (10_000, 1))
    config = replace(base.with_size("1M"), preset="cpu", seeds=2)
    images = suite in ("atari100k", "atari_200m", "dmc_vision", "crafter", "procgen_hard")
    length, ratio = (16, 12) if images else (32, 32)
    loop = replace(config.loop, steps=steps, envs=envs, train_ratio=ratio, batch_size=8, batch_length=length)
    optimizer = replace(config.agent.optimizer, lr=4e-4, warmup=100)
    agent = replace(config.agent, optimizer=optimizer, imagine_from_last=8)
    env = replace(config.env, shadowsize=256) if suite == "dmc_vision" else config.env
    return replace(config, loop=loop, agent=agent, env=env)


PRESETS = {"paper": paper, "v2_2024": v2_2024, "v1_2023": v1_2023, "fast": fast, "cpu": cpu}


def reference(config: Config) -> Config:
    """The release's own configuration for the same task; what `differences` lists counts as a deviation from it."""
    return replace(PRESETS[config.release](config.suite, config.task), differences=())
