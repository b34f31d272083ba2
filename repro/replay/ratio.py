"""How many updates are due."""

import math

from repro.errors import UsageError


class UpdateRatio:
    """Counts updates so that they keep a fixed ratio to environment steps, exact to the step.

    Source: DreamerV3, official training loop. To be called after every single environment step (not once for a vector
    of them), from the moment the replay is ready.
    """

    def __init__(self, ratio: float) -> None:
        """`ratio`: updates per environment step; 0 means never."""
        if not ratio >= 0 or math.isinf(ratio):
            raise UsageError(f"the update ratio must be a number >= 0, got {ratio}")
        self.ratio = float(ratio)
        self.previous: float | None = None

    def __call__(self, step: int) -> int:
        """Updates due at `step` environment steps: 1 at the first call, then what has accumulated."""
        if self.ratio == 0:
            return 0
        if self.previous is None:
            self.previous = float(step)
            return 1
        due = math.floor((step - self.previous) * self.ratio)
        self.previous += due / self.ratio
        return due

    def state(self) -> dict[str, float | None]:
        """What `restore` needs, fit for JSON."""
        return {"previous": self.previous}

    def restore(self, state: dict[str, float | None]) -> None:
        """Continues from `state`."""
        self.previous = state["previous"]
