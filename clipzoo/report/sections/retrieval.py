"""Retrieval: recalls beside chance, and at which rank the first match is."""

from __future__ import annotations

from typing import Any

from clipzoo.report.blocks import Block, Cell, Figure, Figures, Section, Table
from clipzoo.report.charts import Chart, Series, forest, svg
from clipzoo.report.words import Words


def section(content: dict[str, Any], words: Words) -> Section | None:
    """Both directions; ``None`` for other runs."""
    if not content["retrieval"]:
        return None
    blocks: list[Block] = []
    rows = [(found, recall) for found in content["retrieval"] for recall in found["recalls"]]
    pictures = forest([(recall["value"], recall["low"], recall["high"]) for _, recall in rows], None)
    shown = [
        [
            f"{words(found['direction'])}, R@{recall['depth']}",
            words.value(recall["value"], recall["low"], recall["high"]),
            Cell(svg=picture),
            words.number(recall["chance"]),
            str(found["queries"]),
            _sizes(found["gallery"]),
        ]
        for (found, recall), picture in zip(rows, pictures, strict=True)
    ]
    header = [words("recall_at"), words("value"), "", words("chance"), words("queries"), words("gallery")]
    blocks.append(Table(words("recalls_caption"), header, shown))
    blocks.append(Figures([_histogram(found, words) for found in content["retrieval"]]))
    return Section("retrieval", words("retrieval_title"), blocks)


def _sizes(sizes: list[int]) -> str:
    return str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}–{sizes[-1]}"


def _histogram(found: dict[str, Any], words: Words) -> Figure:
    bins = found["ranks"]
    ticks = [str(row["to"]) if row["from"] == row["to"] else f"{row['from']}–{row['to']}" for row in bins]
    series = Series("", range(len(bins)), [row["queries"] for row in bins], kind="bars")
    name = words("ranks_of", direction=words(found["direction"]))
    chart = Chart(name, [series], words("rank_of_first"), words("queries"), ticks=ticks, size=(4.6, 2.6))
    return Figure(svg(chart), name)
