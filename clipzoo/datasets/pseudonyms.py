"""Pseudonyms of patients: a keyed digest stands for an identifier in everything that is written.

An identifier such as a patient number has few possible values, so an unkeyed digest could be reversed by trying them all. The key, called
salt, is a file of 64 random hexadecimal digits:

* the file that the user gives, if any;
* or else ``.clipzoo_salt`` in the folder of the data, made when first needed. Who can read it can read the identifiers anyway. It goes
  with the data to another machine or user, where the pseudonyms are then the same;
* or else, if that folder is not writable, a file in ``salts/`` of the cache folder, named after the path of the data's folder.

A work dir contains pseudonyms but never the salt, nor its path unless the user gives one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from clipzoo.errors import DataError
from clipzoo.files import cache_folder, read_text, reason
from clipzoo.text import clean_name

SALT_FILE = ".clipzoo_salt"
_SHORTEST = 16  # characters of a salt that a user gives


def pseudonym(identifier: str, salt: str) -> str:
    """A name for ``identifier`` that only the salt connects to it: ``patient-`` and 64 bits of a keyed BLAKE2b digest.

    Case and surrounding blanks do not count: two patients in one group are harmless, one patient in two groups is a leak.

    >>> pseudonym('P001', 'x' * 64) == pseudonym('p001 ', 'x' * 64)
    True
    >>> pseudonym('P001', 'x' * 64) == pseudonym('P001', 'y' * 64)
    False
    """
    key = hashlib.blake2b(salt.encode("utf-8"), digest_size=32).digest()
    content = clean_name(identifier).casefold().encode("utf-8", "surrogatepass")
    return f"patient-{hashlib.blake2b(content, key=key, digest_size=8).hexdigest()}"


def read_salt(folder: str | Path, given: str | None = None) -> str:
    """The salt for the data in ``folder``; see the module docstring for where it is kept.

    Args:
        folder: Folder of the data.
        given: File of the salt, of at least 16 characters; ``None`` finds or makes it.

    Raises:
        DataError: The given file is missing or too short, or no salt can be kept anywhere.
    """
    if given is not None:
        return _checked(given, read_text(given).strip(), "Write a long random text into it")
    beside = Path(folder) / SALT_FILE
    if os.path.lexists(beside):
        return _checked(beside, read_text(beside).strip(), "Restore it, or delete it: pseudonyms then change, and runs start anew")
    cache = cache_folder()
    elsewhere = None if cache is None else cache / "salts" / _name_of(folder)
    if elsewhere is not None and elsewhere.exists():
        return _checked(elsewhere, read_text(elsewhere).strip(), "Delete it: pseudonyms then change, and runs start anew")
    problem: OSError | None = None
    for path in filter(None, (beside, elsewhere)):
        try:
            _make(path)
            return _checked(path, read_text(path).strip(), "Delete it")
        except OSError as error:
            problem = error
    raise DataError(
        f"{beside}: the secret for pseudonyms of patients cannot be kept there ({reason(problem)}) nor in the cache folder. "
        "Set data.dataset.salt to a file with a long random text"
    )


def _name_of(folder: str | Path) -> str:
    return hashlib.blake2b(os.fsencode(os.path.realpath(folder)), digest_size=16).hexdigest()


def _make(path: Path) -> None:
    """Write a new salt, complete at once; if another process was faster, keep its file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_text(secrets.token_hex(32) + "\n", encoding="ascii")
        try:
            os.link(temporary, path)
        except OSError:
            if not path.exists():  # a file system without links
                os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _checked(path: str | Path, salt: str, advice: str) -> str:
    if len(salt) < _SHORTEST:
        raise DataError(f"{path}: too short for the secret of pseudonyms: {len(salt)} characters, at least {_SHORTEST} required. {advice}")
    return salt
