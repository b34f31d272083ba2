"""Probes find what is linearly there, no more; the settings of a sweep do not touch one another."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repro.errors import UsageError
from repro.evaluation.probes import attentive, knn, linear, linear_probe
from repro.evaluation.probes.linear import Heads, LinearProbe
from repro.evaluation.probes.protocols import LINEAR, linear_protocol

QUICK = LinearProbe("sgd", (0.3, 0.03), (5e-4, 0.0), ("bn", "plain"), batch=64, epochs=6, drops=(4,))


def clusters(count: int, noise: float, seed: int, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Points around one centre for each class, the same centres for every seed."""
    centres = np.random.default_rng(99).normal(size=(classes, 12))
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    return (centres[labels] + noise * random.normal(size=(count, 12))).astype(np.float32), labels.astype(np.int32)


def test_the_sweep_reports_every_setting_and_the_best():
    (x, y), (tx, ty) = clusters(400, 0.3, 0), clusters(200, 0.3, 1)
    found = linear_probe({"last": x, "concat4": np.tile(x, 4)}, y, {"last": tx, "concat4": np.tile(tx, 4)}, ty, QUICK,
                         jax.random.key(0))  # fmt: skip
    assert len(found.accuracies) == 2 * 2 * 4 and found.accuracy == max(found.accuracies.values()) > 0.98
    assert found.accuracies[found.best] == found.accuracy and "last plain lr 0.03 wd 0.0005" in found.accuracies


def test_labels_that_have_nothing_to_do_with_the_features_stay_at_chance():
    (x, _), (tx, _) = clusters(400, 0.3, 0), clusters(2000, 0.3, 1)
    random = np.random.default_rng(2)
    found = linear_probe(x, random.integers(0, 4, 400), tx, random.integers(0, 4, 2000), QUICK, jax.random.key(0))
    assert all(0.2 < accuracy < 0.3 for accuracy in found.accuracies.values())  # five standard errors


def test_a_setting_trains_the_same_alone_as_in_the_sweep():
    x, y = clusters(64, 1.0, 0)
    features, labels = {"last": jnp.asarray(x)}, jnp.asarray(y)
    together = Heads(QUICK, {"last": 12}, 4, 1)
    state = together.init(jax.random.key(0))
    alone = Heads(replace(QUICK, learning_rates=(0.03,), weight_decays=(0.0,)), {"last": 12}, 4, 1)
    single = alone.init(jax.random.key(0))
    update_all, update_one = jax.jit(together.update), jax.jit(alone.update)
    for step in range(5):
        state, losses = update_all(state, features, labels, jnp.int32(step))
        single, loss = update_one(single, features, labels, jnp.int32(step))
    for head in ("last bn", "last plain"):
        np.testing.assert_allclose(losses[head][3], loss[head][0], rtol=1e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a[3], b[0], atol=1e-6), state[head].params, single[head].params
        )


def test_the_batch_norm_head_does_not_mind_the_scale_of_the_features():
    x, y = clusters(64, 1.0, 0)
    heads = Heads(QUICK, {"last": 12}, 4, 1)
    states, update = [heads.init(jax.random.key(0))] * 2, jax.jit(heads.update)
    for step in range(3):
        for k, features in enumerate((x, 100 * x + 7)):
            states[k] = update(states[k], {"last": jnp.asarray(features)}, jnp.asarray(y), jnp.int32(step))[0]
    plain, scaled = states
    np.testing.assert_allclose(
        plain["last bn"].params["kernel"], scaled["last bn"].params["kernel"], rtol=1e-3, atol=1e-5
    )
    np.testing.assert_allclose(100 * plain["last bn"].mean + 7 * (1 - 0.9**3), scaled["last bn"].mean, rtol=1e-4)


def test_batch_norm_is_biased_in_the_batch_and_unbiased_in_the_running_variance():
    x = np.random.default_rng(0).normal(3, 2, (10, 5)).astype(np.float32)
    normal, mean, variance = linear.batch_norm(jnp.asarray(x))
    np.testing.assert_allclose(normal, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), atol=1e-5)
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(variance, x.var(0, ddof=1), rtol=1e-5)


