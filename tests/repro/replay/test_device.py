"""DeviceReplay against the plain Python model, and what only it promises: in place, over seeds, restorable."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repro.errors import UsageError
from repro.replay import DeviceReplay, Newest, Uniform
from repro.replay.device import covered_later

BATCH = 4


@functools.cache
def compiled(streams, capacity, length, sampler):
    replay = DeviceReplay(capacity, streams, length, sampler)
    add = jax.jit(replay.add, donate_argnums=0)
    sample = jax.jit(lambda state, key: replay.sample(state, key, BATCH), donate_argnums=0)
    update = jax.jit(replay.update, donate_argnums=0)
    return replay, add, sample, update, jax.jit(replay.items)


def test_newest_returns_the_last_sequences_of_each_stream_in_turn(kit):
    replay, add, sample, _, _ = compiled(3, 7, 3, Newest())
    state = replay.init(kit.example())
    for t in range(9):
        state = add(state, kit.steps([t, t + 100, t + 200]), np.array([True, t < 3, t < 4]))
    state, batch, ids = sample(state, jax.random.key(0))
    assert list(zip(ids.stream.tolist(), ids.start.tolist(), strict=True)) == [(0, 6), (1, 0), (2, 1), (0, 5)]
    np.testing.assert_array_equal(batch.reward[:, -1], [8, 102, 203, 7])


def test_newest_repeats_when_there_are_too_few(kit):
    replay, add, sample, _, _ = compiled(3, 7, 3, Newest())
    state = replay.init(kit.example())
    for t in range(3):
        state = add(state, kit.steps([t, t, t]), np.array([True, False, True]))
    _, _, ids = sample(state, jax.random.key(0))
    assert ids.stream.tolist() == [0, 2, 0, 2] and ids.start.tolist() == [0, 0, 0, 0]


def test_uniform_draws_every_start_of_uneven_streams_equally_often(kit):
    replay = DeviceReplay(capacity=20, streams=3, length=4)
    add = jax.jit(replay.add)
    state = replay.init(kit.example())
    for t in range(33):
        state = add(state, kit.steps([t, t, t]), np.array([True, t < 9, t < 3]))
    draw = jax.jit(lambda state, key: replay.sample(state, key, 23 * 400)[2])
    ids = draw(state, jax.random.key(1))
    counts = {}
    for item in zip(ids.stream.tolist(), ids.start.tolist(), strict=True):
        counts[item] = counts.get(item, 0) + 1
    assert set(counts) == {(0, s) for s in range(13, 30)} | {(1, s) for s in range(6)}
    chi_square = sum((n - 400) ** 2 / 400 for n in counts.values())
    assert 7.0 < chi_square < 44.0  # 0.1 % and 99.9 % points (and a bit) of chi-square with 22 degrees of freedom


def test_mapped_over_seeds_equals_each_seed_alone(kit):
    replay = DeviceReplay(capacity=7, streams=2, length=3, sampler=Uniform(online=True))
    empty = replay.init(kit.example(jnp.bfloat16))
    alone = [empty for _ in range(3)]
    together = jax.tree.map(lambda *x: jnp.stack(x), *alone)
    methods = (replay.add, lambda state, key: replay.sample(state, key, BATCH), replay.update)
    add, sample, update = (jax.jit(jax.vmap(method)) for method in methods)
    add_one, sample_one, update_one = map(jax.jit, methods)
    for t in range(12):
        items = [kit.steps([t + 20 * seed, t + 20 * seed + 10]) for seed in range(3)]
        masks = [np.array([True, (t + seed) % 3 > 0]) for seed in range(3)]
        keys = jax.random.split(jax.random.key(t), 3)
        together = add(together, jax.tree.map(lambda *x: np.stack(x), *items), np.stack(masks))
        alone = [add_one(*arguments) for arguments in zip(alone, items, masks, strict=True)]
        if t > 4:
            together, batches, ids = sample(together, keys)
            together = update(together, ids, {"latent": batches.extras["latent"][:, :, 1:] * 2})
            for seed in range(3):
                alone[seed], batch, own = sample_one(alone[seed], keys[seed])
                kit.same(batch, jax.tree.map(lambda x, s=seed: x[s], batches))
                alone[seed] = update_one(alone[seed], own, {"latent": batch.extras["latent"][:, 1:] * 2})
    kit.same(together, jax.tree.map(lambda *x: jnp.stack(x), *alone))


@pytest.mark.parametrize("extra", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.float8_e4m3fn])
def test_narrow_types_come_back_bit_for_bit(kit, extra):
    replay = DeviceReplay(capacity=6, streams=2, length=3)
    add = jax.jit(replay.add)
    state = replay.init(kit.example(extra))
    latents = np.random.default_rng(0).normal(size=(6, 2, 2)).astype(extra)
    for t in range(6):
        item = kit.steps([t, t])
        state = add(state, item._replace(extras={**item.extras, "latent": latents[t]}))
    _, batch, ids = replay.sample(state, jax.random.key(0), 5)
    assert batch.extras["latent"].dtype == extra
    for b in range(5):
        start = int(ids.start[b])
        np.testing.assert_array_equal(batch.extras["latent"][b], latents[start : start + 3, int(ids.stream[b])])


@pytest.mark.parametrize("seeds", [None, 2])
def test_a_fused_iteration_writes_in_place(kit, seeds):
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

    state, item = replay.init(kit.example(jnp.bfloat16)), kit.steps([1, 2])
    if seeds is not None:
        state, item = jax.tree.map(lambda x: jnp.stack([x] * seeds), (state, item))
    made = jax.jit(program, donate_argnums=0).lower(state, item, jax.random.key(0)).compile()
    assert not re.search(r"\[(\d+,)?2,1000[,\]].* copy\(", made.as_text())
    memory = made.memory_analysis()
    assert memory.alias_size_in_bytes >= sum(x.nbytes for x in jax.tree.leaves(state.storage))
    assert memory.temp_size_in_bytes < 1000 * 2 * 4 < state.storage.obs["image"].nbytes


def test_state_restored_from_its_leaves_continues_exactly(kit):
    replay, add, sample, update, _ = compiled(3, 7, 3, Uniform(online=True))

    def more(state, rounds):
        for t in rounds:
            state = add(state, kit.steps([t, t + 10, t + 20]))
            state, batch, ids = sample(state, jax.random.key(t))
            state = update(state, ids, {"latent": batch.extras["latent"] + 1})
        return state, batch, ids

    state = replay.init(kit.example())
    for t in range(3):
        state = add(state, kit.steps([t, t, t]))
    state, *_ = more(state, range(3, 9))
    saved = [np.array(leaf) for leaf in jax.tree.leaves(state)]
    finished = more(state, range(9, 15))
    restored = jax.tree.unflatten(jax.tree.structure(replay.init(kit.example())), map(jnp.asarray, saved))
    kit.same(more(restored, range(9, 15)), finished)


def test_bad_sizes_and_names_are_named(kit):
    with pytest.raises(UsageError, match="shorter than a sequence of 5"):
        DeviceReplay(capacity=4, streams=1, length=5)
    with pytest.raises(UsageError, match="streams >= 1"):
        DeviceReplay(capacity=4, streams=0, length=2)
    replay, add, sample, _, _ = compiled(3, 7, 3, Uniform())
    state = add(replay.init(kit.example()), kit.steps([1, 2, 3]))
    state, _, ids = sample(state, jax.random.key(0))
    with pytest.raises(UsageError, match="no extra 'deter'; it has: count, latent"):
        replay.update(state, ids, {"deter": np.zeros((BATCH, 3, 2))})
    with pytest.raises(UsageError, match="with 4 steps"):
        replay.update(state, ids, {"latent": np.zeros((BATCH, 4, 2))})


@pytest.mark.parametrize("xp", [np, jnp])
def test_steps_that_a_later_sequence_writes_are_found(xp):
    stream, start = xp.array([0, 1, 0, 0]), xp.array([3, 4, 5, 4])
    covered = covered_later(stream, start[:, None] + xp.arange(3))
    np.testing.assert_array_equal(covered, [[0, 1, 1], [0, 0, 0], [1, 1, 0], [0, 0, 0]])
