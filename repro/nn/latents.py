"""What the stochastic part of a recurrent state-space model is made of: Gaussian or categorical variables."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from repro.nn.distributions import Categorical, Forced, Normal, categorical

Noise = jax.Array | Forced


class Latent(Protocol):
    """A kind of latent; its samples are vectors `[..., width]` through which gradients flow."""

    @property
    def width(self) -> int:
        """Length of a sample."""
        ...

    @property
    def outputs(self) -> int:
        """Numbers that a network gives for one distribution."""
        ...

    def distribution(self, raw: jax.Array) -> Any:
        """Distribution of network outputs `[..., outputs]`."""
        ...

    def sample(self, dist: Any, noise: Noise) -> jax.Array:
        """A sample `[..., width]`."""
        ...

    def mode(self, dist: Any) -> jax.Array:
        """The most probable value `[..., width]`."""
        ...

    def draw(self, key: jax.Array, batch: tuple[int, ...]) -> jax.Array:
        """Noise for samples with these batch axes."""
        ...


@dataclass(frozen=True)
class GaussianLatent:
    """`size` independent normal variables, reparameterised. Networks give all means, then all raw deviations."""

    size: int
    std: Callable[[jax.Array], jax.Array]
    """Raw network output -> standard deviation."""

    @property
    def width(self) -> int:
        """One number a variable."""
        return self.size

    @property
    def outputs(self) -> int:
        """Mean and raw deviation."""
        return 2 * self.size

    def distribution(self, raw: jax.Array) -> Normal:
        """Float32 means and deviations `[..., size]`."""
        mean, deviation = jnp.split(raw.astype(jnp.float32), 2, -1)
        return Normal(mean, self.std(deviation))

    def sample(self, dist: Normal, noise: Noise) -> jax.Array:
        """mean + std * noise, standard normal noise `[..., size]`."""
        return dist.sample(noise)

    def mode(self, dist: Normal) -> jax.Array:
        """The means."""
        return dist.mode()

    def draw(self, key: jax.Array, batch: tuple[int, ...]) -> jax.Array:
        """Standard normal `[*batch, size]`."""
        return jax.random.normal(key, (*batch, self.size))


@dataclass(frozen=True)
class CategoricalLatent:
    """`size` variables of `classes` classes; samples are one-hot vectors with straight-through gradients (DreamerV2,
    algorithm 1)."""

    size: int
    classes: int

    @property
    def width(self) -> int:
        """One-hot vectors side by side."""
        return self.size * self.classes

    @property
    def outputs(self) -> int:
        """Logits."""
        return self.size * self.classes

    def distribution(self, raw: jax.Array) -> Categorical:
        """Over classes, batch axes `[..., size]`."""
        return categorical(raw.reshape(*raw.shape[:-1], self.size, self.classes))

    def sample(self, dist: Categorical, noise: Noise) -> jax.Array:
        """By inversion, uniform noise `[..., size]` (or the `Forced` class indices)."""
        one_hot = dist.straight_through(dist.sample(noise))
        return one_hot.reshape(*one_hot.shape[:-2], self.width)

    def mode(self, dist: Categorical) -> jax.Array:
        """The most probable classes, straight-through."""
        return self.sample(dist, Forced(dist.mode()))

    def draw(self, key: jax.Array, batch: tuple[int, ...]) -> jax.Array:
        """Uniform `[*batch, size]`."""
        return jax.random.uniform(key, (*batch, self.size))


def softplus_std(minimum: float) -> Callable[[jax.Array], jax.Array]:
    """softplus(raw) + minimum (DreamerV1)."""
    return lambda raw: jax.nn.softplus(raw) + minimum


def sigmoid_std(minimum: float) -> Callable[[jax.Array], jax.Array]:
    """2 sigmoid(raw / 2) + minimum (DreamerV2, Gaussian latents and continuous actors)."""
    return lambda raw: 2 * jax.nn.sigmoid(raw / 2) + minimum


def kl_both_ways(posterior: Any, prior: Any) -> tuple[jax.Array, jax.Array]:
    """KL[posterior || prior] summed over the latent variables, once to train the prior alone, once the posterior alone.

    The two halves of KL balancing (DreamerV2, algorithm 2; DreamerV3, eq. 5).
    """
    stop = jax.lax.stop_gradient
    return stop(posterior).kl(prior).sum(-1), posterior.kl(stop(prior)).sum(-1)
