"""DeviceReplay against the plain Python model, and what only it promises: in place, over seeds, restorable."""

import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repro.errors import UsageError
from repro.replay import DeviceReplay, Newest, Uniform
from repro.replay.reference import ReferenceReplay


class Step(NamedTuple):
    obs: dict[str, Any]
    reward: Any
    is_first: Any
    extras: dict[str, Any]


BATCH = 4
SIZES = [(3, 7, 3), (1, 5, 5), (2, 6, 1)]  # streams, capacity, length


def example(extra=jnp.float32):
    leaf = jax.ShapeDtypeStruct
    return Step(
        {"image": leaf((2, 3, 1), jnp.uint8)},
        leaf((), jnp.float32),
        leaf((), bool),
        {"latent": leaf((2,), extra), "count": leaf((), jnp.int32)},
    )


def steps(values):
    """Items [E] whose every field tells `values` [E]."""
    values = np.asarray(values)
    image = (values[:, None, None, None] * 7 + np.arange(6).reshape(2, 3, 1)).astype(np.uint8)
    latent = np.stack([values, -values], -1).astype(np.float32)
    return Step({"image": image}, values.astype(np.float32), values % 5 == 0, {"latent": latent, "count": values})


@functools.cache
def compiled(streams, capacity, length, sampler):
    replay = DeviceReplay(capacity, streams, length, sampler)
    add = jax.jit(replay.add, donate_argnums=0)
    sample = jax.jit(lambda state, key: replay.sample(state, key, BATCH), donate_argnums=0)
    update = jax.jit(replay.update, donate_argnums=0)
    return replay, add, sample, update, jax.jit(replay.items)


def check_batch(model, batch, ids):
    for b, item in enumerate(zip(ids.stream.tolist(), ids.start.tolist(), strict=True)):
        assert item in model.items
        want = steps([value for value, _ in model.sequence(item)])
        np.testing.assert_array_equal(batch.reward[b], want.reward)
        np.testing.assert_array_equal(batch.is_first[b], want.is_first)
        np.testing.assert_array_equal(batch.obs["image"][b], want.obs["image"])
        np.testing.assert_array_equal(batch.extras["count"][b], want.extras["count"])
        np.testing.assert_array_equal(batch.extras["latent"][b], [latent for _, latent in model.sequence(item)])


operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 15)),
        st.tuples(st.just("sample"), st.integers(0, 2**31 - 1)),
        st.tuples(st.just("update"), st.integers(1, 5)),
    ),
    min_size=10,
    max_size=60,
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(size=st.sampled_from(SIZES), online=st.booleans(), ops=operations)
def test_behaves_like_the_plain_python_model(size, online, ops):
    streams, capacity, length = size
    replay, add, sample, update, items = compiled(*size, Uniform(online=online))
    state = replay.init(example())
    model = ReferenceReplay(streams, length, steps=capacity, online=online)
    value = written = 0
    last = None
    for op, argument in ops:
        if op == "add":
            mask = np.array([bool(argument >> e & 1) for e in range(streams)])
            values = value + 10 * np.arange(streams)
            value += 1
            state = add(state, steps(values), mask)
            for e in np.flatnonzero(mask):
                model.add(e, [values[e], [values[e], -values[e]]])
        elif op == "sample" and model.items:
            queued = list(model.queue)
            state, batch, ids = sample(state, jax.random.key(argument))
            check_batch(model, batch, ids)
            chosen = list(zip(ids.stream.tolist(), ids.start.tolist(), strict=True))
            assert chosen[: len(queued)] == queued[:BATCH]
            for _ in queued[:BATCH]:
                model.queue.popleft()
            last = ids
        elif op == "update" and last is not None:
            time = min(argument, length)
            written -= 1
            latent = written - np.arange(BATCH * time * 2, dtype=np.float32).reshape(BATCH, time, 2) / 100
            state = update(state, last, {"latent": latent})
            for b in range(BATCH):
                for t in range(time):
                    stream, number = int(last.stream[b]), int(last.start[b]) + length - time + t
                    if model.stored(stream, number):
                        model.streams[stream][number][1] = latent[b, t]
        assert int(items(state)) == len(model.items)


