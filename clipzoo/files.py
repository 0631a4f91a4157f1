"""Atomic file writing, and safe reading: regular files only, as bytes, text or JSON."""

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

from clipzoo.errors import ConfigError, DataError, did_you_mean
from clipzoo.text import visible

# Error codes by which file systems report an unsupported operation; the best available alternative is used then.
_UNSUPPORTED = frozenset((errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM))
_TOKEN = "[0-9a-f]{8}"
_LEFTOVER = re.compile(rf"\..+\.{_TOKEN}\.tmp")
_LONGEST_NUMBER = 4000  # digits; Python converts no more than 4300
_LONGEST_NAME = 200  # bytes of a file name kept in its temporary name; most file systems allow 255


def write_atomically(path: str | Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file next to ``path``, sync it to disk, then rename it to ``path``.

    If the file system does not support syncing (object storage, some network shares), the file is written without it.

    Raises:
        DataError: The file cannot be written; the message gives the reason.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(path)
        # Same permissions as any new file; the kernel applies the umask.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except (OSError, ValueError) as error:
        raise cannot_write(path, error) from error
    try:
        permissions = stat.S_IMODE(os.stat(temporary).st_mode)
        write(temporary)
        if stat.S_IMODE(os.stat(temporary).st_mode) != permissions:  # safetensors replaces the file by one for its owner only
            os.chmod(temporary, permissions)
        _sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Create a folder and those above it, unless it exists.

    Raises:
        DataError: It cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def check_new(path: Path) -> None:
    """Refuse to overwrite anything; an empty folder is accepted.

    Raises:
        DataError: The path exists and is not an empty folder.
    """
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists():
        raise DataError(f"{path}: already exists and will not be overwritten. Choose another path, or delete it")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to ``path`` on success and removed on failure.

    Raises:
        DataError: The folder already exists or cannot be written.
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
        if path.is_dir():  # empty; not every system can rename over a folder
            path.rmdir()
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_path(path: Path) -> Path:
    """A new temporary name next to ``path``; ``leftovers`` finds those of killed processes."""
    name = os.fsencode(path.name)[:_LONGEST_NAME].decode("utf-8", "ignore")
    return path.with_name(f".{name}.{secrets.token_hex(4)}.tmp")


def leftovers(folder: Path) -> list[Path]:
    """Temporary files and folders of this project in ``folder``. Unless another process is writing there, a killed process left them."""
    try:
        return sorted(entry for entry in folder.iterdir() if _LEFTOVER.fullmatch(entry.name))
    except OSError:
        return []


def cannot_write(path: str | Path, error: Exception) -> DataError:
    """The error for a file that cannot be written, with advice that depends on the reason."""
    number = getattr(error, "errno", None)
    full = number in (errno.ENOSPC, errno.EDQUOT)
    advice = "Free some space, or choose another folder" if full else "Choose another folder"
    return DataError(f"{path}: cannot be written ({reason(error)}). {advice}")


def reason(error: Exception) -> str:
    """The system's reason why a file operation failed."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _sync(path: Path) -> None:
    try:
        with open(path, "r+b") as file:  # some systems can only sync files opened for writing
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically.

    Raises:
        DataError: The file cannot be written, or the text contains bytes of a file name that are not UTF-8.
    """
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        name = visible(text[max(error.start - 20, 0) : error.end + 20])
        raise DataError(f"{path}: cannot be written: '{name}' contains bytes that are not UTF-8. Rename the file they come from") from error
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def write_json(path: str | Path, value: object) -> None:
    """Write ``value`` as indented UTF-8 JSON, atomically; NaN and infinities become ``null``."""
    write_text(path, json.dumps(finite(value), ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def expanded(path: str | os.PathLike) -> str:
    """A path given by the user, with a leading ``~`` expanded to the home folder.

    Raises:
        ConfigError: The home folder is unknown; a folder named ``~`` is never created.
    """
    found = os.path.expanduser(os.fspath(path))
    if found.startswith("~"):
        raise ConfigError(f"{path}: the home folder for '{found.split(os.sep)[0]}' is unknown. Give the full path, or ./{path}")
    return found


def cache_folder() -> Path | None:
    """``$CLIPZOO_CACHE``, or else ``clipzoo`` in the user's cache (``$XDG_CACHE_HOME``, ``~/.cache``); ``None`` without a home folder.

    A user unknown to the machine, such as a numeric user id in a container, has no home folder.
    """
    own = os.environ.get("CLIPZOO_CACHE")
    if own:
        return expanded_if_known(own)
    user = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    base = Path(user) if user and os.path.isabs(user) else expanded_if_known("~/.cache")  # the XDG standard ignores relative paths
    return None if base is None else base / "clipzoo"


def expanded_if_known(path: str | os.PathLike) -> Path | None:
    """``path`` with ``~`` replaced by the home folder; ``None`` without one, so that no folder is ever called ``~``."""
    found = os.path.expanduser(path)
    return None if found.startswith("~") else Path(found)


def check_regular(path: str | Path) -> os.stat_result:
    """Refuse everything but regular files: opening a FIFO would block forever, and a device has no end.

    Returns:
        The file's ``stat`` result.

    Raises:
        DataError: The file does not exist, is not a regular file, or is a broken or circular link.
    """
    try:
        state = os.stat(path)
    except FileNotFoundError as error:
        what = f"broken link to {os.readlink(path)}" if os.path.islink(path) else "no such file"
        raise DataError(f"{path}: {what}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error
    if not stat.S_ISREG(state.st_mode):
        raise DataError(f"{path}: {kind_of(state.st_mode)}, not a regular file")
    return state


def near(path: str) -> str:
    """`` Did you mean 'x'?`` for a path that does not exist and the most similar name in its folder, or an empty string."""
    folder, name = os.path.split(path.rstrip("/\\"))
    try:
        return did_you_mean(name, sorted(os.listdir(folder or ".")))
    except OSError:
        return ""


def kind_of(mode: int) -> str:
    """The kind of a file in words, from its ``st_mode``.

    >>> kind_of(stat.S_IFIFO), kind_of(stat.S_IFDIR)
    ('a FIFO', 'a folder')
    """
    kinds = ((stat.S_ISREG, "a file"), (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
    return next((words for test, words in kinds if test(mode)), "a device")


def read_bytes(path: str | Path) -> bytes:
    """The content of a regular file.

    Raises:
        DataError: The file is missing, not a regular file, or unreadable.
    """
    check_regular(path)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error


def file_sha256(path: str | Path) -> str:
    """SHA-256 of the content of a regular file, 64 hexadecimal digits.

    Raises:
        DataError: The file is missing, not a regular file, or unreadable.
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
    """Read a text file: UTF-8 with or without a byte-order mark, or UTF-16 with one.

    Raises:
        DataError: The file is missing, unreadable, or in another encoding; the message gives line and byte.
    """
    return decode_text(path, read_bytes(path))


def decode_text(path: str | Path, content: bytes) -> str:
    """Decode the content of ``path`` as ``read_text`` does."""
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
        DataError: The file is missing, not UTF-8 or not JSON, or an object has a duplicate key; the message gives the line.
    """
    return parse_json(path, read_text(path))


def parse_json(path: str | Path, text: str) -> object:
    """Parse the text of ``path`` as ``read_json`` does.

    Raises:
        DataError: The text is not JSON, or an object has a duplicate key; the message gives the line.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except _GivenTwice as error:
        where = f"{path}{_places(text, error.key)}"
        raise DataError(f"{where}: duplicate key {error.key!r} in one object. Keep one of them") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not valid JSON ({error.msg}, column {error.colno})") from error
    except RecursionError as error:
        raise DataError(f"{path}: not valid JSON (nested too deeply)") from error
    except ValueError as error:  # Python refuses to convert integers of thousands of digits
        raise DataError(f"{path}: not valid JSON (a number is too long)") from error
    half = _HALF_PAIR.search(text)
    if half and not _is_text(value):
        line = text.count("\n", 0, half.start()) + 1
        raise DataError(f"{path}:{line}: {half.group()} is half of a surrogate pair. Write the character itself")
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
    """``:2 and :7``: the lines of a duplicate key in one object of valid JSON."""
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
    """Can every string of a parsed JSON value be encoded?"""
    if isinstance(value, str):
        return not any("\ud800" <= c <= "\udfff" for c in value)
    if isinstance(value, dict):
        return all(map(_is_text, value)) and all(map(_is_text, value.values()))
    return all(map(_is_text, value)) if isinstance(value, list) else True


def json_kind(value: object) -> str:
    """The kind of a JSON value, for messages.

    >>> json_kind('x'), json_kind(None), json_kind(['x', 3])
    ('a string', 'null', 'a list with a number in it')
    """
    if isinstance(value, list):
        odd = next((item for item in value if not isinstance(item, str)), None)
        return "a list" if odd is None and None not in value else f"a list with {json_kind(odd)} in it"
    names = {dict: "an object", str: "a string", bool: "true/false", type(None): "null"}
    return names.get(type(value), "a number")


def finite(value: object) -> object:
    """The same nested value, with ``None`` for every float that JSON cannot represent."""
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key that orders numbers inside names by value: 0, 1, 2, 10 rather than 0, 1, 10, 2.

    >>> sorted(['task10', 'task2', 'task1'], key=natural)
    ['task1', 'task2', 'task10']
    """
    parts = [part for part in re.split(r"(\d+)", name) if part]
    return [(0, int(part), part) if part.isdecimal() and len(part) <= _LONGEST_NUMBER else (1, 0, part) for part in parts]
