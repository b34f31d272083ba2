"""How many images the input pipeline delivers, to be held against what a training step takes."""

import itertools
from typing import Any, Protocol

import jax

from repro.pipeline.bench import Part, repeat


class Batches(Protocol):
    """A loader."""

    batch_size: int

    def batch(self, index: int) -> dict[str, Any]:
        """Batch number `index`."""
        ...


def input_rate(loader: Batches, seconds: float, what: str) -> Part:
    """Images a second when nothing else runs: batches taken one after the other, each as soon as it is there."""
    numbers = itertools.count()
    measured = repeat(lambda: jax.block_until_ready(loader.batch(next(numbers))["image"]), seconds)
    return Part(measured, loader.batch_size, "images", what)
