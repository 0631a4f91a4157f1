"""Published weights and tokenizers: the local cache first, then the hub, without waiting for minutes; whatever fails is one line."""

from __future__ import annotations

import contextlib
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from clipzoo.errors import BuildError, ClipzooError
from clipzoo.models.weights.files import first_line

# A hub that has not answered on its port by then is treated as absent; its own client would retry for 45 seconds.
_REACH_SECONDS = 3.0

# What the libraries call their usual file of weights in safetensors.
_SAFE = {"pytorch_model.bin": "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}

Result = TypeVar("Result")


def from_hub(
    load: Callable[[bool], Result], where: str, what: str, *, local: str, scratch: str = "pretrained=False", cache_first: bool = True
) -> Result:
    """What ``load`` returns: from the local cache alone if it has all of it, otherwise with the hub.

    Args:
        load: Gets whether only the cache is to be looked at (transformers' and the hub's ``local_files_only``).
        where: Who wants it, first words of the message.
        what: Name on the hub.
        local: How the user gives a local copy instead, as he would write it.
        scratch: How the user starts from random weights instead.
        cache_first: ``False`` where the cache cannot be known to be complete: the hub is asked first, and the cache used if that fails.

    Raises:
        BuildError: Neither has it; one line with the three ways to go on, whatever the client raised.
    """
    from huggingface_hub import constants

    no_network, errors = "", {}
    for cached in (True, False) if cache_first else (False, True):
        if not cached and (constants.HF_HUB_OFFLINE or not _reachable(constants.ENDPOINT)):
            no_network = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} cannot be reached"
            continue
        try:
            with _cache_only(cached):
                return load(cached)
        except ClipzooError:  # our own: what was found is of no use
            raise
        except Exception as error:  # a client raises anything: of its HTTP library, of a proxy, of a missing package
            errors[cached] = error
    if no_network:
        absent = isinstance(errors[True], OSError)
        state = "the weights are not in the local cache" if absent else f"the local cache cannot be read: {first_line(errors[True])}"
        problem = f"{no_network}, and {state}"
    else:
        problem = _what_happened(errors[False])
    raise BuildError(three_ways(where, what, problem, local, scratch)) from errors.get(False, errors[True])


def hub_file(repository: str, names: Sequence[str], cached: bool, revision: str | None = None) -> Path:
    """The first of several files that a repository on the hub has.

    Args:
        repository: On the hub.
        names: In order of preference.
        cached: Look at the local cache only.
        revision: Branch, tag or commit.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    missing: list[Exception] = []
    for name in names:
        try:
            return Path(hf_hub_download(repository, name, revision=revision, local_files_only=cached))
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError) and not cached:
                raise  # the hub did not answer
            missing.append(error)
    raise missing[0]


def names_of(file: str) -> tuple[str, ...]:
    """Under which names a published file of weights may be found: as safetensors first.

    >>> names_of('open_clip_pytorch_model.bin'), names_of('model.npz')
    (('open_clip_model.safetensors', 'open_clip_pytorch_model.bin'), ('model.npz',))
    """
    stem, _, ending = file.rpartition(".")
    return (_SAFE.get(file, f"{stem}.safetensors"), file) if ending in ("bin", "pth") else (file,)


@contextlib.contextmanager
def explained(where: str, what: str, *, local: str, scratch: str = "pretrained=False") -> Iterator[None]:
    """The same message for a client that has a cache of its own.

    Raises:
        BuildError: It failed.
    """
    try:
        yield
    except ClipzooError:
        raise
    except Exception as error:
        raise BuildError(three_ways(where, what, _what_happened(error), local, scratch)) from error


def three_ways(where: str, what: str, problem: str, local: str, scratch: str) -> str:
    """The message for weights that are not there: the problem in one line, then the three ways to get them."""
    return (
        f"{where}: cannot load the weights of '{what}' ({problem}). Three ways: connect to the hub (or to a mirror: set HF_ENDPOINT); "
        f"give a local copy, {local}; or start from random weights, {scratch}"
    )


def _what_happened(error: BaseException) -> str:
    """The first line of an error; transformers hides whatever happened behind its "Can't load the configuration of …"."""
    while str(error).startswith("Can't load") and error.__context__ is not None:
        error = error.__context__
    return first_line(error)


@contextlib.contextmanager
def _cache_only(cached: bool) -> Iterator[None]:
    """Tell every client of the hub, also those that cannot be asked, not to use the network."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or cached  # read at every request
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(endpoint: str) -> bool:
    """Does the hub's port answer? Behind a proxy this cannot be asked, and the answer is yes."""
    url = urllib.parse.urlsplit(endpoint)
    proxies = urllib.request.getproxies()
    if not url.hostname or url.scheme in proxies or "all" in proxies:
        return True
    answers: list[bool] = []

    def ask() -> None:
        try:
            socket.create_connection((url.hostname, url.port or (443 if url.scheme == "https" else 80)), timeout=_REACH_SECONDS).close()
        except OSError:
            return
        answers.append(True)

    # In a thread, because looking up a host's name has no time limit of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_REACH_SECONDS + 1)
    return bool(answers)
