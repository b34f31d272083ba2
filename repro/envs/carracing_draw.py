"""CarRacing's picture, compiled: pixel for pixel what gymnasium draws with pygame at window size and then shrinks.

The window is never painted in full. Each of its rows is 96 cells, those that pygame's `smoothscale` will average into
one column of the image. A cell of one colour is one number; only where an edge passes is it opened into pixels. Shapes
are drawn with the integer arithmetic of pygame's `gfxdraw` (road, grass) and `draw` (car, indicators), and cells are
averaged with that of `smoothscale`, whose result has 8 bits after each of its two passes.

Rows count upwards from the bottom of the picture, as while gymnasium draws; it flips the picture afterwards.
"""

from typing import Any, NamedTuple

import numba
import numpy as np

SIDE = 96
"""Rows and columns of the image."""

OPEN = -1
"""A cell whose pixels differ; colours are 0xRRGGBB."""

compiled: Any = numba.njit(nogil=True, cache=True)


class Canvas(NamedTuple):
    """The picture, rows `lowest ... H-1`, and how `smoothscale` divides it."""

    cells: Any
    """int32 `[H, 96]`: a colour, or OPEN."""
    pixels: Any
    """int32 `[H, W]`: colours, valid in open cells."""
    owner: Any
    """int32 `[W]`: cell of a column of pixels."""
    starts: Any
    """int32 `[97]`: first pixel of every cell, and W."""
    columns: Any
    """`shares(W)`."""
    rows: Any
    """`shares(H)`."""
    recips: Any
    """int64 `[2]`: factors of the two passes."""
    lowest: int
    """First row that reaches the image."""


def shares(length: int) -> tuple[np.ndarray, int]:
    """How `smoothscale` shrinks `length` pixels to 96, in its SSE arithmetic with 14 binary places.

    Returns int64 `[96, 3]`: the last pixel of every output, its weight there, and its weight in the next output; and
    the factor that divides the sum of an output.
    """
    space = 0x4000 * length // SIDE
    ends = np.arange(1, SIDE + 1, dtype=np.int64) * space
    last = (ends + 0x3FFF) // 0x4000 - 1
    weight = ends - last * 0x4000
    return np.stack([last, weight, 0x4000 - weight], 1), 0x40000000 // space


def canvas(width: int, height: int, rows: int) -> Canvas:
    """An empty picture of which the upper `rows` of the image are wanted."""
    across, recip_across = shares(width)
    down, recip_down = shares(height)
    owner = np.minimum(np.searchsorted(across[:, 0], np.arange(width)), SIDE - 1).astype(np.int32)
    cells, pixels = np.zeros((height, SIDE), np.int32), np.zeros((height, width), np.int32)
    lowest = height - 1 - int(down[rows - 1, 0]) if rows < SIDE else 0
    starts = np.append(0, across[:, 0] + 1).astype(np.int32)
    return Canvas(cells, pixels, owner, starts, across, down, np.array([recip_across, recip_down]), lowest)


