"""Every number of the DreamerV1 agent, once. Sources: "P" is the paper (ICLR 2020), "D2" the authors' TensorFlow 2 code
(danijar/dreamer at 56d4d44), which this follows, "D1" their TensorFlow 1 code (google-research/dreamer at d517542)."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ExplorationConfig:
    """Noise on the actions of training."""

    kind: Literal["gaussian", "epsilon_greedy"] = "gaussian"
    """Added and clipped to [-1, 1], or a random class instead."""
    amount: float = 0.3
    """Standard deviation, or probability of the random class (P, D2)."""
    minimum: float = 0.0
    """The amount never falls below this."""
    half_life: float = 0.0
    """Environment steps in which it halves (D2); 0 is never."""


@dataclass(frozen=True)
class AgentConfig:
    """The agent of D2 on continuous control."""

    deter: int = 200
    """Recurrent units, and width of the dense layers beside them (P, D2)."""
    stoch: int = 30
    """Gaussian latents (P)."""
    min_std: float = 0.1
    """Of the latents (D2)."""
    depth: int = 32
    """Channels of the first convolution (P, as in World Models)."""
    units: int = 400
    """Dense units of the heads: D1 and D2; P says 300."""
    reward_layers: int = 2
    value_layers: int = 3
    actor_layers: int = 4
    discount_layers: int = 3
    """D1 and D2; P says three for all."""
    predict_discount: bool = False
    """Head for the probability of going on, for tasks that end early (P appendix A)."""
    discount_scale: float = 10.0
    """Scale of its loss (D2; D1 has 1)."""
    reward_transform: Literal["tanh", "identity"] = "identity"
    """tanh for Atari and DeepMind Lab (P)."""
    kl_scale: float = 1.0
    """P; 0.1 for discrete actions."""
    free_nats: float = 3.0
    """P; below a mean KL of this the KL teaches nothing (D2)."""
    discount: float = 0.99
    lam: float = 0.95
    imagination_length: int = 15
    """P appendix A; 10 for discrete actions."""
    policy: Literal["tanh_normal", "onehot"] = "tanh_normal"
    mean_scale: float = 5.0
    """P: the mean is 5 tanh(mean / 5) before the tanh of the action."""
    initial_std: float = 5.0
    """D2: standard deviation of an untrained policy, before the tanh."""
    policy_min_std: float = 1e-4
    """D2."""
    mode_samples: int = 100
    """Evaluation takes the most probable of so many samples (D2)."""
    exploration: ExplorationConfig = ExplorationConfig()
    action_repeat: int = 2
    """Environment steps of an agent step, for the decay of the exploration."""
    steps_per_update: int = 5
    """Agent steps between updates, for the same (P: 100 updates an episode of 500)."""
    model_lr: float = 6e-4
    critic_lr: float = 8e-5
    actor_lr: float = 8e-5
    """P appendix A."""
    eps: float = 1e-7
    """Of Adam (D2, Keras' default; D1 has 1e-4)."""
    clip: float = 100.0
    """Of the norm of each optimiser's gradients (P)."""
    shared_noise: bool = False
    """One latent noise vector for a whole batch, as D2's sampler draws it; the paper and D1 draw one a row."""
    replay_context: int = 1
    """The step before the trained ones, for the action that led to the first."""
    imagine_from_last: int = 0
    """Imagine only from the last so many states of each sequence; 0 is all."""
    compute_dtype: str = "bfloat16"
    """`bfloat16` or `float32`; D2 computes in float16. Parameters and losses are float32."""
