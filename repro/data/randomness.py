"""Random numbers that are a function of where they are used, not of what was drawn before.

So any batch of any epoch can be made on its own, in any order, by any number of threads, on any machine, and a run that
is resumed sees what it would have seen. The mixing function is that of SplitMix64 (Steele, Lea, Flood 2014).
"""

import numpy as np

_STEP, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def bits(*position: int | np.ndarray) -> np.ndarray:
    """Uniform 64-bit words, one for every position; the arguments are whole numbers that broadcast."""
    state = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):
        for part in position:
            state = (state ^ np.asarray(part).astype(np.uint64)) + _STEP
            state = (state ^ (state >> np.uint64(30))) * _FIRST
            state = (state ^ (state >> np.uint64(27))) * _SECOND
            state = state ^ (state >> np.uint64(31))
    return state


def uniforms(seed: int, epoch: int, samples: np.ndarray, count: int) -> np.ndarray:
    """Numbers in [0, 1) for the transform of each sample: samples `[B]` -> float64 `[B, count]`."""
    words = bits(seed, epoch, np.asarray(samples)[:, None], np.arange(count))
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order in which an epoch visits `size` samples."""
    # One more argument than `uniforms`, so that the order has nothing to do with the crops.
    return np.argsort(bits(seed, epoch, 1, 0, np.arange(size)), kind="stable")
