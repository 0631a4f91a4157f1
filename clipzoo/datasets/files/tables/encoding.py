"""Encoding of text tables: UTF-8 and UTF-16 are certain, GB18030 (with its subset GBK) is recognised by its characters."""

from __future__ import annotations

from pathlib import Path

from clipzoo.errors import DataError
from clipzoo.files import decode_text

_KNOWN, _COMMON = 0.8, 0.5  # shares of characters outside ASCII that must be of GB2312, and of its first level or its signs
_LAST_COMMON = 0xD7  # first byte


def decode_table(path: str | Path, content: bytes) -> tuple[str, str]:
    """Decode a text table.

    A file that is not UTF-8, and has no byte-order mark of UTF-16, is read as GB18030 if at least 80 % of its characters outside ASCII
    then belong to GB2312, and half of them to the 3 755 most common ones or the signs there. Big5 and Latin-1 do not pass: an accented
    letter before an unaccented one is no character of GB2312, and two accented small letters are a rare one.

    Args:
        path: File name, for messages.
        content: Bytes of the file.

    Returns:
        The text without a byte-order mark; and a note on the encoding, empty if it was certain.

    Raises:
        DataError: The encoding is unknown; the message gives the line.

    >>> decode_table('t.csv', '路径,标签'.encode('gbk'))
    ('路径,标签', 't.csv is not UTF-8 and was read as GB18030 (GBK)')
    """
    try:
        return decode_text(path, content), ""
    except DataError:
        text = _chinese(content)
        if text is None:
            raise
        return text, f"{path} is not UTF-8 and was read as GB18030 (GBK)"


def _chinese(content: bytes) -> str | None:
    """The content as GB18030; ``None`` if it is probably something else."""
    try:
        text = content.decode("gb18030")
    except UnicodeDecodeError:
        return None
    wide = [character for character in text if not character.isascii()]
    leads = [character.encode("gb2312", "ignore")[:1] for character in wide]
    known, common = sum(map(bool, leads)), sum(lead != b"" and lead[0] <= _LAST_COMMON for lead in leads)
    return text if wide and known >= _KNOWN * len(wide) and common >= _COMMON * len(wide) else None