def test_newest_returns_the_last_sequences_of_each_stream_in_turn():
    replay, add, sample, _, _ = compiled(3, 7, 3, Newest())
    state = replay.init(example())
    for t in range(9):
        state = add(state, steps([t, t + 100, t + 200]), np.array([True, t < 3, t < 4]))
    state, batch, ids = sample(state, jax.random.key(0))
    assert list(zip(ids.stream.tolist(), ids.start.tolist(), strict=True)) == [(0, 6), (1, 0), (2, 1), (0, 5)]
    np.testing.assert_array_equal(batch.reward[:, -1], [8, 102, 203, 7])


def test_newest_repeats_when_there_are_too_few():
    replay, add, sample, _, _ = compiled(3, 7, 3, Newest())
    state = replay.init(example())
    for t in range(3):
        state = add(state, steps([t, t, t]), np.array([True, False, True]))
    _, _, ids = sample(state, jax.random.key(0))
    assert ids.stream.tolist() == [0, 2, 0, 2] and ids.start.tolist() == [0, 0, 0, 0]


def test_uniform_draws_every_start_of_uneven_streams_equally_often():
    replay = DeviceReplay(capacity=20, streams=3, length=4)
    add = jax.jit(replay.add)
    state = replay.init(example())
    for t in range(33):
        state = add(state, steps([t, t, t]), np.array([True, t < 9, t < 3]))
    draw = jax.jit(lambda state, key: replay.sample(state, key, 23 * 400)[2])
    ids = draw(state, jax.random.key(1))
    counts = {}
    for item in zip(ids.stream.tolist(), ids.start.tolist(), strict=True):
        counts[item] = counts.get(item, 0) + 1
    assert set(counts) == {(0, s) for s in range(13, 30)} | {(1, s) for s in range(6)}
    chi_square = sum((n - 400) ** 2 / 400 for n in counts.values())
    assert 7.0 < chi_square < 44.0  # 0.1 % and 99.9 % points (and a bit) of chi-square with 22 degrees of freedom


def test_mapped_over_seeds_equals_each_seed_alone():
    replay = DeviceReplay(capacity=7, streams=2, length=3, sampler=Uniform(online=True))
    empty = replay.init(example(jnp.bfloat16))
    alone = [empty for _ in range(3)]
    together = jax.tree.map(lambda *x: jnp.stack(x), *alone)
    methods = (replay.add, lambda state, key: replay.sample(state, key, BATCH), replay.update)
    add, sample, update = (jax.jit(jax.vmap(method)) for method in methods)
    add_one, sample_one, update_one = map(jax.jit, methods)
    for t in range(12):
        items = [steps([t + 20 * seed, t + 20 * seed + 10]) for seed in range(3)]
        masks = [np.array([True, (t + seed) % 3 > 0]) for seed in range(3)]
        keys = jax.random.split(jax.random.key(t), 3)
        together = add(together, jax.tree.map(lambda *x: np.stack(x), *items), np.stack(masks))
        alone = [add_one(*arguments) for arguments in zip(alone, items, masks, strict=True)]
        if t > 4:
            together, batches, ids = sample(together, keys)
            together = update(together, ids, {"latent": batches.extras["latent"][:, :, 1:] * 2})
            for seed in range(3):
                alone[seed], batch, own = sample_one(alone[seed], keys[seed])
                jax.tree.map(np.testing.assert_array_equal, batch, jax.tree.map(lambda x, s=seed: x[s], batches))
                alone[seed] = update_one(alone[seed], own, {"latent": batch.extras["latent"][:, 1:] * 2})
    jax.tree.map(np.testing.assert_array_equal, together, jax.tree.map(lambda *x: jnp.stack(x), *alone))


