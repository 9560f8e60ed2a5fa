"""Charts as inline SVG: pure functions of values, without scripts, styles or anything to fetch.

A chart is drawn for one width in CSS pixels. Colours come from the classes of the page's style sheet. Every chart has
role="img", a title and a description that says in words what it shows; the numbers stand in a table beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

ROW: Final = 36
HEADING: Final = 30
LABEL_WIDTH: Final = 168
NOTE_WIDTH: Final = 184
LETTER: Final = 7.8
"""How wide a letter of a label is on average, in pixels."""
NARROW: Final = 560
"""Below this width labels stand above their rows."""
Points = Sequence[tuple[float, float]]
_HEIGHT: Final = 240
_STYLES: Final = 6
"""So many lines can be told apart; further arms begin again."""


Charts = Mapping[str, Markup]
"""One chart, drawn for wide and for narrow pages: "wide" and "narrow" -> SVG."""
WIDTHS: Final[Mapping[str, int]] = {"wide": 800, "narrow": 340}


@dataclass(frozen=True)
class Interval:
    """One row of a forest plot: a label, the estimate with its interval, a note beside it, and the truth where known.

    A row without an estimate shows its note only. `strong`: the row that matters.
    """

    label: str
    estimate: float | None
    low: float | None
    high: float | None
    note: str
    truth: float | None = None
    strong: bool = False


@dataclass(frozen=True)
class Axis:
    """The horizontal axis: its caption, how a tick is written, and a mark (value, words) such as a threshold."""

    caption: str
    tick: Callable[[float], str]
    mark: tuple[float, str] | None = None


@dataclass(frozen=True)
class Words:
    """The name of a chart in the page (unique), its title, and what it shows in a sentence."""

    key: str
    title: str
    description: str


def forest(rows: Sequence[Interval | str], axis: Axis, words: Words, *, width: int) -> Markup:
    """Estimates with their intervals, one row each, over a common axis with a line at zero; a text is a heading."""
    layout = _Layout.of([row for row in rows if isinstance(row, Interval)], axis, width)
    top = y = 26 if axis.mark else 8
    parts: list[Markup] = []
    for row in rows:
        if isinstance(row, str):
            parts.append(_text(0, y + 22, row, "heading"))
            y += HEADING
        else:
            parts.append(_forest_row(layout, row, y))
            y += layout.row
    with_truth = any(isinstance(row, Interval) and row.truth is not None for row in rows)
    parts.append(_forest_legend(layout, y + 58, with_truth=with_truth))
    return _svg(words, width, y + 72, Markup("").join([_grid(layout, axis, top, y), *parts]))


def stacked_bars(
    bars: Mapping[str, Mapping[str, float]], classes: Mapping[str, str], words: Words, *, width: int
) -> Markup:
    """One bar per label, made of parts in the order of `classes` (part -> CSS class), all on the same scale."""
    longest = max((sum(parts.values()) for parts in bars.values()), default=0.0) or 1.0
    narrow = width < NARROW
    left, row = (0, 50) if narrow else (LABEL_WIDTH, 34)
    space = width - left - 2
    shapes: list[Markup] = []
    for i, (label, parts) in enumerate(bars.items()):
        top = i * row
        room = width if narrow else LABEL_WIDTH - 8
        shapes.append(_text(0, top + (14 if narrow else 21), _shorten(label, room), "label"))
        x, y = float(left), top + (22 if narrow else 6)
        shapes.append(_rect(x, y, space * sum(parts.values()) / longest, 22, "empty"))
        for part, css in classes.items():
            size = space * parts.get(part, 0.0) / longest
            if size > 0:
                shapes.append(_rect(x, y, size, 22, css))
                x += size
    used = {part: css for part, css in classes.items() if any(parts.get(part, 0) > 0 for parts in bars.values())}
    legend_y = len(bars) * row + 18
    shapes.append(_legend([(part, _rect(0, -9, 10, 10, css)) for part, css in used.items()], left, legend_y))
    return _svg(words, width, legend_y + 12, Markup("").join(shapes))


@dataclass(frozen=True)
class Curve:
    """One line: its name, (day, share still away) from day 1 on, and (day, customers at risk)."""

    label: str
    steps: Points
    at_risk: Points


def curves(lines: Sequence[Curve], words: Words, *, width: int, caption: str) -> Markup:
    """The curves over a common axis of days; below it how many were still followed and had not come back."""
    frame = _Frame.of(lines, width)
    parts = [_axes(frame, caption)]
    for place, line in enumerate(lines):
        parts.append(_path(frame, line, place))
    bottom = frame.bottom + 56
    parts.append(_text(0, bottom, "Customers at risk", "caption"))
    for place, line in enumerate(lines):
        y = bottom + 24 + place * frame.row
        parts.append(_risk_row(frame, line, place, y))
    height = bottom + 24 + len(lines) * frame.row
    return _svg(words, width, height, Markup("").join(parts))


def at_both_widths(draw: Callable[[str, int], Markup]) -> Charts:
    """A chart drawn for wide and for narrow pages; the style sheet shows the one that fits."""
    return {size: draw(size, width) for size, width in WIDTHS.items()}


def nice_ticks(low: float, high: float, *, most: int = 7) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that lie in [low, high], about so many at most."""
    if not high > low:
        return [low]
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * factor for factor in (1, 2, 5, 10) if (high - low) / (power * factor) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


