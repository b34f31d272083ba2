"""Contexts and targets: which patches the context encoder sees and which the predictor is asked for.

The official collator's rules (`masks/multiblock.py`, `masks/random.py`) with fixed shapes, so that they run inside the
compiled step: lists of patches are padded, counts say how many entries are real. B images, T targets and E contexts of
an image, N patches.
"""

import collections
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from papers.ijepa.config import MaskConfig, block_size, block_sizes

Draw = Callable[[int, jax.Array], jax.Array]
"""`draw(block, attempt)`: top and left of a block of every image, int32 `[B, 2]`; targets come before contexts."""

ATTEMPTS = 20
"""Failed draws of a context after which one more target may overlap it."""


BRANCHES, MORE_BRANCHES, SAMPLES = 6, 12, 64
"""Programs of different padded lengths in one step, those of a long run that compiles each when it is first needed,
and batches by which the lengths are chosen."""


class Masks(NamedTuple):
    """Patch numbers, row-major and ascending (random: in the order drawn), padded with 0."""

    context: jax.Array
    """int32 `[B, E, C]`."""
    context_count: jax.Array
    """int32 `[B]`: real entries, equal for all contexts of an image and within a group."""
    target: jax.Array
    """int32 `[B, T, K]`."""
    target_count: jax.Array
    """int32 `[]`: real entries, equal for the whole batch."""


class Bounds(NamedTuple):
    """Lengths of the padded lists."""

    context: int
    target: int

    def holds(self, context: Any, target: Any) -> Any:
        """Whether lists of these lengths (numbers or arrays) fit."""
        return (context <= self.context) & (target <= self.target)


