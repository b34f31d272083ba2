"""The samplers that draw by priority and by episode."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repro.errors import UsageError
from repro.replay import DeviceReplay, Episodes, Prioritised, padded_left, padded_right, within
from repro.replay.samplers import Ids


class Replay:
    """One seed, compiled."""

    def __init__(self, kit, sampler, capacity=7, streams=2, length=3):
        replay = DeviceReplay(capacity, streams, length, sampler)
        self.init = functools.partial(replay.init, kit.example())
        self.add, self.update, self.items = map(jax.jit, (replay.add, replay.update, replay.items))
        self.sample = jax.jit(replay.sample, static_argnums=2)


def filled(kit, sampler, count, streams=2, **sizes):
    replay = Replay(kit, sampler, streams=streams, **sizes)
    state = replay.init()
    for t in range(count):
        state = replay.add(state, kit.steps([t + 100 * e for e in range(streams)]))
    return replay, state


def draws(replay, state, batch_size, count):
    """Ids and extras of `count` batches."""
    sample = jax.jit(jax.vmap(lambda key: replay.sample(state, key, batch_size)[1:]))
    return sample(jax.random.split(jax.random.key(0), count))


def test_new_starts_get_the_largest_priority_and_overwritten_ones_vanish(kit):
    replay, state = filled(kit, Prioritised(alpha=1.0), 5)
    ids = Ids(jnp.array([0, 0, 0, 1, 1, 1]), jnp.array([0, 1, 2, 0, 1, 2]))
    state = replay.update(state, ids, {"priority": jnp.array([0.5, 3.0, 0.25, 1.0, 2.0, 0.125])})
    for t in range(5, 8):
        state = replay.add(state, kit.steps([t, t + 100]), jnp.array([True, False]))
    wanted = np.zeros((2, 7))
    wanted[0, [1, 2, 3, 4, 5]] = [3.0, 0.25, 3.0, 3.0, 3.0]
    wanted[1, [0, 1, 2]] = [1.0, 2.0, 0.125]
    np.testing.assert_array_equal(state.sampler["priority"], wanted)
    late = replay.update(state, ids, {"priority": jnp.full(6, 9.0)})
    assert late.sampler["priority"][0].tolist() == [0, 9, 9, 3, 3, 3, 0]


def test_frequency_and_weight_follow_the_priorities(kit):
    replay, state = filled(kit, Prioritised(alpha=0.5, beta=lambda draws: 0.4), 9)
    starts = [2, 3, 4, 5, 6]
    priority = np.array([[4.0, 1.0, 9.0, 0.01, 16.0], [1.0, 1.0, 25.0, 4.0, 0.25]])
    ids = Ids(jnp.repeat(jnp.arange(2), 5), jnp.array(starts * 2))
    state = replay.update(state, ids, {"priority": jnp.asarray(priority.reshape(-1))})
    probability = np.sqrt(priority) / np.sqrt(priority).sum()
    count = 8000
    batch, ids = draws(replay, state, 1, count)
    observed = np.zeros((2, 5))
    np.add.at(observed, (ids.stream[:, 0], ids.start[:, 0] - 2), 1)
    chi_square = ((observed - count * probability) ** 2 / (count * probability)).sum()
    assert 1.0 < chi_square < 27.9  # 0.1 % points on both sides, 9 degrees of freedom

    batch, ids = draws(replay, state, 4, 500)
    items = np.asarray(ids.stream * 100 + ids.start)
    assert all(len(set(row)) == 4 for row in items.tolist())
    np.testing.assert_array_equal(batch.reward[..., 0] % 100, ids.start)
    weight = (10 * probability[ids.stream, ids.start - 2]) ** -0.4
    np.testing.assert_allclose(batch.extras["weight"], weight / weight.max(1, keepdims=True), rtol=1e-5)


def test_beta_follows_the_number_of_batches_drawn(kit):
    replay, state = filled(kit, Prioritised(alpha=1.0, beta=lambda draws: jnp.where(draws == 0, 0.0, 1.0)), 9)
    state = replay.update(state, Ids(jnp.array([0]), jnp.array([4])), {"priority": jnp.array([50.0])})
    state, batch, _ = replay.sample(state, jax.random.key(0), 8)
    np.testing.assert_array_equal(batch.extras["weight"], np.ones(8))
    state, batch, _ = replay.sample(state, jax.random.key(0), 8)
    assert batch.extras["weight"].min() < 0.1


# Streams are cut into episodes of five steps (see `steps`); values tell the step.


@pytest.mark.parametrize("window", [within, padded_left, padded_right])
def test_windows_stay_in_one_episode_and_padding_is_zero(kit, window):
    replay, state = filled(kit, Episodes(episodes=6, window=window), 33, capacity=22, length=4)
    assert int(replay.items(state)) == 2 * 3  # 15-19, 20-24, 25-29; 10-14 is cut by the ring, 30-32 is running
    batch, ids = draws(replay, state, 8, 200)
    valid = np.asarray(batch.extras["valid"])
    number = np.asarray(ids.start)[..., None] + np.arange(4)
    value = number + 100 * np.asarray(ids.stream)[..., None]
    np.testing.assert_array_equal(batch.reward, np.where(valid, value, 0))
    np.testing.assert_array_equal(batch.is_first, valid & (value % 5 == 0))
    assert not batch.obs["image"][~valid].any() and not batch.extras["latent"][~valid].any()
    episode = np.where(valid, number // 5, -1).max(-1, keepdims=True)
    assert ((number // 5 == episode) == valid).all()
    assert set(episode.reshape(-1).tolist()) == {3, 4, 5}
    offset = (ids.start - episode[..., 0] * 5).reshape(-1)
    shares = {within: {0: 0.2, 1: 0.8}, padded_right: dict.fromkeys(range(5), 0.2)}
    wanted = shares.get(window, dict.fromkeys(range(-3, 2), 0.2))
    for place, share in wanted.items():
        assert abs(np.mean(offset == place) - share) < 5 * np.sqrt(share * (1 - share) / 1600)
    assert set(offset.tolist()) == set(wanted)


def test_episodes_are_drawn_equally_often_whatever_their_length(kit):
    sampler = Episodes(episodes=8, window=padded_right, shortest=2, unfinished=True)
    replay = Replay(kit, sampler, capacity=60, streams=1, length=2)
    state = replay.init()
    t = 0
    for steps in (1, 2, 17, 3, 9):
        for i in range(steps):
            item = kit.steps([t])
            last = i == steps - 1 and steps != 9
            state = replay.add(state, item._replace(is_first=np.array([i == 0]), is_last=np.array([last])))
            t += 1
    assert int(replay.items(state)) == 4  # the one of a single step is too short, the running one counts
    _, ids = draws(replay, state, 40, 100)
    which = np.searchsorted([1, 3, 20, 23], np.asarray(ids.start), side="right")
    share = np.bincount(which.reshape(-1), minlength=5) / 4000
    assert share[0] == 0 and np.abs(share[1:] - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 4000)


def test_abandoned_episode_ends_where_the_next_begins_and_the_table_is_a_ring(kit):
    replay = Replay(kit, Episodes(episodes=2), capacity=60, streams=1)
    state = replay.init()
    for t in range(12):
        item = kit.steps([t])
        state = replay.add(state, item._replace(is_first=np.array([t % 4 == 0]), is_last=np.array([False])))
    table = np.sort(np.stack([state.sampler["begin"][0], state.sampler["end"][0]], -1), 0)
    np.testing.assert_array_equal(table, [[4, 8], [8, 12]])
    assert int(replay.items(state)) == 1


def test_padded_sequences_cannot_be_written_back(kit):
    replay, state = filled(kit, Episodes(episodes=3), 10)
    state, batch, ids = replay.sample(state, jax.random.key(0), 2)
    with pytest.raises(UsageError, match="cannot be written back"):
        replay.update(state, ids, {"latent": batch.extras["latent"]})
