"""A replay in plain Python: the model that the fast ones are tested against, and the official order of drawing.

Steps are any Python objects; nothing is ever really deleted, so it is only for small checks.
"""

import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from repro.errors import UsageError
from repro.replay.ratio import UpdateRatio


class ReferenceReplay:
    """Start positions are kept in a list of items, drawn by index.

    `steps` bounds the steps kept of every stream (our rings), `items` the start positions kept of all streams together
    (the official buffer). The list has the official order: new items at the end; the place of a removed one is taken
    by the last.
    """

    def __init__(
        self, streams: int, length: int, steps: int | None = None, items: int | None = None, online: bool = False
    ) -> None:
        self.length, self.max_steps, self.max_items, self.online = length, steps, items, online
        self.streams: list[list[Any]] = [[] for _ in range(streams)]
        self.items: list[tuple[int, int]] = []
        self.by_age: deque[tuple[int, int]] = deque()
        self.queue: deque[tuple[int, int]] = deque()

    def add(self, stream: int, step: Any) -> None:
        """Appends a step; the sequence that it completes becomes an item and, at every L-th position, is queued."""
        before = len(self.streams[stream])
        self.streams[stream].append(step)
        if self.max_steps is not None and before >= self.max_steps:
            self.remove((stream, before - self.max_steps))
        item = (stream, before + 1 - self.length)
        if item[1] < 0:
            return
        if self.max_items is not None and len(self.items) >= self.max_items:
            self.remove(self.by_age[0])
        self.items.append(item)
        self.by_age.append(item)
        if self.online and before % self.length == 0:
            self.queue.append(item)

    def remove(self, item: tuple[int, int]) -> None:
        """Forgets an item, if it is one."""
        if item in self.items:
            place = self.items.index(item)
            self.items[place] = self.items[-1]
            self.items.pop()
            self.by_age.remove(item)
        if item in self.queue:
            self.queue.remove(item)

    def choose(self, draw: Callable[[int], int]) -> tuple[int, int]:
        """The next queued item, or else item number `draw(number of items)`."""
        return self.queue.popleft() if self.queue else self.items[draw(len(self.items))]

    def sequence(self, item: tuple[int, int]) -> list[Any]:
        """The L steps from a start position on."""
        stream, start = item
        return self.streams[stream][start : start + self.length]

    def stored(self, stream: int, number: int) -> bool:
        """Whether step `number` of a stream is within its ring."""
        count = len(self.streams[stream])
        oldest = 0 if self.max_steps is None else max(0, count - self.max_steps)
        return oldest <= number < count


def parity_replay(config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Outputs of the golden case `replay` (official DreamerV3 buffer and update ratio) from its configuration.

    For every variant `<v>/batches` `[batch, sequence, time, (value, is_first, is_last)]` and
    `<v>/num_items_after_...`; for every ratio `ratio/<r>`: updates due at steps 0, 1, 2, ...
    """
    outputs = {}
    counts = "num_items_after_" + "_".join(str(step) for step in config["sample_after_steps"])
    for name, variant in config["variants"].items():
        outputs[f"{name}/batches"], outputs[f"{name}/{counts}"] = run_variant(config, variant)
    for name, ratio in config["ratio"].items():
        due = UpdateRatio(ratio)
        outputs[f"ratio/{name}"] = np.array([due(step) for step in range(config["ratio_steps"])])
    return outputs


def run_variant(config: Mapping[str, Any], variant: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Adds the steps and takes the batches of one variant; batches and item counts."""
    workers = config["workers"]
    is_first = flag_rules(config["is_first"], workers)
    is_last = flag_rules(config["is_last"], workers)
    scale = re.fullmatch(r"(\d+)\*worker \+ t", config["value"])
    if not scale:
        raise UsageError(f"case replay: value {config['value']!r} is not of the form '1000*worker + t'")
    replay = ReferenceReplay(workers, variant["length"], items=variant["capacity"], online=variant["online"])
    rng = np.random.default_rng(variant["seed"])
    batches, counts = [], []
    for t in range(config["steps"]):
        for worker in range(workers):
            value = int(scale[1]) * worker + t
            replay.add(worker, (value, is_first[worker](t), is_last[worker](t)))
        if t + 1 in config["sample_after_steps"]:
            counts.append(len(replay.items))
            for _ in range(config["batches_each"]):
                items = [replay.choose(lambda n: int(rng.integers(0, n))) for _ in range(config["sequences_per_batch"])]
                batches.append([cut(replay.sequence(item)) for item in items])
    return np.array(batches, np.int64), np.array(counts)


def cut(sequence: list[tuple[int, bool, bool]]) -> list[tuple[int, bool, bool]]:
    """`mark_boundaries` for one sequence of (value, is_first, is_last)."""
    next_first = [first for _, first, _ in sequence[1:]] + [False]
    return [(v, f or i == 0, last or next_first[i]) for i, (v, f, last) in enumerate(sequence)]


def flag_rules(text: str, workers: int) -> list[Callable[[int], bool]]:
    """One function of t per worker from text like `worker 0: t % 7 == 6, worker 1: never`."""
    rules: dict[int, Callable[[int], bool]] = {}
    for part in text.split(","):
        match = re.fullmatch(r"worker (\d+): (?:t % (\d+) == (\d+)|never)", part.strip())
        if not match:
            raise UsageError(f"case replay: cannot read the rule {part.strip()!r}")
        worker, period, phase = match.groups()
        rules[int(worker)] = periodic(int(period), int(phase)) if period else lambda t: False
    if sorted(rules) != list(range(workers)):
        raise UsageError(f"case replay: {text!r} does not give a rule for each of {workers} workers")
    return [rules[worker] for worker in range(workers)]


def periodic(period: int, phase: int) -> Callable[[int], bool]:
    """True every `period` steps."""
    return lambda t: t % period == phase
