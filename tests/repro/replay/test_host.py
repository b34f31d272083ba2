"""HostReplay: the same draws as on the device, seeds side by side, prefetching, and exact continuation."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repro.errors import RunError, UsageError
from repro.replay import DeviceReplay, Episodes, HostReplay, Ids, Newest, Prioritised, Uniform, padded_left

BATCH = 3
SAMPLERS = {
    "uniform": Uniform(online=True),
    "newest": Newest(),
    "prioritised": Prioritised(alpha=0.7, beta=lambda draws: 0.4 + 0.05 * draws),
    "episodes": Episodes(episodes=4, window=padded_left, unfinished=True),
}


def items(kit, t, seeds, streams=2):
    """Step t of every stream: all seeds and streams differ."""
    return kit.steps([t + 40 * seed + 20 * stream for seed in seeds for stream in range(streams)])


def mask_at(t, seeds, streams=2):
    return np.array([(t * (seed + 2) + stream) % 4 > 0 for seed in seeds for stream in range(streams)])


def run(replay, kit, rounds, can_write=True):
    """Adds, samples and writes back; what was sampled."""
    seen = []
    seeds = replay.seeds.tolist()
    for t in rounds:
        replay.add(items(kit, t, seeds), mask_at(t, seeds))
        if t >= 8:
            batch, ids = replay.sample(BATCH)
            seen.append((batch, ids))
            if can_write:
                replay.update(ids, {"latent": np.asarray(batch.extras["latent"][:, :, 1:]) + 1})
    return seen


@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_what_the_device_draws(kit, name):
    sampler = SAMPLERS[name]
    host = HostReplay(9, 2, 3, sampler, seeds=(5,), prefetch=False)
    host.init(kit.example(jnp.bfloat16))
    device = DeviceReplay(9, 2, 3, sampler)
    state = device.init(kit.example(jnp.bfloat16))
    add, update = jax.jit(device.add), jax.jit(device.update)
    sample = jax.jit(lambda state, key: device.sample(state, key, BATCH))
    for t in range(24):
        item, mask = items(kit, t, [0]), mask_at(t, [0])
        host.add(item, mask)
        state = add(state, item, mask)
        assert host.items().tolist() == [int(device.items(state))]
        if t < 8:
            continue
        batch, ids = host.sample(BATCH)
        state, wanted, wanted_ids = sample(state, jax.random.fold_in(jax.random.key(5), t - 8))
        kit.same(jax.tree.map(lambda x: x[0], (batch, ids)), (wanted, wanted_ids))
        assert batch.extras["latent"].dtype == jnp.bfloat16
        values = {"latent": wanted.extras["latent"][:, 1:] + 1} if name != "episodes" else {}
        if name == "prioritised":
            values["priority"] = 0.1 + jnp.abs(wanted.reward[:, 0])
        if values:
            host.update(ids, {k: v[None] for k, v in values.items()})
            state = update(state, wanted_ids, values)


def test_each_of_three_seeds_equals_that_seed_alone(kit):
    seeds = (4, 7, 2)
    together = HostReplay(9, 2, 3, Uniform(online=True), seeds)
    together.init(kit.example())
    seen = run(together, kit, range(30))
    for s, seed in enumerate(seeds):
        alone = HostReplay(9, 2, 3, Uniform(online=True), (seed,))
        alone.init(kit.example())
        for own, every in zip(run(alone, kit, range(30)), seen, strict=True):
            kit.same(jax.tree.map(lambda x: x[0], own), jax.tree.map(lambda x, s=s: x[s], every))


def test_prefetched_batch_is_one_update_behind(kit):
    replays = [HostReplay(9, 2, 3, seeds=(1,), prefetch=prefetch) for prefetch in (False, True)]
    results = []
    for replay in replays:
        replay.init(kit.example())
        for t in range(7):
            replay.add(items(kit, t, [1]))
        first, ids = replay.sample(BATCH)
        replay.update(ids, {"latent": np.full_like(first.extras["latent"], 99)})
        before, _ = replay.sample(BATCH)
        after, _ = replay.sample(BATCH)
        results.append((first, before, after))
    at_once, ahead = results
    kit.same(at_once[0], ahead[0])
    np.testing.assert_array_equal(at_once[1].reward, ahead[1].reward)
    assert (at_once[1].extras["latent"] == 99).any()
    assert not (ahead[1].extras["latent"] == 99).any()
    kit.same(at_once[2], ahead[2])


@pytest.mark.parametrize("can_write", [True, False])
def test_writes_wait_for_copies_under_way(kit, can_write):
    """Slow threads change nothing: neither new steps nor write-backs reach a batch that was chosen before them."""
    results = []
    for delay in (0, 0.02):
        replay = HostReplay(5, 2, 3, Uniform(online=True))
        replay.init(kit.example())
        copy = replay._copy
        replay._copy = lambda *arguments, copy=copy, delay=delay: (time.sleep(delay), copy(*arguments))
        results.append(run(replay, kit, range(16), can_write))
    kit.same(*results)


def test_other_batch_size_than_the_prefetched_is_refused(kit):
    replay = HostReplay(9, 2, 3)
    replay.init(kit.example())
    for t in range(4):
        replay.add(items(kit, t, [0]))
    replay.sample(BATCH)
    with pytest.raises(UsageError, match="batch of 3 is prefetched, not 5"):
        replay.sample(5)


@pytest.mark.parametrize("stop", [5, 17])
def test_restored_state_continues_exactly(kit, stop, tmp_path):
    replay = HostReplay(9, 2, 3, Uniform(online=True), seeds=(1, 2))
    replay.init(kit.example(jnp.bfloat16))
    run(replay, kit, range(stop))
    np.savez(tmp_path / "state.npz", **replay.state())
    wanted = run(replay, kit, range(stop, 30))
    other = HostReplay(9, 2, 3, Uniform(online=True), seeds=(1, 2))
    other.init(kit.example(jnp.bfloat16))
    with np.load(tmp_path / "state.npz") as saved:
        other.restore(saved)
    kit.same(run(other, kit, range(stop, 30)), wanted)
    with pytest.raises(RunError, match="shape"):
        HostReplay.restore(made(kit, capacity=8), replay.state())


def made(kit, **changes):
    replay = HostReplay(**{"capacity": 9, "streams": 2, "length": 3, "seeds": (1, 2), **changes})
    replay.init(kit.example())
    return replay


@pytest.mark.parametrize("back_to", [12, 20])
def test_loads_either_of_the_newest_two_marks_exactly(kit, tmp_path, back_to):
    def new():
        return HostReplay(9, 2, 3, Uniform(online=True), seeds=(1, 2), folder=tmp_path)

    replay = new()
    replay.init(kit.example(jnp.bfloat16))
    contents, wanted = {}, {}
    for begin, end in ((0, 6), (6, 12), (12, 20), (20, 33)):
        wanted[begin] = run(replay, kit, range(begin, end))
        contents[end] = {name: np.array(array) for name, array in replay.state().items()}
        if end < 33:
            replay.save(end)
    other = new()
    other.load(kit.example(jnp.bfloat16), back_to)
    kit.same(other.state(), contents[back_to])
    kit.same(run(other, kit, range(back_to, 33)), wanted[12] + wanted[20] if back_to == 12 else wanted[20])
    kit.same(other.state(), contents[33])
    for gone in {6, 20} - {back_to}:
        with pytest.raises(RunError, match=f"no mark {gone}"):
            new().load(kit.example(jnp.bfloat16), gone)
    new().load(kit.example(jnp.bfloat16), back_to)


def test_what_cannot_be_loaded_is_named(kit, tmp_path):
    with pytest.raises(RunError, match="no replay in"):
        HostReplay(9, 2, 3, folder=tmp_path).load(kit.example(), 1)
    replay = HostReplay(9, 2, 3, folder=tmp_path)
    replay.init(kit.example())
    replay.save(4)
    with pytest.raises(RunError, match="mark 4 is not newer than 4"):
        replay.save(4)
    with pytest.raises(RunError, match=r"another configuration \(length differ"):
        HostReplay(9, 2, 4, folder=tmp_path).load(kit.example(), 4)
    with pytest.raises(RunError, match=r"no mark 5 \(marks: 4\)"):
        HostReplay(9, 2, 3, folder=tmp_path).load(kit.example(), 5)
    (tmp_path / "mark-4.npz").write_bytes(b"PK")
    with pytest.raises(RunError, match="damaged"):
        HostReplay(9, 2, 3, folder=tmp_path).load(kit.example(), 4)
    with pytest.raises(UsageError, match="only a replay with a folder"):
        made(kit).save(1)
    with pytest.raises(UsageError, match="restored by load"):
        replay.restore(replay.state())
    with pytest.raises(UsageError, match="no extra 'deter'"):
        made(kit).update(Ids(*np.zeros((2, 2, BATCH), int)), {"deter": np.zeros((2, BATCH, 3))})
