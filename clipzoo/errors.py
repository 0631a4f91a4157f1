"""Errors that a user can cause; each is shown as one line without a traceback, with exit status 2.

The form of every message is ``where: what is wrong. Did you mean …? / what is allowed / what to do``.
"""

import difflib
import struct
import zlib
from collections.abc import Iterable

# Exceptions that Pillow's decoders raise on damaged content.
DAMAGE = (OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error, zlib.error)
# Those of other parsers; NotImplementedError and RecursionError are RuntimeErrors, an XML ParseError is a SyntaxError.
ANY_DAMAGE = (*DAMAGE, AttributeError, RuntimeError, AssertionError)


class ClipzooError(Exception):
    """Base of all errors that the user can fix; the command line prints the message and exits with status 2."""


class ConfigError(ClipzooError):
    """A config file or an override is wrong: unknown section, key, type or argument."""


class RegistryError(ClipzooError):
    """A name is registered twice or not at all."""


class BuildError(ClipzooError):
    """The config is well formed, but what it describes cannot be built (missing weights, missing device, too little memory)."""


class DataError(ClipzooError):
    """A data file, folder or table is missing, unreadable, or contradicts another one."""


class LeakError(DataError):
    """A split would expose the model to cases that it is scored on."""


class CheckpointError(ClipzooError):
    """A checkpoint or a work dir cannot be read, or belongs to another model, config or split."""


class TrainingError(ClipzooError):
    """Training cannot continue: a loss is not finite, or the device ran out of memory."""


class ProcessError(ClipzooError):
    """A process that this one depends on (a data loader worker or another training process) died, hangs, or cannot be started."""


def first_line(error: BaseException, limit: int = 200) -> str:
    """The first line of an error's message; the error's type if there is no message. Other libraries' are cut to ``limit`` characters.

    >>> first_line(ValueError('no such axis.\\nIt has two'))
    'no such axis'
    >>> first_line(KeyError())
    'KeyError'
    >>> len(first_line(ValueError('x' * 500))), len(first_line(ConfigError('x' * 500)))
    (200, 500)
    """
    lines = str(error).strip().splitlines()
    line = lines[0] if lines else type(error).__name__
    return (line if isinstance(error, ClipzooError) else line[:limit]).rstrip(".")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known name closest to ``name``, or an empty string.

    >>> did_you_mean('temprature', ['temperature', 'loss'])
    " Did you mean 'temperature'?"
    >>> did_you_mean('qqq', ['temperature', 'loss'])
    ''
    """
    known = [str(k) for k in known]
    folded = {k.casefold(): k for k in reversed(known)}
    close = difflib.get_close_matches(str(name).casefold(), list(folded), n=1, cutoff=0.6)
    return f" Did you mean {folded[close[0]]!r}?" if close else ""


def shortened(names: Iterable[object], limit: int = 8) -> str:
    """Join ``names`` with commas; names beyond ``limit`` are counted instead.

    >>> shortened(['a', 'b', 'c'], limit=2)
    'a, b and 1 more'
    """
    names = [str(n) for n in names]
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"
