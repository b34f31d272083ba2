"""Flax NNX modules as pure functions of a flat dict of parameters: `"actor/mlp/0/linear/kernel" -> array`."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

Params = dict[str, Any]


class Draw:
    """Source of initial weights: consecutive pieces of one vector, so that a network of many tensors draws once."""

    def __init__(self, values: jax.Array | None = None):
        self._values = values
        self.used = 0

    def __call__(self, shape: Sequence[int], fan_in: int, scale: float = 1.0) -> jax.Array:
        """Weights of a normal distribution truncated at two standard deviations, with standard deviation
        `scale / sqrt(fan_in)`. Without values: zeros."""
        start, self.used = self.used, self.used + math.prod(shape)
        if self._values is None:
            return jnp.zeros(shape)
        # 1.1368 undoes what the truncation takes from the standard deviation.
        return self._values[start : self.used].reshape(shape) * (1.1368 * scale / math.sqrt(fan_in))


class Definition:
    """What `make(draw)` builds, without its arrays. `shapes` maps each parameter name to shape and dtype."""

    def __init__(self, make: Callable[[Draw], Any]):
        self._make = make
        draw = Draw()
        self._graph, state = nnx.split(nnx.eval_shape(lambda: make(draw)))
        self._drawn = draw.used
        values = {path: variable.get_value() for path, variable in nnx.to_flat_state(state)}
        self._paths = {"/".join(map(str, path)): path for path in values}
        self.shapes = {n: jax.ShapeDtypeStruct(values[p].shape, values[p].dtype) for n, p in self._paths.items()}

    def init(self, key: jax.Array) -> Params:
        """Freshly initialised parameters."""
        values = jax.random.truncated_normal(key, -2.0, 2.0, (self._drawn,))
        flat = nnx.to_flat_state(nnx.split(self._make(Draw(values)))[1])
        return {"/".join(map(str, path)): variable.get_value() for path, variable in flat}

    def bind(self, params: Mapping[str, Any]) -> Any:
        """The module that computes with `params`; names that are not its own are ignored."""
        nested: dict[Any, Any] = {}
        for name, path in self._paths.items():
            inner = nested
            for part in path[:-1]:
                inner = inner.setdefault(part, {})
            inner[path[-1]] = params[name]
        return nnx.merge(self._graph, nested)

    def count(self) -> int:
        """Number of scalar parameters."""
        return sum(s.size for s in self.shapes.values())


def cast(params: Mapping[str, Any], dtype: Any) -> Params:
    """Parameters in the compute dtype, except those of norms (`.../scale`), which compute in float32."""
    return {n: p if n.endswith("/scale") else p.astype(dtype) for n, p in params.items()}
