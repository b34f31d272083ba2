"""What a compiled program does, read from XLA's text: bytes, FLOPs, cycles and collectives, with loops multiplied out.

XLA's own `cost_analysis` counts the body of a loop once, however often it runs.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache

from repro.pipeline.flops import window_pairs

_SIZES = {"pred": 8, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"([a-z]+\d*\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_STILL = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all",
    "partition-id", "replica-id", "iota", "optimization-barrier",
}  # fmt: skip
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")


@dataclass(frozen=True)
class Array:
    """One array of an instruction's result."""

    dims: tuple[int, ...]
    bits: int
    on_chip: bool
    """Kept in the chip's own memory (TPU: VMEM, SMEM), not in HBM."""

    @property
    def bytes(self) -> int:
        """Bytes moved to or from HBM when the whole array is read or written."""
        return 0 if self.on_chip else math.prod(self.dims) * self.bits // 8


@dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    root: bool

    @property
    def called(self) -> list[str]:
        """Names of the computations it calls."""
        found = _CALLED.findall(self.attributes)
        if branches := re.search(r"branch_computations=\{([^}]*)\}", self.attributes):
            found += [name.strip(" %") for name in branches.group(1).split(",")]
        return found

    def attribute(self, pattern: str) -> str | None:
        """First group of `pattern` in the attributes."""
        found = re.search(pattern, self.attributes)
        return found.group(1) if found else None


@dataclass
class Cost:
    """Totals of one run of a program on one device."""

    flops: int = 0
    """Of matrix products and convolutions."""
    bytes: int = 0
    """Moved between HBM and the compute units."""
    cycles: int = 0
    """The compiler's estimates, where it gives them (TPU)."""
    collectives: Counter[str] = field(default_factory=Counter)
    """Bytes of each kind of communication between devices."""
    endless: int = 0
    """Loops of unknown length, counted once."""

    def add(self, other: "Cost", times: int = 1) -> None:
        """Adds `other`, run `times` times."""
        self.flops += times * other.flops
        self.bytes += times * other.bytes
        self.cycles += times * other.cycles
        for name, value in other.collectives.items():
            self.collectives[name] += times * value
        self.endless += other.endless


def cost(text: str) -> Cost:
    """Costs of the compiled module whose text (`compiled.as_text()`) this is."""
    return _Module(text).total()


