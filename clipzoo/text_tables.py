"""Plain-text tables with aligned columns; Chinese characters count as two columns."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from clipzoo.text import visible

MANY_METRICS = 8  # more do not fit side by side in a terminal


def rows_or_columns(corner: str, columns: dict[str, dict[str, str]], num_totals: int) -> str:
    """A table with one row per entry of ``columns``; with one column per entry if the entries have many values.

    Args:
        corner: Header of the first column.
        columns: Entries by name, each a dict of values by name; the first entry determines which values are shown.
        num_totals: Number of entries at the end that summarise the others; a rule separates them.
    """
    names = list(next(iter(columns.values())))
    if len(names) > MANY_METRICS:
        rows = [[name, *(found.get(name, "") for found in columns.values())] for name in names]
        return aligned([corner, *columns], rows)
    rows = [[title, *(found.get(name, "") for name in names)] for title, found in columns.items()]
    return aligned([corner, *names], rows, rule_before=len(rows) - num_totals)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], rule_before: int | None = None) -> str:
    """A plain-text table whose columns stay aligned when cells contain Chinese or escaped characters.

    Args:
        header: Column names.
        rows: Cells; the first column is left-aligned, the others right-aligned.
        rule_before: Index of the row that is preceded by a second rule.
    """
    header, rows = [visible(cell) for cell in header], [[visible(cell) for cell in row] for row in rows]
    widths = [max(terminal_columns(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0] + " " * (widths[0] - terminal_columns(cells[0]))]
        padded += [" " * (w - terminal_columns(cell)) + cell for w, cell in zip(widths[1:], cells[1:], strict=True)]
        return "  ".join(padded).rstrip()

    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [line(header), rule]
    for index, row in enumerate(rows):
        if index == rule_before:
            lines.append(rule)
        lines.append(line(row))
    return "\n".join(lines)


def terminal_columns(text: str) -> int:
    """Terminal columns that ``text`` occupies: two for a wide East Asian character, none for combining marks and joiners."""
    unseen = ("Mn", "Me", "Cf")
    return sum(0 if unicodedata.category(c) in unseen else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
