"""What happens to a sampled batch before it is learned from."""

from typing import Any

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
