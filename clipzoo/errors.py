"""The errors a user can cause; each is one clear line, shown without a traceback, exit status 2.

The form of every message is ``where: what is wrong. Did you mean …? / what is allowed / what to do``.
"""

import difflib
from collections.abc import Iterable


class ClipzooError(Exception):
    """What a user can put right; the command line prints its message and exits with status 2."""


class ConfigError(ClipzooError):
    """A config file or an override is wrong: unknown section, key, type or argument."""


class RegistryError(ClipzooError):
    """A name is registered twice, or is not registered at all."""


class BuildError(ClipzooError):
    """The config is well formed, but what it describes cannot be made (no weights, no such device, no memory)."""


class DataError(ClipzooError):
    """A file, folder or table of the user's data is missing, unreadable or contradicts another."""


class LeakError(DataError):
    """A split would let the model see what it is scored on."""


class CheckpointError(ClipzooError):
    """A checkpoint or a work dir cannot be read, or belongs to another model, config or split."""


class TrainingError(ClipzooError):
    """Training cannot go on: a loss is not finite, or the device ran out of memory."""


class ProcessError(ClipzooError):
    """Another process that this one waits for died, hangs or cannot be started: one that reads images, or one that trains with it."""


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
    """Join ``names`` with commas, at most ``limit`` of them and then how many more there are.

    >>> shortened(['a', 'b', 'c'], limit=2)
    'a, b and 1 more'
    """
    names = [str(n) for n in names]
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"
