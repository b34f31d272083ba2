"""Figures of a paper that a record brings along (`extra.figures`); the report draws them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def means(title: str, x_label: str, y_label: str, x: ArrayLike, runs: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """One line a name: the mean over all runs and its 95 % interval (normal); x `[P]`, runs `[..., P]`."""
    series = []
    for name, values in runs.items():
        flat = values.reshape(-1, values.shape[-1])
        mean, half = flat.mean(0), 1.96 * flat.std(0) / np.sqrt(len(flat))
        lists = {"x": np.asarray(x), "y": mean, "low": mean - half, "high": mean + half}
        series.append({"name": name, **{key: np.round(value, 4).tolist() for key, value in lists.items()}})
    return {"title": title, "x_label": x_label, "y_label": y_label, "series": series}
