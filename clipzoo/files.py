"""Files that are whole or not there: temporary name, sync, rename."""

import codecs
import json
import math
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from clipzoo.errors import DataError


def write_atomically(path: str | Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, sync it to disk, then rename it over ``path``.

    Raises:
        DataError: The folder cannot be written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}). Choose another folder") from error
    temporary = Path(name)
    try:
        write(temporary)
        with open(temporary, "r+b") as file:  # some systems sync only what they may write
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}). Is the disk full?") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def write_json(path: str | Path, value: object) -> None:
    """Write ``value`` as indented UTF-8 JSON, atomically; NaN and infinities become ``null``."""
    write_text(path, json.dumps(finite(value), ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def read_text(path: str | Path) -> str:
    """Read a UTF-8 text file, with or without a byte-order mark.

    Raises:
        DataError: The file is missing, cannot be read, or is not UTF-8; the message says at which line and byte.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = "it looks like UTF-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "it may be GBK or Latin-1"
        raise DataError(
            f"{path}:{line}: not UTF-8 text (byte {error.start} is 0x{content[error.start]:02X}; {what}). Save the file as UTF-8"
        ) from error


def read_json(path: str | Path) -> object:
    """Read UTF-8 JSON, with or without a byte-order mark.

    Raises:
        DataError: The file is missing, is not UTF-8 or is not JSON; the message says at which line.
    """
    return parse_json(path, read_text(path))


def parse_json(path: str | Path, text: str) -> object:
    """What ``read_json`` makes of the text of ``path``.

    Raises:
        DataError: The text is not JSON; the message says at which line.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not valid JSON ({error.msg}, column {error.colno})") from error
    except RecursionError as error:
        raise DataError(f"{path}: not valid JSON (nested too deeply)") from error


def json_kind(value: object) -> str:
    """What a JSON value is, for messages.

    >>> json_kind('x'), json_kind(None), json_kind(['x', 3])
    ('a string', 'null', 'a list with a number in it')
    """
    if isinstance(value, list):
        odd = next((item for item in value if not isinstance(item, str)), None)
        return "a list" if odd is None and None not in value else f"a list with {json_kind(odd)} in it"
    names = {dict: "an object", str: "a string", bool: "true/false", type(None): "null"}
    return names.get(type(value), "a number")


def finite(value: object) -> object:
    """The same nested value with ``None`` for every float that JSON cannot hold."""
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers inside names by their value.

    >>> sorted(['task10', 'task2', 'task1'], key=natural)
    ['task1', 'task2', 'task10']
    """
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]
