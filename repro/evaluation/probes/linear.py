"""Linear classifiers on frozen features: a whole sweep of learning rates, weight decays and heads trained at once.

The settings of a sweep are the leading axis [S] of all parameters; the features are computed once for all of them.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from repro.optim.lars import lars

BN_EPS, BN_MOMENTUM = 1e-5, 0.1

Head = Literal["plain", "bn"]
Params = dict[str, jax.Array]


@dataclass(frozen=True)
class LinearProbe:
    """A protocol: how the classifiers are trained and which are tried. The best on the test split is the result, as
    published (there is no separate split to choose on)."""

    optimizer: Literal["lars", "sgd"]
    """`sgd` has Nesterov momentum."""
    learning_rates: tuple[float, ...]
    """For the whole batch, not for 256 images."""
    weight_decays: tuple[float, ...]
    heads: tuple[Head, ...]
    batch: int
    epochs: int
    drops: tuple[int, ...] = ()
    """The learning rate is divided by ten after these epochs..."""
    cosine_to: float | None = None
    """...or falls along a half cosine, over all updates, to this share of itself."""
    momentum: float = 0.9
    eta: float = 0.001

    def settings(self) -> list[tuple[Head, float, float]]:
        """Head, learning rate and weight decay of each entry of the sweep, heads outermost."""
        return list(itertools.product(self.heads, self.learning_rates, self.weight_decays))


class ProbeResult(NamedTuple):
    """Accuracies in [0, 1]."""

    accuracy: float
    """Of the best setting."""
    best: str
    accuracies: dict[str, float]
    """By setting, e.g. "last bn lr 0.1 wd 0.0005"."""


def batch_norm(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`[B, F]` normalised over the batch with the biased variance; also mean and unbiased variance `[F]`."""
    mean, variance = x.mean(0), x.var(0)
    normal = (x - mean) * jax.lax.rsqrt(variance + BN_EPS)
    return normal, mean, variance * (len(x) / max(len(x) - 1, 1))


def running(average: jax.Array, value: jax.Array) -> jax.Array:
    """The running statistic of a batch norm after one more batch."""
    return (1 - BN_MOMENTUM) * average + BN_MOMENTUM * value


