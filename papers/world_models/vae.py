"""V: the convolutional VAE (World Models, appendix A.1). Images are float32 in [0, 1], `[B, 64, 64, 3]`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from papers.world_models.config import VAEConfig
from repro.nn.conv import transposed_conv2d, valid_conv2d

Params = dict[str, jax.Array]

ENCODER_KERNELS = (4, 4, 4, 4)
DECODER_KERNELS = (5, 5, 6, 6)


class Losses(NamedTuple):
    """What training minimises and its parts, means over the batch."""

    total: jax.Array
    reconstruction: jax.Array
    kl: jax.Array
    """With the floor; `kl_per_sample` `[B]` is without."""
    kl_per_sample: jax.Array


def shapes(config: VAEConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter; transposed convolutions `[h, w, in, out]` too."""
    found: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *shape: int) -> None:
        found[f"{name}/kernel"], found[f"{name}/bias"] = shape, shape[-1:]

    channels, size = 3, 64
    for i, (kernel, filters) in enumerate(zip(ENCODER_KERNELS, config.encoder_filters, strict=True), 1):
        layer(f"enc_conv{i}", kernel, kernel, channels, filters)
        channels, size = filters, (size - kernel) // 2 + 1
    layer("enc_fc_mu", size * size * channels, config.latent)
    layer("enc_fc_log_var", size * size * channels, config.latent)
    layer("dec_fc", config.latent, config.decoder_width)
    channels = config.decoder_width
    for i, (kernel, filters) in enumerate(zip(DECODER_KERNELS, (*config.decoder_filters, 3), strict=True), 1):
        layer(f"dec_deconv{i}", kernel, kernel, channels, filters)
        channels = filters
    return found


def init(key: jax.Array, config: VAEConfig) -> Params:
    """Glorot uniform kernels, zero biases."""
    names = shapes(config)
    keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
    glorot = jax.nn.initializers.glorot_uniform()
    return {n: jnp.zeros(s) if n.endswith("bias") else glorot(keys[n], s) for n, s in names.items()}


def _affine(params: Params, name: str, x: jax.Array) -> jax.Array:
    return x @ params[f"{name}/kernel"] + params[f"{name}/bias"]


def encode(params: Params, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and log-variance of the posterior, `[B, latent]` each."""
    x = images
    for i in range(1, len(ENCODER_KERNELS) + 1):
        x = jax.nn.relu(valid_conv2d(x, params[f"enc_conv{i}/kernel"]) + params[f"enc_conv{i}/bias"])
    x = x.reshape(x.shape[0], -1)
    return _affine(params, "enc_fc_mu", x), _affine(params, "enc_fc_log_var", x)


def decode(params: Params, z: jax.Array) -> jax.Array:
    """Images of latents `[B, latent]`."""
    x = _affine(params, "dec_fc", z)[:, None, None]
    for i in range(1, len(DECODER_KERNELS) + 1):
        x = transposed_conv2d(x, params[f"dec_deconv{i}/kernel"]) + params[f"dec_deconv{i}/bias"]
        x = jax.nn.relu(x) if i < len(DECODER_KERNELS) else jax.nn.sigmoid(x)
    return x


def sample(mu: jax.Array, logvar: jax.Array, normal: jax.Array) -> jax.Array:
    """z = mu + exp(logvar / 2) normal."""
    return mu + jnp.exp(logvar / 2) * normal


def loss(params: Params, images: jax.Array, normal: jax.Array, kl_tolerance: float) -> Losses:
    """Squared error summed over pixels + KL to N(0, 1) with a floor of `kl_tolerance * latent` nats a sample.

    `normal` `[B, latent]`. Below the floor the KL has no gradient.
    """
    mu, logvar = encode(params, images)
    reconstructed = decode(params, sample(mu, logvar, normal))
    reconstruction = jnp.square(images - reconstructed).sum((1, 2, 3)).mean()
    kl_per_sample = -0.5 * (1 + logvar - jnp.square(mu) - jnp.exp(logvar)).sum(-1)
    kl = jnp.maximum(kl_per_sample, kl_tolerance * mu.shape[-1]).mean()
    return Losses(reconstruction + kl, reconstruction, kl, kl_per_sample)
