"""The figures of a run: its progress, and the performance of its model. Created without pyplot, so that runs share no state.

Call these functions inside ``fonts.drawing``, which sets fonts and style. matplotlib is imported inside the functions.

Shapes: C classes · K depths of a search · H bins of a histogram.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipzoo.files import write_atomically
from clipzoo.pictures.fonts import Lettering
from clipzoo.records.tables import PredictionTable
from clipzoo.text import visible
from clipzoo.text_tables import terminal_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colour-blind safe colours, each with a marker for grey-scale prints.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#777777"
COLOURS = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")
_MANY_CLASSES = 40  # more names than this do not fit next to a matrix
_MOST_MARKERS = 30  # maximum number per curve
_NAME_COLUMNS = 24  # width of a class name, in terminal columns: a Chinese character has two
DPI = 110


@dataclass(frozen=True)
class Curve:
    """One line of a panel.

    Attributes:
        label: Label in the legend.
        x: Positions, ascending.
        y: Values; NaN leaves a gap.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One set of axes.

    Attributes:
        title: Title above the axes.
        unit: Label of the vertical axis.
        curves: Curves; those without points are omitted.
        shares: Whether the vertical axis is 0 to 1.
        from_zero: Whether it starts at 0.
        best: Values at the best epoch to mark, by the curve's label.
    """

    title: str
    unit: str
    curves: list[Curve]
    shares: bool = False
    from_zero: bool = False
    best: dict[str, float] = field(default_factory=dict)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG atomically; equal figures give equal files."""
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=DPI))


def new_figure(width: float, height: float, title: str, subtitle: str = "") -> Figure:
    """An empty figure, in inches, with its title."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(visible(title) + (f"\n{subtitle}" if subtitle else ""), fontsize=11)
    return figure


# --- the course of a run ------------------------------------------------------------------------------------------------------------------


def curves_figure(title: str, subtitle: str, x_label: str, panels: Sequence[Panel], best_x: float | None) -> Figure:
    """Panels side by side, with the best epoch marked in all of them."""
    columns = 2 if len(panels) == 4 else max(len(panels), 1)
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(5.2 * columns, 0.9 + 3.7 * rows, title, subtitle)
    for axes, panel in zip(np.ravel(figure.subplots(rows, columns, squeeze=False)), panels, strict=True):
        _draw_panel(axes, panel, x_label, best_x)
    return figure


def _draw_panel(axes: Axes, panel: Panel, x_label: str, best_x: float | None) -> None:
    from matplotlib.ticker import MaxNLocator

    drawn = [curve for curve in panel.curves if len(curve.x)]
    axes.set(title=panel.title if len(drawn) != 1 else f"{panel.title}: {drawn[0].label}", xlabel=x_label, ylabel=panel.unit)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True, steps=[1, 2, 5, 10]))
    for curve, colour, marker in zip(drawn, COLOURS, MARKERS, strict=False):
        every = math.ceil(len(curve.x) / _MOST_MARKERS)
        axes.plot(curve.x, curve.y, color=colour, label=curve.label, linewidth=1.6, marker=marker, markersize=4, markevery=every)
        value = panel.best.get(curve.label, math.nan)
        if best_x is not None and math.isfinite(value):
            axes.plot([best_x], [value], "*", color=colour, markersize=13, markeredgecolor="black", markeredgewidth=0.7, zorder=5)
    _set_limits(axes, panel, drawn)
    if best_x is not None:
        axes.axvline(best_x, color=GREY, linestyle=":", linewidth=1.2, zorder=1)
    if len(drawn) > 1:
        axes.legend(loc="best")
    if not drawn:
        axes.text(0.5, 0.5, "nothing was measured", transform=axes.transAxes, ha="center", va="center", color=GREY)


def _set_limits(axes: Axes, panel: Panel, curves: Sequence[Curve]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    places = [x for curve in curves for x in curve.x]
    if places and min(places) == max(places):
        axes.set_xlim(places[0] - 1, places[0] + 1)
    values = [y for curve in curves for y in curve.y if math.isfinite(y)]
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    if panel.shares:
        axes.set_ylim(-0.02, 1.05)
    elif panel.unit == "loss" and values and min(values) > 0 and max(values) > 30 * min(values):
        axes.set(yscale="log", ylabel=f"{panel.unit}, logarithmic")
        axes.yaxis.set_major_formatter(plain)
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_formatter(plain)  # the default one writes a factor such as 1e-3 into the title
    if panel.from_zero:
        axes.set_ylim(bottom=0)


# --- classes ------------------------------------------------------------------------------------------------------------------------------


def class_figure(title: str, subtitle: str, matrix: np.ndarray, classes: Sequence[str], letters: Lettering) -> Figure:
    """Recall and precision of the classes, and the confusion matrix ``[C, C]`` (rows: true class)."""
    count = len(classes)
    side = 3.2 + 0.42 * min(max(count, 5), 20) if count <= _MANY_CLASSES else 9.5
    figure = new_figure(side + 6.5, side + 0.5, title, subtitle)
    left, right = figure.subplots(1, 2, width_ratios=(5.0, side))
    names = class_labels(classes, letters)
    draw_class_scores(left, matrix, names)
    draw_confusion(right, matrix, names)
    add_note(figure, classes, letters)
    return figure


def confusion_figure(matrix: np.ndarray, classes: Sequence[str], letters: Lettering) -> Figure:
    """The confusion matrix ``[C, C]`` (rows: true class) only."""
    side = 2.5 + 0.5 * min(len(classes), 20)
    figure = new_figure(side + 0.8, side, "")
    names = class_labels(classes, letters)
    draw_confusion(figure.add_subplot(), matrix, names)
    add_note(figure, classes, letters)
    return figure


def class_labels(classes: Sequence[str], letters: Lettering) -> list[str]:
    """Class names as drawn: ``class 3`` (from 1) if no font has a name's characters; long names are shortened."""
    return [shortened_name(visible(name)) if letters.draws(name) else f"class {number}" for number, name in enumerate(classes, start=1)]