@dataclass(frozen=True)
class _Layout:
    """Where things stand: the plotting area from `left` to `right` for values from `low` to `high`."""

    width: int
    left: float
    right: float
    row: int
    low: float
    high: float

    @classmethod
    def of(cls, rows: Sequence[Interval], axis: Axis, width: int) -> _Layout:
        values = [v for row in rows for v in (row.estimate, row.low, row.high, row.truth) if v is not None]
        values += [0.0, *([axis.mark[0]] if axis.mark else [])]
        low, high = min(values), max(values)
        pad = 0.06 * (high - low) or 1.0
        narrow = width < NARROW
        left, right = (20, width - 20) if narrow else (LABEL_WIDTH, width - NOTE_WIDTH)
        return cls(width, left, right, ROW + 14 if narrow else ROW, low - pad, high + pad)

    @property
    def narrow(self) -> bool:
        return self.width < NARROW

    def x(self, value: float) -> float:
        return self.left + (value - self.low) / (self.high - self.low) * (self.right - self.left)


def _grid(layout: _Layout, axis: Axis, top: int, bottom: int) -> Markup:
    parts: list[Markup] = []
    for tick in nice_ticks(layout.low, layout.high, most=7):
        x = layout.x(tick)
        parts.append(_line(x, top, x, bottom, "zero" if tick == 0 else "grid"))
        parts.append(_text(x, bottom + 17, axis.tick(tick), "tick", anchor="middle"))
    middle = (layout.left + layout.right) / 2
    parts.append(_text(middle, bottom + 35, axis.caption, "caption", anchor="middle"))
    if axis.mark:
        x = layout.x(axis.mark[0])
        room = 6.2 * len(axis.mark[1]) / 2
        inside = min(max(x, layout.left + room), layout.right - room)
        parts.append(_line(x, top - 6, x, bottom, "mark"))
        parts.append(_text(inside, top - 11, axis.mark[1], "marked", anchor="middle"))
    return Markup("").join(parts)


def _forest_row(layout: _Layout, row: Interval, top: int) -> Markup:
    css = " strong" if row.strong else ""
    if layout.narrow:
        middle, label_y = top + 40, top + 18
        room = layout.width - LETTER * len(row.note) - 12
        note = _text(layout.width, label_y, row.note, "note", anchor="end")
    else:
        middle = top + layout.row // 2
        label_y, room = middle + 5, LABEL_WIDTH - 8
        note = _text(layout.right + 16, label_y, row.note, "note")
    parts = [_text(0, label_y, _shorten(row.label, room), f"label{css}"), note]
    if row.low is not None and row.high is not None:
        low, high = layout.x(row.low), layout.x(row.high)
        parts.append(_line(low, middle, high, middle, f"interval{css}"))
        parts.extend(_line(x, middle - 6, x, middle + 6, f"interval{css}") for x in (low, high))
    if row.estimate is not None:
        parts.append(_rect(layout.x(row.estimate) - 5, middle - 5, 10, 10, f"estimate{css}"))
    if row.truth is not None:
        parts.append(_diamond(layout.x(row.truth), middle))
    return Markup("").join(parts)


def _forest_legend(layout: _Layout, y: int, *, with_truth: bool) -> Markup:
    entries = [("estimate with its interval", _rect(0, -9, 10, 10, "estimate"))]
    if with_truth:
        entries.append(("truth", _diamond(5, -4)))
    return _legend(entries, 0 if layout.narrow else layout.left, y)


