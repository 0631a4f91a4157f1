"""Bars of the areas under the curves of every finding, for several labels per case.

Shapes: C findings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from clipzoo.pictures.figures import BLUE, GREY, ORANGE, add_note, class_labels, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clipzoo.pictures.fonts import Lettering

_MOST = 40  # with more findings, those of the lowest AUROC


def findings_figure(
    title: str,
    subtitle: str,
    names: Sequence[str],
    areas: tuple[np.ndarray, np.ndarray],
    shares: np.ndarray,
    letters: Lettering,
) -> Figure:
    """AUROC and average precision of every finding, with a mark at the average precision of chance.

    Args:
        title: Title.
        subtitle: Lines below it.
        names: C names.
        areas: ``[C]`` AUROC and ``[C]`` average precision; NaN where undefined.
        shares: ``[C]`` share of present cases among the known ones, which is the average precision of chance; NaN if none is known.
        letters: Result of ``fonts.drawing``.
    """
    shown = np.arange(len(names))
    if len(names) > _MOST:
        shown = np.argsort(np.where(np.isnan(areas[0]), np.inf, areas[0]), kind="stable")[:_MOST]
    figure = new_figure(11.5, 2.4 + 0.42 * len(shown), title, subtitle)
    axes = figure.subplots()
    places = np.arange(len(shown))
    for values, colour, label, offset in ((areas[0], BLUE, "AUROC", -0.2), (areas[1], ORANGE, "average precision", 0.2)):
        axes.barh(places + offset, np.nan_to_num(values[shown]), height=0.38, color=colour, label=label)
        for place, value in zip(places, values[shown], strict=True):
            text, at = ("undefined", 0) if math.isnan(value) else (f"{value:.2f}", value)
            axes.text(at + 0.015, place + offset, text, va="center", fontsize=7, color=GREY)
    chance = dict(color="black", linestyle="--", linewidth=1.4)
    axes.vlines(np.nan_to_num(shares[shown]), places, places + 0.4, label="average precision of chance", **chance)
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1, label="AUROC of chance")
    labels = class_labels(names, letters)
    axes.set_yticks(places, [labels[i] for i in shown])
    what = "per finding" if len(shown) == len(names) else f"lowest {len(shown)} of {len(names)} findings"
    axes.set(xlim=(0, 1.12), ylim=(len(shown) - 0.4, -0.6), xlabel="area", title=what)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.grid(False, axis="y")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    add_note(figure, names, letters)
    return figure