def add_note(figure: Figure, classes: Sequence[str], letters: Lettering) -> None:
    """Explain ``class 3``, if it replaces a name."""
    if not all(map(letters.draws, classes)):
        note = "class k: the k-th class; no installed font can draw its name (Noto Sans CJK can)"
        figure.supxlabel(note, fontsize=8, color=GREY)


def shortened_name(name: str, columns: int = _NAME_COLUMNS) -> str:
    """``name``, or its head and tail if it is wider than ``columns``, as long names often differ only at their ends.

    >>> shortened_name('全髋关节置换术后，左侧', 13)
    '全髋关…左侧'
    """
    if terminal_columns(name) <= columns:
        return name
    head, tail = name, ""
    while terminal_columns(head) > columns * 2 // 3 - 1:
        head = head[:-1]
    while terminal_columns(tail) <= columns // 3 - 2:
        tail = name[len(name) - len(tail) - 1 :]
    return f"{head}…{tail}"


def confusion_matrix(table: PredictionTable) -> np.ndarray:
    """``[C, C]`` int64 counts of labelled cases with finite predictions; rows are true classes, columns predicted ones."""
    known = (table.labels >= 0) & np.isfinite(table.probabilities).all(axis=1)
    matrix = np.zeros((len(table.classes),) * 2, dtype=np.int64)
    np.add.at(matrix, (table.labels[known], table.probabilities[known].argmax(axis=1)), 1)
    return matrix


