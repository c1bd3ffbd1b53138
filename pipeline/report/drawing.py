"""Small drawings as inline SVG: lines over epochs, confidence against accuracy, and how many rows are how far apart.

Colours are classes of the page's style sheet, so that a drawing follows light and dark; every line also has its own
dashes, and every drawing a text that says what it shows.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from markupsafe import Markup

from pipeline.report.words import is_finite, scientific

WIDTH, HEIGHT = 320, 222
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 36, 36
_STEPS = (1, 2, 2.5, 5, 10)
_MOST_DOTS = 30
_SMALLEST, _LARGEST = 1e-60, 1e60  # beyond these a scale would leave the range of numbers


@dataclass(frozen=True)
class Series:
    """A named line; a value that is None, NaN, infinite or beyond all scales is a gap in it.

    Attributes:
        name: for the legend.
        values: one for each x.
        style: 1 (solid) or 2 (dashed).
    """

    name: str
    values: Sequence[float | None]
    style: int = 1


@dataclass(frozen=True)
class _Frame:
    """The plot's area: numbers to places."""

    x_ticks: list[float]
    y_ticks: list[float]

    def x(self, value: float) -> float:
        low, high = self.x_ticks[0], self.x_ticks[-1]
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * (value - low) / (high - low), 1)

    def y(self, value: float) -> float:
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low), 1)


def curves(
    title: str, unit: str, epochs: Sequence[int], series: Sequence[Series], best: int | None, x_label: str = "epoch"
) -> Markup:
    """Draw lines over epochs, or over anything else that is numbered, with the best one marked.

    Args:
        title: what the drawing shows, for those who do not see it.
        unit: the y axis' label; in ``%`` values from 0 to 1 are shown as percentages.
        epochs: the x of each value.
        series: one or two lines.
        best: the epoch whose weights were kept.
        x_label: what is numbered.
    """
    scale = 100 if unit.startswith("%") else 1
    lines = [[value * scale if _is_drawable(value) else None for value in one.values] for one in series]
    found = [value for line in lines for value in line if value is not None]
    frame = _Frame(_epoch_ticks(epochs), ticks(min(found), max(found)) if found else [0, 1])
    parts = [_axes(frame, x_label, unit), _legend(series)]
    if best is not None:
        parts.append(_best(frame, best))
    for one, line in zip(series, lines, strict=True):
        points = [
            None if value is None else (frame.x(x), frame.y(value)) for x, value in zip(epochs, line, strict=True)
        ]
        parts.append(_line(points, one.style))
    if not found:
        parts.append(_text(WIDTH / 2, HEIGHT / 2, "no finite value", "middle"))
    return _svg(title, parts)


def plot(
    title: str,
    x_label: str,
    y_label: str,
    points: Sequence[tuple[float, float]],
    *,
    limit: float | None = None,
    is_line: bool = True,
) -> Markup:
    """Draw finite points of two measures, joined in their order or each alone.

    Args:
        title: what the drawing shows, for those who do not see it.
        x_label: the one measure.
        y_label: the other.
        points: x and y of each; at least one.
        limit: a y that is marked.
        is_line: whether they are joined.
    """
    xs, ys = zip(*points, strict=True)
    frame = _Frame(ticks(min(xs), max(xs)), ticks(min(ys), max(*ys, limit) if limit is not None else max(ys)))
    parts = [_axes(frame, x_label, y_label)]
    if limit is not None:
        line = Markup('<line class="limit" x1="{}" y1="{}" x2="{}" y2="{}"/>')
        parts.append(line.format(_LEFT, frame.y(limit), WIDTH - _RIGHT, frame.y(limit)))
    places = [(frame.x(x), frame.y(y)) for x, y in points]
    parts += [_line(places, 1)] if is_line else [_dot(x, y, 3, "dot s1") for x, y in places]
    return _svg(title, parts)


def shares(title: str, x_label: str, y_label: str, values: Sequence[tuple[str, float]]) -> Markup:
    """Draw a share (0 to 1) for each of a few named ranges, as dots with whiskers from 0 %.

    Args:
        title: what the drawing shows, for those who do not see it.
        x_label: what the ranges are of.
        y_label: what the shares are of.
        values: name and share of each range, in order.
    """
    frame = _Frame([0, max(len(values), 1)], [0, 20, 40, 60, 80, 100])
    parts = [_axes(_Frame([], frame.y_ticks), x_label, y_label)]
    for number, (name, share) in enumerate(values):
        x, y = frame.x(number + 0.5), frame.y(100 * share)
        parts.append(Markup('<line class="gap" x1="{0}" y1="{1}" x2="{0}" y2="{2}"/>').format(x, frame.y(0), y))
        parts += [_dot(x, y, 4, "dot s1"), _text(x, HEIGHT - _BOTTOM + 14, name, "middle")]
    return _svg(title, parts)


