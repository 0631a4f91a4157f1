"""Learning curves of all folds, the data, and how to reproduce the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clipzoo.report.blocks import Block, Cell, Figure, Figures, Paragraph, Section, Table, Text
from clipzoo.report.charts import NUM_COLOURS, Chart, Series, svg
from clipzoo.report.words import Words


def curves(content: dict[str, Any], words: Words) -> Section | None:
    """Loss and deciding metric of every fold over the epochs; ``None`` without a history."""
    found = content["training"]
    if not found:
        return None
    shown = [(i % NUM_COLOURS, fold, rows) for i, (fold, rows) in enumerate(found["folds"].items())]
    marks = [(found["scored_epoch"][fold], colour) for colour, fold, _ in shown if found["scored_epoch"][fold]]
    figures = []
    for key, label in (("loss", words("training_loss")), ("metric", f"{words.metric(found['metric'])}, {words('part_' + found['on'])}")):
        series = [
            _series(fold, rows["epochs"], rows[key], colour)
            for colour, fold, rows in shown
            if any(value is not None for value in rows[key])
        ]
        if series:
            chart = Chart(label, series, words("epoch"), label, marks=marks, size=(4.6, 3.0), whole=True)
            figures.append(Figure(svg(chart), label, [(one.label, one.colour) for one in series]))
    return Section("training", words("training_title"), [Paragraph(words("training_intro")), Figures(figures)]) if figures else None


def _series(fold: str, epochs: list[int], values: list[float | None], colour: int) -> Series:
    """The epochs that have a value, joined: an evaluation may come every few epochs only."""
    found = [(epoch, value) for epoch, value in zip(epochs, values, strict=True) if value is not None]
    x, y = zip(*found, strict=True)
    return Series(fold, x, y, colour=colour, kind="line" if len(found) > 1 else "points")


def data(content: dict[str, Any], words: Words) -> Section | None:
    """Cases and groups by class and fold; ``None`` for a baseline."""
    found = content["data"]
    if not found:
        return None
    folds = list(found["parts"])
    rows = [
        [row["class"] or words("all_cases"), str(row["cases"]), str(row["groups"]), *(str(row["tested"][fold]) for fold in folds)]
        for row in found["classes"]
    ]
    parts = [[fold, *(str(found["parts"][fold][part]) for part in ("train", "val", "test"))] for fold in folds]
    blocks: list[Block] = [
        Table(
            words("data_caption"),
            [words("class"), words("cases"), words("groups"), *(words("tested_in", fold=fold) for fold in folds)],
            rows,
        ),
        Table(words("parts_caption"), [words("fold"), words("part_train"), words("part_val"), words("part_test")], parts),
    ]
    sizes, equal = found["sizes"], found["equal_images"]
    if sizes:
        blocks.append(Paragraph(words("sizes", **{key: f"{value:g}" for key, value in sizes.items()})))
    if equal:
        blocks.append(Paragraph(words("equal_images" if equal["sets"] else "no_equal_images", **equal)))
    if found["without_class"]:
        blocks.append(Paragraph(words("without_class", n=found["without_class"])))
    if found["captions"]:
        blocks.append(Paragraph(words("captions", n=found["captions"])))
    return Section("data", words("data_title"), blocks)


def reproducibility(content: dict[str, Any], words: Words) -> Section | None:
    """Methods, commands, config, versions and digests; ``None`` for a baseline."""
    found = content["reproducibility"]
    if not found:
        return None
    blocks: list[Block] = []
    if found["methods"]:
        blocks += [Paragraph(found["methods"][words.language])]
    facts: list[list[str | Cell]] = [[words("created"), found["created"]]]
    facts += [[words("seed_of", name=name), str(seed)] for name, seed in found["seeds"].items() if seed is not None]
    facts += [[name, Cell(value, wraps=True)] for name, value in _versions(found["environment"])]
    facts += [[words("digest_of", name=name), digest] for name, digest in found["digests"].items() if digest]
    blocks.append(Table(words("facts_caption"), [words("what"), words("value")], facts, folded=True))
    blocks.append(Text(words("commands"), "\n".join(found["commands"])))
    if found["config"]:
        rows = [[row["key"], Cell(row["value"], wraps=True), row["origin"]] for row in found["config"]]
        blocks.append(Table(words("config_caption"), [words("key"), words("value"), words("origin")], rows, folded=True))
    seconds = [
        [
            row["fold"],
            row["device"],
            row["precision"],
            str(row["processes"]),
            f"{row['epoch']} / {row['epochs_trained']}",
            Cell(f"{row['seconds']:.0f}"),
        ]
        for row in found["training"]
    ]
    header = [words("fold"), words("device"), words("precision_of"), words("processes"), words("epochs"), words("seconds")]
    blocks.append(Table(words("folds_trained"), header, seconds, folded=True))
    return Section("reproducibility", words("reproducibility_title"), blocks)


def _versions(environment: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of the record of the environment, flat."""
    for name, value in environment.items():
        if isinstance(value, Mapping):
            yield from _versions(value)
        elif value not in (None, "", [], "not installed"):
            yield f"{prefix}{name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)
