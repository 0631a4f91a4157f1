"""Charts of a report as inline SVG with real text, whose colours are variables of the page: they follow its light or dark theme.

Drawn by matplotlib without its own fonts: text stays text, so that a reader's fonts draw it, Chinese included.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from clipzoo.text import visible
from clipzoo.text_tables import terminal_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Stand-ins that the page replaces: text and axes, grid, and the series.
_INK, _GRID = "#010101", "#020202"
_TEXT = 8  # points of a text inside the axes
NUM_COLOURS = 12
_SERIES = tuple(f"#0300{number:02x}" for number in range(NUM_COLOURS))
_VARIABLES = {_INK: "currentColor", _GRID: "var(--line)", **{colour: f"var(--s{i})" for i, colour in enumerate(_SERIES)}}


@dataclass(frozen=True)
class Series:
    """One line, cloud or set of bars.

    Attributes:
        label: Label in the legend, which the page draws; empty for none.
        x: Positions.
        y: Values; ``None`` leaves a gap.
        low: Lower limits at ``at``, or at ``x``; empty for none.
        high: Upper limits.
        at: Positions of the limits; empty for ``x``.
        colour: Number of the colour; they repeat after 12.
        kind: ``'line'``, ``'step'``, ``'points'``, ``'bars'``, ``'limits'``: points with vertical limits, or ``'texts'``.
        dashed: Whether the line is dashed.
        texts: What is written at the positions, for ``'texts'``.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    at: Sequence[float] = ()
    colour: int = 0
    kind: str = "line"
    dashed: bool = False
    texts: Sequence[str] = ()


@dataclass(frozen=True)
class Chart:
    """A set of axes.

    Attributes:
        title: Name for screen readers; it is not drawn.
        series: What is drawn, later ones on top.
        x_label: Label of the horizontal axis.
        y_label: Label of the vertical axis.
        x_limits: Ends of the horizontal axis; ``None`` for automatic ones.
        y_limits: Ends of the vertical axis.
        diagonal: Whether to draw the line y = x.
        marks: Vertical lines, as (position, colour).
        ticks: Labels of the horizontal axis at 0, 1, …; empty for numbers.
        size: Width and height in inches.
        bare: Whether the axes have no numbers.
        whole: Whether the horizontal axis counts something.
    """

    title: str
    series: Sequence[Series]
    x_label: str = ""
    y_label: str = ""
    x_limits: tuple[float, float] | None = None
    y_limits: tuple[float | None, float | None] | None = None
    diagonal: bool = False
    marks: Sequence[tuple[float, int]] = field(default=())
    ticks: Sequence[str] = ()
    size: tuple[float, float] = (3.4, 2.8)
    bare: bool = False
    whole: bool = False


def svg(chart: Chart) -> str:
    """The chart as an ``<svg>`` element; equal charts give equal text."""
    import matplotlib
    from matplotlib.figure import Figure

    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "clipzoo",
        "text.parse_math": False,  # a dollar in a name is a dollar
        "font.size": 9,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "grid.color": _GRID,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.7,
        "path.simplify_threshold": 0.3,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=chart.size)
        figure.patch.set_visible(False)
        left, bottom, edge = (0.05, 0.05, 0.05) if chart.bare else (0.62, 0.48, 0.1)  # inches: labels of all charts line up
        width, height = chart.size
        axes = figure.add_axes((left / width, bottom / height, 1 - (left + edge) / width, 1 - (bottom + edge) / height))
        axes.patch.set_visible(False)
        _draw(axes, chart)
        stream = io.StringIO()
        with _without_font_messages():
            figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _as_part_of_a_page(stream.getvalue(), chart.title)


@contextmanager
def _without_font_messages() -> Iterator[None]:
    """The reader's fonts draw the text; that matplotlib's own lack characters is of no interest."""
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
            yield
    finally:
        logger.setLevel(level)


def _draw(axes: Axes, chart: Chart) -> None:
    from matplotlib.ticker import MaxNLocator

    if chart.diagonal:
        axes.plot([0, 1], [0, 1], color=_GRID, linewidth=1, linestyle="--")
    for place, colour in chart.marks:
        axes.axvline(place, color=_SERIES[colour], linewidth=0.9, linestyle=":")
    for series in chart.series:
        _draw_series(axes, series)
    axes.set(xlabel=visible(chart.x_label), ylabel=visible(chart.y_label))
    if chart.x_limits:
        axes.set_xlim(*chart.x_limits)
    if chart.y_limits:
        axes.set_ylim(*chart.y_limits)
    if chart.ticks:
        axes.set_xticks(range(len(chart.ticks)), chart.ticks)
        axes.grid(False, axis="x")
    if chart.whole:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    if chart.bare:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)


