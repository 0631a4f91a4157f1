"""Where the first weights of a model's towers came from, as its config says; and configs without the paths of a machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clipzoo.models.catalogue import CATALOGUE, Published
from clipzoo.registries import BACKBONES, TEXT_ENCODERS

_REGISTRIES = {"image_encoder": BACKBONES, "text_encoder": TEXT_ENCODERS}
# Before the name of weights, which may be a path behind it.
_PREFIX = re.compile(r"(?:(?:clip|openclip|chinese-clip|hf|timm|weights|modelscope|clipzoo|hf-hub|hf_hub|local-dir):)+")
_PATH = re.compile(r"[/~]|\.\.?(?:[/\\]|$)|[A-Za-z]:[\\/]|\\\\|file:|[a-z+]+:///", re.IGNORECASE)
_FILE = re.compile(r"[^\n]*\.(?:pth?|bin|safetensors|ckpt|onnx|npz|json|csv|tsv|xlsx?|txt|zip|tar|model|ya?ml|db)", re.IGNORECASE)
# Arguments that are paths, also relative ones, which look like any other text.
_PATH_KEYS = frozenset(("class_texts", "groups", "attributes", "salt"))
_PATH_ENDINGS = ("root", "path", "dir", "folder", "file")
_NAME_KEYS = ("name", "pretrained", "tag")  # a repository has one slash, a path may have more
LOCAL = "a local file or folder"


@dataclass(frozen=True)
class FirstWeights:
    """A tower of a config.

    Attributes:
        key: ``'image_encoder'`` or ``'text_encoder'``.
        name: Its class, with the arguments that name the network.
        origin: Name of its first weights; empty for random ones.
        published: Their entry in the catalogue; ``None`` without one.
    """

    key: str
    name: str
    origin: str
    published: Published | None


def towers_of(config: Mapping[str, Any]) -> list[FirstWeights]:
    """The towers of a plain config, image tower first."""
    model, found = config.get("model", {}), []
    for key, registry in _REGISTRIES.items():
        if model.get(key):
            spec = registry.expand(model[key])
            origin = _origin(spec)
            published = next((each for each in CATALOGUE if origin in (each.name, each.repository)), None)
            found.append(FirstWeights(key, _name(spec), origin, published))
    return found


def without_paths(value: Any, instead: str = "…") -> Any:
    """The same plain data with ``instead`` in place of every path: a text that looks like one, or an argument that is one by its name."""
    if isinstance(value, Mapping):
        return {key: instead if _is_path_argument(key, inner) else _without_path(key, inner, instead) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_paths(inner, instead) for inner in value]
    return f"{_prefix(value)}{instead}" if _is_path(value) else value


def _without_path(key: object, value: Any, instead: str) -> Any:
    return f"{_prefix(value)}{instead}" if key in _NAME_KEYS and _is_local(value) else without_paths(value, instead)


def _origin(spec: dict) -> str:
    kind, name, pretrained = spec["type"], spec.get("name", ""), spec.get("pretrained")
    if pretrained is False:
        return ""
    if isinstance(pretrained, str):
        return LOCAL if _is_local(pretrained) or "/" not in pretrained and not _prefix(pretrained) else pretrained
    if kind in ("OpenCLIPBackbone", "OpenCLIPText"):
        if _is_local(name) or _is_local(spec.get("tag")):
            return LOCAL
        named = f"{name}/{spec['tag']}" if spec.get("tag") else name
        return f"openclip:{named}" if spec.get("tag") or name.startswith("hf-hub:") else ""
    if _is_local(name):
        return LOCAL
    if kind in ("HFVision", "HFText"):
        return f"hf:{name}"
    if kind == "BERT":
        return name or "bert-base-chinese"
    if not pretrained:
        return ""
    return f"clip:{spec.get('variant') or 'ViT-B/32'}" if kind in ("CLIPVision", "CLIPText") else f"timm {name or _name(spec)}"


def _name(spec: dict) -> str:
    named = [spec.get(argument) for argument in ("name", "variant", "depth", "size")]
    return " ".join([spec["type"], *(LOCAL if _is_local(value) else str(value) for value in named if value)])


def _is_path_argument(key: object, value: object) -> bool:
    """Whether an argument is a path by its own name."""
    return isinstance(value, str) and isinstance(key, str) and (key in _PATH_KEYS or key.rpartition("_")[2] in _PATH_ENDINGS)


def _is_local(name: object) -> bool:
    """Whether the name of a network or of weights is a path."""
    return _is_path(name) or isinstance(name, str) and name.removeprefix(_prefix(name)).count("/") > 1


def _is_path(value: object) -> bool:
    """Whether a text looks like a path, perhaps behind a prefix such as ``hf:``."""
    if not isinstance(value, str):
        return False
    rest = value.removeprefix(_prefix(value))
    return bool(_PATH.match(rest) or _FILE.fullmatch(rest) or "weights:" in _prefix(value))


def _prefix(value: str) -> str:
    found = _PREFIX.match(value)
    return "" if found is None else found.group()