@compiled
def draw(
    picture: Canvas,
    rows: int,
    camera: np.ndarray,
    margin: float,
    ground: np.ndarray,
    colours: np.ndarray,
    bodies: np.ndarray,
    fixtures: np.ndarray,
    lengths: np.ndarray,
    whites: np.ndarray,
    bar: np.ndarray,
    bar_colours: np.ndarray,
    text: np.ndarray,
    text_corner: np.ndarray,
) -> np.ndarray:
    """uint8 `[rows, 96, 3]`.

    camera: float64 cosine, sine, zoom, translation x and y. ground: float64 `[P, 4, 2]` the field, grass and road with
    float64 colours `[P, 3]`; those beyond the window by more than `margin` are not drawn. bodies: float32 `[5, 4]`
    position, sine and cosine of four wheels and the hull. fixtures: float32 `[5, 4, 8, 2]` their shapes with `lengths`
    `[5, 4]`. whites: float64 `[4, 4, 2]` the white part of each wheel, NaN where it is hidden. Then, where all rows are
    wanted, bar: float64 `[B, 4, 2]` with `bar_colours` `[B]`, and text: int32 `[h, w]` at `text_corner` (x, y), both in
    rows from the top.
    """
    height, width = picture.pixels.shape
    picture.cells[picture.lowest :] = 0
    xs, ys = np.empty(8, np.int64), np.empty(8, np.int64)
    filled = np.empty((height + 2, 2), np.int32)
    for p in range(len(ground)):
        near, low_x, high_x, low_y, high_y = False, width, -1, height, -1
        for k in range(4):
            x = (camera[0] * ground[p, k, 0] - camera[1] * ground[p, k, 1]) * camera[2] + camera[3]
            y = (camera[1] * ground[p, k, 0] + camera[0] * ground[p, k, 1]) * camera[2] + camera[4]
            near |= -margin <= x <= width + margin and -margin <= y <= height + margin
            xs[k], ys[k] = int(x), int(y)
            low_x, high_x = min(low_x, xs[k]), max(high_x, xs[k])
            low_y, high_y = min(low_y, ys[k]), max(high_y, ys[k])
        touches = high_x >= 0 and low_x < width and high_y >= picture.lowest and low_y < height
        if touches and (near or p == 0):
            colour = (int(colours[p, 0]) << 16) | (int(colours[p, 1]) << 8) | int(colours[p, 2])
            _fill_gfx(picture, xs, ys, 4, colour, filled)
            for k in range(4):
                _smooth_line(picture, xs[k], ys[k], xs[(k + 1) % 4], ys[(k + 1) % 4], colour, filled)
    shape = np.empty((8, 2), np.float32)
    for body in range(5):
        for f in range(4):
            if lengths[body, f]:
                _place(bodies[body], fixtures[body, f], lengths[body, f], camera, xs, ys)
                _fill(picture, xs, ys, lengths[body, f], 0xCC0000 if body == 4 else 0, False)
        if body < 4 and not np.isnan(whites[body, 0, 0]):
            for k in range(4):
                shape[k, 0], shape[k, 1] = np.float32(whites[body, k, 0]), np.float32(whites[body, k, 1])
            _place(bodies[body], shape, 4, camera, xs, ys)
            _fill(picture, xs, ys, 4, 0x4D4D4D, False)
    if picture.lowest == 0:
        for p in range(len(bar)):
            for k in range(4):
                xs[k], ys[k] = int(bar[p, k, 0]), int(bar[p, k, 1])
            _fill(picture, xs, ys, 4, bar_colours[p], True)
        for i in range(text.shape[0]):
            for j in range(text.shape[1]):
                x = text_corner[0] + j
                if 0 <= x < width:
                    _blend(picture, height - 1 - text_corner[1] - i, x, text[i, j], 255)
    return _shrink(picture, rows)


@compiled
def _place(body: np.ndarray, shape: np.ndarray, n: int, camera: np.ndarray, xs: np.ndarray, ys: np.ndarray) -> None:
    """Corners of a body's shape: to the world in Box2D's float32, then to the window."""
    for k in range(n):
        x = np.float64(body[3] * shape[k, 0] - body[2] * shape[k, 1] + body[0])
        y = np.float64(body[2] * shape[k, 0] + body[3] * shape[k, 1] + body[1])
        xs[k] = int((camera[0] * x - camera[1] * y) * camera[2] + camera[3])
        ys[k] = int((camera[1] * x + camera[0] * y) * camera[2] + camera[4])


@numba.njit(inline="always")
def _blend(picture: Canvas, y: int, x: int, colour: int, alpha: int) -> None:
    """One pixel inside the window's columns; each channel moves by `alpha / 256` of its distance, rounded down."""
    if picture.lowest <= y < len(picture.cells) and alpha > 0:
        cell = picture.owner[x]
        old = picture.cells[y, cell]
        whole = old != OPEN
        if not whole:
            old = picture.pixels[y, x]
        if old != colour:
            new = colour
            if alpha != 255:
                red, green, blue = old >> 16, (old >> 8) & 255, old & 255
                red += ((colour >> 16) - red) * alpha >> 8
                green += (((colour >> 8) & 255) - green) * alpha >> 8
                blue += ((colour & 255) - blue) * alpha >> 8
                new = (red << 16) | (green << 8) | blue
            if whole:
                for i in range(picture.starts[cell], picture.starts[cell + 1]):
                    picture.pixels[y, i] = old
                picture.cells[y, cell] = OPEN
            picture.pixels[y, x] = new


