"""Floating-point operations of a program, counted in its jaxpr: exact, the same for every compiler, loops included."""

import math
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal


def count(program: ClosedJaxpr, platform: str = "cpu") -> int:
    """FLOPs of the matrix products and convolutions of `program` (from `jax.make_jaxpr`), 2 a multiply-add.

    A `scan` counts its body as often as it runs it, a `while` with unknown end once, a `cond` its dearest branch. Where
    a program does different things on different platforms, that of `platform` ("cpu", "tpu", "cuda") counts.
    Element-wise operations are left out, as in the counts that papers print.
    """
    return _count(program.jaxpr, platform)


def _count(jaxpr: Jaxpr, platform: str) -> int:
    total = 0
    chosen: dict[Any, int] = {}  # variable -> branch of the platform
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            total += _dot(equation)
        elif name == "conv_general_dilated":
            total += _convolution(equation)
        elif name == "platform_index":
            chosen[equation.outvars[0]] = _branch(params["platforms"], platform)
        elif name == "cond":
            branches, index = params["branches"], equation.invars[0]
            if not isinstance(index, Literal) and index in chosen:
                branches = [branches[chosen[index]]]
            total += max(_count(branch.jaxpr, platform) for branch in branches)
        elif name == "scan":
            total += params["length"] * _count(params["jaxpr"].jaxpr, platform)
        else:
            # A body of `shard_map` is the program of one device of many.
            copies = params["mesh"].size if name == "shard_map" else 1
            total += copies * sum(_count(inner, platform) for inner in _inner(params))
    return total


def _inner(params: dict[str, Any]) -> Iterator[Jaxpr]:
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else [value]:
            if isinstance(item, ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, Jaxpr):
                yield item


def _branch(platforms: tuple[tuple[str, ...] | None, ...], platform: str) -> int:
    for i, names in enumerate(platforms):
        if names is None or platform in names or (platform == "cuda" and "gpu" in names):
            return i
    raise ValueError(f"the program has no branch for {platform}")


def _dot(equation: Any) -> int:
    (left, _), _ = equation.params["dimension_numbers"]
    contracted = math.prod(equation.invars[0].aval.shape[axis] for axis in left)
    return 2 * math.prod(equation.outvars[0].aval.shape) * contracted


def _convolution(equation: Any) -> int:
    params = equation.params
    left, right = (v.aval.shape for v in equation.invars)
    out = equation.outvars[0].aval.shape
    numbers = params["dimension_numbers"]
    per_position = 2 * out[numbers.out_spec[0]] * out[numbers.out_spec[1]] * right[numbers.rhs_spec[1]]
    axes = zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True)
    for (i, k, o), stride, padding, dilation, spread in zip(
        axes,
        params["window_strides"],
        params["padding"],
        params["lhs_dilation"],
        params["rhs_dilation"],
        strict=True,
    ):
        per_position *= window_pairs(left[i], right[k], out[o], stride, padding[0], dilation, spread)
    return per_position


def window_pairs(size: int, kernel: int, out: int, stride: int, low: int, dilation: int, spread: int) -> int:
    """Pairs of output position and kernel tap that meet an input element, along one axis.

    Taps that fall on padding or between dilated elements are multiplications by zero, which no good convolution does.
    """
    reach = (size - 1) * dilation
    positions = (o * stride - low + k * spread for o in range(out) for k in range(kernel))
    return sum(0 <= p <= reach and p % dilation == 0 for p in positions)


def of(f: Any, *arguments: Any, platform: str = "cpu") -> int:
    """FLOPs of `f(*arguments)`; arguments may be `ShapeDtypeStruct`s."""
    return count(jax.make_jaxpr(f)(*arguments), platform)
