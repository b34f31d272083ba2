"""Fine-tuning of a vision transformer on few labels: all weights move, early layers least."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Params = dict[str, jax.Array]


@dataclass(frozen=True)
class FineTune:
    """AdamW whose learning rate falls to 0 on a half cosine (I-JEPA, table 2 and appendix A.2: 1 % of ImageNet)."""

    learning_rate: float
    """Of the head and the final norm."""
    weight_decay: float
    """Of matrices, not of biases and norms; times the learning rate."""
    batch: int = 512
    epochs: int = 50
    warmup_epochs: float = 0.0
    """On a line from 0."""
    layer_decay: float = 0.75
    """Learning rate of a layer over that of the next one."""
    smoothing: float = 0.1
    """Share of a label that is spread over all classes."""


class TuneState(NamedTuple):
    """Encoder, `head/kernel` and `head/bias` together; optimiser."""

    params: Params
    optimiser: Any


def layer_scales(params: Mapping[str, jax.Array], decay: float) -> Params:
    """Factor of the learning rate of every parameter of an encoder of `repro.nn.vit`: decay^(L + 1) for the patches,
    decay^(L - l) for block l = 0 ... L - 1 (stacked on the first axis), 1 for what follows (Clark et al. 2020)."""
    depth = next(len(p) for name, p in params.items() if name.startswith("blocks/"))
    found = {}
    for name, p in params.items():
        if name.startswith("blocks/"):
            found[name] = decay ** (depth - jnp.arange(depth, dtype=jnp.float32)).reshape(-1, *[1] * (p.ndim - 1))
        else:
            found[name] = jnp.float32(decay ** (depth + 1) if name.startswith("patch/") else 1.0)
    return found


class FineTuning:
    """A fine-tuning run; all functions are pure and to be jitted by the caller.

    `encode(params, images)` gives features `[B, F]` of images in whatever form the encoder takes them.
    """

    def __init__(
        self,
        protocol: FineTune,
        encode: Callable[[Params, jax.Array], jax.Array],
        encoder: Mapping[str, jax.Array],
        features: int,
        classes: int,
        updates_per_epoch: int,
    ):
        self.protocol, self.encode, self.features, self.classes = protocol, encode, features, classes
        self.updates = protocol.epochs * updates_per_epoch
        warmup = int(protocol.warmup_epochs * updates_per_epoch)
        rate = optax.warmup_cosine_decay_schedule(
            0.0 if warmup else protocol.learning_rate, protocol.learning_rate, warmup, self.updates
        )
        scales = layer_scales(encoder, protocol.layer_decay) | {"head/kernel": 1.0, "head/bias": 1.0}
        decayed = {name: name.endswith("/kernel") for name in scales}
        self._optimiser = optax.chain(
            optax.scale_by_adam(),
            optax.add_decayed_weights(protocol.weight_decay, decayed),
            optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, scales)),
            optax.scale_by_learning_rate(rate),
        )

    def init(self, key: jax.Array, encoder: Mapping[str, jax.Array]) -> TuneState:
        """The pre-trained encoder with a fresh head (normal weights with standard deviation 0.01)."""
        kernel = 0.01 * jax.random.normal(key, (self.features, self.classes))
        copied = {name: jnp.array(p) for name, p in encoder.items()}  # the caller may give the state away
        params = {**copied, "head/kernel": kernel, "head/bias": jnp.zeros(self.classes)}
        return TuneState(params, self._optimiser.init(params))

    def logits(self, params: Params, images: jax.Array) -> jax.Array:
        """`[B, C]`."""
        return self.encode(params, images) @ params["head/kernel"] + params["head/bias"]

    def update(self, state: TuneState, images: jax.Array, labels: jax.Array) -> tuple[TuneState, jax.Array]:
        """One update; also the loss (cross-entropy with smoothed labels) before it."""
        targets = optax.smooth_labels(jax.nn.one_hot(labels, self.classes), self.protocol.smoothing)

        def loss(params: Params) -> jax.Array:
            return optax.softmax_cross_entropy(self.logits(params, images), targets).mean()

        value, gradient = jax.value_and_grad(loss)(state.params)
        change, optimiser = self._optimiser.update(gradient, state.optimiser, state.params)
        return TuneState(optax.apply_updates(state.params, change), optimiser), value  # type: ignore[arg-type]

    def correct(self, state: TuneState, images: jax.Array, labels: jax.Array) -> jax.Array:
        """How many are classified rightly; labels of -1 never count."""
        return (self.logits(state.params, images).argmax(-1) == labels).sum()