def normalised(x: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
    """`[B, F]` normalised by the running statistics (evaluation)."""
    return (x - mean) * jax.lax.rsqrt(variance + BN_EPS)


def init_head(key: jax.Array, features: int, classes: int, head: Head) -> Params:
    """A linear map with uniform weights and bias in +-1/sqrt(features) (the default of PyTorch), and the affine part of
    the batch norm before it."""
    bound = features**-0.5
    kernel, bias = jax.random.split(key)
    params = {
        "kernel": jax.random.uniform(kernel, (features, classes), minval=-bound, maxval=bound),
        "bias": jax.random.uniform(bias, (classes,), minval=-bound, maxval=bound),
    }
    if head == "bn":
        params |= {"scale": jnp.ones(features), "offset": jnp.zeros(features)}
    return params


def apply_head(params: Mapping[str, jax.Array], normal: jax.Array) -> jax.Array:
    """`[B, F] -> [B, C]`; a head with batch norm takes features that are already normalised."""
    kernel, bias = params["kernel"], params["bias"]
    if "scale" in params:
        # Scale and offset folded into the linear map: under `vmap` all settings stay one product of the same features.
        kernel, bias = params["scale"][:, None] * kernel, params["offset"] @ kernel + bias
    return normal @ kernel + bias


def head_loss(params: Mapping[str, jax.Array], normal: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy in nats; `labels` int `[B]`."""
    return optax.softmax_cross_entropy_with_integer_labels(apply_head(params, normal), labels).mean()


class HeadState(NamedTuple):
    """All settings of one kind of head on one kind of features: parameters and optimiser state with leading axis [S],
    running mean and variance `[F]` of the features (the same for all settings)."""

    params: Params
    optimiser: Any
    mean: jax.Array
    variance: jax.Array


class Heads:
    """The classifiers of a protocol on features of several kinds, for training from any stream of features."""

    def __init__(self, protocol: LinearProbe, features: Mapping[str, int], classes: int, updates_per_epoch: int):
        self.protocol, self.features, self.classes = protocol, dict(features), classes
        self.updates = updates_per_epoch * protocol.epochs
        self._grid = jnp.array(self._settings(), jnp.float32)
        self._drops = np.array(protocol.drops, np.int32) * updates_per_epoch

    def init(self, key: jax.Array) -> dict[str, HeadState]:
        """Fresh classifiers; all settings of one kind begin at the same weights."""
        found = {}
        for number, (kind, head) in enumerate(itertools.product(self.features, self.protocol.heads)):
            width = self.features[kind]
            params = init_head(jax.random.fold_in(key, number), width, self.classes, head)
            many = {name: jnp.broadcast_to(p, (len(self._grid), *p.shape)) for name, p in params.items()}
            optimiser = jax.vmap(lambda p: self._optimiser(p, 0.0, 0.0).init(p))(many)
            found[f"{kind} {head}"] = HeadState(many, optimiser, jnp.zeros(width), jnp.ones(width))
        return found

    def update(
        self, state: Mapping[str, HeadState], x: Mapping[str, jax.Array], labels: jax.Array, step: jax.Array
    ) -> tuple[dict[str, HeadState], dict[str, jax.Array]]:
        """One update of all classifiers on features `[B, F]` of each kind; `step` counts from 0. Also the losses `[S]`.

        To be jitted by the caller.
        """
        factor = self.factor(step)
        new, losses = {}, {}
        for name, old in state.items():
            kind, head = name.split()
            features = x[kind].astype(jnp.float32)
            mean, variance = old.mean, old.variance
            if head == "bn":
                features, batch_mean, batch_variance = batch_norm(features)
                mean, variance = running(mean, batch_mean), running(variance, batch_variance)

            def one(params: Params, optimiser: Any, setting: jax.Array, features: jax.Array = features) -> Any:
                loss, gradient = jax.value_and_grad(head_loss)(params, features, labels)
                rule = self._optimiser(params, setting[0] * factor, setting[1])
                change, optimiser = rule.update(gradient, optimiser, params)
                return optax.apply_updates(params, change), optimiser, loss

            params, optimiser, losses[name] = jax.vmap(one)(old.params, old.optimiser, self._grid)
            new[name] = HeadState(params, optimiser, mean, variance)
        return new, losses

    def correct(self, state: Mapping[str, HeadState], x: Mapping[str, jax.Array], labels: jax.Array) -> dict[str, Any]:
        """How many of `[B, F]` each setting classifies rightly, `[S]` by kind; labels of -1 never count."""
        found = {}
        for name, of in state.items():
            kind, head = name.split()
            features = x[kind].astype(jnp.float32)
            if head == "bn":
                features = normalised(features, of.mean, of.variance)
            logits = jax.vmap(apply_head, in_axes=(0, None))(of.params, features)
            found[name] = (logits.argmax(-1) == labels).sum(-1)
        return found

    def result(self, correct: Mapping[str, np.ndarray], count: int) -> ProbeResult:
        """Accuracies from the sums of `correct` over `count` test images."""
        accuracies = {}
        for name, right in correct.items():
            for (rate, decay), hits in zip(self._settings(), np.asarray(right).tolist(), strict=True):
                accuracies[f"{name} lr {rate:g} wd {decay:g}"] = hits / count
        best = max(accuracies, key=lambda name: accuracies[name])
        return ProbeResult(accuracies[best], best, accuracies)

    def _settings(self) -> list[tuple[float, float]]:
        return list(itertools.product(self.protocol.learning_rates, self.protocol.weight_decays))

    def factor(self, step: jax.Array | int) -> jax.Array:
        """Learning rate of an update over that of the setting."""
        share = self.protocol.cosine_to
        if share is not None:
            return share + (1 - share) * 0.5 * (1 + jnp.cos(jnp.pi * step / self.updates))
        return 0.1 ** (step >= self._drops).sum().astype(jnp.float32)

    def _optimiser(self, params: Params, rate: Any, decay: Any) -> optax.GradientTransformation:
        # The affine part of the batch norm is not decayed; the bias of the linear map is.
        decayed = {name: name in ("kernel", "bias") for name in params}
        if self.protocol.optimizer == "lars":
            return lars(rate, self.protocol.momentum, decay, self.protocol.eta, decayed)
        return optax.chain(
            optax.masked(optax.add_decayed_weights(decay), decayed),
            optax.trace(self.protocol.momentum, nesterov=True),
            optax.scale(-rate),
        )


Features = Mapping[str, np.ndarray | jax.Array]
"""Kind of features ("last", "concat4") -> `[N, F]`, or `[V, N, F]`: V views of each image, one an epoch in turn."""


def linear_probe(
    train_x: Features | np.ndarray | jax.Array,
    train_y: np.ndarray,
    test_x: Features | np.ndarray | jax.Array,
    test_y: np.ndarray,
    protocol: LinearProbe,
    key: jax.Array,
) -> ProbeResult:
    """Trains every classifier of the protocol on computed features and says how each does on the test split.

    One array stands for features of the kind "last". The batch of the protocol is cut to the size of the set.
    """
    train, test = _by_kind(train_x), _by_kind(test_x)
    classes = int(max(np.max(train_y), np.max(test_y))) + 1
    batch = min(protocol.batch, len(train_y))
    steps = len(train_y) // batch
    heads = Heads(protocol, {kind: x.shape[-1] for kind, x in test.items()}, classes, steps)
    begin, shuffle = jax.random.split(key)
    state, labels = heads.init(begin), jnp.asarray(train_y)

    @partial(jax.jit, donate_argnums=0)
    def epoch(state: Any, x: dict[str, jax.Array], labels: jax.Array, number: jax.Array) -> Any:
        order = jax.random.permutation(jax.random.fold_in(shuffle, number), len(labels))[: steps * batch]

        def one(state: Any, inputs: tuple[jax.Array, jax.Array]) -> Any:
            rows, step = inputs
            taken = {kind: of[rows] for kind, of in x.items()}
            return heads.update(state, taken, labels[rows], number * steps + step)[0], None

        return jax.lax.scan(one, state, (order.reshape(steps, batch), jnp.arange(steps)))[0]

    for number in range(protocol.epochs):
        views = {kind: x if x.ndim == 2 else x[number % len(x)] for kind, x in train.items()}
        state = epoch(state, views, labels, jnp.int32(number))
    correct = _count(heads.correct, state, test, test_y)
    return heads.result(correct, len(test_y))


def _count(
    correct: Callable[..., dict[str, Any]], state: Any, x: Mapping[str, jax.Array], labels: np.ndarray, rows: int = 4096
) -> dict[str, np.ndarray]:
    jitted, total = jax.jit(correct), dict[str, np.ndarray]()
    for start in range(0, len(labels), rows):
        part = {kind: of[start : start + rows] for kind, of in x.items()}
        for name, hits in jitted(state, part, jnp.asarray(labels[start : start + rows])).items():
            total[name] = total.get(name, 0) + np.asarray(hits)
    return total


def _by_kind(x: Features | np.ndarray | jax.Array) -> dict[str, jax.Array]:
    if isinstance(x, Mapping):
        return {kind: jnp.asarray(of) for kind, of in x.items()}
    return {"last": jnp.asarray(x)}
