"""Small SVG charts: lines with shaded bands, and intervals beside each other. Colours come from the page's classes."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Series:
    """One line; `low` and `high` shade a band around it. `kind` is the CSS class: `ours`, `published`, `changed`."""

    name: str
    kind: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that cover a range, about `most` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / most
    power = 10 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """`1.5M`, `20K`, `0.25`."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def lines(series: Sequence[Series], title: str, x_label: str, y_label: str, width: int = 340, height: int = 220) -> str:
    """A line chart. Text and lines scale with the page; the title is read aloud by screen readers."""
    # A title and a unit too long for one line (about 6.5 units a letter) take two.
    crowded = 6.5 * (len(title) + len(y_label) + 2) > width - 46 - 18
    left, right, top, bottom = 46, 18, 38 if crowded else 24, 36
    xs = [x for one in series for x in one.x]
    ys = [y for one in series for values in (one.y, one.low, one.high) for y in values]
    x0, x1 = min(xs), max(xs)
    y0, y1 = min(ys), max(ys)
    x0 = min(x0, 0.0) if x0 >= 0 else x0
    x1 = x1 if x1 > x0 else x0 + 1
    pad = 0.04 * (y1 - y0) or max(1.0, abs(y1) * 0.1)
    y0, y1 = (y0 - pad if y0 < 0 or y0 > 0.5 * y1 else 0.0), y1 + pad

    def px(x: float) -> float:
        return round(left + (x - x0) / (x1 - x0) * (width - left - right), 1)

    def py(y: float) -> float:
        return round(height - bottom - (y - y0) / (y1 - y0) * (height - top - bottom), 1)

    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}">',
        f'<text class="title" x="{left}" y="14">{html.escape(title)}</text>',
    ]
    for y in ticks(y0, y1):
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{py(y)}" y2="{py(y)}"/>')
        parts.append(f'<text class="tick" x="{left - 5}" y="{py(y) + 3}" text-anchor="end">{short(y)}</text>')
    for x in ticks(x0, x1, 4):
        parts.append(
            f'<text class="tick" x="{px(x)}" y="{height - bottom + 13}" text-anchor="middle">{short(x)}</text>'
        )
    parts.append(
        f'<line class="axis" x1="{left}" x2="{width - right}" y1="{py(y0)}" y2="{py(y0)}"/>'
        f'<text class="label" x="{(left + width - right) / 2}" y="{height - 6}" text-anchor="middle">'
        f"{html.escape(x_label)}</text>"
        f'<text class="label" x="{width - right}" y="{top - 10}" text-anchor="end">{html.escape(y_label)}</text>'
    )
    for one in series:
        if one.low and len(one.x) > 1:
            forth = [f"{px(x)},{py(y)}" for x, y in zip(one.x, one.high, strict=True)]
            back = [f"{px(x)},{py(y)}" for x, y in zip(reversed(one.x), reversed(one.low), strict=True)]
            parts.append(f'<polygon class="band {one.kind}" points="{" ".join([*forth, *back])}"/>')
    for one in series:
        name = html.escape(one.name)
        if len(one.x) > 1:
            points = " ".join(f"{px(x)},{py(y)}" for x, y in zip(one.x, one.y, strict=True))
            parts.append(f'<polyline class="line {one.kind}" points="{points}"><title>{name}</title></polyline>')
        if len(one.x) <= 40:
            parts += [
                f'<circle class="dot {one.kind}" cx="{px(x)}" cy="{py(y)}" r="{2.5 if len(one.x) > 1 else 4}">'
                f"<title>{name}: {short(y)} at {short(x)}</title></circle>"
                for x, y in zip(one.x, one.y, strict=True)
            ]
    return "".join([*parts, "</svg>"])


def intervals(
    published: tuple[float, float, float], ours: tuple[float, float, float], margin: float, label: str
) -> str:
    """Published and our number (value, low, high each) on one scale, the margin around the published one shaded.

    An unbounded interval is drawn as a dot alone.
    """
    width, height, edge = 150, 26, 6
    finite = [v for v in (*published, *ours, published[0] - margin, published[0] + margin) if math.isfinite(v)]
    low, high = min(finite), max(finite)
    span = (high - low) or 1.0

    def px(x: float) -> float:
        return round(edge + (min(max(x, low), high) - low) / span * (width - 2 * edge), 1)

    parts = [f'<svg class="forest" viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(label)}">']
    a, b = px(published[0] - margin), px(published[0] + margin)
    parts.append(f'<rect class="margin" x="{a}" y="1" width="{max(1.0, round(b - a, 1))}" height="{height - 2}"/>')
    for y, kind, (value, start, end) in ((8, "published", published), (18, "ours", ours)):
        if math.isfinite(start) and math.isfinite(end):
            parts.append(f'<line class="line {kind}" x1="{px(start)}" x2="{px(end)}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="dot {kind}" cx="{px(value)}" cy="{y}" r="3.2"/>')
    return "".join([*parts, f"<title>{html.escape(label)}</title></svg>"])
