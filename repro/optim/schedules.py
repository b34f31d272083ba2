"""Learning-rate schedules of the papers."""

import optax


def warmup_then(after: optax.Schedule, rate: float, warmup: int) -> optax.Schedule:
    """Linear from 0 at update 0 to `rate` at update `warmup`, then `after`, which counts from there."""
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), after], [warmup])


def decay(kind: str, rate: float, end: float, steps: int) -> optax.Schedule:
    """`const`, `linear` or `cosine` (half a period) from `rate` to `end` over `steps` updates, then `end`."""
    if kind == "const":
        return optax.constant_schedule(rate)
    if kind == "linear":
        return optax.linear_schedule(rate, end, steps)
    if kind == "cosine":
        return optax.cosine_decay_schedule(rate, steps, end / rate)
    raise ValueError(f"unknown schedule {kind!r}; known: const, linear, cosine")
