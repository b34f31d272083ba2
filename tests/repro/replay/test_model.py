"""Both replays against the plain Python model: random additions, samples and write-backs on uneven streams."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repro.replay import DeviceReplay, HostReplay, Uniform
from repro.replay.reference import ReferenceReplay

BATCH = 4
SIZES = [(3, 7, 3), (1, 5, 5), (2, 6, 1)]  # streams, capacity, length


@functools.cache
def programs(size, online):
    """Compiled once for all examples of a size."""
    streams, capacity, length = size
    replay = DeviceReplay(capacity, streams, length, Uniform(online=online))
    sample = jax.jit(lambda state, key: replay.sample(state, key, BATCH), donate_argnums=0)
    return (
        replay,
        jax.jit(replay.add, donate_argnums=0),
        sample,
        jax.jit(replay.update, donate_argnums=0),
        jax.jit(replay.items),
    )


@functools.cache
def host(size, online):
    streams, capacity, length = size
    return HostReplay(capacity, streams, length, Uniform(online=online), seeds=(3,), prefetch=False)


class OnDevice:
    """One seed on the device."""

    def __init__(self, size, online, example):
        self.replay, self._add, self._sample, self._update, self._items = programs(size, online)
        self.state = self.replay.init(example)
        self.draws = 0

    def add(self, item, mask):
        self.state = self._add(self.state, item, mask)

    def items(self):
        return int(self._items(self.state))

    def sample(self):
        self.draws += 1
        self.state, batch, ids = self._sample(self.state, jax.random.key(self.draws))
        return batch, ids

    def update(self, ids, latent):
        self.state = self._update(self.state, ids, {"latent": latent})


class OnHost:
    """The first of the seeds on the host."""

    def __init__(self, size, online, example):
        self.replay = host(size, online)
        self.replay.init(example)

    def add(self, item, mask):
        self.replay.add(item, mask)

    def items(self):
        return int(self.replay.items()[0])

    def sample(self):
        return jax.tree.map(lambda x: x[0], self.replay.sample(BATCH))

    def update(self, ids, latent):
        self.replay.update(jax.tree.map(lambda x: x[None], ids), {"latent": latent[None]})


operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 15)),
        st.tuples(st.just("sample"), st.just(0)),
        st.tuples(st.just("update"), st.integers(1, 5)),
    ),
    min_size=10,
    max_size=60,
)


@pytest.mark.parametrize("kind", [OnDevice, OnHost])
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(size=st.sampled_from(SIZES), online=st.booleans(), ops=operations)
def test_behaves_like_the_plain_python_model(kit, kind, size, online, ops):
    streams, capacity, length = size
    replay = kind(size, online, kit.example())
    model = ReferenceReplay(streams, length, steps=capacity, online=online)
    value = written = 0
    last = None
    for op, argument in ops:
        if op == "add":
            mask = np.array([bool(argument >> e & 1) for e in range(streams)])
            values = value + 10 * np.arange(streams)
            value += 1
            replay.add(kit.steps(values), mask)
            for e in np.flatnonzero(mask):
                model.add(e, [values[e], [values[e], -values[e]]])
        elif op == "sample" and model.items:
            queued = list(model.queue)[:BATCH]
            batch, last = replay.sample()
            chosen = list(zip(last.stream.tolist(), last.start.tolist(), strict=True))
            assert chosen[: len(queued)] == queued
            for _ in queued:
                model.queue.popleft()
            for b, item in enumerate(chosen):
                assert item in model.items
                check_sequence(kit, model.sequence(item), jax.tree.map(lambda x, b=b: x[b], batch))
        elif op == "update" and last is not None:
            time = min(argument, length)
            written -= 1
            latent = written - np.arange(BATCH * time * 2, dtype=np.float32).reshape(BATCH, time, 2) / 100
            replay.update(last, latent)
            for b in range(BATCH):
                for t in range(time):
                    stream, number = int(last.stream[b]), int(last.start[b]) + length - time + t
                    if model.stored(stream, number):
                        model.streams[stream][number][1] = latent[b, t]
        assert replay.items() == len(model.items)


def check_sequence(kit, wanted, sequence):
    values, latents = zip(*wanted, strict=True)
    item = kit.steps(values)
    kit.same(sequence, item._replace(extras={**item.extras, "latent": np.array(latents, np.float32)}))


def test_queue_keeps_the_order_of_completion_on_uneven_streams(kit):
    """Long waits between samples, so that many entries of streams of changing pace are queued at once."""
    size = (3, 24, 3)
    replay = OnDevice(size, True, kit.example())
    model = ReferenceReplay(size[0], size[2], steps=size[1], online=True)
    rng = np.random.default_rng(0)
    handed_out = 0
    for t in range(240):
        mask = rng.random(3) < rng.random(3)
        replay.add(kit.steps([t, t, t]), mask)
        for e in np.flatnonzero(mask):
            model.add(e, t)
        if t % 20 == 19:
            _, ids = replay.sample()
            wanted = [model.queue.popleft() for _ in range(min(BATCH, len(model.queue)))]
            assert list(zip(ids.stream.tolist(), ids.start.tolist(), strict=True))[: len(wanted)] == wanted
            handed_out += len(wanted)
    assert handed_out > 40
