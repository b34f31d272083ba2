"""Every number of the DreamerV2 agent, once. Sources: "P" is the paper (arXiv v4), "D1" its Table D.1, "M" the code of
May 2021 that was current when the published scores were added (danijar/dreamerv2 at 0216d33), "R" release 2.2.0
(07d906e). Where they differ the defaults are those of M on Atari: they go with the published numbers."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class RSSMConfig:
    """Recurrent state-space model."""

    deter: int = 600
    """Recurrent units (D1, R)."""
    hidden: int = 600
    """Width of the dense layers (R)."""
    stoch: int = 32
    """Latent variables (P 2.1)."""
    classes: int = 32
    """Classes of each (P 2.1); 0 is the Gaussian latent of the ablation."""
    min_std: float = 0.1
    """Of Gaussian latents (R)."""
    gru_norm: bool = True
    """Layer norm in the GRU (P appendix C)."""


@dataclass(frozen=True)
class OptimizerConfig:
    """Keras' Adam behind global clipping and a decay that the learning rate does not scale."""

    lr: float
    eps: float = 1e-5
    """D1."""
    clip: float = 100.0
    """D1."""
    decay: float = 1e-6
    """D1."""


@dataclass(frozen=True)
class Schedule:
    """Linear from `start` to `end` over the first `steps` agent steps, then constant."""

    start: float
    end: float
    steps: float = 1.0


@dataclass(frozen=True)
class AgentConfig:
    """The agent of the published Atari runs."""

    rssm: RSSMConfig = RSSMConfig()
    depth: int = 48
    """Channels of the first convolution (R)."""
    units: int = 400
    layers: int = 4
    """Dense layers of all heads (R)."""
    norm: bool = False
    """Layer norm in all dense and convolutional layers (R, Crafter)."""
    discount: float = 0.999
    """P 2.1 and all code; D1 prints 0.995."""
    predict_discount: bool = True
    """Head for the probability of going on (Atari)."""
    discount_scale: float = 5.0
    """Scale of its loss (all code; not in the paper)."""
    reward_transform: Literal["tanh", "identity"] = "tanh"
    """M, R."""
    kl_scale: float = 0.1
    """D1."""
    kl_balance: float = 0.8
    """D1; 0.5 is no balancing."""
    free_nats: float = 0.0
    image_gradients: bool = True
    reward_gradients: bool = True
    """The losses shape the representation (P figure 5: ablations)."""
    lam: float = 0.95
    """D1."""
    imagination_length: int = 15
    """D1."""
    alignment: Literal["may2021", "release"] = "may2021"
    """Which action, target and baseline of an imagined trajectory belong together, see `losses.py`."""
    policy: Literal["onehot", "truncated_normal"] = "onehot"
    min_std: float = 0.1
    """Of the continuous policy (R)."""
    sample_gradient: Literal["untruncated", "exact"] = "untruncated"
    """Gradient of continuous actions (see `repro.nn.bounded`); what the official software computes."""
    dynamics_share: Schedule = Schedule(0.0, 0.0)
    """1 - rho of P eq. 6: share of the dynamics gradient of the actor, the rest is REINFORCE."""
    entropy: Schedule = Schedule(1e-3, 1e-3)
    """D1."""
    target_every: int = 100
    """Updates between copies of the critic (D1)."""
    steps_per_update: int = 16
    """Agent steps, for the schedules (M, R; D1 prints 4)."""
    model: OptimizerConfig = OptimizerConfig(2e-4)
    actor: OptimizerConfig = OptimizerConfig(4e-5)
    critic: OptimizerConfig = OptimizerConfig(1e-4)
    """D1."""
    replay_context: int = 1
    """1: the first of the trained steps knows the action that led to it (M); 0: it is a reset (R)."""
    imagine_from_last: int = 0
    """Imagine only from the last so many states of each sequence; 0 is all."""
    compute_dtype: str = "bfloat16"
    """`bfloat16` or `float32`; the official code computes in float16. Parameters and losses are float32."""
