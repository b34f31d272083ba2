"""Batches of transformed images, decoded ahead of time by threads. A batch follows from seed and number alone."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from repro.data import randomness
from repro.data.images import CorruptImage, ImageSet
from repro.data.transforms import Transform
from repro.errors import RunError, UsageError

CHUNK = 16
"""Images that one thread decodes at a time."""
TOLERATED = 0.01
"""Share of a set that may be unreadable before training on the rest would be another experiment."""


class Loader:
    """Batch `index` belongs to epoch `index // steps_per_epoch`; an epoch visits a permutation made from (seed, epoch),
    and a sample's crop comes from (seed, epoch, sample). So batches can be asked for in any order and a run resumes to
    the sample from its index.

    An image that cannot be decoded is replaced by the next one of the set that can, and noted in `skipped`.
    `part = (k, n)` makes slice k of n of each batch, for one of n processes.
    """

    def __init__(
        self,
        images: ImageSet,
        transform: Transform,
        batch: int,
        seed: int,
        workers: int = 2,
        ahead: int = 2,
        drop_last: bool = True,
        part: tuple[int, int] = (0, 1),
    ):
        if batch < 1 or batch % part[1]:
            raise UsageError(f"a batch of {batch} images cannot be shared among {part[1]} processes")
        if drop_last and batch > len(images):
            raise UsageError(
                f"a batch of {batch} is more than the {len(images)} images of {images.name}/{images.split}; "
                "make the batch smaller or use the larger set"
            )
        self.images, self.transform, self.seed = images, transform, seed
        self.batch_size, self.part, self.ahead = batch, part, ahead
        self.steps_per_epoch = len(images) // batch if drop_last else -(-len(images) // batch)
        self.skipped: dict[str, str] = {}
        """Name of each unreadable image -> why."""
        self.waited = 0.0
        """Seconds that callers of `batch` have waited for images."""
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="images")
        self._begun: dict[int, tuple[np.ndarray, np.ndarray, list[Future[None]]]] = {}
        self._order: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def batch(self, index: int) -> dict[str, np.ndarray]:
        """`image` uint8 `[B, S, S, 3]`, `label` int32 `[B]`, `sample` int64 `[B]` (which image of the set it is).

        The last batch of an epoch is shorter with `drop_last=False`. Raises `RunError` when too many are unreadable.
        """
        for number in range(index, index + 1 + self.ahead):
            if number not in self._begun:
                self._begun[number] = self._begin(number)
        for number in [n for n in self._begun if not index <= n <= index + self.ahead]:
            for future in self._begun.pop(number)[2]:
                future.cancel()
        images, samples, futures = self._begun.pop(index)
        begin = time.perf_counter()
        for future in futures:
            future.result()
        self.waited += time.perf_counter() - begin
        return {"image": images, "label": self.images.labels[samples], "sample": samples}

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _begin(self, index: int) -> tuple[np.ndarray, np.ndarray, list[Future[None]]]:
        epoch, step = divmod(index, self.steps_per_epoch)
        if epoch not in self._order:
            self._order = {e: order for e, order in self._order.items() if e == epoch - 1}
            self._order[epoch] = randomness.permutation(self.seed, epoch, len(self.images))
        samples = self._order[epoch][step * self.batch_size : (step + 1) * self.batch_size].copy()
        k, n = self.part
        samples = samples[k * len(samples) // n : (k + 1) * len(samples) // n]
        numbers = randomness.uniforms(self.seed, epoch, samples, self.transform.draws)
        images = np.empty((len(samples), self.transform.size, self.transform.size, 3), np.uint8)
        chunks = range(0, len(samples), CHUNK)
        futures = [self._pool.submit(self._fill, images, samples, numbers, start) for start in chunks]
        return images, samples, futures

    def _fill(self, images: np.ndarray, samples: np.ndarray, numbers: np.ndarray, start: int) -> None:
        for row in range(start, min(start + CHUNK, len(samples))):
            for tried in range(len(self.images)):
                sample = (samples[row] + tried) % len(self.images)
                try:
                    images[row] = self.transform(self.images.picture(sample), numbers[row])
                except CorruptImage as error:
                    self._skip(error)
                    continue
                samples[row] = sample
                break
            else:
                raise RunError(f"none of the images of {self.images.name}/{self.images.split} can be decoded")

    def _skip(self, error: CorruptImage) -> None:
        with self._lock:
            self.skipped[error.name] = error.reason
            if len(self.skipped) > max(1, TOLERATED * len(self.images)):
                raise RunError(
                    f"{len(self.skipped)} of the {len(self.images)} images of {self.images.name}/{self.images.split} "
                    f"cannot be decoded, the last one is {error}; mend the set or take these files out"
                )


def in_order(
    images: ImageSet, transform: Transform, batch: int, workers: int = 2, skipped: dict[str, str] | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """All images once, in order, in batches of one size, for evaluation.

    As `Loader.batch`, and `valid` bool `[B]`: false in rows that fill up the last batch and where the image cannot be
    decoded (black; its name goes into `skipped`). Random transforms use seed 0, epoch 0.
    """
    noted = skipped if skipped is not None else {}

    def one(sample: int) -> np.ndarray | None:
        numbers = randomness.uniforms(0, 0, np.array([sample]), transform.draws)[0]
        try:
            return transform(images.picture(sample), numbers)
        except CorruptImage as error:
            noted[error.name] = error.reason
            return None

    def begin(start: int) -> list[Future[np.ndarray | None]]:
        return [pool.submit(one, sample) for sample in range(start, min(start + batch, len(images)))]

    with ThreadPoolExecutor(workers, thread_name_prefix="images") as pool:
        following = begin(0)
        for start in range(0, len(images), batch):
            current, following = following, begin(start + batch)
            found: dict[str, np.ndarray] = {
                "image": np.zeros((batch, transform.size, transform.size, 3), np.uint8),
                "label": np.zeros(batch, np.int32),
                "sample": np.zeros(batch, np.int64),
                "valid": np.zeros(batch, bool),
            }
            for row, future in enumerate(current):
                image = future.result()
                found["label"][row], found["sample"][row] = images.labels[start + row], start + row
                if image is not None:
                    found["image"][row], found["valid"][row] = image, True
            yield found
