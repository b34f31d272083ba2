"""Output distributions. All computation is float32, whatever dtype the networks use.

Sampling takes its noise as an argument (`noise` uniform in [0, 1) for discrete and standard normal for continuous
distributions), so that randomness can be drawn once for a whole sequence and outcomes can be forced.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from repro.nn.layers import symlog


class Forced(NamedTuple):
    """In place of noise: the outcome itself."""

    value: Any


@struct.dataclass
class Categorical:
    """Classes 0 ... K-1 over the last axis; make it with `categorical`. Batch axes are kept by all methods."""

    log_probs: jax.Array
    probs: jax.Array

    def mode(self) -> jax.Array:
        """Most probable class."""
        return jnp.argmax(self.log_probs, -1)

    def sample(self, noise: jax.Array | Forced) -> jax.Array:
        """Class indices by inversion of the distribution function; uniform `noise` has the batch shape."""
        if isinstance(noise, Forced):
            return noise.value
        # Noise is a multiple of 2^-23; its cell's midpoint keeps 0 from picking a class of no probability.
        below = jnp.cumsum(self.probs, -1)[..., :-1] <= noise[..., None] + 2**-24
        return below.sum(-1, dtype=jnp.int32)

    def log_prob(self, index: jax.Array) -> jax.Array:
        """Log-probability of class indices."""
        classes = jnp.arange(self.log_probs.shape[-1], dtype=index.dtype)
        return jnp.where(index[..., None] == classes, self.log_probs, 0.0).sum(-1)

    def entropy(self) -> jax.Array:
        """In nats."""
        return -(self.probs * self.log_probs).sum(-1)

    def kl(self, other: "Categorical") -> jax.Array:
        """KL[self || other] in nats."""
        return (self.probs * (self.log_probs - other.log_probs)).sum(-1)

    def straight_through(self, index: jax.Array) -> jax.Array:
        """One-hot of `index` whose gradient is that of the probabilities: `[..., K]`."""
        return jax.nn.one_hot(index, self.probs.shape[-1]) + (self.probs - lax.stop_gradient(self.probs))


def categorical(logits: jax.Array, unimix: float = 0.0) -> Categorical:
    """softmax(logits) mixed with a share `unimix` of the uniform distribution; logits `[..., K]`."""
    logits = logits.astype(jnp.float32)
    if not unimix:
        log_probs = jax.nn.log_softmax(logits)
        return Categorical(log_probs, jnp.exp(log_probs))
    probs = (1 - unimix) * jax.nn.softmax(logits) + unimix / logits.shape[-1]
    return Categorical(jnp.log(probs), probs)


@struct.dataclass
class Normal:
    """Independent normal distributions, elementwise; `mean` and `std` have one shape."""

    mean: jax.Array
    std: jax.Array

    def mode(self) -> jax.Array:
        """The mean."""
        return self.mean

    def sample(self, noise: jax.Array | Forced) -> jax.Array:
        """mean + std * noise, for standard normal `noise`."""
        return noise.value if isinstance(noise, Forced) else self.mean + self.std * noise

    def log_prob(self, value: jax.Array) -> jax.Array:
        """Log-density."""
        return -0.5 * (jnp.square((value - self.mean) / self.std) + jnp.log(2 * jnp.pi)) - jnp.log(self.std)

    def entropy(self) -> jax.Array:
        """In nats."""
        return 0.5 * jnp.log(2 * jnp.pi * jnp.square(self.std)) + 0.5

    def kl(self, other: "Normal") -> jax.Array:
        """KL[self || other] in nats."""
        ratio = jnp.square(self.std / other.std)
        distance = jnp.square((self.mean - other.mean) / other.std)
        return 0.5 * (ratio + distance - jnp.log(ratio) - 1)


def bounded_normal(mean: jax.Array, std: jax.Array, low: float, high: float) -> Normal:
    """Mean in (-1, 1) by tanh, standard deviation in (low, high) by a sigmoid shifted by 2; raw outputs `[...]`."""
    mean, std = mean.astype(jnp.float32), std.astype(jnp.float32)
    return Normal(jnp.tanh(mean), (high - low) * jax.nn.sigmoid(std + 2.0) + low)


@struct.dataclass
class Bernoulli:
    """Two outcomes, elementwise over `logit` (float32)."""

    logit: jax.Array

    def mode(self) -> jax.Array:
        """True where 1 is more probable."""
        return self.logit > 0

    def prob(self) -> jax.Array:
        """Probability of 1."""
        return jax.nn.sigmoid(self.logit)

    def loss(self, target: jax.Array) -> jax.Array:
        """Cross-entropy with a target in [0, 1]."""
        return jax.nn.softplus(self.logit) - target * self.logit


@struct.dataclass
class TwoHot:
    """A scalar as a distribution over fixed `bins` `[K]` that mirror each other about 0; `logits` `[..., K]` float32
    (DreamerV3, Methods)."""

    logits: jax.Array
    bins: jax.Array

    def __getitem__(self, index: Any) -> "TwoHot":
        """Indexes the batch axes."""
        return TwoHot(self.logits[index], self.bins)

    def mean(self) -> jax.Array:
        """Expected bin value `[...]`. Mirrored bins share one product, so that uniform logits give exactly 0 in any
        order of summation and with any contraction of products and sums."""
        half = (self.bins.shape[0] + 1) // 2
        probs = jax.nn.softmax(self.logits)
        odd = probs[..., half:] - probs[..., : self.bins.shape[0] - half][..., ::-1]
        return (odd * self.bins[half:]).sum(-1)

    def loss(self, target: jax.Array) -> jax.Array:
        """Cross-entropy `[...]` with the two bins around each `target` `[...]`, weighted by raw distance."""
        return self.cross_entropy(two_hot(lax.stop_gradient(target), self.bins))

    def cross_entropy(self, weights: jax.Array, total: float = 1.0) -> jax.Array:
        """-sum of weight * log-probability `[...]`; the `weights` `[..., K]` of every entry sum to `total`."""
        return total * jax.nn.logsumexp(self.logits, -1) - (weights * self.logits).sum(-1)


def two_hot(target: jax.Array, bins: jax.Array) -> jax.Array:
    """Weights `[..., K]` of the two bins next to `target` `[...]`; one bin where it is hit exactly or the end bin
    where it lies beyond."""
    last = bins.shape[0] - 1
    above = (bins <= target[..., None]).sum(-1, dtype=jnp.int32)
    below = jnp.clip(above - 1, 0, last)
    above = jnp.clip(above, 0, last)
    to_below = jnp.abs(bins[below] - target)
    to_above = jnp.where(above == below, 1.0, jnp.abs(bins[above] - target))
    share = (to_below / (to_below + to_above))[..., None]
    index = jnp.arange(last + 1)
    return jnp.where(index == below[..., None], 1 - share, 0.0) + jnp.where(index == above[..., None], share, 0.0)


def symexp_bins(count: int, low: float = -20.0, high: float = 20.0) -> np.ndarray:
    """`count` bins symmetric about 0, equally spaced in symlog space between `low` = -`high` and `high`.

    An even `count` has the zero bin twice, once in each half (as the official code).
    """
    if low != -high:
        raise ValueError(f"two-hot bins must be symmetric, not {low} to {high}")
    half = -np.expm1(-np.linspace(low, 0.0, (count + 1) // 2))
    mirrored = -half[::-1]
    return np.concatenate([half, mirrored[1:] if count % 2 else mirrored]).astype(np.float32)


@struct.dataclass
class SquaredError:
    """A prediction judged by its squared error, without a factor 1/2; elementwise."""

    mean: jax.Array

    def mode(self) -> jax.Array:
        """The prediction."""
        return self.mean

    def loss(self, target: jax.Array) -> jax.Array:
        """(mean - target)^2."""
        return jnp.square(self.mean - target)


@struct.dataclass
class SymlogSquaredError:
    """As `SquaredError` with the prediction in symlog space; elementwise."""

    mean: jax.Array

    def mode(self) -> jax.Array:
        """The prediction, in symlog space."""
        return self.mean

    def loss(self, target: jax.Array) -> jax.Array:
        """(mean - symlog(target))^2."""
        return jnp.square(self.mean - symlog(target))


def soft_huber(prediction: jax.Array, target: jax.Array, eps: float = 1.0) -> jax.Array:
    """Charbonnier loss sqrt(error^2 + eps^2) - eps: quadratic near 0, linear far away; elementwise."""
    return jnp.sqrt(jnp.square(prediction - target) + eps * eps) - eps
