"""Book-keeping of episode returns on the host."""

from typing import Any

import numpy as np


class EpisodeLog:
    """Sums rewards per environment and notes every finished episode, with the step at which it ended.

    Steps are counted as the papers do: one per environment and decision, the first observation of an episode included,
    times `step_scale` (the action repeat).
    """

    def __init__(self, seeds: int, envs: int, step_scale: int) -> None:
        self.seeds, self.envs, self.step_scale = seeds, envs, step_scale
        self.finished: list[dict[str, list[float]]] = [{"step": [], "return": [], "length": []} for _ in range(seeds)]
        self._return = np.zeros(seeds * envs)
        self._length = np.zeros(seeds * envs, np.int64)

    def add(self, vector_step: int, reward: np.ndarray, is_first: np.ndarray, is_last: np.ndarray) -> None:
        """One time step of all S*E environments (arrays `[S * E]`); `vector_step` counts from 1."""
        self._return = np.where(is_first, 0.0, self._return) + reward
        self._length = np.where(is_first, 0, self._length + 1)
        for i in np.flatnonzero(is_last):
            log = self.finished[i // self.envs]
            log["step"].append(int(vector_step * self.envs * self.step_scale))
            log["return"].append(float(self._return[i]))
            log["length"].append(int(self._length[i]))

    def recent(self, count: int = 10) -> list[float | None]:
        """Mean return of the last `count` episodes of each seed, None before the first."""
        return [float(np.mean(log["return"][-count:])) if log["return"] else None for log in self.finished]

    def state(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"finished": self.finished, "return": self._return.tolist(), "length": self._length.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self.finished = state["finished"]
        self._return, self._length = np.array(state["return"]), np.array(state["length"], np.int64)
