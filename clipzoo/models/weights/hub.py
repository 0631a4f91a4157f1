"""Published weights and tokenizers: from the local cache first, then from the hub with a short timeout; failures are one-line errors."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from clipzoo.commands import typed
from clipzoo.errors import BuildError, ClipzooError, did_you_mean, first_line
from clipzoo.models.catalogue import REPOSITORIES, is_repository_name

# A hub that does not answer within this time is treated as absent; its own client would retry for 45 seconds.
_REACH_SECONDS = 3.0

# The libraries' default names of weight files in safetensors.
_SAFE = {"pytorch_model.bin": "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}

MODELSCOPE = "modelscope:"  # before the name of a repository there
_OTHER_FRAMEWORKS = ("*.msgpack", "*.h5", "*.onnx", "*.ot", "*.tflite", "onnx/*")

Result = TypeVar("Result")


def from_hub(
    load: Callable[[bool], Result], where: str, what: str, *, local: str, scratch: str = "pretrained=False", cache_first: bool = True
) -> Result:
    """The result of ``load``, from the local cache if complete, otherwise with access to the hub.

    Args:
        load: Function that takes whether only the cache may be used (``local_files_only`` of transformers and the hub).
        where: Start of the message: the class that requests the weights.
        what: Name on the hub.
        local: How the user passes a local copy instead, as he would write it.
        scratch: How the user starts from random weights instead.
        cache_first: ``False`` if the cache may be incomplete: the hub is asked first, and the cache used if that fails.

    Raises:
        BuildError: Neither has it; the one-line message gives three ways to continue, whatever the client raised.
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
        except ClipzooError:  # our own: what was found is unusable
            raise
        except Exception as error:  # clients raise all kinds of errors: from HTTP libraries, proxies, missing packages
            errors[cached] = error
    if no_network:
        absent = isinstance(errors[True], OSError)
        state = "the weights are not in the local cache" if absent else f"the local cache cannot be read: {first_line(errors[True])}"
        problem = f"{no_network}, and {state}"
    else:
        problem = _what_happened(errors[False], what)
    raise BuildError(three_ways(where, what, problem, local, scratch)) from errors.get(False, errors[True])


def hub_file(repository: str, names: Sequence[str], cached: bool, revision: str | None = None) -> Path:
    """The first available one of several files of a hub repository.

    Args:
        repository: Repository on the hub.
        names: File names in order of preference.
        cached: Whether to use the local cache only.
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


def hub_folder(
    repository: str,
    cached: bool,
    *,
    required: Sequence[Sequence[str]],
    optional: Sequence[Sequence[str]] = (),
    extras: Sequence[str] = (),
) -> Path:
    """The folder in the local cache that has the needed files of a hub repository, which are loaded first if ``cached`` is false.

    Args:
        repository: Repository on the hub.
        cached: Whether to use the local cache only.
        required: Groups of file names; of each group the first available one is needed.
        optional: Groups of which the repository may have none. If the local cache does not know whether it has, the hub must be asked.
        extras: File names that are used where available.
    """
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    folder = [hub_file(repository, names, cached) for names in required][0].parent
    for names in (*optional, *((name,) for name in extras)):
        if cached and all(is_absent(repository, name) for name in names):
            continue
        try:
            hub_file(repository, names, cached)
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError) and (not cached or names[0] not in extras):
                raise
    return folder


def is_absent(repository: str, file: str) -> bool:
    """Whether the local cache knows that a repository does not have a file; false if nothing is known."""
    from huggingface_hub import try_to_load_from_cache

    return not isinstance(try_to_load_from_cache(repository, file), (str, type(None)))


def is_hub_name(text: str) -> bool:
    """Whether ``text`` has the form of a repository's name, and is not the path of something in a local folder."""
    return is_repository_name(text) and not os.path.isdir(text.partition("/")[0])


def names_of(file: str) -> tuple[str, ...]:
    """The possible names of a published weight file, safetensors first.

    >>> names_of('open_clip_pytorch_model.bin'), names_of('model.npz')
    (('open_clip_model.safetensors', 'open_clip_pytorch_model.bin'), ('model.npz',))
    """
    stem, _, ending = file.rpartition(".")
    return (_SAFE.get(file, f"{stem}.safetensors"), file) if ending in ("bin", "pth") else (file,)