def test_learning_rates_fall_after_the_stated_epochs():
    heads = Heads(replace(LINEAR["imagenet"], batch=8), {"last": 4}, 3, updates_per_epoch=10)
    steps = [0, 149, 150, 299, 300, 449, 450, 499]
    expected = [1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    np.testing.assert_allclose([heads.factor(step) for step in steps], expected, rtol=1e-6)
    cosine = Heads(LINEAR["clevr_count"], {"last": 4}, 3, updates_per_epoch=10)
    np.testing.assert_allclose([cosine.factor(0), cosine.factor(250), cosine.factor(500)], [1, 0.505, 0.01], rtol=1e-5)


def test_views_are_taken_in_turn():
    (x, y), (tx, ty) = clusters(128, 1.0, 0), clusters(500, 1.0, 1)
    short = replace(QUICK, epochs=2, drops=())
    one = linear_probe(x, y, tx, ty, short, jax.random.key(0))
    same = linear_probe(np.stack([x, x]), y, tx, ty, short, jax.random.key(0))
    other = linear_probe(np.stack([x, np.zeros_like(x)]), y, tx, ty, short, jax.random.key(0))
    assert one.accuracies == same.accuracies != other.accuracies


def test_a_batch_larger_than_the_set_is_the_whole_set_and_unlabelled_rows_never_count():
    x, y = clusters(50, 0.1, 0)
    assert linear_probe(x, y, x, y, replace(QUICK, batch=16_384, epochs=20), jax.random.key(0)).accuracy == 1.0
    heads = Heads(QUICK, {"last": 12}, 4, 1)
    hits = heads.correct(heads.init(jax.random.key(0)), {"last": jnp.asarray(x)}, jnp.full(50, -1))
    assert all((count == 0).all() for count in hits.values())


def test_published_protocols():
    assert LINEAR["imagenet"].batch == 16_384 and len(LINEAR["imagenet"].settings()) == 12
    assert len(linear_protocol("cifar100").settings()) == 2
    with pytest.raises(UsageError, match="did you mean: imagenet"):
        linear_protocol("imagnet")


def test_nearest_neighbours_vote_as_by_hand():
    (x, y), (tx, ty) = clusters(300, 1.5, 0), clusters(101, 1.5, 1)
    unit, test = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, tx))
    right = 0
    for row, label in zip(test, ty, strict=True):
        similarity = unit @ row
        nearest = np.argsort(-similarity)[:20]
        votes = np.bincount(y[nearest], np.exp(similarity[nearest] / 0.07), 4)
        right += votes.argmax() == label
    assert knn(x, y, tx, ty) == right / 101
    assert knn(7 * x, y, 0.1 * tx, ty) == right / 101
    assert knn(x[:5], y[:5], x[:5], y[:5], k=1) == 1.0 and 0 <= knn(x[:5], y[:5], tx, ty) <= 1


WIDTH, HEADS = 8, 2


def tokens_of(labels: np.ndarray, seed: int) -> jax.Array:
    """Nine tokens of noise each; one of them, anywhere, is the class's mark: the mean hardly shows it."""
    random = np.random.default_rng(seed)
    x = 0.3 * random.normal(size=(len(labels), 9, WIDTH))
    x[np.arange(len(labels)), random.integers(0, 9, len(labels)), labels] += 3
    return jnp.asarray(x, jnp.float32)


def test_the_attentive_probe_reads_tokens_in_any_order():
    params = attentive.init(jax.random.key(0), WIDTH, 3)
    params = {name: p + 0.3 * jax.random.normal(jax.random.key(1), p.shape) for name, p in params.items()}
    x = tokens_of(np.zeros(4, int), 0)
    logits = jax.jit(lambda x: attentive.logits(params, x, HEADS))
    found = logits(x)
    assert found.shape == (4, 3)
    np.testing.assert_allclose(logits(x[:, ::-1]), found, atol=1e-5)
    assert not np.allclose(logits(2 * x + x[:, :1]), found, atol=1e-3)


def test_the_attentive_probe_learns_what_single_tokens_show():
    protocol, labels = attentive.AttentiveProbe(learning_rate=1e-2), np.arange(256) % 3
    probe = attentive.Attentive(protocol, WIDTH, HEADS, 3, updates=60)
    state, update = probe.init(jax.random.key(0)), jax.jit(probe.update)
    losses = []
    for step in range(60):
        state, loss = update(state, tokens_of(labels, step), jnp.asarray(labels))
        losses.append(float(loss))
    assert abs(losses[0] - np.log(3)) < 0.1 and losses[-1] < 0.6
    assert int(probe.correct(state, tokens_of(labels, 999), jnp.asarray(labels))) > 200  # chance: 85
    assert int(probe.correct(state, tokens_of(labels, 999), jnp.full(256, -1))) == 0
