"""Where the first weights of a model's towers came from, as its config says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clipzoo.models.catalogue import CATALOGUE, Published
from clipzoo.registries import BACKBONES, TEXT_ENCODERS

_REGISTRIES = {"image_encoder": BACKBONES, "text_encoder": TEXT_ENCODERS}


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


def without_folders(value: Any) -> Any:
    """The same plain data with only the last part of every path."""
    if isinstance(value, Mapping):
        return {key: without_folders(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_folders(inner) for inner in value]
    return f"…/{_last(value)}" if _is_path(value) else value


def _origin(spec: dict) -> str:
    kind, name, pretrained = spec["type"], spec.get("name", ""), spec.get("pretrained")
    if pretrained is False:
        return ""
    if isinstance(pretrained, str):
        return f"file {_last(pretrained)}" if _is_path(pretrained) or pretrained.count("/") != 1 else pretrained
    if kind in ("OpenCLIPBackbone", "OpenCLIPText"):
        named = name if not spec.get("tag") else f"{name}/{_last(spec['tag']) if _is_path(spec['tag']) else spec['tag']}"
        return f"openclip:{named}" if spec.get("tag") or name.startswith("hf-hub:") else ""
    name = f"folder {_last(name)}" if _is_path(name) else name
    if kind in ("HFVision", "HFText"):
        return f"hf:{name}"
    if kind == "BERT":
        return name or "bert-base-chinese"
    if not pretrained:
        return ""
    return f"clip:{spec.get('variant') or 'ViT-B/32'}" if kind in ("CLIPVision", "CLIPText") else f"timm {name or _name(spec)}"


def _name(spec: dict) -> str:
    named = [spec.get(argument) for argument in ("name", "variant", "depth", "size")]
    return " ".join([spec["type"], *(_last(str(value)) if _is_path(value) else str(value) for value in named if value)])


def _is_path(value: object) -> bool:
    return isinstance(value, str) and (value.startswith(("/", "~", "./", "../")) or bool(re.match(r"[A-Za-z]:[\\/]", value)))


def _last(path: str) -> str:
    return os.path.basename(path.replace("\\", "/").rstrip("/"))
