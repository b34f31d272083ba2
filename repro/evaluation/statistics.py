"""Statistics of scores over runs and tasks, vectorised in NumPy; equal to rliable's on the same data.

A table of scores has shape `[runs, tasks]`; where tasks have different numbers of runs the missing cells, at the end
of their columns, are NaN, and every task weighs the same. Sources: stratified bootstrap, IQM, optimality gap,
probability of improvement and performance profiles: Agarwal et al., "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", NeurIPS 2021. Welch's interval: Biometrika 34 (1947). Equivalence: two one-sided tests,
Schuirmann, J. Pharmacokin. Biopharm. 15 (1987).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Statistic = Callable[[Array], Array]
"""Maps tables `[..., runs, tasks]` to numbers `[...]`."""


def table(columns: Iterable[ArrayLike]) -> Array:
    """`[runs, tasks]` from the scores of each task, shorter columns filled with NaN."""
    arrays = [np.asarray(column, np.float64).ravel() for column in columns]
    filled = np.full((max((len(a) for a in arrays), default=0), len(arrays)), np.nan)
    for k, column in enumerate(arrays):
        filled[: len(column), k] = column
    return filled


def normalise(scores: ArrayLike, low: ArrayLike, high: ArrayLike) -> Array:
    """`(score - low) / (high - low)`: 0 for the low reference (random play), 1 for the high one (human play)."""
    scores, low, high = (np.asarray(x, np.float64) for x in (scores, low, high))
    return (scores - low) / (high - low)


def _ragged(scores: Array) -> bool:
    return bool(np.isnan(scores).any())


def _run_mean(scores: Array) -> Array:
    """Mean over runs, `[..., tasks]`."""
    if not _ragged(scores):
        return scores.mean(-2)
    present = ~np.isnan(scores)
    return np.where(present, scores, 0.0).sum(-2) / present.sum(-2)


def mean(scores: Array) -> Array:
    """Mean over tasks of the means over runs, `[...]`."""
    return _run_mean(scores).mean(-1)


def median(scores: Array) -> Array:
    """Median over tasks of the means over runs, `[...]`."""
    return np.median(_run_mean(scores), axis=-1)


def iqm(scores: Array) -> Array:
    """Interquartile mean over all runs and tasks, `[...]`: the mean without the lowest and the highest quarter.

    As SciPy's `trim_mean`, a quarter is rounded down to whole values; with unequal numbers of runs it is a quarter of
    the weight.
    """
    flat = scores.reshape(*scores.shape[:-2], -1)
    if not _ragged(scores):
        cut = int(0.25 * flat.shape[-1])
        kept = np.partition(flat, (cut, flat.shape[-1] - cut - 1), axis=-1)[..., cut : flat.shape[-1] - cut]
        return kept.mean(-1)
    weights = np.where(np.isnan(scores), 0.0, 1.0) / (~np.isnan(scores)).sum(-2, keepdims=True)
    weights = weights.reshape(flat.shape) / weights.shape[-1]
    order = np.argsort(flat, axis=-1)  # NaN last, with weight 0
    values = np.nan_to_num(np.take_along_axis(flat, order, -1))
    upper = np.take_along_axis(weights, order, -1).cumsum(-1)
    lower = np.concatenate([np.zeros_like(upper[..., :1]), upper[..., :-1]], -1)
    inside = np.clip(upper, 0.25, 0.75) - np.clip(lower, 0.25, 0.75)
    return (values * inside).sum(-1) / inside.sum(-1)


def optimality_gap(scores: Array, gamma: float = 1.0) -> Array:
    """How far runs fall short of `gamma` on average, better ones counting as `gamma`; `[...]`."""
    return gamma - mean(np.minimum(scores, gamma))


def capped_mean(scores: Array) -> Array:
    """Mean over tasks of the means over runs, each capped at 1 (DMLab's aggregate); `[...]`."""
    return np.minimum(_run_mean(scores), 1.0).mean(-1)


AGGREGATES: dict[str, Statistic] = {
    "mean": mean,
    "median": median,
    "iqm": iqm,
    "optimality_gap": optimality_gap,
    "capped_mean": capped_mean,
}
"""Aggregates over a suite by name."""


def resample(scores: Array, reps: int, generator: np.random.Generator) -> Array:
    """`[reps, runs, tasks]`: the runs of every task drawn anew with replacement, each task for itself."""
    runs, tasks = scores.shape
    counts = runs - np.isnan(scores).sum(0)
    if _ragged(scores):
        index = (generator.random((reps, runs, tasks), np.float32) * counts.astype(np.float32)).astype(np.intp)
        drawn = scores[np.minimum(index, np.maximum(counts - 1, 0)), np.arange(tasks)]
        return np.where(np.isnan(scores), np.nan, drawn)
    index = generator.integers(0, runs, (reps, runs, tasks), dtype=np.uint16).astype(np.intp)
    index *= tasks
    index += np.arange(tasks)
    return scores.ravel().take(index)


def bootstrap(scores: ArrayLike, statistic: Statistic, reps: int = 50_000, seed: int = 0) -> Array:
    """`[reps]` values of `statistic` on stratified resamples of a table `[runs, tasks]`."""
    scores = np.asarray(scores, np.float64)
    generator = np.random.default_rng(seed)
    chunk = max(1, 250_000 // max(1, scores.size))  # keeps the work within the processor's cache
    return np.concatenate(
        [statistic(resample(scores, min(chunk, reps - done), generator)) for done in range(0, reps, chunk)]
    )


def interval(
    scores: ArrayLike, statistic: Statistic = mean, level: float = 0.95, reps: int = 50_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the stratified bootstrap of a table `[runs, tasks]`."""
    tail = 50 * (1 - level)
    low, high = np.percentile(bootstrap(scores, statistic, reps, seed), (tail, 100 - tail))
    return float(low), float(high)


def probability_of_improvement(x: Array, y: Array) -> Array:
    """P(a run of x is better than one of y), ties counting half, averaged over tasks; `[..., runs, tasks]` each."""
    pairs = x[..., :, None, :], y[..., None, :, :]
    present = ~(np.isnan(pairs[0]) | np.isnan(pairs[1]))
    better = np.where(present, (pairs[0] > pairs[1]) + 0.5 * (pairs[0] == pairs[1]), 0.0)
    return (better.sum((-3, -2)) / present.sum((-3, -2))).mean(-1)


def improvement_interval(
    x: ArrayLike, y: ArrayLike, level: float = 0.95, reps: int = 2_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of `probability_of_improvement`, both tables resampled independently."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    generator = np.random.default_rng(seed)
    values = probability_of_improvement(resample(x, reps, generator), resample(y, reps, generator))
    tail = 50 * (1 - level)
    low, high = np.percentile(values, (tail, 100 - tail))
    return float(low), float(high)


def performance_profile(scores: Array, thresholds: ArrayLike) -> Array:
    """Share of runs with a score above each threshold, every task weighing the same; `[..., thresholds]`."""
    taus = np.asarray(thresholds, np.float64)
    above = [_run_mean(np.where(np.isnan(scores), np.nan, scores > tau)).mean(-1) for tau in taus]
    return np.stack(above, -1)


def profile_interval(
    scores: ArrayLike, thresholds: ArrayLike, level: float = 0.95, reps: int = 2_000, seed: int = 0
) -> tuple[Array, Array]:
    """Pointwise percentile intervals of `performance_profile`: low and high, `[thresholds]` each."""
    scores = np.asarray(scores, np.float64)
    values = performance_profile(resample(scores, reps, np.random.default_rng(seed)), thresholds)
    tail = 50 * (1 - level)
    low, high = np.percentile(values, (tail, 100 - tail), axis=0)
    return low, high


class Estimate(NamedTuple):
    """A number and what is known of its error. `low` and `high` bound its 95 % interval."""

    value: float
    low: float
    high: float
    error: float
    """Standard error."""
    freedom: float
    """Degrees of freedom of the standard error (infinite for a bootstrap, 0 where it is unknown)."""
    seeds: int

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


def t_estimate(value: float, std: float, seeds: int) -> Estimate:
    """From mean and sample standard deviation of `seeds` runs, with Student's 95 % interval.

    For single tasks: with few runs the percentile bootstrap of one task is too narrow. One run: no interval.
    """
    if seeds < 2:
        return Estimate(value, -math.inf, math.inf, math.inf, 0, seeds)
    error = std / math.sqrt(seeds)
    half = _t_quantile(0.975, seeds - 1) * error
    return Estimate(value, value - half, value + half, error, seeds - 1, seeds)


def of_scores(scores: Sequence[float]) -> Estimate:
    """Mean of one task's runs with Student's interval."""
    values = np.asarray(scores, np.float64)
    std = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return t_estimate(float(values.mean()), std, len(values))


def of_table(scores: ArrayLike, statistic: Statistic, reps: int = 50_000) -> Estimate:
    """An aggregate over a table `[runs, tasks]` with its stratified bootstrap interval."""
    scores = np.asarray(scores, np.float64)
    values = bootstrap(scores, statistic, reps)
    low, high = np.percentile(values, (2.5, 97.5))
    seeds = int((~np.isnan(scores)).sum(0).min())
    return Estimate(float(statistic(scores)), float(low), float(high), float(values.std()), math.inf, seeds)


def of_median(scores: Sequence[float], reps: int = 20_000) -> Estimate:
    """Median of runs (or samples) with its bootstrap interval."""
    column = np.asarray(scores, np.float64)[:, None]
    return of_table(column, lambda drawn: np.median(drawn[..., 0], axis=-1), reps)


class Difference(NamedTuple):
    """Difference of two independent estimates."""

    value: float
    low: float
    high: float
    equivalence_p: float
    """p-value of the two one-sided tests: below 0.05 the two are shown to be equal within the margin."""


def difference(a: Estimate, b: Estimate, margin: float) -> Difference:
    """`a - b` with Welch's 95 % interval and the equivalence test for `margin`."""
    value = a.value - b.value
    error = math.hypot(a.error, b.error)
    if not math.isfinite(error):
        return Difference(value, -math.inf, math.inf, 1.0)
    if error == 0:
        return Difference(value, value, value, 0.0 if abs(value) <= margin else 1.0)
    parts = [e.error**4 / e.freedom for e in (a, b) if e.error > 0 and math.isfinite(e.freedom)]
    freedom = error**4 / sum(parts) if parts else math.inf
    half = _t_quantile(0.975, freedom) * error
    p = 1 - _t_cdf((margin - abs(value)) / error, freedom)
    return Difference(value, value - half, value + half, p)


def _t_quantile(p: float, freedom: float) -> float:
    from scipy import special

    return float(special.stdtrit(freedom, p) if math.isfinite(freedom) else special.ndtri(p))


def _t_cdf(x: float, freedom: float) -> float:
    from scipy import special

    return float(special.stdtr(freedom, x) if math.isfinite(freedom) else special.ndtr(x))
