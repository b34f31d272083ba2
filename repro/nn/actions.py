"""Actions as the vectors that networks see, for agents with one action key."""

from typing import Any

import jax

from repro.envs.base import Space, Spaces
from repro.errors import UsageError


def one_action_key(spaces: Spaces) -> str:
    """The only action key; `UsageError` if there are several or its values are not one class or one vector."""
    if len(spaces) != 1:
        raise UsageError(f"this agent takes one action key, the environment has {', '.join(sorted(spaces)) or 'none'}")
    (key, space), *_ = spaces.items()
    if len(space.shape) != (0 if space.discrete else 1):
        raise UsageError(f"action {key!r} has shape {space.shape}; this agent takes one class or one vector")
    return key


def check_actions(discrete: bool, space: Space, policy: str, hint: str = "") -> None:
    """`UsageError` if a policy for discrete (or continuous) actions meets the other kind."""
    if discrete and not space.discrete:
        raise UsageError(
            f"policy {policy} chooses between classes, but the task has {space.shape[0]} continuous actions{hint}"
        )
    if space.discrete and not discrete:
        raise UsageError(f"policy {policy} is for continuous actions, but the task has {space.classes} classes{hint}")


def action_vector(action: jax.Array, space: Space, dtype: Any) -> jax.Array:
    """Classes `[...]` as one-hot vectors, continuous actions `[..., A]` as they are."""
    return jax.nn.one_hot(action, space.classes, dtype=dtype) if space.classes else action.astype(dtype)


def uniform_action(key: jax.Array, space: Space, batch: tuple[int, ...]) -> jax.Array:
    """Actions of the random policy: classes `[*batch]`, or uniform in [-1, 1] `[*batch, A]`."""
    if space.classes:
        return jax.random.randint(key, batch, 0, space.classes).astype(space.dtype)
    return jax.random.uniform(key, (*batch, *space.shape), minval=-1.0, maxval=1.0)
