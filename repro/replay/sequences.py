"""What happens to a sampled batch before it is learned from."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np


def mark_boundaries(batch: Any) -> Any:
    """Flags the cuts that sampling makes in a batch `[..., L]` with the fields `is_first` and `is_last`.

    `is_first` of the first step becomes true (what came before is unknown), and `is_last` becomes true where the next
    step is the first of an episode (the episode was abandoned). Source: DreamerV3, official replay.
    """
    xp: Any = np if isinstance(batch.is_first, np.ndarray) else jnp
    start = xp.arange(batch.is_first.shape[-1]) == 0
    next_first = xp.concatenate([batch.is_first[..., 1:], xp.zeros_like(batch.is_first[..., :1])], -1)
    return batch._replace(is_first=batch.is_first | start, is_last=batch.is_last | next_first)


class Steps(NamedTuple):
    """Sequences `[B, T, ...]` in which every step knows the action that led to it."""

    obs: dict[str, Any]
    previous_action: Any
    reward: Any
    is_first: Any
    is_terminal: Any
    """float32: 1 where the episode ended for good."""


def steps_of(batch: Any, action_key: str, obs_keys: Iterable[str], context: int) -> Steps:
    """The trained part of a replay batch `[B, context + T]` for agents with one action key.

    With one step of context every trained step has its previous action; without, the first is marked as a reset, which
    makes the previous action count as zero.
    """
    action = jnp.asarray(batch.action[action_key])
    previous = action[:, :-1] if context else jnp.roll(action, 1, 1)
    cut = lambda x: jnp.asarray(x)[:, context:]  # noqa: E731
    return Steps(
        {k: cut(batch.obs[k]) for k in obs_keys},
        previous[:, context - 1 :] if context else previous,
        cut(batch.reward),
        cut(batch.is_first),
        cut(batch.is_terminal).astype(jnp.float32),
    )