def local_name(name: str, where: str) -> str:
    """A name as it is, except for ``modelscope:`` and a repository of ModelScope: then the folder that has it, downloaded once.

    Raises:
        BuildError: The package modelscope is missing, or the repository is neither in its cache nor available.
    """
    if not name.startswith(MODELSCOPE):
        return name
    repository, instead = name.removeprefix(MODELSCOPE), "download it elsewhere and pass its folder instead of the name"
    try:
        from modelscope.hub.constants import DEFAULT_MODELSCOPE_DOMAIN
        from modelscope.hub.snapshot_download import snapshot_download
    except ImportError as error:
        raise BuildError(f"{where}: '{name}' needs the package modelscope. Install it (pip install modelscope), or {instead}") from error
    with contextlib.suppress(Exception):  # whatever the reason, the network is next
        return snapshot_download(repository, local_files_only=True)
    address = os.environ.get("MODELSCOPE_ENDPOINT") or os.environ.get("MODELSCOPE_DOMAIN") or DEFAULT_MODELSCOPE_DOMAIN
    problem, cause = "", None
    if is_offline():
        problem = "HF_HUB_OFFLINE is set, and it is not in ModelScope's cache"
    elif not _reachable(address if "://" in address else f"https://{address}"):
        problem = f"{address} cannot be reached, and it is not in ModelScope's cache"
    else:
        try:
            return snapshot_download(repository, ignore_patterns=list(_OTHER_FRAMEWORKS))
        except Exception as error:  # of its HTTP library, or of the client
            missing = getattr(getattr(error, "response", None), "status_code", None) == 404
            problem, cause = f"{address} has no such repository" if missing else first_line(error), error
    reach = "Connect to ModelScope (another address: set MODELSCOPE_DOMAIN)"
    raise BuildError(f"{where}: cannot load '{repository}' from ModelScope ({problem}). {reach}, or {instead}") from cause


@contextlib.contextmanager
def without_network() -> Iterator[None]:
    """Use local caches only in this block."""
    with _cache_only(True):
        yield


def is_offline() -> bool:
    """Whether the network must not be used (``HF_HUB_OFFLINE``)."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


@contextlib.contextmanager
def explained(where: str, what: str, *, local: str, scratch: str = "pretrained=False") -> Iterator[None]:
    """Raise the same message for a client with its own cache.

    Raises:
        BuildError: The block raised an error.
    """
    try:
        yield
    except ClipzooError:
        raise
    except Exception as error:
        raise BuildError(three_ways(where, what, _what_happened(error), local, scratch)) from error


def three_ways(where: str, what: str, problem: str, local: str, scratch: str) -> str:
    """The message for unavailable weights: the problem, then three ways to get them."""
    return (
        f"{where}: cannot load the weights of '{what}' ({problem}). Three ways: connect to the hub (a mirror: set HF_ENDPOINT; "
        f"ahead of time: {typed('download')} NAME); "
        f"pass a local copy, {local}; or use random weights, {scratch}"
    )


def _what_happened(error: BaseException, what: str = "") -> str:
    """An error of a client in a line; transformers hides the actual cause behind "Can't load the configuration of …"."""
    from huggingface_hub import constants
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    causes = list(_causes(error))
    log_in = "log in with 'hf auth login', or set HF_TOKEN"
    for cause in causes:
        if isinstance(cause, GatedRepoError):
            return f"it is only for users who accept its licence: do so on its page at {constants.ENDPOINT}, then {log_in}"
        if isinstance(cause, RepositoryNotFoundError):
            return f"{constants.ENDPOINT} has no such repository, or it is private: then {log_in}.{did_you_mean(what, REPOSITORIES)}"
        if isinstance(cause, EntryNotFoundError) and not isinstance(cause, LocalEntryNotFoundError):
            file = urllib.parse.urlsplit(str(cause.response.url)).path.rpartition("/")[2]
            return f"the repository has no {file}"
    return first_line(next((cause for cause in causes if not str(cause).startswith("Can't load")), error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what it was raised from or because of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def _cache_only(cached: bool) -> Iterator[None]:
    """Tell all clients of the hub not to use the network, including those without such an argument."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or cached  # read at every request
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(endpoint: str) -> bool:
    """Does the hub's port answer? Always true behind a proxy, where this cannot be tested."""
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

    # In a thread, because host name lookup has no timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_REACH_SECONDS + 1)
    return bool(answers)
