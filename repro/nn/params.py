"""Flax NNX modules as pure functions of a flat dict of parameters: `"actor/mlp/0/linear/kernel" -> array`."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx

Params = dict[str, Any]


class Definition:
    """What `make(rngs)` builds, without its arrays. `shapes` maps each parameter name to shape and dtype."""

    def __init__(self, make: Callable[[nnx.Rngs], Any]):
        self._make = make
        self._graph, state = nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
        values = {path: variable.get_value() for path, variable in nnx.to_flat_state(state)}
        self._paths = {"/".join(map(str, path)): path for path in values}
        self.shapes = {n: jax.ShapeDtypeStruct(values[p].shape, values[p].dtype) for n, p in self._paths.items()}

    def init(self, key: jax.Array) -> Params:
        """Freshly initialised parameters."""
        flat = nnx.to_flat_state(nnx.split(self._make(nnx.Rngs(params=key)))[1])
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