@pytest.mark.parametrize("extra", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.float8_e4m3fn])
def test_narrow_types_come_back_bit_for_bit(extra):
    replay = DeviceReplay(capacity=6, streams=2, length=3)
    add = jax.jit(replay.add)
    state = replay.init(example(extra))
    latents = np.random.default_rng(0).normal(size=(6, 2, 2)).astype(extra)
    for t in range(6):
        item = steps([t, t])
        state = add(state, item._replace(extras={**item.extras, "latent": latents[t]}))
    _, batch, ids = replay.sample(state, jax.random.key(0), 5)
    assert batch.extras["latent"].dtype == extra
    for b in range(5):
        start = int(ids.start[b])
        np.testing.assert_array_equal(batch.extras["latent"][b], latents[start : start + 3, int(ids.stream[b])])


@pytest.mark.parametrize("seeds", [None, 2])
def test_a_fused_iteration_writes_in_place(seeds):
    """The compiled program holds no copy of the storage and no temporary of its size, bfloat16 leaves included."""
    replay = DeviceReplay(capacity=1000, streams=2, length=5, sampler=Uniform(online=True))

    def iteration(state, item, key):
        state = replay.add(state, item)
        state, batch, ids = replay.sample(state, key, BATCH)
        return replay.update(state, ids, {"latent": batch.extras["latent"][:, 1:] * 2}), batch.reward.mean()

    def program(state, item, key):
        step = iteration if seeds is None else jax.vmap(iteration, in_axes=(0, 0, 0))
        keys = jax.random.split(key, (3,) if seeds is None else (3, seeds))
        return jax.lax.scan(lambda state, key: step(state, item, key), state, keys)

    state, item = replay.init(example(jnp.bfloat16)), steps([1, 2])
    if seeds is not None:
        state, item = jax.tree.map(lambda x: jnp.stack([x] * seeds), (state, item))
    made = jax.jit(program, donate_argnums=0).lower(state, item, jax.random.key(0)).compile()
    assert not re.search(r"\[(\d+,)?2,1000[,\]].* copy\(", made.as_text())
    memory = made.memory_analysis()
    assert memory.alias_size_in_bytes >= sum(x.nbytes for x in jax.tree.leaves(state.storage))
    assert memory.temp_size_in_bytes < 1000 * 2 * 4 < state.storage.obs["image"].nbytes


def test_state_restored_from_its_leaves_continues_exactly():
    replay, add, sample, update, _ = compiled(3, 7, 3, Uniform(online=True))

    def more(state, rounds):
        for t in rounds:
            state = add(state, steps([t, t + 10, t + 20]))
            state, batch, ids = sample(state, jax.random.key(t))
            state = update(state, ids, {"latent": batch.extras["latent"] + 1})
        return state, batch, ids

    state = replay.init(example())
    for t in range(3):
        state = add(state, steps([t, t, t]))
    state, *_ = more(state, range(3, 9))
    saved = [np.array(leaf) for leaf in jax.tree.leaves(state)]
    finished = more(state, range(9, 15))
    restored = jax.tree.unflatten(jax.tree.structure(replay.init(example())), map(jnp.asarray, saved))
    jax.tree.map(np.testing.assert_array_equal, more(restored, range(9, 15)), finished)


def test_bad_sizes_and_names_are_named():
    with pytest.raises(UsageError, match="shorter than a sequence of 5"):
        DeviceReplay(capacity=4, streams=1, length=5)
    with pytest.raises(UsageError, match="streams >= 1"):
        DeviceReplay(capacity=4, streams=0, length=2)
    replay, add, sample, _, _ = compiled(3, 7, 3, Uniform())
    state = add(replay.init(example()), steps([1, 2, 3]))
    state, _, ids = sample(state, jax.random.key(0))
    with pytest.raises(UsageError, match="no extra 'deter'; it has: count, latent"):
        replay.update(state, ids, {"deter": np.zeros((BATCH, 3, 2))})
    with pytest.raises(UsageError, match="with 4 steps"):
        replay.update(state, ids, {"latent": np.zeros((BATCH, 4, 2))})
