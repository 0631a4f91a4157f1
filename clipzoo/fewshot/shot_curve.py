"""The figure of an episodic evaluation: accuracy over shots, one line with intervals per method."""

from __future__ import annotations

import io
from collections.abc import Sequence

from clipzoo.fewshot.episodes import Plan, Point
from clipzoo.pictures import fonts
from clipzoo.pictures.figures import COLOURS, DPI, GREY, MARKERS, new_figure
from clipzoo.text import visible


def shot_curve(points: Sequence[Point], plan: Plan, name: str) -> bytes:
    """A PNG file; equal points give equal files.

    Args:
        points: Result of ``episodes.evaluate``.
        plan: Parameters of the episodes.
        name: Name of the data, for the title. Characters without a glyph are omitted.
    """
    with fonts.drawing([name]) as lettering:
        shown = "".join(character for character in visible(name) if lettering.draws(character))
        subtitle = f"{plan.episodes} episodes, {plan.query} queries per class; bars: 95 % interval of the mean over episodes"
        figure = new_figure(7.8, 4.6, f"{plan.way}-way accuracy{f' on {shown}' if shown else ''}", subtitle)
        axes = figure.subplots()
        shots = sorted(plan.shots)
        methods = list(dict.fromkeys(point.method for point in points))
        for index, method in enumerate(methods):
            own = sorted((point for point in points if point.method == method), key=lambda point: point.shot)
            # bars of overlapping methods are drawn side by side
            places = [shots.index(point.shot) + 0.06 * (index - (len(methods) - 1) / 2) for point in own]
            half = [point.interval[1] - point.mean for point in own]
            style = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)], "markersize": 5, "linewidth": 1.6}
            axes.errorbar(places, [point.mean for point in own], yerr=half, capsize=4, label=method, **style)
        axes.axhline(1 / plan.way, color=GREY, linestyle=":", linewidth=1.4, label="chance")
        axes.set(xlabel="support images per class", ylabel="accuracy", xlim=(-0.4, len(shots) - 0.6), ylim=(0, 1.02))
        axes.set_xticks(range(len(shots)), [str(shot) for shot in shots])
        figure.legend(loc="outside right center")
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=DPI)
    return content.getvalue()
