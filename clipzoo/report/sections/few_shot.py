"""Few-shot episodes: accuracy over the number of shots."""

from __future__ import annotations

from typing import Any

from clipzoo.report.blocks import Figure, Figures, Paragraph, Section, Table
from clipzoo.report.charts import NUM_COLOURS, Chart, Series, svg
from clipzoo.report.words import Words


def section(content: dict[str, Any], words: Words) -> Section:
    """The table and the curve of every method."""
    points = content["points"]
    methods = list(dict.fromkeys(point["method"] for point in points))
    shots = sorted({point["shot"] for point in points})
    by_place = {(point["method"], point["shot"]): point for point in points}
    found = {place: words.value(point["mean"], point["low"], point["high"]) for place, point in by_place.items()}
    rows = [[method, *(found.get((method, shot), "–") for shot in shots)] for method in methods]
    series = []
    for colour, method in enumerate(methods):
        own = [by_place[method, shot] for shot in shots if (method, shot) in by_place]
        numbers = ([point[key] for point in own] for key in ("shot", "mean", "low", "high"))
        series.append(Series(method, *numbers, colour=colour, kind="line" if len(own) > 1 else "points"))
    chance = 1 / points[0]["way"]
    base = Series("", [shots[0], shots[-1]], [chance, chance], colour=7, dashed=True)
    chart = Chart(words("few_shot_chart"), [base, *series], words("shots"), words("mean_accuracy"), size=(5.2, 3.4), whole=True)
    legend = [(one.label, one.colour % NUM_COLOURS) for one in series]
    intro = words("few_shot_intro", way=points[0]["way"], episodes=points[0]["episodes"], chance=words.number(chance))
    table = Table(words("few_shot_caption"), [words("method"), *(words("n_shots", n=shot) for shot in shots)], rows)
    return Section("answer", words("answer"), [Paragraph(intro), table, Figures([Figure(svg(chart), words("few_shot_chart"), legend)])])
