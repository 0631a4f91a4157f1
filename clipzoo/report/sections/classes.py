"""Per class, per finding and per subgroup."""

from __future__ import annotations

from typing import Any

from clipzoo.report.blocks import Block, Cell, Paragraph, Section, Table
from clipzoo.report.charts import forest
from clipzoo.report.words import Words

_CLASS_COLUMNS = ("recall", "specificity", "precision", "npv", "f1", "auroc")
_FINDING_COLUMNS = ("auroc", "average_precision", "sensitivity", "specificity", "ppv", "npv", "f1")


def section(content: dict[str, Any], words: Words) -> Section | None:
    """The classes or findings, then the subgroups; ``None`` if there are neither."""
    blocks: list[Block] = []
    if content["classes"]:
        blocks.append(_table(content["classes"], _CLASS_COLUMNS, "class", ("cases", "groups"), words))
    if content["findings"]:
        blocks.append(_table(content["findings"], _FINDING_COLUMNS, "finding", ("cases", "positives"), words))
        blocks.append(Paragraph(words("finding_thresholds", criterion=content["findings"][0]["criterion"]), "note"))
    for attribute in dict.fromkeys(row["attribute"] for row in content["subgroups"]):
        blocks += _subgroup(attribute, content, words)
    return Section("classes", words("classes_title"), blocks) if blocks else None


def _table(rows: list[dict], columns: tuple[str, ...], name: str, counts: tuple[str, ...], words: Words) -> Table:
    pictures = forest([(row.get(columns[0]), *(row.get("intervals", {}).get(columns[0]) or (None, None))) for row in rows], None)
    shown = [
        [
            row[name],
            *(str(row[count]) for count in counts),
            words.value(row.get(columns[0]), *_limits(row, columns[0])),
            Cell(svg=picture),
            *(words.value(row.get(column), *_limits(row, column)) for column in columns[1:]),
        ]
        for row, picture in zip(rows, pictures, strict=True)
    ]
    header = [words(name), *map(words, counts), words(columns[0]), "", *map(words, columns[1:])]
    return Table(words(f"{name}_caption"), header, shown)


def _limits(row: dict, column: str) -> tuple[float | None, float | None]:
    found = row.get("intervals", {}).get(column)
    return (None, None) if found is None else (found[0], found[1])


def _subgroup(attribute: str, content: dict[str, Any], words: Words) -> list[Block]:
    own = [row for row in content["subgroups"] if row["attribute"] == attribute]
    metrics = list(dict.fromkeys(metric for row in own for metric in row["values"]))
    shown = [
        [
            row["value"] or words("unknown"),
            str(row["cases"]),
            str(row["groups"]),
            *(
                words("too_few") if row["too_few"] else words.value(*(row["values"].get(metric) or [None, None, None]))
                for metric in metrics
            ),
        ]
        for row in own
    ]
    blocks: list[Block] = [
        Table(
            words("subgroup_caption", attribute=attribute), [attribute, words("cases"), words("groups"), *map(words.metric, metrics)], shown
        )
    ]
    pairs = [pair for pair in content["subgroup_differences"] if pair["attribute"] == attribute]
    if pairs:
        rows = [
            [
                f"{pair['first']} − {pair['second']}",
                words.metric(pair["metric"]),
                words.difference(pair["difference"], pair["low"], pair["high"]),
                words.p(pair["adjusted_p_value"]),
            ]
            for pair in pairs
        ]
        header = [words("pair"), words("metric"), words("difference"), words("p_holm")]
        blocks.append(Table(words("subgroup_pairs", attribute=attribute), header, rows, folded=len(rows) > 6))
    return blocks
