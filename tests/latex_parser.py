"""A strict reader of the LaTeX that is written for papers: it refuses whatever LaTeX would take for a command, an argument or maths."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[{}$&%#_^~]|[^\\{}$&%#_^~]", re.DOTALL)
_COMMANDS = {"textbackslash", "textasciitilde", "textasciicircum", "pm", "ldots"}
_RULES = {r"\toprule", r"\midrule", r"\bottomrule"}


def text_of(latex: str) -> str:
    """Running text as it is printed.

    Raises:
        ValueError: A character or command has a meaning of its own, or braces or maths are not closed.
    """
    found, depth, maths = [], 0, False
    tokens = _TOKEN.findall(latex)
    if "".join(tokens) != latex:
        raise ValueError(f"a lone backslash: {latex!r}")
    for token in tokens:
        if token in "{}":
            depth += 1 if token == "{" else -1
            if depth < 0:
                raise ValueError(f"a brace is not open: {latex!r}")
        elif token == "$":
            maths = not maths
        elif token in "&%#_^~" or (token in "<>" and not maths):
            raise ValueError(f"{token!r} is not escaped: {latex!r}")
        elif token[0] == "\\" and token[1:] in "&%$#_{}":
            found.append(token[1:])
        elif token[0] == "\\":
            if token[1:] not in _COMMANDS:
                raise ValueError(f"{token} is not text: {latex!r}")
            found.append({"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "pm": "±", "ldots": "…"}[token[1:]])
        else:
            found.append(token)
    if depth or maths:
        raise ValueError(f"braces or maths are not closed: {latex!r}")
    return "".join(found)


def rows_of(latex: str) -> list[list[str]]:
    r"""The cells of the only ``tabular``, with the header first.

    Raises:
        ValueError: A row has another number of columns, or would be read as the argument of ``\\`` or of a rule.
    """
    begin, columns, body = re.fullmatch(r".*?(\\begin\{tabular\})\{(l?r*)\}\n(.*)\n\\end\{tabular\}.*", latex, re.DOTALL).groups()
    assert latex.count(begin) == 1
    rows = []
    for line in body.splitlines():
        if line in _RULES:
            continue
        if not line.endswith(r" \\") or line[0] in "[*":
            raise ValueError(f"not a row: {line!r}")
        cells = re.split(r"(?<!\\)&", line.removesuffix(r" \\"))
        if len(cells) != len(columns):
            raise ValueError(f"{len(cells)} columns instead of {len(columns)}: {line!r}")
        rows.append([text_of(cell.strip()).strip() for cell in cells])
    return rows
