"""One digest of a tower or a model: equal digests, equal features.

It covers everything that a feature depends on except the image or text itself: classes and code of all parts, their architecture and plain
attributes (activation, pooling, context length), tokenizer and preprocessing, names, dtypes, shapes and values of all weights, and the
versions of the libraries that compute. How a part is trained, where its weights come from and its mode do not affect features and are not
included.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict

import torch
from torch import nn

from clipzoo import __version__
from clipzoo.datasets.image_cache.geometry import READING, code_of, version_of
from clipzoo.structures import Preprocessing

# The libraries that parts come from, with the name of their distribution on PyPI; Pillow decodes.
_LIBRARIES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "open_clip": "open_clip_torch",
    "transformers": "transformers",
    "tokenizers": "tokenizers",
    "peft": "peft",
    "PIL": "pillow",
    "pydicom": "pydicom",
    "gdcm": "python-gdcm",
    "libjpeg": "pylibjpeg-libjpeg",
}
# Attributes that do not affect features: how a part is trained, the origin of its weights, its mode, its hooks, its caches.
_NO_FEATURE = frozenset((
    *vars(nn.Module()), "freeze", "unfreeze_blocks", "weights", "space", "logit_scale", "logit_bias", "name", "in_batch_measures",
    "_files", "_cached_tokens", "_start", "name_or_path", "hf_model_name", "hf_tokenizer_name",
))  # fmt: skip
_DROPS = re.compile("drop", re.IGNORECASE)  # dropout and stochastic depth: inactive in evaluation mode


def feature_digest(
    module: nn.Module, preprocessing: Preprocessing | None = None, *, precision: str = "fp32", on_device: bool = False
) -> str:
    """32 hexadecimal digits for everything that the features of a tower or a model depend on, except the input.

    Args:
        module: Tower or model. Its child ``loss`` is ignored.
        preprocessing: Preprocessing of images; ``None`` for a text tower.
        precision: Precision of the computation.
        on_device: Include the type of device: features are then equal to the last bit.
    """
    parts = {name: part for name, part in module.named_modules() if not _is_loss(name)}
    tokenizer = getattr(module, "tokenizer", None)
    about = {
        "parts": {name: _described(part) for name, part in parts.items()},
        "towers": {name: part.blueprint() for name, part in parts.items() if hasattr(part, "blueprint")},
        "tokenizer": None if tokenizer is None else [_kind(tokenizer), *_plain_attributes(tokenizer)],
        "code": {name: code_of(name) for name in sorted(_modules([*parts.values(), *([] if tokenizer is None else [tokenizer])]))},
        "reading": None if preprocessing is None else [asdict(preprocessing), *(code_of(reading.__name__) for reading in READING)],
        "versions": {"clipzoo": __version__, **{name: version_of(name) for name in _LIBRARIES.values()}},
        "precision": precision,
        # Frozen parts compute in full precision, whatever the precision of the others.
        "frozen": {} if precision == "fp32" else {name: part.frozen for name, part in parts.items() if hasattr(part, "frozen")},
        "device": next(module.parameters()).device.type if on_device else None,
    }
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True, default=str).encode("utf-8", "surrogatepass"), digest_size=16)
    _add_tensors(digest, {name: tensor for name, tensor in _tensors(module) if not _is_loss(name)})
    return digest.hexdigest()


def _is_loss(name: str) -> bool:
    return name == "loss" or name.startswith("loss.")


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """All weights and buffers, including non-persistent ones, except the table of captions, which the text tower computes."""
    yield from module.state_dict().items()
    yield from ((name, buffer) for name, buffer in module.named_buffers() if name.rpartition(".")[2] != "text_table")


def _add_tensors(digest: object, tensors: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tensor.dtype}{list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)


def _described(part: nn.Module) -> list:
    """What the weights do not show: the class of a part, such as an activation, its ``extra_repr``, and its plain attributes."""
    if _DROPS.search(type(part).__name__):
        return []
    return [_kind(part), part.extra_repr(), *_plain_attributes(part)]


def _kind(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _plain_attributes(thing: object) -> list:
    return sorted((name, _features_only(value)) for name, value in vars(thing).items() if _counts(name) and _is_plain(value))


def _counts(name: object) -> bool:
    return name not in _NO_FEATURE and not _DROPS.search(str(name))


def _features_only(value: object) -> object:
    return {key: _features_only(item) for key, item in value.items() if _counts(key)} if isinstance(value, dict) else value


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    return value is None or type(value) in (bool, int, float, str)


def _modules(parts: list) -> set[str]:
    """Modules that define the classes of ``parts`` and their bases, except those of libraries, whose version is included."""
    found = {base.__module__ for part in parts for base in type(part).__mro__}
    return {name for name in found if name.partition(".")[0] not in (*_LIBRARIES, *sys.stdlib_module_names)}