@compiled
def _part(picture: Canvas, y: int, cell: int, x0: int, x1: int, colour: int) -> None:
    """Pixels x0 ... x1 of one cell."""
    old = picture.cells[y, cell]
    if old != colour:
        if old != OPEN:
            for x in range(picture.starts[cell], picture.starts[cell + 1]):
                picture.pixels[y, x] = old
            picture.cells[y, cell] = OPEN
        for x in range(x0, x1 + 1):
            picture.pixels[y, x] = colour


@compiled
def _span(picture: Canvas, y: int, x0: int, x1: int, colour: int) -> None:
    """Pixels x0 ... x1 of a row, in either order, as far as they lie in the window."""
    if x0 > x1:
        x0, x1 = x1, x0
    x0, x1 = max(x0, 0), min(x1, len(picture.owner) - 1)
    if x0 > x1 or y < picture.lowest or y >= len(picture.cells):
        return
    first, last = picture.owner[x0], picture.owner[x1]
    if x0 != picture.starts[first]:
        _part(picture, y, first, x0, min(x1, picture.starts[first + 1] - 1), colour)
        first += 1
    if first <= last and x1 != picture.starts[last + 1] - 1:
        _part(picture, y, last, max(x0, picture.starts[last]), x1, colour)
        last -= 1
    for cell in range(first, last + 1):
        picture.cells[y, cell] = colour


@compiled
def _sort(values: np.ndarray, count: int) -> None:
    """The first few values in place, by insertion."""
    for i in range(1, count):
        value, j = values[i], i
        while j > 0 and values[j - 1] > value:
            values[j] = values[j - 1]
            j -= 1
        values[j] = value


@compiled
def _fill_gfx(picture: Canvas, xs: np.ndarray, ys: np.ndarray, n: int, colour: int, filled: np.ndarray) -> None:
    """`gfxdraw.filled_polygon`: crossings in 16.16 fixed point. `filled` `[H + 2, 2]` gets first and last x of rows.

    The package draws the sides before. What they leave inside is painted over, so here they come after, outside alone.
    """
    low, high = ys[:n].min(), ys[:n].max()
    for y in range(max(low - 1, 0), min(high + 1, len(picture.cells)) + 1):
        filled[y, 0], filled[y, 1] = 1, 0
    crossings = np.empty(8, np.int64)
    for y in range(max(low, picture.lowest), min(high, len(picture.cells) - 1) + 1):
        count = 0
        for i in range(n):
            a, b = i - 1 if i else n - 1, i
            if ys[a] > ys[b]:
                a, b = b, a
            if ys[a] != ys[b] and (ys[a] <= y < ys[b] or (y == high and ys[a] < y <= ys[b])):
                slope = (65536 * (y - ys[a])) // (ys[b] - ys[a])
                crossings[count] = slope * (xs[b] - xs[a]) + 65536 * xs[a]
                count += 1
        _sort(crossings, count)
        for i in range(0, count - 1, 2):
            left, right = crossings[i] + 1, crossings[i + 1] - 1
            x0, x1 = (left >> 16) + ((left >> 15) & 1), (right >> 16) + ((right >> 15) & 1)
            _span(picture, y, x0, x1, colour)
            if count == 2:
                filled[y, 0], filled[y, 1] = min(x0, x1), max(x0, x1)


