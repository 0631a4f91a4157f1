"""Normalisation of names, display of untrusted text, and reading and writing of CSV.

Names from folders, JSON and CSV files are compared only after ``clean_name`` or ``clean_path``. Untrusted text is shown through
``visible``. Every CSV file of this project is written by ``csv_text`` and read by ``csv_rows``.
"""

from __future__ import annotations

import csv
import io
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence

from clipzoo.errors import DataError

# Cells that a spreadsheet treats as a formula (OWASP, "CSV injection"): leading blanks are skipped, and full-width signs count in East
# Asian locales. Numbers and lone signs are excluded.
_SIGNED = r"[+-](?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)?\Z"
_FORMULA = r"(?:\s*[=+\-@＝＋－＠]|[\t\r\n])"
_GUARDED = re.compile(rf"(?!{_SIGNED})'*{_FORMULA}")
_GUARD = re.compile(rf"'+{_FORMULA}")
csv.field_size_limit(2**31 - 1)  # any cell that was written can be read; Python's default limit is 131 072 characters
# Categories of characters that move the cursor, change the terminal, or are invisible: controls, formats, surrogates, line ends.
_INVISIBLE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
_CHINESE = re.compile("[\u3400-\u9fff\U00020000-\U0003ffff]")
_JOINERS = "\u200c\u200d"  # format characters required by scripts and emoji


def clean_name(name: str) -> str:
    """A name normalised for comparison: NFC, without leading and trailing whitespace.

    >>> clean_name(' e\\u0301t ') == '\\u00e9t'
    True
    """
    return unicodedata.normalize("NFC", name).strip()


def clean_path(path: str) -> str:
    """A relative path normalised for comparison: ``/`` as separator, and clean names as parts.

    >>> clean_path('Stem \\\\a.png')
    'Stem/a.png'
    """
    return "/".join(clean_name(part) for part in path.replace("\\", "/").split("/"))


def is_chinese(text: str) -> bool:
    """Does the text contain a Chinese character?"""
    return not text.isascii() and _CHINESE.search(text) is not None


def differences(a: str, b: str) -> str:
    """Describe the characters in which two similar-looking texts differ.

    >>> differences('cat', 'cat ')
    "'cat' and 'cat ' differ: nothing, or U+0020 SPACE"
    """
    start = len(os.path.commonprefix([a, b]))
    end = len(os.path.commonprefix([a[start:][::-1], b[start:][::-1]]))
    parts = (_characters(text[start : len(text) - end]) for text in (a, b))
    return f"{visible(repr(a))} and {visible(repr(b))} differ: {', or '.join(parts)}"


def lookalike(name: str, known: Iterable[str]) -> str:
    r"""A sentence about the known name that looks like ``name``, and the characters that differ; empty if there is no such name.

    >>> lookalike('big\u00a0cat', ['big cat'])
    " 'big\\xa0cat' and 'big cat' differ: U+00A0 NO-BREAK SPACE, or U+0020 SPACE."
    """
    shape = _shape(name)
    match = next((other for other in known if _shape(other) == shape), None)
    return "" if match is None else f" {differences(name, match)}."


def _shape(name: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if not c.isspace() and unicodedata.category(c) != "Cf")


def _characters(text: str) -> str:
    names = [f"U+{ord(c):04X} {unicodedata.name(c, '')}".rstrip() for c in text[:5]]
    return ", ".join(names + ["…"] * (len(text) > 5)) or "nothing"


def visible(text: str, *, keep: str = "") -> str:
    r"""``text`` with every character that would affect a terminal replaced by a visible escape.

    Args:
        text: Any text; undecodable bytes of file names are shown as ``\xNN``.
        keep: Characters that are not escaped, such as line ends.

    >>> visible('a\x1b[31m\u202eb')
    'a\\x1b[31m\\u202eb'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or c in _JOINERS or unicodedata.category(c) not in _INVISIBLE else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that Python could not decode
        return f"\\x{code - 0xDC00:02x}"
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    return short or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")


class _Rows:
    """Collects the output of ``csv.writer``, which quotes both kinds of line end only if its own terminator contains both."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.lines.append(line.removesuffix("\r\n") + "\n")


def csv_text(rows: Iterable[Sequence[object]], *, separator: str = ",", quote_text: bool = False) -> str:
    r"""Write rows as CSV that ``csv_rows`` reads back unchanged. A ``'`` is put before cells that a spreadsheet would run as a formula.

    Args:
        rows: Cells of any text, or numbers; ``None`` is an empty cell.
        separator: Cell separator.
        quote_text: Whether to quote all text, instead of only where needed.

    >>> csv_text([['name', 'n'], ['=1+1', -2]])
    "name,n\n'=1+1,-2\n"
    """
    found = _Rows()
    quoting = csv.QUOTE_NONNUMERIC if quote_text else csv.QUOTE_MINIMAL
    writer = csv.writer(found, delimiter=separator, lineterminator="\r\n", quoting=quoting)
    for row in rows:
        writer.writerow(["'" + cell if isinstance(cell, str) and is_formula(cell) else cell for cell in row])
    return "".join(found.lines)


def csv_bytes(rows: Iterable[Sequence[object]]) -> bytes:
    """``csv_text`` in UTF-8; file names that are not UTF-8 keep their bytes, so that the files can still be found."""
    return csv_text(rows).encode("utf-8", "surrogateescape")


def is_formula(cell: str) -> bool:
    """Would a spreadsheet run this cell as a formula, so that ``csv_text`` puts a ``'`` in front of it?"""
    return _GUARDED.match(cell) is not None


def find_separator(text: str, where: object, fits: Callable[[list[str]], object]) -> str:
    """Find the separator of a table (comma, tab or semicolon): the one with the highest score; the comma on ties.

    Args:
        text: Text of the table.
        where: File name for messages.
        fits: Function that scores the clean names of the first row; scores must be comparable.
    """
    scores = {}
    for separator in (",", "\t", ";"):
        try:
            _, cells = next(csv_rows(text, where, separator=separator), (1, []))
        except DataError:  # unbalanced quotation marks under this separator
            cells = next(filter(str.strip, text.splitlines()), "").split(separator)
        scores[separator] = fits([clean_name(cell) for cell in cells])
    return max(scores, key=scores.__getitem__)


def csv_rows(text: str, where: object, *, separator: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Yield the non-empty rows of a CSV text, each with the number of its first line. Lines may end in LF, CRLF or CR.

    Args:
        text: Decoded text without a byte-order mark.
        where: File name that starts every message.
        separator: Cell separator.

    Raises:
        DataError: Quotation marks are unbalanced, or a cell is larger than 2 GB.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    line, guarded = 1, "'" in text
    try:
        for cells in reader:
            if cells:
                yield line, [cell[1:] if _GUARD.match(cell) else cell for cell in cells] if guarded else cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{where}:{line}: not valid CSV: unbalanced quotation marks in the row that starts here ({error}). "
            "Close them, double quotation marks inside quoted cells, or restore a file that was only partly written"
        ) from error
