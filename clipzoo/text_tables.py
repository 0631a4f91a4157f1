"""Tables in plain text: aligned in columns, Chinese characters counted as two."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from clipzoo.text import visible

MANY_METRICS = 8  # more do not fit side by side on a terminal


def rows_or_columns(corner: str, columns: dict[str, dict[str, str]], num_totals: int) -> str:
    """A table with a row for each entry of ``columns``; where these have very many values each, with a column for each.

    Args:
        corner: Heads the first column.
        columns: By name; each has values by name, those of the first entry being the ones that are shown.
        num_totals: How many of the last entries sum up the others; a rule stands before them.
    """
    names = list(next(iter(columns.values())))
    if len(names) > MANY_METRICS:
        rows = [[name, *(found.get(name, "") for found in columns.values())] for name in names]
        return aligned([corner, *columns], rows)
    rows = [[title, *(found.get(name, "") for name in names)] for title, found in columns.items()]
    return aligned([corner, *names], rows, rule_before=len(rows) - num_totals)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], rule_before: int | None = None) -> str:
    """A table in plain text whose columns stay aligned when cells hold Chinese, or what has to be escaped to be seen.

    Args:
        header: Of the columns.
        rows: Cells; the first column is aligned to the left, the others to the right.
        rule_before: Of this row stands a second rule.
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
    """Columns that ``text`` takes on a terminal: two for a wide East Asian character, none for marks and joiners."""
    unseen = ("Mn", "Me", "Cf")
    return sum(0 if unicodedata.category(c) in unseen else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
