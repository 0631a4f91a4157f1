"""Tables as plain text with aligned columns (Chinese characters count as two columns), as Markdown and as LaTeX."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence

from clipzoo.text import visible

MANY_METRICS = 8  # more do not fit side by side in a terminal
_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"},
    **{"\N{MINUS SIGN}": "$-$", "±": r"$\pm$", "–": "--", "…": r"\ldots{}"},
}


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


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is left-aligned, the others right-aligned."""
    cells = [[visible(cell).replace("|", "\\|") for cell in row] for row in (header, *rows)]
    rule = [":--", *["--:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (cells[0], rule, *cells[1:]))


def latex(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A LaTeX table for the package booktabs; the first column is left-aligned, the others right-aligned."""
    lines = [" & ".join(map(latex_text, row)) + r" \\" for row in (header, *rows)]
    lines = ["{}" + line if line[0] in "[*" else line for line in lines]  # otherwise an argument of the command before it
    columns = "l" + "r" * (len(header) - 1)
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}"])


def latex_text(text: str) -> str:
    """``text`` with the characters escaped that LaTeX would interpret.

    >>> latex_text("95 % [-0.1, 0.2]_i")
    '95 \\\\% [$-$0.1, 0.2]\\\\_i'
    """
    return "".join(_LATEX.get(character, character) for character in re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", visible(text)))


def number(value: float | None) -> str:
    """A metric with four digits, or a dash if it is undefined."""
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def limits(interval: Sequence[float] | None) -> str:
    """``[low, high]`` with three digits, or a dash."""
    return "–" if interval is None or math.isnan(interval[0]) else f"[{interval[0]:.3f}, {interval[1]:.3f}]"


def value_with_limits(value: Sequence[float] | None) -> str:
    """``(value, low, high)`` as ``value [low, high]``; a dash if the value is undefined."""
    if value is None or math.isnan(value[0]):
        return "–"
    return f"{number(value[0])} {limits(value[1:])}"


def p_text(value: float, *, bare: bool = False) -> str:
    """``p = 0.012``, or ``p < 0.001``; ``bare`` leaves out ``p =``."""
    if math.isnan(value):
        return "–" if bare else "p undefined"
    text = "< 0.001" if value < 0.001 else f"{value:.3f}"
    return text if bare else f"p {text}" if text.startswith("<") else f"p = {text}"


def groups_text(count: int) -> str:
    """``1 group``, ``2 groups`` …"""
    return f"{count} group{'s' * (count != 1)}"


def terminal_columns(text: str) -> int:
    """Terminal columns that ``text`` occupies: two for a wide East Asian character, none for combining marks and joiners."""
    unseen = ("Mn", "Me", "Cf")
    return sum(0 if unicodedata.category(c) in unseen else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