@compiled
def _fill(picture: Canvas, xs: np.ndarray, ys: np.ndarray, n: int, colour: int, from_top: bool) -> None:
    """`pygame.draw.polygon`: crossings in float64, truncated; horizontal edges inside are drawn of their own."""
    low, high = ys[:n].min(), ys[:n].max()
    top = len(picture.cells) - 1
    if low == high:
        _span(picture, top - low if from_top else low, xs[:n].min(), xs[:n].max(), colour)
        return
    crossings = np.empty(8, np.int64)
    for y in range(max(low, 0), min(high, top) + 1):
        row = top - y if from_top else y
        if row < picture.lowest:
            continue
        count = 0
        for i in range(n):
            a, b = i - 1 if i else n - 1, i
            if ys[a] > ys[b]:
                a, b = b, a
            if ys[a] != ys[b] and (ys[a] <= y < ys[b] or (y == high and ys[b] == high)):
                crossings[count] = int(float(y - ys[a]) * float(xs[b] - xs[a]) / float(ys[b] - ys[a]) + float(xs[a]))
                count += 1
        _sort(crossings, count)
        for i in range(0, count - 1, 2):
            _span(picture, row, crossings[i], crossings[i + 1], colour)
    for i in range(n):
        y = ys[i]
        if low < y < high and ys[(i - 1) % n] == y:
            _span(picture, top - y if from_top else y, xs[i], xs[(i - 1) % n], colour)


@compiled
def _outside(x: int, y: int, right: int, bottom: int) -> int:
    """Which sides of the window a point lies beyond: 1 left, 2 right, 4 high y, 8 negative y."""
    return (1 if x < 0 else 2 if x > right else 0) | (8 if y < 0 else 4 if y > bottom else 0)


@compiled
def _clip(picture: Canvas, x1: int, y1: int, x2: int, y2: int) -> tuple[bool, int, int, int, int]:
    """The part of a line inside the window, as `gfxdraw` cuts it, in float32: visible?, x1, y1, x2, y2."""
    right, bottom = picture.pixels.shape[1] - 1, len(picture.cells) - 1
    while True:
        one, two = _outside(x1, y1, right, bottom), _outside(x2, y2, right, bottom)
        if one | two == 0:
            return True, x1, y1, x2, y2
        if one & two:
            return False, x1, y1, x2, y2
        if one == 0:
            x1, y1, x2, y2, one = x2, y2, x1, y1, two
        slope = np.float32(1)
        if x1 != x2:
            slope = np.float32(y2 - y1) / np.float32(x2 - x1)
        if one & 3:
            edge = 0 if one & 1 else right
            y1 += int(np.float32(edge - x1) * slope)
            x1 = edge
        else:
            edge = bottom if one & 4 else 0
            if x1 != x2:
                x1 += int(np.float32(edge - y1) / slope)
            y1 = edge


