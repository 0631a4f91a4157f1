"""A config as a Python file with comments."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from clipzoo.planning.plan import Plan
from clipzoo.text import visible

_WIDTH = 110


def config_text(plan: Plan, title: str, notes: tuple[str, ...] = ()) -> str:
    """The file: a docstring, then one block per section, with the reason for every choice above it.

    Args:
        plan: Config and decisions.
        title: Text of the docstring.
        notes: Remarks at the end of the docstring.
    """
    comments: dict[str, list[str]] = {}
    for decision in plan.decisions:
        for key in decision.keys[:1]:
            comments.setdefault(key.removesuffix(".type"), []).append(f"{decision.topic}: {decision.choice}; {decision.reason}")
    words = "\n\n".join("\n".join(_wrapped(text, _WIDTH)) for text in (title, *(f"Note: {note}" for note in notes)))
    parts = [f'"""{_in_docstring(words)}\n"""']
    for section, value in plan.config.plain().items():
        parts.append("\n".join([*_comment(comments, section, ""), f"{section} = {_python(value, section, comments, '')}"]))
    return "\n\n".join(parts) + "\n"


def _in_docstring(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', "'")


def _comment(comments: Mapping[str, list[str]], path: str, indent: str) -> list[str]:
    return [f"{indent}# {line}" for text in comments.get(path, []) for line in _wrapped(text, _WIDTH - len(indent) - 2)]


def _wrapped(text: str, width: int) -> list[str]:
    """Lines that do not divide commands and paths, where possible."""
    return textwrap.wrap(visible(text), width, break_long_words=False, break_on_hyphens=False)


def _python(value: object, path: str, comments: Mapping[str, list[str]], indent: str) -> str:
    """A value as source text: one line if it fits and nothing inside it has a comment, otherwise a line per key."""
    if not isinstance(value, dict) or not all(key.isidentifier() for key in value):
        return _quoted(value) if isinstance(value, str) else repr(value)
    items = [f"{key}={_python(item, '', {}, '')}" for key, item in value.items()]
    short = f"dict({', '.join(items)})"
    if len(indent) + len(short) <= _WIDTH - 20 and not any(key.startswith(f"{path}.") for key in comments):
        return short
    lines, inner = ["dict("], indent + "    "
    for key, item in value.items():
        lines += _comment(comments, f"{path}.{key}", inner)
        text = _python(item, f"{path}.{key}", comments, inner)
        lines.append(f"{inner}{key}={text},")
    return "\n".join([*lines, f"{indent})"])


def _quoted(text: str) -> str:
    """A string in double quotes, as formatters write it."""
    written = repr(text)
    return written if written.startswith('"') or '"' in written else f'"{written[1:-1]}"'
