"""Every number of the DreamerV3 agent, once. Sources: "C" is the released configuration (`configs.yaml` of
danijar/dreamerv3 at e3f0224), "ED" an Extended Data table of the Nature article, "Methods" its methods section."""

from dataclasses import dataclass, replace

from repro.errors import unknown


@dataclass(frozen=True)
class RSSMConfig:
    """Recurrent state-space model: block GRU, posterior and prior over `stoch` latents of `classes` classes."""

    deter: int = 8192
    """Recurrent units (ED4)."""
    hidden: int = 1024
    """Width of the hidden layers (ED4)."""
    stoch: int = 32
    """Latents (ED4)."""
    classes: int = 64
    """Classes of each latent, width / 16 (ED4)."""
    blocks: int = 8
    """Blocks of the recurrent weights (ED4)."""
    unimix: float = 0.01
    """Uniform share of the latent distributions (ED5)."""
    free_nats: float = 1.0
    """KL below which nothing is learned, per state (ED5)."""
    prior_layers: int = 2
    """C: imglayers."""
    posterior_layers: int = 1
    """C: obslayers."""
    core_layers: int = 1
    """C: dynlayers."""
    absolute: bool = False
    """Posterior from the tokens alone (C)."""
    outscale: float = 1.0
    """Initial scale of the two logit layers (C)."""
    act: str = "silu"


@dataclass(frozen=True)
class EncoderConfig:
    """Symlog MLP for vectors, convolutions for images."""

    units: int = 1024
    layers: int = 3
    """Methods."""
    depth: int = 64
    """Channels before the multipliers; the code has 4 for 1M where ED4 prints 16."""
    mults: tuple[int, ...] = (2, 3, 4, 4)
    """Channel multipliers of the stages (C)."""
    kernel: int = 5
    """C."""
    strided: bool = False
    """Stride-2 convolutions as in the 2024 release and the papers, instead of max-pooling."""
    outer: bool = False
    """First convolution at full resolution (2024 release)."""
    symlog: bool = True
    act: str = "silu"


@dataclass(frozen=True)
class DecoderConfig:
    """Mirror image of the encoder; `blocks` is for the projection of the recurrent units to the first map."""

    units: int = 1024
    layers: int = 3
    depth: int = 64
    mults: tuple[int, ...] = (2, 3, 4, 4)
    kernel: int = 5
    blocks: int = 8
    """C: bspace."""
    strided: bool = False
    outer: bool = False
    symlog: bool = True
    outscale: float = 1.0
    act: str = "silu"


@dataclass(frozen=True)
class HeadConfig:
    """An MLP and a linear output."""

    layers: int
    units: int = 1024
    outscale: float = 1.0
    """Initial scale of the output weights (C)."""
    bins: int = 255
    """Two-hot bins (C) ..."""
    bin_limit: float = 20.0
    """... from minus to plus this in symlog space (Methods)."""
    act: str = "silu"


@dataclass(frozen=True)
class ActorConfig:
    """Categorical or bounded normal policy, one output a key of the action."""

    layers: int = 3
    units: int = 1024
    outscale: float = 0.01
    """Initial scale of the output weights (C)."""
    min_std: float = 0.1
    max_std: float = 1.0
    """C."""
    unimix: float = 0.0
    """Uniform share of discrete policies. The papers and the 2024 release have 0.01; the code sets it but never
    applies it, so 0 is what it does."""
    act: str = "silu"


@dataclass(frozen=True)
class LossScales:
    """ED5 and C:86; `reconstruction` is the scale of every decoded key."""

    reconstruction: float = 1.0
    reward: float = 1.0
    continuation: float = 1.0
    dynamics: float = 1.0
    representation: float = 0.1
    actor: float = 1.0
    critic: float = 1.0
    replay_critic: float = 0.3


@dataclass(frozen=True)
class OptimizerConfig:
    """LaProp behind adaptive gradient clipping (ED5, Methods)."""

    lr: float = 4e-5
    clip: float = 0.3
    """Largest ratio of gradient norm to parameter norm, per tensor (ED5: AGC)."""
    min_norm: float = 1e-3
    """Parameter norms are taken to be at least this (Methods)."""
    eps: float = 1e-20
    beta1: float = 0.9
    beta2: float = 0.999
    """The code's value in every release since 2024; the papers print 0.99."""
    nesterov: bool = False
    weight_decay: float = 0.0
    weight_decay_pattern: str = "/kernel$"
    schedule: str = "const"
    """`const`, `linear` or `cosine`."""
    warmup: int = 1000
    """Updates over which the rate rises from 0 (C; not in the papers)."""
    anneal: int = 0
    """Update at which `linear` and `cosine` reach their end."""
    end: float | None = None
    """Rate at that end; a tenth of `lr` when None."""


