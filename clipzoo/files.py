"""Files that are whole or not there, and the doors through which they are read: regular files only, text, JSON."""

import codecs
import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from clipzoo.errors import ConfigError, DataError
from clipzoo.text import visible

# How file systems say that they do not know an operation; what was asked for is then done as well as it can be.
_UNSUPPORTED = frozenset((errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM))
_TOKEN = "[0-9a-f]{8}"
_LEFTOVER = re.compile(rf"\..+\.{_TOKEN}\.tmp")
_LONGEST_NUMBER = 4000  # digits; Python converts no more than 4300
_LONGEST_NAME = 200  # bytes of a file's name that stay in its temporary name; file systems allow 255 in all


def write_atomically(path: str | Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, sync it to disk, then rename it over ``path``.

    Where a file system refuses to sync (object storage, some network shares) the file is written all the same.

    Raises:
        DataError: It cannot be written; the message gives the reason.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(path)
        # With the permissions that any new file gets; the kernel applies the umask.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except (OSError, ValueError) as error:
        raise cannot_write(path, error) from error
    try:
        write(temporary)
        _sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_new(path: Path) -> None:
    """Refuse to write over what is there; an empty folder is as good as none.

    Raises:
        DataError: There is something.
    """
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists():
        raise DataError(f"{path}: exists already, and nothing is overwritten. Choose another path, or delete it")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``path`` if all goes well, and vanishes if not.

    Raises:
        DataError: The folder is there already, or cannot be written.
    """
    check_new(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(path)
        temporary.mkdir()
    except (OSError, ValueError) as error:
        raise cannot_write(path, error) from error
    try:
        yield temporary
        if path.is_dir():  # empty; not every system renames over a folder
            path.rmdir()
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_path(path: Path) -> Path:
    """A new name beside ``path`` for the time of writing it; ``leftovers`` finds those that a kill left behind."""
    name = os.fsencode(path.name)[:_LONGEST_NAME].decode("utf-8", "ignore")
    return path.with_name(f".{name}.{secrets.token_hex(4)}.tmp")


def leftovers(folder: Path) -> list[Path]:
    """Temporary files and folders of this project in ``folder``. They are of a process that was killed, if nobody else writes there."""
    try:
        return sorted(entry for entry in folder.iterdir() if _LEFTOVER.fullmatch(entry.name))
    except OSError:
        return []


def cannot_write(path: str | Path, error: Exception) -> DataError:
    """The message for a file that cannot be written, with what to do about the reason."""
    number = getattr(error, "errno", None)
    full = number in (errno.ENOSPC, errno.EDQUOT)
    advice = "Free some space, or choose another folder" if full else "Choose another folder"
    return DataError(f"{path}: cannot be written ({reason(error)}). {advice}")


def reason(error: Exception) -> str:
    """Why an operation on a file failed, in the system's words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _sync(path: Path) -> None:
    try:
        with open(path, "r+b") as file:  # some systems sync only what they may write
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically.

    Raises:
        DataError: It cannot be written, or holds bytes of a name that are no UTF-8.
    """
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        name = visible(text[max(error.start - 20, 0) : error.end + 20])
        raise DataError(f"{path}: cannot be written: '{name}' holds bytes that are not UTF-8. Rename the file they come from") from error
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def write_json(path: str | Path, value: object) -> None:
    """Write ``value`` as indented UTF-8 JSON, atomically; NaN and infinities become ``null``."""
    write_text(path, json.dumps(finite(value), ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def expanded(path: str | os.PathLike) -> str:
    """A path that a user gave, with the home folder for ``~`` at its start.

    Raises:
        ConfigError: Nobody knows the home folder; no folder is ever called ``~``.
    """
    found = os.path.expanduser(os.fspath(path))
    if found.startswith("~"):
        raise ConfigError(f"{path}: the home folder for '{found.split(os.sep)[0]}' is unknown. Write the whole path, or ./{path}")
    return found


def check_regular(path: str | Path) -> os.stat_result:
    """Refuse everything that is not a regular file: opening a FIFO would wait for ever, and a device has no end.

    Returns:
        The file's state.

    Raises:
        DataError: There is no such file, it is of another kind, or it is a link that leads nowhere or in a circle.
    """
    try:
        state = os.stat(path)
    except FileNotFoundError as error:
        what = f"a link to {os.readlink(path)}, which does not exist" if os.path.islink(path) else "no such file"
        raise DataError(f"{path}: {what}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error
    if not stat.S_ISREG(state.st_mode):
        raise DataError(f"{path}: {kind_of(state.st_mode)}, not a regular file")
    return state


def kind_of(mode: int) -> str:
    """What a file is, in words, from its ``st_mode``.

    >>> kind_of(stat.S_IFIFO), kind_of(stat.S_IFDIR)
    ('a FIFO', 'a folder')
    """
    kinds = ((stat.S_ISREG, "a file"), (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
    return next((words for test, words in kinds if test(mode)), "a device")


def read_bytes(path: str | Path) -> bytes:
    """The content of a regular file.

    Raises:
        DataError: It is missing, not a regular file, or cannot be read.
    """
    check_regular(path)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error


def file_sha256(path: str | Path) -> str:
    """SHA-256 of the content of a regular file, 64 hexadecimal digits.

    Raises:
        DataError: As ``read_bytes``.
    """
    check_regular(path)
    try:
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            while chunk := file.read(1 << 20):
                digest.update(chunk)
            return digest.hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error


def read_text(path: str | Path) -> str:
    """Read a UTF-8 text file, with or without a byte-order mark; UTF-16 with one, too.

    Raises:
        DataError: The file is missing, cannot be read, or is in another encoding; the message says at which line and byte.
    """
    return decode_text(path, read_bytes(path))


def decode_text(path: str | Path, content: bytes) -> str:
    """What ``read_text`` makes of the content of ``path``."""
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and not content.startswith(codecs.BOM_UTF32_LE)
    try:
        return content.decode("utf-16" if wide else "utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = "it looks like UTF-16" if wide else "it may be GBK or Latin-1"
        raise DataError(
            f"{path}:{line}: not UTF-8 text (byte {error.start} is 0x{content[error.start]:02X}; {what}). Save the file as UTF-8"
        ) from error


def read_json(path: str | Path) -> object:
    """Read UTF-8 JSON, with or without a byte-order mark.

    Raises:
        DataError: The file is missing, is not UTF-8 or is not JSON, or an object has a key twice; the message says at which line.
    """
    return parse_json(path, read_text(path))


def parse_json(path: str | Path, text: str) -> object:
    """What ``read_json`` makes of the text of ``path``.

    Raises:
        DataError: The text is not JSON, or an object has a key twice; the message says at which line.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except _GivenTwice as error:
        where = f"{path}{_places(text, error.key)}"
        raise DataError(f"{where}: the key {error.key!r} is given twice in one object. Keep one of them") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not valid JSON ({error.msg}, column {error.colno})") from error
    except RecursionError as error:
        raise DataError(f"{path}: not valid JSON (nested too deeply)") from error
    except ValueError as error:  # Python refuses to convert integers of thousands of digits
        raise DataError(f"{path}: not valid JSON (a number is too long)") from error
    half = _HALF_PAIR.search(text)
    if half and not _is_text(value):
        line = text.count("\n", 0, half.start()) + 1
        raise DataError(f"{path}:{line}: {half.group()} is half of a character. Write the character itself")
    return value


class _GivenTwice(Exception):
    def __init__(self, key: str):
        super().__init__(key)
        self.key = key


_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_JSON_PART = re.compile(r'"(?:[^"\\]|\\.)*"(\s*:)?|[{}]', re.DOTALL)


def _unique(pairs: list[tuple[str, object]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        raise _GivenTwice(next(key for key, _ in pairs if key in seen or seen.add(key)))
    return found


def _places(text: str, key: str) -> str:
    """``:2 and :7``, the lines where ``key`` is given twice in one object of valid JSON."""
    open_objects: list[dict[str, int]] = []
    for part in _JSON_PART.finditer(text):
        if part.group() == "{":
            open_objects.append({})
        elif part.group() == "}":
            open_objects.pop()
        elif part.group(1) is not None:
            name, line = json.loads(part.group().rstrip(": \t\r\n")), text.count("\n", 0, part.start()) + 1
            if name == key and name in open_objects[-1]:
                return f":{line}" if open_objects[-1][name] == line else f":{open_objects[-1][name]} and :{line}"
            open_objects[-1].setdefault(name, line)
    return ""


def _is_text(value: object) -> bool:
    """Can every string of a parsed JSON value be written?"""
    if isinstance(value, str):
        return not any("\ud800" <= c <= "\udfff" for c in value)
    if isinstance(value, dict):
        return all(map(_is_text, value)) and all(map(_is_text, value.values()))
    return all(map(_is_text, value)) if isinstance(value, list) else True


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


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers inside names by their value: 0 … 10, and not 0, 1, 10, 2.

    >>> sorted(['task10', 'task2', 'task1'], key=natural)
    ['task1', 'task2', 'task10']
    """
    parts = [part for part in re.split(r"(\d+)", name) if part]
    return [(0, int(part), part) if part.isdecimal() and len(part) <= _LONGEST_NUMBER else (1, 0, part) for part in parts]
