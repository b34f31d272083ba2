"""Distributions of actions in [-1, 1]: a normal through tanh (DreamerV1), a truncated normal (DreamerV2).

Elementwise; float32. Noise is an argument, as in `repro.nn.distributions`.
"""

import math

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jax.scipy.special import ndtr, ndtri

from repro.nn.distributions import Forced, Normal

ATANH_LIMIT = 0.99999997
"""Actions are clipped to this before atanh."""
EDGE = 1e-6
"""Samples of the truncated normal keep this distance from the bounds."""
LOW, HIGH = -1.0, 1.0

stop = lax.stop_gradient


@struct.dataclass
class TanhNormal:
    """tanh of a normal variable."""

    normal: Normal

    def sample(self, noise: jax.Array | Forced) -> jax.Array:
        """tanh(mean + std * noise), standard normal noise; gradients flow through mean and std."""
        return jnp.tanh(self.normal.sample(noise))

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Log-density through a clipped atanh, which is all that can be known of an action near the bounds."""
        x = atanh(action)
        return self.normal.log_prob(x) - tanh_log_slope(x)

    def mode(self, noise: jax.Array) -> jax.Array:
        """Of many samples the one with the highest log-density, summed over the action's axis: noise `[M, ..., A]`,
        result `[..., A]`. The density has no mode in closed form (DreamerV1, code)."""
        samples = self.sample(noise)
        best = self.log_prob(samples).sum(-1).argmax(0)
        return jnp.take_along_axis(samples, best[None, ..., None], 0)[0]


def tanh_normal(mean: jax.Array, raw_std: jax.Array, scale: float, initial_std: float, min_std: float) -> TanhNormal:
    """Mean `scale * tanh(mean / scale)`, std `softplus(raw + c) + min_std`, c such that raw 0 gives `initial_std`."""
    mean, raw_std = mean.astype(jnp.float32), raw_std.astype(jnp.float32)
    std = jax.nn.softplus(raw_std + inverse_softplus(initial_std)) + min_std
    return TanhNormal(Normal(scale * jnp.tanh(mean / scale), std))


def inverse_softplus(y: float) -> float:
    """log(e^y - 1)."""
    return y + math.log(-math.expm1(-y))


def atanh(y: jax.Array) -> jax.Array:
    """Inverse of tanh with `y` clipped to where it is finite."""
    return jnp.arctanh(jnp.clip(y, -ATANH_LIMIT, ATANH_LIMIT))


def tanh_log_slope(x: jax.Array) -> jax.Array:
    """log of the derivative of tanh at `x`."""
    return 2 * (math.log(2) - x - jax.nn.softplus(-2 * x))


@struct.dataclass
class TruncatedNormal:
    """A normal distribution cut to [-1, 1]; `loc` and `scale` are those before the cut."""

    loc: jax.Array
    scale: jax.Array

    def sample(self, noise: jax.Array | Forced) -> jax.Array:
        """By inversion, uniform noise (or the `Forced` draw before clipping).

        Gradients as in the software that the published runs used: d/dloc = 1, d/dscale = (draw - loc) / scale, as if
        nothing were cut.
        """
        standard = stop((self._draw(noise) - self.loc) / self.scale)
        return _clip(self.loc + self.scale * standard)

    def exact_sample(self, noise: jax.Array | Forced) -> jax.Array:
        """The same draw with its true gradients."""
        draw = stop(self._draw(noise))
        loc, scale = stop(self.loc), stop(self.scale)
        low, high, at = ((bound - loc) / scale for bound in (LOW, HIGH, draw))
        share = stop(self.share_below(draw))
        by_low = jnp.exp((jnp.square(at) - jnp.square(low)) / 2) * (1 - share)
        by_high = jnp.exp((jnp.square(at) - jnp.square(high)) / 2) * share
        moved = (1 - by_low - by_high) * (self.loc - loc) + (at - by_low * low - by_high * high) * (self.scale - scale)
        return _clip(draw + moved)

    def share_below(self, action: jax.Array) -> jax.Array:
        """Distribution function."""
        low, high, at = ((bound - self.loc) / self.scale for bound in (LOW, HIGH, action))
        return (ndtr(at) - ndtr(low)) / (ndtr(high) - ndtr(low))

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Log-density inside the bounds."""
        return Normal(self.loc, self.scale).log_prob(action) - jnp.log(self._mass())

    def entropy(self) -> jax.Array:
        """In nats."""
        low, high = self._bounds()
        edges = (low * _density(low) - high * _density(high)) / (2 * self._mass())
        return jnp.log(math.sqrt(2 * math.pi * math.e) * self.scale * self._mass()) + edges

    def mode(self) -> jax.Array:
        """`loc` inside the bounds."""
        return jnp.clip(self.loc, LOW, HIGH)

    def mean(self) -> jax.Array:
        """Expected action."""
        low, high = self._bounds()
        return self.loc + self.scale * (_density(low) - _density(high)) / self._mass()

    def _draw(self, noise: jax.Array | Forced) -> jax.Array:
        if isinstance(noise, Forced):
            return noise.value
        low, high = (ndtr(bound) for bound in self._bounds())
        inside = jnp.clip(low + noise * (high - low), 1e-7, 1 - 1e-7)
        return jnp.clip(self.loc + self.scale * ndtri(inside), LOW, HIGH)

    def _bounds(self) -> tuple[jax.Array, jax.Array]:
        return (LOW - self.loc) / self.scale, (HIGH - self.loc) / self.scale

    def _mass(self) -> jax.Array:
        low, high = self._bounds()
        return ndtr(high) - ndtr(low)


def _clip(x: jax.Array) -> jax.Array:
    return x + stop(jnp.clip(x, LOW + EDGE, HIGH - EDGE) - x)


def _density(x: jax.Array) -> jax.Array:
    return jnp.exp(-jnp.square(x) / 2) / math.sqrt(2 * math.pi)