@dataclass(frozen=True)
class NormalizerConfig:
    """Running statistics: `percentile`, `mean_std` or `none`."""

    kind: str = "none"
    rate: float = 0.01
    limit: float = 1e-8
    low: float = 5.0
    high: float = 95.0
    debias: bool = True


@dataclass(frozen=True)
class CriticTargetConfig:
    """Settings shared by the imagined and the replayed critic loss (C: imag_loss, repl_loss)."""

    lam: float = 0.95
    """ED5."""
    slow_regularizer: float = 1.0
    """Weight of the regression to the slow critic (ED5)."""
    slow_target: bool = False
    """Bootstrap from the slow critic."""


@dataclass(frozen=True)
class AgentConfig:
    """The agent of the released code (December 2024 until now; Nature)."""

    rssm: RSSMConfig = RSSMConfig()
    encoder: EncoderConfig = EncoderConfig()
    decoder: DecoderConfig = DecoderConfig()
    reward: HeadConfig = HeadConfig(layers=1, outscale=0.0)
    continuation: HeadConfig = HeadConfig(layers=1)
    actor: ActorConfig = ActorConfig()
    critic: HeadConfig = HeadConfig(layers=3, outscale=0.0)
    scales: LossScales = LossScales()
    optimizer: OptimizerConfig = OptimizerConfig()
    imagined: CriticTargetConfig = CriticTargetConfig()
    replayed: CriticTargetConfig = CriticTargetConfig()
    return_norm: NormalizerConfig = NormalizerConfig("percentile", limit=1.0, debias=False)
    """Percentiles 5 and 95, decay 0.99, limit 1 (ED5)."""
    value_norm: NormalizerConfig = NormalizerConfig()
    advantage_norm: NormalizerConfig = NormalizerConfig()
    horizon: int = 333
    """Discount 1 - 1/333 (ED5)."""
    continuation_discounts: bool = True
    """The discount is part of the target of the continue head instead of the return (C: contdisc)."""
    imagination_length: int = 15
    """ED5."""
    imagine_from_last: int = 0
    """Imagine only from the last so many states of each sequence; 0 is all (C: imag_last)."""
    actor_entropy: float = 3e-4
    """ED5."""
    actor_gradients: bool = False
    """Actor and critic losses reach the world model through the first imagined state (C: ac_grads)."""
    reward_gradients: bool = True
    """The reward loss shapes the representation (C: reward_grad)."""
    replay_critic: bool = True
    """Critic loss on replayed states (C: repval_loss)."""
    replay_critic_gradients: bool = True
    """It shapes the representation (C: repval_grad)."""
    slow_critic_rate: float = 0.02
    """Moving-average rate, decay 0.98 (ED5)."""
    slow_critic_every: int = 1
    replay_context: int = 1
    """Steps before the trained part of a sequence; the latent stored at the last of them starts the recurrence."""
    compute_dtype: str = "bfloat16"
    """`bfloat16` (C:74) or `float32`; parameters, losses and statistics are always float32."""


# Width of all layers, recurrent units, CNN depth (ED4, C:116-153); 32 latents of width / 16 classes everywhere.
SIZES = {
    "1M": (64, 512, 4),
    "12M": (256, 2048, 16),
    "25M": (384, 3072, 24),
    "50M": (512, 4096, 32),
    "100M": (768, 6144, 48),
    "200M": (1024, 8192, 64),
    "400M": (1536, 12288, 96),
}


def size(name: str, agent: AgentConfig | None = None) -> AgentConfig:
    """`agent` (default: the released agent) with the widths of model size `name`; `UsageError` for unknown sizes."""
    if name not in SIZES:
        raise unknown("model size", name, SIZES)
    units, deter, depth = SIZES[name]
    agent = agent or AgentConfig()
    return replace(
        agent,
        rssm=replace(agent.rssm, deter=deter, hidden=units, classes=units // 16),
        encoder=replace(agent.encoder, units=units, depth=depth),
        decoder=replace(agent.decoder, units=units, depth=depth),
        reward=replace(agent.reward, units=units),
        continuation=replace(agent.continuation, units=units),
        actor=replace(agent.actor, units=units),
        critic=replace(agent.critic, units=units),
    )