@compiled
def _smooth_line(picture: Canvas, x1: int, y1: int, x2: int, y2: int, colour: int, filled: np.ndarray) -> None:
    """One side of `gfxdraw.aapolygon`: Wu's line, two pixels a step, without its last; where nothing is filled."""
    if max(y1, y2) < picture.lowest - 1:
        return
    visible, x1, y1, x2, y2 = _clip(picture, x1, y1, x2, y2)
    if not visible:
        return
    if y1 == y2:
        _span(picture, y1, x1, x2, colour)
        return
    if x1 == x2:
        for y in range(min(y1, y2), max(y1, y2) + 1):
            _blend(picture, y, x1, colour, 255)
        return
    _blend(picture, y1, x1, colour, 255)
    x, y, end_x, end_y = x1, y1, x2, y2
    if y1 > y2:
        x, y, end_x, end_y = x2, y2, x1, y1
    step = 1 if end_x > x else -1
    dx, dy = abs(end_x - x), end_y - y
    steep = dy > dx
    # 32-bit error; a slope of 1 overflows to 0, which counts as turning over in every step.
    turn = (((dx << 16) // dy if steep else (dy << 16) // dx) << 16) & 0xFFFFFFFF
    error = 0
    right = picture.pixels.shape[1] - 1
    for _ in range(max(dx, dy) - 1):
        before, error = error, (error + turn) & 0xFFFFFFFF
        turned = error <= before
        weight = error >> 24
        beside, above = x, y
        if steep:
            y += 1
            x += step if turned else 0
            beside, above = x + step, y
        else:
            x += step
            y += 1 if turned else 0
            beside, above = x, y + 1
        if x < filled[y, 0] or x > filled[y, 1]:
            _blend(picture, y, x, colour, 255 * (255 - weight) >> 8)
        if (beside < filled[above, 0] or beside > filled[above, 1]) and 0 <= beside <= right:
            _blend(picture, above, beside, colour, 255 * weight >> 8)


@compiled
def _shrink(picture: Canvas, rows: int) -> np.ndarray:
    """`smoothscale` of the flipped picture: columns, then rows; pixels shared by two outputs count in both by parts."""
    image = np.empty((rows, SIDE * 3), np.uint8)
    line = np.zeros(SIDE * 3, np.int32)
    total = np.zeros(SIDE * 3, np.int32)
    # One byte a cell, after a zero: which of them this row changes.
    changed = np.zeros(8 * (SIDE // 8 + 1), np.uint8)
    top = len(picture.cells) - 1
    y = top
    for out in range(rows):
        while top - y < picture.rows[out, 0]:
            _shrink_row(picture, y, line, changed)
            for i in range(SIDE * 3):
                total[i] += line[i]
            y -= 1
        _shrink_row(picture, y, line, changed)
        weight, rest, recip = picture.rows[out, 1], picture.rows[out, 2], picture.recips[1]
        for i in range(SIDE * 3):
            image[out, i] = min((total[i] + (4 * line[i] * weight >> 16)) * recip >> 16, 255)
            total[i] = 4 * line[i] * rest >> 16
        y -= 1
    return image.reshape(rows, SIDE, 3)


@compiled
def _shrink_row(picture: Canvas, y: int, line: np.ndarray, changed: np.ndarray) -> None:
    """First pass of one row into `line` `[96 * 3]`, which holds the row above; what equals that stays."""
    cells = picture.cells
    if y == len(cells) - 1:
        changed[1:] = 1
    else:
        for j in range(SIDE):
            changed[j + 1] = (cells[y, j] != cells[y + 1, j]) | (cells[y, j] == OPEN)
    words = changed.view(np.uint64)
    for word in range(len(words)):
        if words[word]:
            # The cell after a changed one shares a pixel with it.
            for j in range(max(8 * word - 1, 0), min(8 * word + 8, SIDE)):
                if changed[j + 1] or changed[j]:
                    _shrink_cell(picture, y, j, line)


@compiled
def _shrink_cell(picture: Canvas, y: int, j: int, line: np.ndarray) -> None:
    colour, last = picture.cells[y, j], picture.columns[j, 0]
    left, rest = 0, 0
    if j > 0:
        left, rest = picture.cells[y, j - 1], picture.columns[j - 1, 2]
        if left == OPEN:
            left = picture.pixels[y, picture.starts[j] - 1]
    edge, weight = colour, picture.columns[j, 1]
    # Red and blue are added together, with 16 binary places between them.
    if colour == OPEN:
        outer, green = 0, 0
        for x in range(picture.starts[j], last):
            pixel = picture.pixels[y, x]
            outer += pixel & 0xFF00FF
            green += pixel & 0x00FF00
        edge = picture.pixels[y, last]
    else:
        outer, green = (
            (last - picture.starts[j]) * (colour & 0xFF00FF),
            (last - picture.starts[j]) * (colour & 0x00FF00),
        )
    red, green, blue = outer >> 16, green >> 8, outer & 0xFFFF
    recip = picture.recips[0]
    red += (4 * (left >> 16) * rest >> 16) + (4 * (edge >> 16) * weight >> 16)
    green += (4 * ((left >> 8) & 255) * rest >> 16) + (4 * ((edge >> 8) & 255) * weight >> 16)
    blue += (4 * (left & 255) * rest >> 16) + (4 * (edge & 255) * weight >> 16)
    line[3 * j] = min(red * recip >> 16, 255)
    line[3 * j + 1] = min(green * recip >> 16, 255)
    line[3 * j + 2] = min(blue * recip >> 16, 255)