def class_scores(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``[C]`` recall and ``[C]`` precision from a confusion matrix; NaN for a class without cases, 0 for one that was never predicted."""
    hits, cases, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    none = np.where(cases > 0, 0.0, np.nan)
    recall = np.divide(hits, cases, out=none.copy(), where=cases > 0)
    precision = np.divide(hits, predicted, out=none.copy(), where=(cases > 0) & (predicted > 0))
    return recall, precision


def draw_class_scores(axes: Axes, matrix: np.ndarray, names: Sequence[str]) -> None:
    """Bars of recall and precision; with very many classes, those of the lowest recall."""
    recall, precision = class_scores(matrix)
    cases = matrix.sum(axis=1)
    shown = np.arange(len(names))
    axes.set_title("per class")
    if len(names) > _MANY_CLASSES:
        shown = np.argsort(np.where(cases > 0, recall, np.inf), kind="stable")[: _MANY_CLASSES // 2]
        axes.set_title(f"lowest {len(shown)} of {len(names)} classes")
    places = np.arange(len(shown))
    for values, colour, label, offset in ((recall, BLUE, "recall", -0.2), (precision, ORANGE, "precision", 0.2)):
        axes.barh(places + offset, np.nan_to_num(values[shown]), height=0.38, color=colour, label=label)
        for place, value in zip(places, values[shown], strict=True):
            text, at = ("no cases", 0) if math.isnan(value) else (f"{value:.2f}", value)
            if offset < 0 or not math.isnan(value):
                axes.text(at + 0.015, place + offset, text, va="center", fontsize=7, color=GREY)
    axes.set_yticks(places, [f"{names[i]} (n={cases[i]})" for i in shown])
    axes.set(xlim=(0, 1.12), ylim=(len(shown) - 0.4, -0.6), xlabel="share")
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.grid(False, axis="y")
    axes.legend(loc="lower right", bbox_to_anchor=(1.02, 0.99), ncols=2)  # next to the title, as bars fill the rest


def draw_confusion(axes: Axes, matrix: np.ndarray, names: Sequence[str]) -> None:
    """The confusion matrix, coloured by the shares of each row; with counts if there is room."""
    count = len(names)
    cases = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(cases, 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.figure.colorbar(image, ax=axes, shrink=0.7, label="share of the true class")
    axes.set(title="confusion matrix", xlabel="predicted", ylabel="true")
    axes.grid(False)
    axes.spines[:].set_visible(True)
    if count > _MANY_CLASSES:
        step = next(step for step in (5, 10, 20, 25, 50, 100, 200, 500, count) if count <= 12 * step)
        places = np.array([0, *range(step - 1, count, step)])
        axes.set_xticks(places, places + 1)
        axes.set_yticks(places, places + 1)
        axes.set(xlabel="predicted, number of the class", ylabel="true, number of the class")
        return
    size = 9 if count <= 20 else 7
    axes.set_xticks(np.arange(count - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(count - 1) + 0.5, minor=True)
    axes.grid(True, which="minor", color="white", linewidth=1.5 if count <= 20 else 0.5)
    axes.tick_params(which="minor", length=0)
    axes.set_xticks(range(count), names, rotation=90 if count > 4 or max(map(terminal_columns, names)) > 8 else 0, fontsize=size)
    axes.set_yticks(range(count), names, fontsize=size)
    if count <= 20:
        for (row, column), number in np.ndenumerate(matrix):
            if number:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(number), ha="center", va="center", color=colour, fontsize=8)


# --- retrieval ----------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recalls:
    """R@K of one direction.

    Attributes:
        label: Label in the legend.
        depths: Values of K.
        values: R@K for each depth, in [0, 1].
        chance: R@K of a random order.
    """

    label: str
    depths: Sequence[int]
    values: Sequence[float]
    chance: Sequence[float]


@dataclass(frozen=True)
class Histograms:
    """Distribution of the cosines of all pairs.

    Attributes:
        positive: ``[H]`` counts of matching pairs.
        negative: ``[H]`` counts of all others.
        edges: ``[H + 1]`` edges of the bins.
        means: Means to mark, ``(positive, negative)``; NaN for none.
    """

    positive: np.ndarray
    negative: np.ndarray
    edges: np.ndarray
    means: tuple[float, float]


def chance(positives: Sequence[int], gallery: int, depth: int) -> float:
    """R@``depth`` of a random order: the mean over queries of 1 - C(G - p, k) / C(G, k), for p matches in a gallery of G.

    >>> round(chance([1, 1], gallery=20, depth=5), 6)
    0.25
    """
    depth = min(depth, gallery)
    miss = [math.prod((gallery - own - i) / (gallery - i) for i in range(depth)) for own in positives]
    return 1 - sum(max(value, 0.0) for value in miss) / len(miss) if miss else math.nan


def retrieval_figure(title: str, subtitle: str, recalls: Sequence[Recalls], histograms: Histograms | None) -> Figure:
    """Bars of R@K in both directions, and the similarities of matching and other pairs."""
    figure = new_figure(13, 5.8, title, subtitle)
    left, right = figure.subplots(1, 2)
    draw_recalls(left, recalls)
    draw_similarities(right, histograms)
    return figure


def draw_recalls(axes: Axes, recalls: Sequence[Recalls]) -> None:
    """Grouped bars, each with a line at chance level."""
    depths = sorted({depth for found in recalls for depth in found.depths})
    width = 0.8 / max(len(recalls), 1)
    at_chance = None
    for index, (found, colour) in enumerate(zip(recalls, COLOURS, strict=False)):
        places = [depths.index(depth) + (index - (len(recalls) - 1) / 2) * width for depth in found.depths]
        axes.bar(places, np.nan_to_num(found.values), width=0.92 * width, color=colour, label=found.label)
        for place, value, level in zip(places, found.values, found.chance, strict=True):
            text = "undefined" if math.isnan(value) else f"{value:.3f}"
            axes.text(place, np.nan_to_num(value) + 0.01, text, ha="center", va="bottom", fontsize=9)
            at_chance = axes.plot([place - width / 2, place + width / 2], [level, level], color="black", linestyle="--", linewidth=1.4)[0]
    if at_chance is not None:
        at_chance.set_label("chance")
        _legend_below(axes)
    axes.set(title="share of queries with a hit among the first K", ylabel="R@K", ylim=(0, 1.1))
    axes.set_xticks(range(len(depths)), [f"K = {depth}" for depth in depths])
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.grid(False, axis="x")


def draw_similarities(axes: Axes, histograms: Histograms | None) -> None:
    """Both histograms, each with area 1, with their means and the gap."""
    axes.set(title="similarities of images and captions", xlabel="cosine similarity", ylabel="density")
    total = 0 if histograms is None else histograms.positive.sum() + histograms.negative.sum()
    if not total:
        axes.text(0.5, 0.5, "no similarities", transform=axes.transAxes, ha="center", va="center", color=GREY)
        return
    factor = min(bins_to_join(counts) for counts in (histograms.positive, histograms.negative) if counts.sum())
    edges = histograms.edges[::factor]
    for counts, mean, colour, label in (
        (histograms.negative, histograms.means[1], ORANGE, "other pairs"),
        (histograms.positive, histograms.means[0], BLUE, "pairs that belong together"),
    ):
        if counts.sum():
            joined = counts.reshape(-1, factor).sum(axis=1)
            occupied = np.flatnonzero(joined)
            first, last = occupied[0], occupied[-1] + 1
            heights = joined[first:last] / joined.sum() / np.diff(edges[first : last + 1])
            value = "" if math.isnan(mean) else f", mean {mean:.3f}"
            axes.stairs(heights, edges[first : last + 1], fill=True, alpha=0.45, color=colour, label=f"{label} (n={counts.sum()}){value}")
            axes.stairs(heights, edges[first : last + 1], color=colour, linewidth=1.2)
        if math.isfinite(mean):
            axes.axvline(mean, color=colour, linestyle="--", linewidth=1.8)
    gap = histograms.means[0] - histograms.means[1]
    if math.isfinite(gap):
        axes.set_title(f"similarities of images and captions: the means are {gap:.3f} apart")
    _legend_below(axes)


def bins_to_join(counts: np.ndarray) -> int:
    """Number of neighbouring bins of ``[H]`` counts to merge: by Rice's rule, 2 n^(1/3) bins over the range of n values."""
    occupied = np.flatnonzero(counts)
    wanted = (occupied[-1] + 1 - occupied[0]) / (2 * counts.sum() ** (1 / 3))
    return max(factor for factor in (1, 2, 4, 5, 8, 10, 20) if factor <= max(wanted, 1) and len(counts) % factor == 0)


def _legend_below(axes: Axes) -> None:
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=1)
