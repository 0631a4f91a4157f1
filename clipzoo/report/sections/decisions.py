"""Curves of scores, confusion matrix, calibration and decisions."""

from __future__ import annotations

from typing import Any

from clipzoo.report.blocks import Block, Cell, Figure, Figures, Paragraph, Section, Table
from clipzoo.report.charts import Chart, Series, svg
from clipzoo.report.content.curves import MOST_CURVES
from clipzoo.report.words import Words

MOST_IN_MATRIX = 20  # classes; of more, the pairs that are confused most are listed


def section(content: dict[str, Any], words: Words) -> Section | None:
    """What the probabilities allow to decide; ``None`` for retrieval."""
    blocks = [
        *_score_curves(content, words),
        *_confusion(content["confusion"], words),
        *_calibration(content, words),
        *_operating_points(content["operating_points"], words),
        *_decision_curves(content["decision_curve"], words),
        *_conformal(content["conformal"], words),
    ]
    return Section("decisions", words("decisions_title"), blocks) if blocks else None


def _score_curves(content: dict[str, Any], words: Words) -> list[Block]:
    blocks: list[Block] = []
    for kind, area, x, y in (
        ("roc", "auroc", "false_positive_rate", "true_positive_rate"),
        ("precision_recall", "average_precision", "recall", "precision"),
    ):
        curves = content["curves"][kind]
        if not curves:
            continue
        figures = []
        for curve in curves:
            series = Series(
                curve["class"],
                curve["x"],
                curve["y"],
                curve["low"],
                curve["high"],
                curve["points"],
                kind="line" if kind == "roc" else "step",
            )
            base = Series("", [0, 1], [curve["prevalence"]] * 2, colour=7, dashed=True)
            name = f"{words(kind)}: {curve['class']}"
            limits = {"x_limits": (-0.02, 1.02), "y_limits": (-0.02, 1.03)}
            chart = Chart(
                name, [series] if kind == "roc" else [base, series], words(x), words(y), **limits, diagonal=kind == "roc", size=(2.6, 2.4)
            )
            value = words.value(curve.get(area), *(curve.get(f"{area}_interval") or (None, None)))
            figures.append(Figure(svg(chart), f"{curve['class']}: {words(area)} {value}" if area in curve else curve["class"]))
        total = len(content["classes"] or content["findings"])
        chosen = words("lowest_auroc", n=MOST_CURVES, total=total) if total > MOST_CURVES else ""
        blocks += [Paragraph(words.joined([words(f"{kind}_intro"), chosen])), Figures(figures)]
    return blocks


def _confusion(found: dict[str, Any], words: Words) -> list[Block]:
    if not found:
        return []
    names = found["classes"]
    if len(names) > MOST_IN_MATRIX:
        rows = [[row["label"], row["prediction"], str(row["cases"]), words.percent(row["share"])] for row in found["confused"]]
        return [Table(words("confused_caption"), [words("true"), words("predicted"), words("cases"), words("share")], rows)]
    rows = [
        [name, *(Cell(_count(n, share, words), share=share) for n, share in zip(counts, shares, strict=True))]
        for name, counts, shares in zip(names, found["counts"], found["shares"], strict=True)
    ]
    return [Table(words("confusion_caption"), [words("true_predicted"), *names], rows)]


def _count(n: int, share: float | None, words: Words) -> str:
    return f"{n} ({words.percent(share)})" if n and share is not None else str(n)


def _calibration(content: dict[str, Any], words: Words) -> list[Block]:
    diagrams, found = content["reliability"], content["calibration"]
    if not diagrams:
        return []
    figures = []
    for diagram in diagrams:
        title = words(f"reliability_{diagram['kind']}")
        series = Series(title, diagram["scores"], diagram["shares"], diagram["low"], diagram["high"], kind="limits")
        ends = {"x_limits": (-0.02, 1.02), "y_limits": (-0.02, 1.03)}
        chart = Chart(title, [series], words("largest_probability"), words("accuracy"), **ends, diagonal=True, size=(3.0, 2.7))
        mark = f" ({words('as_scored')})" if diagram["scored"] else ""
        figures.append(Figure(svg(chart), title + mark))
    blocks: list[Block] = [Paragraph(words("reliability_intro")), Figures(figures)]
    if found and found["ece"] is not None:
        numbers = {"ece": words.value(found["ece"], *found["interval"]), "brier": words.number(found["brier"])}
        blocks.append(Paragraph(words("calibration_numbers", **numbers)))
    temperatures = diagrams[0]["temperatures"]
    if temperatures:
        listed = words.listed(f"{fold} {words.number(value)}" for fold, value in temperatures.items())
        blocks.append(Paragraph(words("temperatures", listed=listed), "note"))
    return blocks


def _operating_points(points: list[dict], words: Words) -> list[Block]:
    if not points:
        return []
    columns = ("sensitivity", "specificity", "ppv", "npv")
    rows = [
        [
            point["class"],
            words.listed(words.number(value) for value in point["thresholds"].values()),
            *(words.value(point[column], *(point["intervals"].get(column) or (None, None))) for column in columns),
            words.percent(point["prevalence"]),
        ]
        for point in points
    ]
    header = [words("class"), words("thresholds"), *map(words, columns), words("prevalence")]
    return [Table(words("operating_caption", criterion=points[0]["criterion"]), header, rows)]


def _decision_curves(curves: list[dict], words: Words) -> list[Block]:
    if not curves:
        return []
    figures = []
    for curve in curves[:MOST_CURVES]:
        x = curve["thresholds"]
        top = max([value for value in (*curve["high"], *curve["treat_all"]) if value is not None], default=1.0)
        series = [
            Series(words("treat_all"), x, curve["treat_all"], colour=1, dashed=True),
            Series(words("treat_none"), x, [0.0] * len(x), colour=7, dashed=True),
            Series(words("model"), x, curve["model"], curve["low"], curve["high"]),
        ]
        if None in (*curve["low"], *curve["high"]):
            series[-1] = Series(words("model"), x, curve["model"])
        ends = {"x_limits": (0.0, 1.0), "y_limits": (-0.05 * top - 0.01, 1.1 * top)}
        chart = Chart(
            f"{words('decision_curve')}: {curve['class']}", series, words("threshold"), words("net_benefit"), **ends, size=(2.6, 2.4)
        )
        figures.append(Figure(svg(chart), curve["class"], [(s.label, s.colour) for s in series]))
    return [Paragraph(words("decision_intro")), Figures(figures)]


def _conformal(found: dict[str, Any], words: Words) -> list[Block]:
    if not found or found["coverage"] is None:
        return []
    numbers = {
        "wanted": words.percent(1 - found["alpha"]),
        "coverage": words.value(found["coverage"], *found["interval"]),
        "size": words.number(found["mean_size"]),
        "single": words.percent(found["singletons"]),
    }
    return [Paragraph(words("conformal", **numbers))]