def bounds(config: MaskConfig, grid: tuple[int, int]) -> Bounds:
    """The most patches that a context and a target can have."""
    cells = grid[0] * grid[1]
    if config.strategy == "raster":
        return Bounds(cells // 4, cells // 4)
    low, high = config.target_scale
    if config.strategy == "random":
        return Bounds(int(cells * (1 - low)), cells - int(cells * (1 - high)))
    targets = [h * w for h, w in block_sizes(config.target_scale, config.target_aspect, grid)]
    if config.strategy == "block":
        return Bounds(cells - min(targets), max(targets))
    context = max(h * w for h, w in block_sizes(config.context_scale, (1.0, 1.0), grid))
    return Bounds(context, max(targets))


def cap(config: MaskConfig, grid: tuple[int, int]) -> int:
    """Patches that a context is cut to."""
    longest = bounds(config, grid).context
    if config.strategy in ("random", "raster") or not config.widths:
        return longest
    return min(config.widths[-1], longest)


def branches(
    config: MaskConfig, grid: tuple[int, int], batch: int, cost: Callable[[Bounds], float], count: int
) -> tuple[Bounds, ...]:
    """Padded lengths that the compiled step has at most `count` branches for, cheapest first; all masks fit into the
    last.

    Padding is work for nothing, and most batches are far below the longest lists there can be. Contexts have
    `config.widths`; where none are given, those lengths are taken one by one that save most of the cost (of the padded
    lengths, any unit) of a few batches of `batch` images.
    """
    longest = Bounds(cap(config, grid), bounds(config, grid).target)
    if config.strategy in ("random", "raster"):
        return (longest,)
    if config.widths:
        return tuple(
            Bounds(width, longest.target) for width in sorted({min(w, longest.context) for w in config.widths})
        )
    needed, chosen = _needed(config, grid, batch), [longest]
    able = [Bounds(c, t) for c in {n.context for n in needed} for t in {n.target for n in needed}]

    def total(of: list[Bounds]) -> float:
        return sum(min(cost(b) for b in of if b.holds(*n)) for n in needed)

    for _ in range(count - 1):
        best = min(sorted(able), key=lambda extra: total([*chosen, extra]))
        if total([*chosen, best]) == total(chosen):
            break
        chosen.append(best)
    return tuple(sorted(chosen, key=cost))


def usual(among: tuple[Bounds, ...], config: MaskConfig, grid: tuple[int, int], batch: int) -> Bounds:
    """The one of `branches` that most batches take."""
    if len(among) == 1:
        return among[0]
    taken = (next(b for b in among if b.holds(*need)) for need in _needed(config, grid, batch))
    return collections.Counter(taken).most_common(1)[0][0]


@functools.lru_cache
def _needed(config: MaskConfig, grid: tuple[int, int], batch: int) -> tuple[Bounds, ...]:
    """What the first batches of some run need."""
    one = jax.jit(lambda key, size: draw(config, grid, key, size, batch)[1::2])
    found = [one(jax.random.key(index), sizes(config, grid, index)) for index in range(SAMPLES)]
    return tuple(Bounds(int(context.max()), int(target)) for context, target in found)


def uniforms(index: int) -> tuple[float, float]:
    """The official uniform numbers of a batch, for its targets and its contexts: those of a Mersenne twister seeded
    with the batch's number. So block sizes follow the same sequence in every run, theirs and ours."""
    first, second = np.random.RandomState(index).randint(0, 2**32, 2, np.uint32)
    return (int(first) & 0xFFFFFF) / 2**24, (int(second) & 0xFFFFFF) / 2**24


def sizes(config: MaskConfig, grid: tuple[int, int], index: int) -> np.ndarray:
    """Rows and columns of the targets and of the contexts of batch `index`: int32 `[2, 2]`."""
    of_targets, of_contexts = uniforms(index)
    return np.array(
        [
            block_size(of_targets, config.target_scale, config.target_aspect, grid),
            block_size(of_contexts, config.context_scale, (1.0, 1.0), grid),
        ],
        np.int32,
    )


def draw(config: MaskConfig, grid: tuple[int, int], key: jax.Array, size: Any, batch: int) -> Masks:
    """The masks of a batch; `size` int32 `[2, 2]` from `sizes`."""
    if config.strategy == "raster":
        return _raster(grid, key, batch)
    if config.strategy == "random":
        return _random(config, grid, key, batch)

    def positions(block: int, attempt: jax.Array) -> jax.Array:
        of_block = size[0] if block < config.targets else size[1]
        ends = jnp.maximum(jnp.asarray(grid) - of_block, 1)  # the last row and column are never reached (official)
        drawn = jax.random.fold_in(jax.random.fold_in(key, block), attempt)
        return jax.random.randint(drawn, (batch, 2), 0, ends)

    if config.strategy == "block":
        return _block(config, grid, size, positions)
    return multiblock(config, grid, size, positions)


def multiblock(config: MaskConfig, grid: tuple[int, int], size: jax.Array, positions: Draw) -> Masks:
    """Targets anywhere; contexts without the targets, drawn again until they hold more than `min_keep` patches, after
    every 20 failures with one target less to stay clear of; then cut to the shortest of their group."""
    first = jnp.int32(0)
    corners = jnp.stack([positions(block, first) for block in range(config.targets)], 1)
    blocks = rectangles(corners, size[0], grid)
    contexts = jnp.stack([_context(config, grid, size, positions, blocks, e) for e in range(config.contexts)], 1)
    bound = bounds(config, grid)
    context, count = truncated(contexts, config.group, cap(config, grid))
    return Masks(context, count, rectangle_patches(corners, size[0], grid, bound.target), size[0, 0] * size[0, 1])


def _context(
    config: MaskConfig, grid: tuple[int, int], size: jax.Array, positions: Draw, blocks: jax.Array, number: int
) -> jax.Array:
    """Accepted draws of one context of every image: bool `[B, N]`."""

    def attempt(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        tried, found, accepted = state
        rectangle = rectangles(positions(config.targets + number, tried), size[1], grid)
        relaxed = jnp.int32(config.targets) if config.allow_overlap else tried // ATTEMPTS
        candidate = rectangle & outside(blocks, relaxed)
        found = jnp.where(accepted[:, None], found, candidate)
        return tried + 1, found, accepted | (candidate.sum(-1) > config.min_keep)

    nothing = jnp.zeros((len(blocks), grid[0] * grid[1]), bool)
    start = (jnp.int32(0), nothing, nothing[:, 0])
    return lax.while_loop(lambda state: ~state[2].all(), attempt, start)[1]


def rectangles(corners: jax.Array, size: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """Blocks as sets of patches: corners int `[..., 2]` (top, left), size `[2]` -> bool `[..., N]`."""
    row, column = jnp.arange(grid[0]), jnp.arange(grid[1])
    top, left = corners[..., :1], corners[..., 1:]
    rows = (row >= top) & (row < top + size[0])
    columns = (column >= left) & (column < left + size[1])
    inside = rows[..., :, None] & columns[..., None, :]
    return inside.reshape(*corners.shape[:-1], -1)


def outside(blocks: jax.Array, relaxed: jax.Array) -> jax.Array:
    """Patches outside of all blocks but the last `relaxed` ones: `[..., T, N]` -> `[..., N]`."""
    kept = jnp.arange(blocks.shape[-2]) < blocks.shape[-2] - relaxed
    return ~(blocks & kept[:, None]).any(-2)


def rectangle_patches(corners: jax.Array, size: jax.Array, grid: tuple[int, int], length: int) -> jax.Array:
    """Patch numbers of blocks, row-major, padded with 0 to `length`: `[..., 2]` -> int32 `[..., length]`."""
    place = jnp.arange(length)
    row, column = place // size[1], place % size[1]
    numbers = (corners[..., :1] + row) * grid[1] + corners[..., 1:] + column
    return jnp.where(place < size[0] * size[1], numbers, 0).astype(jnp.int32)


def truncated(chosen: jax.Array, group: int, length: int) -> tuple[jax.Array, jax.Array]:
    """Lists of the first patches of each set, as many as the smallest set of its group holds, `length` at most.

    chosen bool `[B, E, N]` -> int32 `[B, E, length]`, counts int32 `[B]`. A group is `group` consecutive images (all of
    a smaller batch).
    """
    batch, cells = len(chosen), chosen.shape[-1]
    counts = chosen.sum(-1).min(-1).reshape(-1, min(group, batch))
    count = jnp.minimum(jnp.repeat(counts.min(-1), counts.shape[1], total_repeat_length=batch), length)
    ordered = jnp.sort(jnp.where(chosen, jnp.arange(cells), cells), -1)[..., :length]
    kept = jnp.arange(length) < count[:, None, None]
    return jnp.where(kept, ordered, 0).astype(jnp.int32), count.astype(jnp.int32)


def _block(config: MaskConfig, grid: tuple[int, int], size: jax.Array, positions: Draw) -> Masks:
    """One target block; the context is all the rest."""
    corners = positions(0, jnp.int32(0))[:, None]
    context, count = truncated(~rectangles(corners, size[0], grid), config.group, cap(config, grid))
    length = bounds(config, grid).target
    return Masks(context, count, rectangle_patches(corners, size[0], grid, length), size[0, 0] * size[0, 1])


def _random(config: MaskConfig, grid: tuple[int, int], key: jax.Array, batch: int) -> Masks:
    """A share of the patches, one for the whole batch, in random order; the context is the rest."""
    low, high = config.target_scale
    of_ratio, of_order = jax.random.split(key)
    ratio = low + (high - low) * jax.random.uniform(of_ratio)
    cells = grid[0] * grid[1]
    order = jax.random.permutation(of_order, jnp.tile(jnp.arange(cells), (batch, 1)), axis=-1, independent=True)
    keep = (cells * (1 - ratio)).astype(jnp.int32) if low < high else jnp.int32(int(cells * (1 - low)))
    return split(order, keep, bounds(config, grid))


def split(order: jax.Array, keep: jax.Array, bound: Bounds) -> Masks:
    """Context and target from an order of all patches `[B, N]`: the first `keep` and the others."""
    cells = order.shape[-1]
    context = jnp.where(jnp.arange(bound.context) < keep, order[:, : bound.context], 0)
    place = keep + jnp.arange(bound.target)
    target = jnp.where(place < cells, jnp.take(order, jnp.minimum(place, cells - 1), axis=-1), 0)
    count = jnp.full(len(order), keep, jnp.int32)
    return Masks(context[:, None].astype(jnp.int32), count, target[:, None].astype(jnp.int32), cells - keep)


def _raster(grid: tuple[int, int], key: jax.Array, batch: int) -> Masks:
    """One quadrant is the context, the others are the targets."""
    cells = np.arange(grid[0] * grid[1], dtype=np.int32).reshape(2, grid[0] // 2, 2, grid[1] // 2)
    quadrants = jnp.asarray(cells.swapaxes(1, 2).reshape(4, -1))
    order = jax.random.permutation(key, jnp.tile(jnp.arange(4), (batch, 1)), axis=-1, independent=True)
    lists = quadrants[order]
    length = quadrants.shape[1]
    return Masks(lists[:, :1], jnp.full(batch, length, jnp.int32), lists[:, 1:], jnp.int32(length))