@dataclass(frozen=True)
class _Frame:
    """The plotting area: days from 0 to `last` between `left` and `right`, shares from `low` to 1 over its height."""

    width: int
    left: float
    right: float
    last: float
    low: float

    @classmethod
    def of(cls, lines: Sequence[Curve], width: int) -> _Frame:
        last = max((day for line in lines for day, _ in line.steps), default=1.0)
        lowest = min((away for line in lines for _, away in line.steps), default=0.0)
        low = max(0.0, int(lowest * 10.0) / 10.0 - (0.1 if lowest > 0.5 else 0.0)) if lowest > 0.3 else 0.0
        return cls(width, 46.0 if width < NARROW else 168.0, width - 16.0, last, low)

    @property
    def bottom(self) -> float:
        return 12.0 + _HEIGHT

    @property
    def row(self) -> int:
        return 40 if self.width < NARROW else 22

    def x(self, day: float) -> float:
        return self.left + day / self.last * (self.right - self.left)

    def y(self, away: float) -> float:
        return 12.0 + (1.0 - away) / (1.0 - self.low) * _HEIGHT


def _axes(frame: _Frame, caption: str) -> Markup:
    parts = []
    for tick in nice_ticks(frame.low, 1.0, most=5):
        parts.append(_line(frame.left, frame.y(tick), frame.right, frame.y(tick), "grid"))
        parts.append(_text(frame.left - 8, frame.y(tick) + 4, f"{100 * tick:g}%", "tick", anchor="end"))
    for tick in nice_ticks(0.0, frame.last, most=6):
        parts.append(_line(frame.x(tick), frame.bottom, frame.x(tick), frame.bottom + 5, "zero"))
        parts.append(_text(frame.x(tick), frame.bottom + 19, f"{tick:g}", "tick", anchor="middle"))
    parts.append(_line(frame.left, frame.bottom, frame.right, frame.bottom, "zero"))
    parts.append(_text((frame.left + frame.right) / 2, frame.bottom + 36, caption, "caption", anchor="middle"))
    return Markup("").join(parts)


def _path(frame: _Frame, line: Curve, place: int) -> Markup:
    drawn, level = [f"M{_n(frame.x(0))} {_n(frame.y(1.0))}"], 1.0
    for day, away in line.steps:
        drawn.append(f"H{_n(frame.x(day))}")
        if away != level:
            drawn.append(f"V{_n(frame.y(away))}")
            level = away
    return Markup('<path class="curve curve-{}" d="{}"/>').format(place % _STYLES, "".join(drawn))


def _risk_row(frame: _Frame, line: Curve, place: int, y: float) -> Markup:
    """The key of a line and its numbers: beside each other, or on narrow pages the name above its numbers."""
    narrow = frame.width < NARROW
    key = _line(0, y - 5, 22, y - 5, f"curve curve-{place % _STYLES}")
    name = _text(28, y, _shorten(line.label, frame.width if narrow else frame.left - 44 - LETTER), "label")
    numbers_y = y + 18 if narrow else y
    ticks = nice_ticks(0.0, frame.last, most=4 if narrow else 6)
    known = dict(line.at_risk)
    shown = [
        _text(frame.x(day), numbers_y, f"{known[day]:,.0f}", "tick", anchor="middle" if day < frame.last else "end")
        for day in ticks
        if day in known
    ]
    return Markup("").join([key, name, *shown])


def _legend(entries: Sequence[tuple[str, Markup]], left: float, y: float) -> Markup:
    parts: list[Markup] = []
    x = float(left)
    for words, shape in entries:
        parts.append(Markup('<g transform="translate({} {})">{}</g>').format(_n(x), _n(y), shape))
        parts.append(_text(x + 16, y, words, "tick"))
        x += 16 + 6.6 * len(words) + 16
    return Markup("").join(parts)


def _svg(words: Words, width: int, height: float, content: Markup) -> Markup:
    return Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" '
        'aria-labelledby="{key}-title {key}-words"><title id="{key}-title">{title}</title>'
        '<desc id="{key}-words">{description}</desc>{content}</svg>'
    ).format(w=width, h=_n(height), key=words.key, title=words.title, description=words.description, content=content)


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(css, _n(x1), _n(y1), _n(x2), _n(y2))


def _rect(x: float, y: float, width: float, height: float, css: str) -> Markup:
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
        css, _n(x), _n(y), _n(width), _n(height)
    )


def _diamond(x: float, y: float) -> Markup:
    path = f"M{_n(x)} {_n(y - 8)}L{_n(x + 6)} {_n(y)}L{_n(x)} {_n(y + 8)}L{_n(x - 6)} {_n(y)}Z"
    return Markup('<path class="truth" d="{}"/>').format(path)


def _text(x: float, y: float, words: str, css: str, *, anchor: str = "start") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        css, _n(x), _n(y), anchor, escape(words)
    )


def _shorten(words: str, room: float) -> str:
    """The words if they fit into so many pixels, else their beginning; the table beside the chart has them whole."""
    most = max(3, int(room / LETTER))
    return words if len(words) <= most else f"{words[: most - 1].rstrip()}…"


def _n(value: float) -> str:
    """A coordinate: a tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0")
