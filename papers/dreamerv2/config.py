"""DreamerV2: budgets, environments and presets. The agent's own numbers are in `agent_config.py`.

Sources: "P" is the paper (arXiv v4), "D1" its Table D.1, "M" the code of May 2021 (0216d33), "R" release 2.2.0
(07d906e) of danijar/dreamerv2.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from papers.dreamerv2.agent_config import AgentConfig, OptimizerConfig, RSSMConfig, Schedule
from repro.envs import settings as environments
from repro.envs.settings import EnvSettings
from repro.errors import UsageError
from repro.evaluation.protocols import PROTOCOLS, Protocol
from repro.pipeline.config import LoopConfig


@dataclass(frozen=True)
class Config:
    """One run of DreamerV2."""

    suite: str
    task: str
    preset: str
    env: EnvSettings
    loop: LoopConfig
    agent: AgentConfig
    variant: str = "paper"
    """Which published agent the settings stand for: `paper`, or one of the variants that are presets too."""
    seeds: int = 5
    """P appendix; the score files have 8."""
    first_seed: int = 0

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError("seeds must be at least 1")
        if self.agent.replay_context != self.loop.replay_context:
            raise ValueError("agent.replay_context and loop.replay_context must be equal")
        if self.variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}")

    def protocol(self) -> Protocol:
        """How the published numbers were scored."""
        return PROTOCOLS["dreamerv2", self.suite]

    def method(self) -> str:
        """The published numbers of the variant."""
        return METHODS.get(self.variant, "dreamerv2")

    def for_platform(self, platform: str) -> "Config":
        """float32 on CPU, where bfloat16 is slower; unchanged elsewhere."""
        return self if platform != "cpu" else replace(self, agent=replace(self.agent, compute_dtype="float32"))


_ATARI = LoopConfig(
    steps=50_000_000,  # P: 200M frames
    envs=1,
    train_ratio=2500 / 16,  # M, R: one update in 16 agent steps (D1 prints 4)
    batch_size=50,  # D1, M
    batch_length=50,  # D1
    replay_context=1,
    replay_capacity=2_000_000,  # D1
    replay_storage="host",
    sampling="within",  # M
    prefill=50_000,  # M: 200k frames
    evaluate_every=25_000,  # M: 100k frames
    evaluate_from=50_000,
)

_DMC = replace(
    _ATARI,
    steps=990_000,  # score file: 1.98M environment steps, action repeat 2
    train_ratio=16 * 50 / 5,  # R: an update in 5 agent steps
    batch_size=16,
    replay_context=0,
    sampling="evenly",
    prefill=1_000,
    pretrain=100,
    evaluate_every=0,  # the published curves are of training episodes
    evaluate_from=0,
)

_DMC_AGENT = AgentConfig(
    rssm=RSSMConfig(deter=200, hidden=200),
    discount=0.99,
    predict_discount=False,
    reward_transform="identity",
    kl_scale=1.0,
    free_nats=1.0,
    alignment="release",
    policy="truncated_normal",
    dynamics_share=Schedule(1.0, 1.0),
    entropy=Schedule(1e-4, 1e-4),
    steps_per_update=5,
    model=OptimizerConfig(3e-4),
    actor=OptimizerConfig(8e-5),
    critic=OptimizerConfig(8e-5),
    replay_context=0,
)
"""R, dmc_vision."""


def paper(suite: str, task: str) -> Config:
    """Atari: 55 games with sticky actions, 200M frames, 8 to 10 days a seed on one V100; gamer median 2.15. DeepMind
    Control from pixels: the released settings of 2.2.0; humanoid walk as in appendix A."""
    if suite == "atari_200m":
        return Config(suite, task, "paper", environments.dreamerv2_atari(), _ATARI, AgentConfig())
    if suite != "dmc_vision":
        raise UsageError(f"dreamerv2 has no settings for {suite}; it has atari_200m and dmc_vision")
    agent, loop = _DMC_AGENT, _DMC
    if task == "humanoid_walk":  # P appendix A
        agent = replace(agent, kl_scale=2.0, entropy=Schedule(1e-5, 1e-5))
        loop = replace(loop, steps=21_000_000, replay_capacity=2_000_000)
    return Config(suite, task, "paper", environments.dmc_vision(repeat=2), loop, agent)


def _atari_variant(name: str, change: Callable[[AgentConfig], AgentConfig]) -> Callable[[str, str], Config]:
    def make(suite: str, task: str) -> Config:
        if suite != "atari_200m":
            raise UsageError(f"preset {name} of dreamerv2 is for atari_200m (discrete actions), not {suite}")
        config = paper(suite, task)
        return replace(config, preset=name, variant=name, agent=change(config.agent))

    return make


def release(suite: str, task: str) -> Config:
    """Release 2.2.0 on Atari: other alignment of actions and targets, batches of 16, the game's own actions, resets
    inside sequences. DeepMind Control is that release anyway."""
    if suite != "atari_200m":
        return replace(paper(suite, task), preset="release", variant="release")
    config = paper(suite, task)
    agent = replace(config.agent, alignment="release", replay_context=0)
    loop = replace(
        config.loop,
        train_ratio=800 / 16,
        batch_size=16,
        replay_context=0,
        sampling="within_or_end",
        evaluate_every=250_000,
    )
    env = replace(config.env, full_actions=False)
    return replace(config, preset="release", variant="release", agent=agent, loop=loop, env=env)


_ABLATIONS: dict[str, tuple[Callable[[AgentConfig], AgentConfig], str]] = {
    "no_discrete_latents": (
        lambda a: replace(a, rssm=replace(a.rssm, classes=0, stoch=50)),
        "Ablation of figure 5: Gaussian latents (50, the size of the first release).",
    ),
    "no_kl_balancing": (lambda a: replace(a, kl_balance=0.5), "Ablation of figure 5: plain KL."),
    "no_image_gradients": (
        lambda a: replace(a, image_gradients=False),
        "Ablation of figure 5: the image loss does not shape the representation.",
    ),
    "no_reward_gradients": (
        lambda a: replace(a, reward_gradients=False),
        "Ablation of figure 5: the reward loss does not shape the representation.",
    ),
    "no_policy_reinforce": (
        lambda a: replace(a, dynamics_share=Schedule(1.0, 1.0)),
        "Ablation of figure 5: the actor learns through straight-through gradients of the dynamics alone.",
    ),
    "no_layer_norm": (
        lambda a: replace(a, rssm=replace(a.rssm, gru_norm=False)),
        "Ablation of appendix C: no layer norm in the GRU.",
    ),
    "schedules": (
        lambda a: replace(a, dynamics_share=Schedule(0.1, 0.0, 2.5e6), entropy=Schedule(3e-3, 3e-4, 2.5e6)),
        "The row 'schedules' of Table 1: gradient mixture 0.1 to 0 and entropy 3e-3 to 3e-4 over 2.5M agent steps.",
    ),
    "discount_99": (lambda a: replace(a, discount=0.99), "Appendix B: discount 0.99, for Montezuma's Revenge."),
}

ABLATIONS: dict[str, Callable[[str, str], Config]] = {}
for _name, (_change, _text) in _ABLATIONS.items():
    ABLATIONS[_name] = _atari_variant(_name, _change)
    ABLATIONS[_name].__doc__ = _text + " Atari, otherwise as `paper`; 8 to 10 days a seed on one V100."

VARIANTS: dict[str, Callable[[str, str], Config]] = {"paper": paper, "release": release, **ABLATIONS}

METHODS = {
    **{name: f"dreamerv2_{name}" for name in ABLATIONS},
    "discount_99": "dreamerv2_discount_0.99",
}
"""Published method of a variant; `dreamerv2` for the others."""


def fast(suite: str, task: str) -> Config:
    """A fiftieth of the frames on Atari, a tenth of the steps on DeepMind Control; full model, one GPU, an hour."""
    config = replace(paper(suite, task), preset="fast")
    part = 50 if suite == "atari_200m" else 10
    return replace(config, loop=replace(config.loop, steps=config.loop.steps // part))


def cpu(suite: str, task: str) -> Config:
    """The real task with a small model (depth 16, 200 units), short batches, fewer updates and higher learning rates;
    two seeds on two CPU cores in about 15 minutes: 1M frames of Atari, 30,000 steps of DeepMind Control, compared with
    the published curve there."""
    config = paper(suite, task)
    atari = suite == "atari_200m"
    agent = replace(
        config.agent,
        rssm=replace(config.agent.rssm, deter=200, hidden=200),
        depth=16,
        units=200,
        imagine_from_last=8,
        model=OptimizerConfig(1e-3),
        actor=OptimizerConfig(3e-4),
        critic=OptimizerConfig(3e-4),
        compute_dtype="float32",
    )
    loop = replace(
        config.loop,
        steps=250_000 if atari else 15_000,
        envs=8 if atari else 1,
        train_ratio=0.5 if atari else 4,
        batch_size=8,
        batch_length=16,
        prefill=10_000 if atari else 1_000,
        pretrain=0,
        replay_storage="device",
        replay_capacity=250_000,
    )
    env = config.env if atari else replace(config.env, shadowsize=256)
    return replace(config, preset="cpu", seeds=2, env=env, agent=agent, loop=loop)


def reference(config: Config) -> Config:
    """The settings of the variant that a run stands for; differences from them count as deviations."""
    return VARIANTS[config.variant](config.suite, config.task)
