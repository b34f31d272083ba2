"""DreamerV1: budgets, environments and presets. The agent's own numbers are in `agent_config.py`.

Sources: "P" is the paper (ICLR 2020), "D2" the authors' TensorFlow 2 code (danijar/dreamer at 56d4d44).
"""

from dataclasses import dataclass, replace

from papers.dreamerv1.agent_config import AgentConfig, ExplorationConfig
from repro.envs import settings as environments
from repro.envs.settings import EnvSettings
from repro.errors import UsageError
from repro.evaluation.protocols import PROTOCOLS, Protocol
from repro.pipeline.config import LoopConfig


@dataclass(frozen=True)
class Config:
    """One run of DreamerV1."""

    suite: str
    task: str
    preset: str
    env: EnvSettings
    loop: LoopConfig
    agent: AgentConfig
    seeds: int = 5
    """P appendix."""
    first_seed: int = 0

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError("seeds must be at least 1")
        if self.agent.replay_context != self.loop.replay_context:
            raise ValueError("agent.replay_context and loop.replay_context must be equal")
        if self.agent.action_repeat != self.env.action_repeat:
            raise ValueError("agent.action_repeat and env.action_repeat must be equal")

    def protocol(self) -> Protocol:
        """How the published curves were scored; runs that evaluate only once are scored by that evaluation."""
        loop = self.loop
        if loop.evaluate_every < 0:
            return Protocol(
                name=f"dreamerv1_{self.suite}_final",
                description=f"mean of {loop.evaluation_episodes} evaluation episodes (mode of the actor, sampled "
                "latent) at the end of the budget, per seed; seeds averaged",
                kind="final",
                episodes="evaluation",
                step_unit="env_steps",
                evaluation_episodes=loop.evaluation_episodes,
                source="DreamerV1: the evaluation of the released curves, once at the end of a reduced budget",
            )
        return PROTOCOLS["dreamerv1", "dmc_vision"]

    def method(self) -> str:
        """The published numbers of the paper."""
        return "dreamerv1"

    def for_platform(self, platform: str) -> "Config":
        """float32 on CPU, where bfloat16 is slower; unchanged elsewhere."""
        return self if platform != "cpu" else replace(self, agent=replace(self.agent, compute_dtype="float32"))


_LOOP = LoopConfig(
    steps=2_500_000,  # P: 5M environment steps
    envs=1,
    train_ratio=500,  # 100 updates (D2) of 50 x 50 in the 500 agent steps of an episode
    batch_size=50,  # P
    batch_length=50,  # P
    replay_context=1,
    replay_capacity=2_600_000,  # everything is kept
    replay_storage="host",
    sampling="without_last",  # D2: the last row of an episode is never sampled
    prefill=2_500,  # P: 5 episodes
    pretrain=100,  # D2
    burst=500,  # D2: 100 updates at a time
    evaluate_every=5_000,  # D2
    evaluate_from=2_500,
)

# Only in D2: bilinear resize, sticky actions, episodes that end with a life in training and in evaluation.
_ATARI = EnvSettings(action_repeat=4, sticky=0.25, noop_min=1, noop_max=30, life_loss="episode", time_limit=108_000)


def paper(suite: str, task: str) -> Config:
    """Twenty DeepMind Control tasks from pixels, 5M environment steps, action repeat 2; one V100 takes 15 hours a seed.
    Reaches 823 in the mean. On Atari (`discrete`) the paper's variant for discrete actions."""
    if suite == "atari_200m":
        return replace(discrete(suite, task), preset="paper")
    _only(suite, "dmc_vision", "paper")
    return Config(suite, task, "paper", environments.dmc_vision(repeat=2), _LOOP, AgentConfig())


def discrete(suite: str, task: str) -> Config:
    """Atari with the paper's settings for discrete actions (appendix A: straight-through one-hot actions, horizon 10,
    KL scale 0.1, tanh rewards, epsilon-greedy 0.4 to 0.1, discount head); one V100, days. No table was published."""
    _only(suite, "atari_200m", "discrete")
    agent = AgentConfig(
        predict_discount=True,
        reward_transform="tanh",
        kl_scale=0.1,
        imagination_length=10,
        policy="onehot",
        # The command that users of D2 ran: a linear schedule over 200,000 updates in P.
        exploration=ExplorationConfig("epsilon_greedy", 0.4, 0.1, 100_000),
        action_repeat=4,
    )
    # The last row of an episode must be seen, or nothing ever ends: D2's `dataset_balance`.
    loop = replace(_LOOP, sampling="within", steps=5_000_000)
    return Config(suite, task, "discrete", _ATARI, loop, agent)


def _only(suite: str, wanted: str, preset: str) -> None:
    if suite != wanted:
        raise UsageError(
            f"preset {preset} of dreamerv1 is for {wanted}, not {suite}; continuous actions (dmc_vision) have the "
            "presets paper, fast and cpu, discrete ones (atari_200m) discrete, fast and cpu"
        )


def fast(suite: str, task: str) -> Config:
    """A tenth of the paper's environment steps with the full model, one GPU, about an hour for five seeds."""
    config = replace(paper(suite, task), preset="fast")
    return replace(config, loop=replace(config.loop, steps=config.loop.steps // 10))


# Agent steps per seed of the `cpu` preset; chosen for the time that they take.
_CPU_STEPS = {"dmc_vision": 10_000, "atari_200m": 20_000}


def cpu(suite: str, task: str) -> Config:
    """The real task with a small model (depth 16, 200 dense units), short batches, fewer updates and a higher learning
    rate; two seeds on two CPU cores in about 15 minutes: under 1 % of the steps, evaluated once at the end and compared
    with the published curve there."""
    config = paper(suite, task)
    agent = replace(
        config.agent,
        depth=16,
        units=200,
        imagine_from_last=8,
        model_lr=1e-3,
        actor_lr=3e-4,
        critic_lr=3e-4,
        compute_dtype="float32",
    )
    loop = replace(
        config.loop,
        steps=_CPU_STEPS[suite],
        train_ratio=10,
        batch_size=8,
        batch_length=16,
        prefill=2_000,
        burst=1,
        replay_storage="device",
        evaluate_every=-1,
        evaluation_episodes=4,
    )
    env = replace(config.env, shadowsize=256)
    return replace(config, preset="cpu", seeds=2, env=env, agent=agent, loop=loop)


def reference(config: Config) -> Config:
    """The paper's settings that a run's deviations are counted from."""
    return paper(config.suite, config.task)
