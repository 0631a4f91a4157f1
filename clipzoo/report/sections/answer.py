"""The answer first: the metric that decides, reasons for doubt, and all metrics."""

from __future__ import annotations

from typing import Any

from clipzoo.report.blocks import Block, Cell, Paragraph, Section, Table, Text
from clipzoo.report.charts import forest
from clipzoo.report.words import Words
from clipzoo.statistics.directions import greater_is_better

_OPEN_NOTES = 3
_KINDS = {"classification": "classes", "findings": "findings", "retrieval": "pairs"}


def headline(content: dict[str, Any], words: Words) -> dict[str, str]:
    """The answer in large letters: metric, value and interval."""
    found = content["answer"]
    return {
        "metric": words.metric(found["metric"]),
        "value": words.number(found["value"]),
        "interval": words.interval(found["low"], found["high"], found["level"]),
        "chance": "" if found["chance"] is None else words("chance_is", value=words.number(found["chance"])),
    }


def section(content: dict[str, Any], words: Words) -> Section:
    """Doubts, what was measured on what, and the table of metrics."""
    found = content["answer"]
    blocks: list[Block] = [Paragraph(words.warning(warning), "warning") for warning in content["warnings"]]
    blocks.append(Paragraph(about(content, words)))
    blocks.append(metrics_table(found, words))
    notes = list(dict.fromkeys(found["notes"]))
    blocks += [Paragraph(note, "note", english=True) for note in notes[:_OPEN_NOTES]]
    if len(notes) > _OPEN_NOTES:
        blocks.append(Text(words("more_notes", n=len(notes) - _OPEN_NOTES), "\n".join(notes[_OPEN_NOTES:]), folded=True))
    return Section("answer", words("answer"), blocks)


def about(content: dict[str, Any], words: Words) -> str:
    """What was tested, and how the scored epoch was chosen."""
    found = content["answer"]
    several = found["images"] != found["cases"]
    counted = words("cases_of_images", cases=found["cases"], images=found["images"]) if several else words("n_images", n=found["cases"])
    alone = found["groups"] in (0, found["cases"])
    sentences = [
        words(
            f"about_{_KINDS[content['kind']]}",
            images=counted,
            groups="" if alone else words("of_groups", groups=found["groups"]),
            folds=found["folds"],
            classes=found["classes"],
        ),
        "" if alone else words("about_groups"),
        words("about_unit", join=words(f"join_{found['join']}"), n=found["scored"]) if found["unit"] == "group" else "",
        words("about_epoch", how=words.selection(found["selection"])),
    ]
    return words.joined(sentence for sentence in sentences if sentence)


def metrics_table(found: dict[str, Any], words: Words) -> Table:
    """Every metric over all out-of-fold predictions with its interval, and by fold."""
    rows = found["metrics"]
    shares = [row for row in rows if _is_share(row)]
    pictures = dict(zip((row["metric"] for row in shares), forest([_triple(row) for row in shares], None), strict=True))
    folds = list(rows[0]["folds"]) if rows else []
    shown = [
        [
            words.metric(row["metric"]),
            Cell(words.value(row["pooled"], row["low"], row["high"]), strong=row["metric"] == found["metric"]),
            Cell(svg=pictures.get(row["metric"], "")),
            f"{words.number(row['mean'])} ± {words.number(row['sd'])}" if len(folds) > 1 else words.number(row["mean"]),
            *(words.number(row["folds"][fold]) for fold in folds),
        ]
        for row in rows
    ]
    header = [words("metric"), words("pooled_with", level=f"{100 * found['level']:g}"), "", words("mean_sd"), *folds]
    return Table(words("metrics_caption"), header, shown)


def _is_share(row: dict[str, Any]) -> bool:
    """Whether the value is on the common scale from 0 to 1, where pictures of intervals can be compared; not of losses."""
    return greater_is_better(row["metric"]) and row["pooled"] is not None and row["low"] is not None and 0 <= row["low"] <= row["high"] <= 1


def _triple(row: dict[str, Any]) -> tuple[float | None, float | None, float | None]:
    return row["pooled"], row["low"], row["high"]