class _Module:
    def __init__(self, text: str) -> None:
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        current: dict[str, Instruction] = {}
        for line in text.splitlines():
            if header := _HEADER.match(line):
                current = self.computations[header.group(2)] = {}
                if header.group(1):
                    self.entry = header.group(2)
            elif found := _LINE.match(line):
                instruction = _parse(*found.groups())
                current[instruction.name] = instruction
        self.cost_of = cache(self._cost_of)
        self.flops_of = cache(self._flops_of)

    def total(self) -> Cost:
        return self.cost_of(self.entry)

    def _cost_of(self, name: str) -> Cost:
        total = Cost()
        computation = self.computations[name]
        for instruction in computation.values():
            self._add(total, instruction, computation)
        return total

    def _add(self, total: Cost, instruction: Instruction, computation: dict[str, Instruction]) -> None:
        opcode = instruction.opcode
        if opcode == "while":
            trips = self._trips(instruction)
            body = instruction.attribute(r"body=%?([\w.\-]+)")
            assert body is not None
            total.add(self.cost_of(body), trips or 1)
            total.endless += trips is None
        elif opcode == "conditional":
            total.add(max((self.cost_of(name) for name in instruction.called), key=lambda cost: cost.bytes))
        elif opcode in ("call", "async-start"):
            for name in instruction.called:
                total.add(self.cost_of(name))
        else:
            total.bytes += self._bytes(instruction, computation)
            total.cycles += int(instruction.attribute(r'"estimated_cycles":"(\d+)"') or 0)
            total.flops += self._flops(instruction, computation)
            kind = opcode.removesuffix("-start")
            if kind in _COLLECTIVES:
                # The arrays as they are sent: operands for what is reduced, results for what is gathered.
                sizes = [math.prod(a.dims) * a.bits // 8 for a in instruction.arrays]
                total.collectives[kind] += max(sizes) if opcode.endswith("-start") else sum(sizes)

    def _trips(self, loop: Instruction) -> int | None:
        if known := loop.attribute(r'"known_trip_count":\{"n":"(\d+)"\}'):
            return int(known)
        condition = loop.attribute(r"condition=%?([\w.\-]+)")
        assert condition is not None
        names, limits = [condition], []
        while names:
            for instruction in self.computations[names.pop()].values():
                names += instruction.called
                if instruction.opcode == "constant" and (value := re.match(r"\((\d+)\)", instruction.attributes)):
                    limits.append(int(value.group(1)))
        # `scan` counts from 0 up to the one constant of the condition.
        return limits[0] if len(limits) == 1 else None

    # ---- bytes -----------------------------------------------------------------------------------------------------

    def _bytes(self, instruction: Instruction, computation: dict[str, Instruction]) -> int:
        opcode = instruction.opcode
        if opcode in _STILL or opcode.endswith("-done"):
            return 0
        if opcode.endswith("-start"):  # the result names source and destination
            return sum(array.bytes for array in instruction.arrays)
        operands = [computation[name] for name in instruction.operands if name in computation]
        if opcode == "fusion":
            return self._fusion_bytes(instruction, operands)
        return _moved(instruction, operands)

    def _fusion_bytes(self, fusion: Instruction, operands: list[Instruction]) -> int:
        inner = self.computations[fusion.called[0]]
        users: dict[str, list[Instruction]] = {name: [] for name in inner}
        for instruction in inner.values():
            for name in instruction.operands:
                users[name].append(instruction)
        total = 0
        for name, parameter in inner.items():
            if parameter.opcode == "parameter":
                number = int(re.match(r"\((\d+)\)", parameter.attributes).group(1))  # type: ignore[union-attr]
                whole = sum(array.bytes for array in operands[number].arrays) if number < len(operands) else 0
                total += min(whole, self._read(name, inner, users)) if whole else 0
        root = next(i for i in inner.values() if i.root)
        outputs = [inner[n] for n in root.operands] if root.opcode == "tuple" else [root]
        for output, array in zip(outputs, fusion.arrays, strict=False):
            update = _update_of(output, inner)
            total += min(array.bytes, update) if update is not None else array.bytes
        return total

    def _read(self, name: str, inner: dict[str, Instruction], users: dict[str, list[Instruction]]) -> int:
        """Bytes that a fused computation reads of its value `name`: parts, where it only cuts parts out of it."""
        total = 0
        for user in users[name]:
            first = bool(user.operands) and user.operands[0] == name
            if user.opcode in ("bitcast", "reshape", "copy") and len(users[name]) == 1:
                total += self._read(user.name, inner, users)
            elif user.opcode in ("dynamic-slice", "gather", "slice") and first:
                total += _whole(user)
            elif user.opcode in ("dynamic-update-slice", "scatter") and first:
                total += 0  # written in place
            else:
                return _whole(inner[name])
        return total

    # ---- FLOPs -----------------------------------------------------------------------------------------------------

    def _flops_of(self, name: str) -> int:
        computation = self.computations[name]
        return sum(self._flops(instruction, computation) for instruction in computation.values())

    def _flops(self, instruction: Instruction, computation: dict[str, Instruction]) -> int:
        if instruction.opcode == "fusion":
            return self.flops_of(instruction.called[0])
        operands = [computation[name] for name in instruction.operands if name in computation]
        if instruction.opcode == "dot":
            axes = instruction.attribute(r"lhs_contracting_dims=\{([\d,]*)\}") or ""
            left = operands[0].arrays[0].dims
            contracted = math.prod(left[int(axis)] for axis in axes.split(",") if axis)
            return 2 * math.prod(instruction.arrays[0].dims) * contracted
        if instruction.opcode == "convolution":
            return _convolution(instruction, *(o.arrays[0].dims for o in operands[:2]))
        return 0


def _parse(root: str | None, name: str, rest: str) -> Instruction:
    if rest.startswith("("):
        end = _closing(rest, 0) + 1
    else:
        end = rest.index(" ")
    arrays = []
    for kind, dims, layout in _ARRAY.findall(rest[:end]):
        number = re.search(r"\d+", kind)
        bits = _SIZES.get(kind, int(number.group()) if number else 0)
        space = re.search(r"S\((\d+)\)", layout)
        shape = tuple(int(d) for d in dims.split(",") if d)
        arrays.append(Array(shape, bits, space is not None and space.group(1) != "0"))
    opcode, _, tail = rest[end:].strip().partition("(")
    close = _closing("(" + tail, 0)
    inside, attributes = tail[: close - 1], tail[close:]
    operands = tuple(re.findall(r"%([\w.\-]+)", inside))
    if opcode in ("parameter", "constant"):
        attributes = f"({inside}){attributes}"
    return Instruction(name, opcode, tuple(arrays), operands, attributes, root is not None)


def _closing(text: str, start: int) -> int:
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    raise ValueError(f"unbalanced: {text[:80]}")


def _whole(instruction: Instruction) -> int:
    return sum(math.prod(a.dims) * a.bits // 8 for a in instruction.arrays)


def _update_of(output: Instruction, inner: dict[str, Instruction]) -> int | None:
    """Bytes that an in-place update writes; None for other instructions."""
    while output.opcode in ("bitcast", "copy", "reshape") and output.operands:
        output = inner[output.operands[0]]
    if output.opcode == "dynamic-update-slice":
        return _whole(inner[output.operands[1]])
    if output.opcode == "scatter":
        return _whole(inner[output.operands[-1]])
    return None


def _moved(instruction: Instruction, operands: list[Instruction]) -> int:
    read = [sum(array.bytes for array in operand.arrays) for operand in operands]
    written = sum(array.bytes for array in instruction.arrays)
    opcode = instruction.opcode
    if opcode in ("dynamic-slice", "gather", "slice"):
        return min(read[0], _whole(instruction)) + sum(read[1:]) + written
    if opcode == "dynamic-update-slice":
        return min(written, _whole(operands[1])) + sum(read[1:])
    if opcode == "scatter":
        return min(written, _whole(operands[-1])) + sum(read[1:])
    return sum(read) + written


def _convolution(instruction: Instruction, left: tuple[int, ...], right: tuple[int, ...]) -> int:
    labels = instruction.attribute(r"dim_labels=([\w]+_[\w]+->[\w]+)")
    assert labels is not None
    (lhs, rhs), out = labels.split("->")[0].split("_"), labels.split("->")[1]
    dims = instruction.arrays[0].dims
    window = instruction.attribute(r"window=\{([^}]*)\}") or ""
    settings = dict(part.split("=") for part in window.split())
    spatial = [c for c in lhs if c.isdigit()]

    def numbers(key: str, default: str) -> list[str]:
        return settings[key].split("x") if key in settings else [default] * len(spatial)

    total = 2 * dims[out.index("b")] * dims[out.index("f")] * right[rhs.index("i")]
    stride, dilation, spread = (numbers(k, "1") for k in ("stride", "lhs_dilate", "rhs_dilate"))
    for i, axis in enumerate(sorted(spatial)):
        low = int(numbers("pad", "0_0")[i].split("_")[0])
        size, taps, positions = left[lhs.index(axis)], right[rhs.index(axis)], dims[out.index(axis)]
        total *= window_pairs(size, taps, positions, int(stride[i]), low, int(dilation[i]), int(spread[i]))
    return total
