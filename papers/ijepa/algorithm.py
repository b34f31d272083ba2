"""One update: masks, prediction, AdamW, moving average (C `train.py`), for one seed; state in pytrees."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from papers.ijepa import losses, masks, networks
from papers.ijepa.config import Config, OptimConfig
from papers.ijepa.masks import Masks
from repro.data.transforms import normalise
from repro.nn import vit
from repro.nn.vit import Params

EPS = 1e-8


class State(NamedTuple):
    """All that an update changes. `online` holds `encoder/...` and `predictor/...`, `target` the encoder's copy."""

    online: Params
    target: Params
    mu: Params
    nu: Params


class Moment(NamedTuple):
    """What depends on the number of the update alone; computed on the host, in float64."""

    count: Any
    """Number of the update, from 1."""
    lr: Any
    weight_decay: Any
    ema_rate: Any
    """1 - momentum of the target encoder."""
    sizes: Any
    """Rows and columns of target and context blocks, int32 `[2, 2]`."""


def learning_rate(config: OptimConfig, per_epoch: int, count: int) -> float:
    """Linear warm-up, then half a cosine; `count` from 1."""
    total, warmup = int(config.schedule_stretch * config.epochs * per_epoch), int(config.warmup_epochs * per_epoch)
    if count < warmup:
        return config.lr_start + count / warmup * (config.lr - config.lr_start)
    progress = (count - warmup) / max(1, total - warmup)
    return max(config.lr_end, config.lr_end + (config.lr - config.lr_end) * 0.5 * (1 + math.cos(math.pi * progress)))


def weight_decay(config: OptimConfig, per_epoch: int, count: int) -> float:
    """Half a cosine from the first to the last value."""
    total = int(config.schedule_stretch * config.epochs * per_epoch)
    first, last = config.weight_decay, config.weight_decay_end
    value = last + (first - last) * 0.5 * (1 + math.cos(math.pi * count / total))
    return max(last, value) if last <= first else min(last, value)


def momentum(config: OptimConfig, per_epoch: int, count: int) -> float:
    """Of the target encoder, on a line; `count` from 1."""
    first, last = config.ema
    return first + (count - 1) * (last - first) / (per_epoch * config.epochs * config.schedule_stretch)


def moment(config: Config, per_epoch: int, index: int) -> Moment:
    """The schedules and block sizes of update `index` (from 0)."""
    optim, count = config.optim, index + 1
    return Moment(
        np.float32(count),
        np.float32(learning_rate(optim, per_epoch, count)),
        np.float32(weight_decay(optim, per_epoch, count)),
        np.float32(1.0 - momentum(optim, per_epoch, count)),
        masks.sizes(config.mask, config.grid, index),
    )


def init(config: Config, key: jax.Array) -> State:
    """Random parameters; the target encoder is a copy of the encoder."""
    model = config.model
    shapes = {f"encoder/{name}": shape for name, shape in networks.encoder_shapes(model).items()}
    shapes |= {f"predictor/{name}": shape for name, shape in networks.predictor_shapes(model).items()}
    online = vit.init(key, shapes)
    zeros = jax.tree.map(jnp.zeros_like, online)
    return State(online, vit.under(online, "encoder"), zeros, jax.tree.map(jnp.copy, zeros))


def loss(online: Params, target: Params, config: Config, images: jax.Array, drawn: Masks) -> tuple[jax.Array, Any]:
    """The prediction loss of normalised images `[B, H, W, 3]`, and the features that were predicted."""
    model, grid = config.model, config.grid
    features = lax.stop_gradient(networks.encode(target, model, grid, images))
    context = networks.encode_contexts(vit.under(online, "encoder"), model, grid, images, drawn)
    predicted = networks.predict(vit.under(online, "predictor"), model, grid, context, drawn)
    return losses.prediction_loss(predicted, losses.targets(features, drawn), drawn), features


def gradients(state: State, config: Config, images: jax.Array, drawn: Masks) -> tuple[Params, dict[str, jax.Array]]:
    """Gradients of the online networks and what is logged, averaged over the parts of the batch."""

    def part(images: jax.Array, drawn: Masks) -> tuple[Params, dict[str, jax.Array]]:
        images = normalise(images)
        (value, features), gradient = jax.value_and_grad(loss, has_aux=True)(
            state.online, state.target, config, images, drawn
        )
        # A collapsing encoder shows here, not in the loss.
        return gradient, {"loss": value, "feature_std": features.std((0, 1)).mean()}

    parts = config.optim.accumulate
    if parts == 1:
        return part(images, drawn)

    def cut(x: jax.Array) -> jax.Array:
        # Neighbouring images go to different parts, so that a part lies on all devices that share the batch.
        return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1) if x.ndim else jnp.broadcast_to(x, parts)

    def add(total: Any, one: Any) -> Any:
        return jax.tree.map(lambda a, b: a + b / parts, total, part(*one)), None

    zeros = jax.tree.map(jnp.zeros_like, (state.online, {"loss": jnp.zeros(()), "feature_std": jnp.zeros(())}))
    return lax.scan(add, zeros, jax.tree.map(cut, (images, drawn)))[0]


def decayed(name: str) -> bool:
    """Whether weight decay holds for a parameter: matrices and the mask token, neither biases nor norms."""
    return name.endswith(("kernel", "mask_token"))


def adamw(state: State, config: OptimConfig, gradient: Params, now: Moment) -> State:
    """AdamW (Loshchilov and Hutter 2019) with decay times the learning rate, then target <- m target + (1 - m) online
    with the updated encoder."""
    mu = jax.tree.map(lambda m, g: config.beta1 * m + (1 - config.beta1) * g, state.mu, gradient)
    nu = jax.tree.map(lambda v, g: config.beta2 * v + (1 - config.beta2) * jnp.square(g), state.nu, gradient)
    of_mu, of_nu = (-jnp.expm1(now.count * math.log(beta)) for beta in (config.beta1, config.beta2))
    online = {}
    for name, p in state.online.items():
        kept = p * (1 - now.lr * now.weight_decay) if decayed(name) else p
        online[name] = kept - now.lr * (mu[name] / of_mu) / (jnp.sqrt(nu[name] / of_nu) + EPS)
    encoder = vit.under(online, "encoder")
    target = {name: slow + now.ema_rate * (encoder[name] - slow) for name, slow in state.target.items()}
    return State(online, target, mu, nu)


def update(
    state: State, config: Config, images: jax.Array, drawn: Masks, now: Moment
) -> tuple[State, dict[str, jax.Array]]:
    """One update on uint8 images `[B, H, W, 3]` with given masks: state, metrics."""
    gradient, metrics = gradients(state, config, images, drawn)
    norm = optax.tree.norm(gradient)
    if config.optim.clip:
        factor = jnp.minimum(1.0, config.optim.clip / jnp.maximum(norm, 1e-30))
        gradient = {name: g * factor for name, g in gradient.items()}
    return adamw(state, config.optim, gradient, now), metrics | {"gradient_norm": norm}
