"""Output files of commands: checked before anything is computed, and never overwritten by accident."""

from __future__ import annotations

from pathlib import Path


def check_target(path: Path | None, option: str, suffixes: tuple[str, ...]) -> None:
    """Refuse an output file that cannot be written, before anything is computed.

    Raises:
        ConfigError: It is a folder, or has the suffix of another format.
    """
    from clipzoo.errors import ConfigError

    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"{option}: {path} is a folder. Pass a file")
    if path.suffix.lower() not in suffixes:
        raise ConfigError(f"{option}: {path} must end in {' or '.join(suffixes)}")


def write_new(path: Path, content: bytes, option: str, force: bool) -> None:
    """Write a file atomically, without overwriting another one.

    Raises:
        DataError: The file exists with other content and ``force`` is false, or it cannot be written.
    """
    from clipzoo.errors import DataError
    from clipzoo.files import write_atomically

    if path.exists() and not force:
        if path.read_bytes() == content:
            return
        raise DataError(f"{option}: {path} exists with other content. Choose another file, or pass --force to overwrite it")
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