def scatter(
    title: str, x_label: str, y_label: str, points: Sequence[tuple[float, float]], front: Sequence[tuple[float, float]]
) -> Markup:
    """Draw points, and a line through some of them that no other beats.

    Args:
        title: what the drawing shows, for those who do not see it.
        x_label: the x axis' label.
        y_label: the y axis' label.
        points: all of them, at least one.
        front: those on the line, in the order of x.
    """
    xs, ys = zip(*points, strict=True)
    frame = _Frame(ticks(min(xs), max(xs)), ticks(min(ys), max(ys)))
    dots = [_dot(frame.x(x), frame.y(y), 2.4, "dot s2") for x, y in points if (x, y) not in front]
    line = _line([(frame.x(x), frame.y(y)) for x, y in front], 1)
    return _svg(title, [_axes(frame, x_label, y_label), *dots, line])


def reliability(title: str, bins: Sequence[tuple[float, float, int]]) -> Markup:
    """Draw accuracy over confidence; the diagonal is perfect calibration, and a dot's area its share of the rows.

    Args:
        title: what the drawing shows.
        bins: confidence, accuracy and rows of each.
    """
    low = min([0.9, *(math.floor(10 * min(bin_[:2])) / 10 for bin_ in bins)])
    marks = [mark / 10 for mark in range(round(low * 10), 11, 1 if low >= 0.5 else 2)]
    marks = marks if marks[-1] == 1 else [*marks, 1.0]
    frame = _Frame([100 * mark for mark in marks], [100 * mark for mark in marks])
    most = max((rows for *_, rows in bins), default=1)
    start, end = frame.x_ticks[0], frame.x_ticks[-1]
    diagonal = Markup('<line class="ideal" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
        frame.x(start), frame.y(start), frame.x(end), frame.y(end)
    )
    parts = [_axes(frame, "% confidence", "% right"), diagonal]
    for confidence, accuracy, rows in bins:
        x, y, ideal = frame.x(100 * confidence), frame.y(100 * accuracy), frame.y(100 * confidence)
        parts.append(Markup('<line class="gap" x1="{0}" y1="{1}" x2="{0}" y2="{2}"/>').format(x, ideal, y))
        parts.append(_dot(x, y, 2 + 5 * math.sqrt(rows / most), "dot s1"))
    return _svg(title, parts)


