"""Few-shot episodes: accuracy over the number of shots."""

from __future__ import annotations

from typing import Any

from clipzoo.report.blocks import Block, Cell, Figure, Figures, Paragraph, Section, Table
from clipzoo.report.charts import NUM_COLOURS, Chart, Series, forest, svg
from clipzoo.report.words import Words


def answer(content: dict[str, Any], words: Words) -> Section:
    """What was tested, the table and the curve of every method, and their paired differences."""
    points, about = content["points"], content["about"]
    way, number = points[0]["way"], points[0]["episodes"]
    numbers = {"way": way, "episodes": number, "query": about["query"], "chance": words.number(1 / way)}
    groups = words("of_groups", groups=about["groups"]) if about["groups"] < about["images"] else ""
    what = {**about, "groups": groups, "classes": len(about["classes"])}
    blocks: list[Block] = [Paragraph(words.warning(warning), "warning") for warning in content["warnings"]]
    blocks += [Paragraph(words("few_shot_about", **what)), Paragraph(words("few_shot_intro", **numbers))]
    blocks += [_table(points, words), Figures([_curve(points, words)])]
    if found := content["differences"]:
        blocks += [_differences(found, words), Paragraph(words("few_shot_paired"))]
    blocks += [Paragraph(note, "note", english=True) for note in about["notes"]]
    return Section("answer", words("answer"), blocks)


def reproducibility(content: dict[str, Any], words: Words) -> Section:
    """Classes, seed and versions."""
    about = content["about"]
    facts = [[words("classes_of_episodes"), Cell(words.listed(about["classes"]), wraps=True)], [words("groups"), str(about["groups"])]]
    facts += [[words("seed_of", name="--seed"), str(about["seed"])], *([name, version] for name, version in about["versions"].items())]
    tables = [Table(words("facts_caption"), [words("what"), ""], facts)]
    if about["texts"]:
        rows = [[name, Cell(words.joined(texts), wraps=True)] for name, texts in about["texts"].items()]
        tables.append(Table(words("texts_caption"), [words("class"), words("texts")], rows, folded=True))
    return Section("reproducibility", words("reproducibility_title"), tables)


def _table(points: list[dict[str, Any]], words: Words) -> Table:
    shots = sorted({point["shot"] for point in points})
    found = {(point["method"], point["shot"]): words.value(point["mean"], point["low"], point["high"]) for point in points}
    methods = dict.fromkeys(point["method"] for point in points)
    rows = [[method, *(found.get((method, shot), "–") for shot in shots)] for method in methods]
    return Table(words("few_shot_caption"), [words("method"), *(words("n_shots", n=shot) for shot in shots)], rows)


def _curve(points: list[dict[str, Any]], words: Words) -> Figure:
    """Shots are equally far apart, and methods beside each other, so that none hides another."""
    shots = sorted({point["shot"] for point in points})
    methods = list(dict.fromkeys(point["method"] for point in points))
    series = []
    for colour, method in enumerate(methods):
        own = sorted((point for point in points if point["method"] == method), key=lambda point: point["shot"])
        places = [shots.index(point["shot"]) + 0.06 * (colour - (len(methods) - 1) / 2) for point in own]
        values, low, high = ([point[key] for point in own] for key in ("mean", "low", "high"))
        series.append(Series(method, places, values, low, high, colour=colour, kind="limits"))
    chance = 1 / points[0]["way"]
    ends = (-0.4, len(shots) - 0.6)
    base = Series("", ends, [chance, chance], colour=7, dashed=True)
    labels = {"x_label": words("shots"), "y_label": words("mean_accuracy"), "ticks": [str(shot) for shot in shots]}
    chart = Chart(words("few_shot_chart"), [base, *series], **labels, x_limits=ends, size=(5.2, 3.4))
    return Figure(svg(chart), words("few_shot_chart"), [(one.label, one.colour % NUM_COLOURS) for one in series])


def _differences(found: list[dict[str, Any]], words: Words) -> Table:
    pictures = forest([(row["difference"], row["low"], row["high"]) for row in found], 0.0)
    rows = [
        [
            f"{row['first']} − {row['second']}",
            str(row["shot"]),
            words.difference(row["difference"], row["low"], row["high"]),
            Cell(svg=picture),
            words.p(row["p_value"]),
            words.p(row["adjusted_p_value"]),
        ]
        for row, picture in zip(found, pictures, strict=True)
    ]
    header = [words("pair"), words("shots"), words("difference_with", level="95"), "", "p", words("p_holm")]
    return Table(words("pairs_caption", metric=words("mean_accuracy")), header, rows)
