"""The figure of a learning curve: the metric over the number of training groups, with intervals and, if determined, the extrapolation."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from clipzoo.pictures import fonts
from clipzoo.pictures.figures import BLUE, GREY, ORANGE, new_figure, save
from clipzoo.scoring.learning_curve import LearningCurve
from clipzoo.text import visible


def draw(curve: LearningCurve, path: Path) -> None:
    """Write a PNG; equal curves give equal files. Characters of the name without a glyph are omitted."""
    with fonts.drawing([curve.name]) as lettering:
        name = "".join(character for character in visible(curve.name) if lettering.draws(character))
        subtitle = f"{curve.num_cases} cases of {curve.num_groups} groups; bars: {100 * curve.level:g} % interval"
        figure = new_figure(7.8, 4.8, f"{name}: {curve.method} on shares of the training {curve.unit}", subtitle)
        axes = figure.subplots()
        drawn = [point for point in curve.points if not _missing(point["value"])]
        sizes = [point["groups"] for point in drawn]
        values = np.array([point["value"] for point in drawn], dtype=float)
        for point in drawn if curve.repeats > 1 else ():
            own = [value for value in point["draws"] if not _missing(value)]
            axes.plot([point["groups"]] * len(own), own, "o", color=BLUE, alpha=0.35, markersize=3.5, markeredgewidth=0)
        low, high = (np.array([_number(point[key]) for point in drawn], dtype=float) for key in ("low", "high"))
        bars = [np.nan_to_num(values - low), np.nan_to_num(high - values)]
        axes.errorbar(sizes, values, yerr=bars, color=BLUE, marker="o", markersize=5, linewidth=1.6, capsize=4, label="reached")
        if curve.determined and drawn:
            along = np.geomspace(min(sizes), 2 * curve.largest, 100)
            axes.plot(along, curve.value_at(along), "--", color=GREY, linewidth=1.4, label="power law")
            sign = -1 if curve.expected < curve.value_at(curve.largest) else 1  # of a loss, a gain goes down
            limits = np.sort(curve.expected + sign * (np.array([curve.gain_low, curve.gain_high]) - curve.gain))
            errors = np.maximum([[curve.expected - limits[0]], [limits[1] - curve.expected]], 0)
            style = {"color": ORANGE, "marker": "D", "markersize": 6, "capsize": 4, "linestyle": "none"}
            axes.errorbar([2 * curve.largest], [curve.expected], yerr=errors, label=f"twice the {curve.unit}", **style)
        axes.set(xlabel=f"training {curve.unit} per fold, mean", ylabel=curve.metric)
        axes.set_xlim(left=0)
        axes.legend(loc="best")
        save(figure, path)


def _missing(value: float | None) -> bool:
    return math.isnan(_number(value))


def _number(value: float | None) -> float:
    return math.nan if value is None else value
