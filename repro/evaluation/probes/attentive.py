"""The attentive probe of V-JEPA (Bardes et al. 2024, section 4.3): one learned query reads all patch tokens through a
cross-attention block, a linear map classifies what it read. The encoder is frozen.

    q <- q + attention(q, norm(tokens));  q <- q + mlp(norm(q));  logits = linear(q)

The query is not normed, and there is no projection after the attention (the official code builds one, unused).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from repro.nn import vit
from repro.nn.vit import Compute, Params

EPS = 1e-5
"""Of the norms."""
FLOAT32 = Compute()


@dataclass(frozen=True)
class AttentiveProbe:
    """How it is trained (V-JEPA's image protocol)."""

    learning_rate: float = 1e-3
    """Falls to 0 on a half cosine; no warm-up."""
    weight_decay: float = 1e-3
    """Of matrices and the query, not of norms and biases."""
    batch: int = 1024
    epochs: int = 20
    clip: float = 1.0
    """Limit of the norm of the gradient over all parameters."""


def shapes(width: int, classes: int, mlp_ratio: float = 4.0) -> dict[str, tuple[int, ...]]:
    """Parameters on tokens of `width` channels."""
    hidden = int(width * mlp_ratio)
    linear = {
        "q": (width, width),
        "kv": (width, 2 * width),
        "fc1": (width, hidden),
        "fc2": (hidden, width),
        "head": (width, classes),
    }
    found: dict[str, tuple[int, ...]] = {"query": (width,)}
    for name in ("norm1", "norm2"):
        found |= {f"{name}/scale": (width,), f"{name}/offset": (width,)}
    for name, shape in linear.items():
        found |= {f"{name}/kernel": shape, f"{name}/bias": shape[1:]}
    return found


def init(key: jax.Array, width: int, classes: int) -> Params:
    """Kernels and query normal with standard deviation 0.02; the second map of the MLP over sqrt(2), as the first and
    only block of a pooler; biases 0."""
    params = vit.init(key, shapes(width, classes))
    return params | {"fc2/kernel": params["fc2/kernel"] / math.sqrt(2.0)}


def pool(params: Mapping[str, Any], tokens: jax.Array, heads: int, compute: Compute = FLOAT32) -> jax.Array:
    """Tokens `[B, n, D]` -> what the query has read, `[B, D]`."""
    batch, _, width = tokens.shape
    x = vit.layer_norm(tokens, params["norm1/scale"], params["norm1/offset"], EPS)
    query = params["query"][None]
    q = vit.linear(query, params["q/kernel"], params["q/bias"], compute)
    k, v = jnp.split(vit.linear(x, params["kv/kernel"], params["kv/bias"], compute), 2, -1)
    k, v = (part.reshape(batch, -1, heads, width // heads) for part in (k, v))
    q = jnp.broadcast_to(q.reshape(1, 1, heads, -1), (batch, 1, heads, width // heads))
    read = vit.attend(q, k, v, None).reshape(batch, width)
    pooled = query + read
    inner = vit.layer_norm(pooled, params["norm2/scale"], params["norm2/offset"], EPS)
    return pooled + vit.mlp(params, inner, compute)


def logits(params: Mapping[str, Any], tokens: jax.Array, heads: int, compute: Compute = FLOAT32) -> jax.Array:
    """Tokens `[B, n, D]` -> `[B, C]`."""
    return vit.linear(pool(params, tokens, heads, compute), params["head/kernel"], params["head/bias"], compute)


class AttentiveState(NamedTuple):
    """Parameters and optimiser of a probe in training."""

    params: Params
    optimiser: Any


class Attentive:
    """A probe in training, from any stream of tokens; all functions are pure and to be jitted by the caller."""

    def __init__(self, protocol: AttentiveProbe, width: int, heads: int, classes: int, updates: int):
        self.heads = heads
        self._new = lambda key: init(key, width, classes)
        decays = {name: len(shape) > 1 or name == "query" for name, shape in shapes(width, classes).items()}
        rate = optax.cosine_decay_schedule(protocol.learning_rate, updates)
        self._optimiser = optax.chain(
            optax.clip_by_global_norm(protocol.clip),
            optax.adamw(rate, weight_decay=protocol.weight_decay, mask=decays),
        )

    def init(self, key: jax.Array) -> AttentiveState:
        """A fresh probe."""
        params = self._new(key)
        return AttentiveState(params, self._optimiser.init(params))

    def update(self, state: AttentiveState, tokens: jax.Array, labels: jax.Array) -> tuple[AttentiveState, jax.Array]:
        """One update on tokens `[B, n, D]` and labels `[B]`; also the mean cross-entropy before it."""

        def loss(params: Params) -> jax.Array:
            found = logits(params, tokens, self.heads)
            return optax.softmax_cross_entropy_with_integer_labels(found, labels).mean()

        value, gradient = jax.value_and_grad(loss)(state.params)
        change, optimiser = self._optimiser.update(gradient, state.optimiser, state.params)
        return AttentiveState(optax.apply_updates(state.params, change), optimiser), value  # type: ignore[arg-type]

    def correct(self, state: AttentiveState, tokens: jax.Array, labels: jax.Array) -> jax.Array:
        """How many of `[B, n, D]` are classified rightly; labels of -1 never count."""
        return (logits(state.params, tokens, self.heads).argmax(-1) == labels).sum()