def histogram(title: str, edges: Sequence[float], counts: Sequence[int], not_finite: int, allowed: float) -> Markup:
    """Draw how many rows lie in each range, both on a logarithmic scale, with the largest number allowed marked.

    Args:
        title: what the drawing shows, for those who do not see it.
        edges: where the ranges end, rising; `allowed` is one of them.
        counts: rows up to each edge and above the one before, then rows above the last.
        not_finite: rows with a number that is not finite, drawn apart.
        allowed: the mark; ranges above it are drawn as too far.
    """
    limit = sum(edge <= allowed for edge in edges)
    last = max([limit + 3, *(number for number, rows in enumerate(counts) if rows)])
    shown = min(last + 1, len(counts))
    places = shown + 3 * bool(not_finite)
    powers = range(len(str(max([*counts, not_finite]))) + 1)
    frame = _Frame([0, places], [0, *(power + 0.5 for power in powers)])
    parts = [_powers_of_ten(frame, powers), _decades(frame, edges[: shown - 1])]
    for number, rows in [*enumerate(counts[:shown]), (places - 1, not_finite)]:
        parts.append(_bar(frame, number, rows, is_beyond=number >= limit))
    if not_finite:
        parts.append(_text(frame.x(places), HEIGHT - _BOTTOM + 16, "NaN", "end"))
    x = frame.x(limit)
    parts.append(
        Markup('<line class="limit" x1="{0}" y1="{1}" x2="{0}" y2="{2}"/>').format(x, _TOP - 13, HEIGHT - _BOTTOM)
    )
    parts.append(_text(x, _TOP - 17, f"allowed {scientific(allowed)}", "middle"))
    return _svg(title, parts)


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Return round, evenly spaced numbers whose first and last enclose both ends; at least two."""
    size = max(abs(low), abs(high), _SMALLEST)
    if not high - low > 1e-9 * size:
        low, high = (low - 0.1 * size, high + 0.1 * size) if size > _SMALLEST else (0.0, 1.0)
    step = _round_step((high - low) / wanted)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _is_drawable(value: float | None) -> TypeGuard[float]:
    return is_finite(value) and value is not None and abs(value) < _LARGEST


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in _STEPS if step * power >= rough * (1 - 1e-9))


def _epoch_ticks(epochs: Sequence[int]) -> list[float]:
    first, last = epochs[0], max(epochs[-1], epochs[0] + 1)
    step = max(1, math.ceil(_round_step((last - first) / 5)))
    marks = range(step * (first // step), last, step) if step > 1 else range(first, last)
    return [first, *(mark for mark in marks if mark - first >= step / 2 and last - mark > step / 2), last]


def _axes(frame: _Frame, x_label: str, y_label: str) -> Markup:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for value in frame.y_ticks:
        y = frame.y(value)
        parts.append(Markup('<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(_LEFT, y, right, y))
        parts.append(_text(_LEFT - 6, y + 3.5, f"{value:.4g}", "end"))
    for value in frame.x_ticks:
        x = frame.x(value)
        parts.append(Markup('<line class="axis" x1="{0}" y1="{1}" x2="{0}" y2="{2}"/>').format(x, bottom, bottom + 4))
        parts.append(_text(x, bottom + 16, f"{value:g}", "middle"))
    parts.append(Markup('<line class="axis" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(_LEFT, bottom, right, bottom))
    parts.append(_text((_LEFT + right) / 2, HEIGHT - 4, x_label, "middle"))
    parts.append(_text(4, 12, y_label, "start"))
    return Markup("").join(parts)


def _powers_of_ten(frame: _Frame, powers: Sequence[int]) -> Markup:
    parts = [
        _text(4, 12, "rows", "start"),
        _text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 4, "max |Δ| of a row", "middle"),
    ]
    for power in powers:
        y = frame.y(power + 0.5)
        parts.append(Markup('<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(_LEFT, y, WIDTH - _RIGHT, y))
        parts.append(_text(_LEFT - 6, y + 3.5, f"{10**power:,}", "end"))
    return Markup("").join(parts)


def _decades(frame: _Frame, edges: Sequence[float]) -> Markup:
    """Name every power of ten among the edges, or every second one where there are many."""
    bottom = HEIGHT - _BOTTOM
    parts = [
        Markup('<line class="axis" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(_LEFT, bottom, WIDTH - _RIGHT, bottom)
    ]
    decades = [(number, edge) for number, edge in enumerate(edges, 1) if _is_power_of_ten(edge)]
    for number, edge in decades[:: 1 if len(decades) < 7 else 2]:
        x = frame.x(number)
        parts.append(Markup('<line class="axis" x1="{0}" y1="{1}" x2="{0}" y2="{2}"/>').format(x, bottom, bottom + 4))
        parts.append(_text(x, bottom + 16, scientific(edge), "middle"))
    return Markup("").join(parts)


def _is_power_of_ten(number: float) -> bool:
    return number > 0 and abs(math.log10(number) - round(math.log10(number))) < 1e-9


def _bar(frame: _Frame, number: int, rows: int, *, is_beyond: bool) -> Markup:
    if not rows:
        return Markup("")
    x, y = frame.x(number), frame.y(math.log10(rows) + 0.5)
    kind = "bar beyond" if is_beyond else "bar"
    width, height = frame.x(number + 1) - x - 1, frame.y(0) - y
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
        kind, x, y, round(width, 1), round(height, 1)
    )


def _legend(series: Sequence[Series]) -> Markup:
    if len(series) < 2:
        return Markup("")
    parts: list[Markup] = []
    x = float(WIDTH - _RIGHT)
    for one in reversed(series):
        x -= 6.2 * len(one.name)
        parts.append(_text(x, 12, one.name, "start"))
        parts.append(
            Markup('<line class="line s{}" x1="{}" y1="8" x2="{}" y2="8"/>').format(
                one.style, round(x - 26, 1), round(x - 5, 1)
            )
        )
        x -= 40
    return Markup("").join(parts)


def _best(frame: _Frame, epoch: int) -> Markup:
    x = frame.x(epoch)
    anchor, shift = ("end", -5) if x > WIDTH / 2 else ("start", 5)
    line = Markup('<line class="best" x1="{0}" y1="{1}" x2="{0}" y2="{2}"/>').format(x, _TOP - 13, HEIGHT - _BOTTOM)
    return line + _text(x + shift, _TOP - 5, f"best: {epoch}", anchor)


def _line(points: Sequence[tuple[float, float] | None], style: int) -> Markup:
    parts = []
    for stretch in _stretches(points):
        path = " ".join(f"{x},{y}" for x, y in stretch)
        parts.append(Markup('<polyline class="line s{}" points="{}"/>').format(style, path))
        if len(stretch) == 1 or len(points) <= _MOST_DOTS:
            parts += [_dot(x, y, 2.4, f"dot s{style}") for x, y in stretch]
    return Markup("").join(parts)


def _stretches(points: Sequence[tuple[float, float] | None]) -> Iterator[list[tuple[float, float]]]:
    stretch: list[tuple[float, float]] = []
    for point in [*points, None]:
        if point is not None:
            stretch.append(point)
        elif stretch:
            yield stretch
            stretch = []


def _dot(x: float, y: float, radius: float, kind: str) -> Markup:
    return Markup('<circle class="{}" cx="{}" cy="{}" r="{}"/>').format(kind, x, y, round(radius, 1))


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(round(x, 1), round(y, 1), anchor, text)


def _svg(title: str, parts: Sequence[Markup]) -> Markup:
    frame = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    return frame.format(WIDTH, HEIGHT, title, Markup("").join(parts))