def _draw_series(axes: Axes, series: Series) -> None:
    colour = _SERIES[series.colour % len(_SERIES)]
    values = [float("nan") if value is None else value for value in series.y]
    if series.kind == "bars":
        axes.bar(series.x, values, color=colour, width=0.7)
    elif series.kind == "texts":
        axes.plot(series.x, values, color=_INK, linestyle="", marker="D", markersize=4, markerfacecolor="none", markeredgewidth=0.8)
        for x, y, text in zip(series.x, values, map(visible, series.texts), strict=True):
            side = _side(axes, x, text)
            axes.annotate(text, (x, y), xytext=(0, 5), textcoords="offset points", ha=side, fontsize=_TEXT, parse_math=False)
    elif series.kind == "points":
        axes.plot(series.x, values, color=colour, linestyle="", marker="o", markersize=3, alpha=0.75, markeredgewidth=0)
    elif series.kind == "limits":
        spread = [[v - low for v, low in zip(values, series.low, strict=True)], [h - v for v, h in zip(values, series.high, strict=True)]]
        axes.errorbar(
            series.x, values, yerr=[[max(s, 0) for s in side] for side in spread], color=colour, marker="o", markersize=3.5, linewidth=1.2
        )
    else:
        style = "steps-pre" if series.kind == "step" else "default"
        axes.plot(series.x, values, color=colour, linewidth=1.5, linestyle="--" if series.dashed else "-", drawstyle=style)
        if len(series.low):
            axes.fill_between(series.at or series.x, series.low, series.high, color=colour, alpha=0.18, linewidth=0)


def _side(axes: Axes, x: float, text: str) -> str:
    """How a text at ``x`` is aligned so that it ends inside the axes. The reader's font draws it, so its width is an estimate."""
    half = terminal_columns(text) * 0.55 * _TEXT / 2
    low, high = axes.get_xlim()
    width = axes.get_position().width * axes.figure.get_figwidth() * 72  # points
    left = (x - low) / (high - low) * width
    return "left" if left < half else "right" if width - left < half else "center"


def _as_part_of_a_page(text: str, title: str) -> str:
    """Only the element, with the page's fonts and colours, without what a page does not need, and with ids of its own."""
    text = text[text.index("<svg") :]
    width, height = (float(found) for found in re.findall(r'(?:width|height)="([\d.]+)pt"', text)[:2])
    text = text[text.index(">") + 1 :]
    for unwanted in (r"<!--.*?-->", r"<metadata>.*?</metadata>", r"<style.*?</style>", r" font-family: [^;\"]*;", r' id="[\w.]+_\d+"'):
        text = re.sub(unwanted, "", text, flags=re.DOTALL)
    text = re.sub(r"\s*\n\s*", " ", text).replace("> <", "><").replace("<defs></defs>", "")
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, variable)
    own = hashlib.sha256((title + text).encode()).hexdigest()[:8]
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>c{own}", text)
    start = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {width:g} {height:g}" '
    return f'{start}width="{width * 4 / 3:.0f}" role="img" aria-label="{escape(visible(title))}" class="chart">{text.strip()}'


def forest(rows: Sequence[tuple[float | None, float | None, float | None]], reference: float | None) -> list[str]:
    """For each ``(value, low, high)`` a small picture on one common scale, to be put into a table; empty text where the value is undefined.

    Args:
        rows: Values with their limits; ``None`` where undefined.
        reference: Where to draw a vertical line, such as chance, or 0 for differences; ``None`` for none.
    """
    numbers = [number for row in rows for number in (*row, reference) if number is not None]
    if not numbers:
        return [""] * len(rows)
    low, high = min(numbers), max(numbers)
    span = (high - low) or 1.0

    def place(number: float) -> float:
        return round(6 + 188 * (number - low) / span, 2)

    line = "" if reference is None else f'<line x1="{place(reference)}" x2="{place(reference)}" y1="0" y2="20" class="reference"/>'
    found = []
    for value, start, end in rows:
        if value is None:
            found.append("")
            continue
        bar = "" if start is None or end is None else f'<line x1="{place(start)}" x2="{place(end)}" y1="10" y2="10" class="interval"/>'
        found.append(
            f'<svg class="forest" viewBox="0 0 200 20" aria-hidden="true">{line}{bar}<circle cx="{place(value)}" cy="10" r="4"/></svg>'
        )
    return found
