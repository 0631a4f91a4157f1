"""The identity of a tokenizer: a string that changes with anything that changes a token, under which tokens are kept between starts."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import sys
import unicodedata
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from clipzoo import __version__

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LIBRARIES = ("tokenizers", "transformers", "open_clip_torch", "ftfy", "regex")


def identity_of(tokenizer: object, *settings: object) -> str:
    """64 hexadecimal digits for the class of a tokenizer, its code, the versions of the libraries that tokenise, and its settings.

    Args:
        tokenizer: Tokenizer of this package, or of a plugin that extends one.
        settings: Plain values that determine the tokens: context length, vocabulary.
    """
    own = [cls for cls in type(tokenizer).__mro__ if cls is not object]
    about = {
        "classes": [f"{cls.__module__}.{cls.__qualname__}" for cls in own],
        "code": [_code(cls.__module__) for cls in own],
        "versions": [__version__, unicodedata.unidata_version, *map(_version, _LIBRARIES)],
        "settings": settings,
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


def hugging_face_settings(tokenizer: PreTrainedTokenizerBase) -> list | None:
    """What determines the tokens of a tokenizer of transformers; ``None`` if it is not implemented by the library tokenizers."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    content = json.loads(backend.to_str())
    content |= {"truncation": None, "padding": None}  # every call sets them
    vocabulary = hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()
    kind = f"{type(tokenizer).__module__}.{type(tokenizer).__qualname__}"
    return [kind, vocabulary, tokenizer.truncation_side, tokenizer.pad_token_id]


@functools.cache
def _code(module: str) -> str:
    """The source of a module, which may change under the same name and version; empty if it was defined in an interactive session."""
    try:
        return inspect.getsource(sys.modules[module])
    except (OSError, TypeError, KeyError):
        return ""


@functools.cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
