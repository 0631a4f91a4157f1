"""timm's repositories and folders: ``config.json`` with the architecture and the preprocessing, and the weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from clipzoo.errors import BuildError
from clipzoo.files import expanded
from clipzoo.lean_imports import lean
from clipzoo.models.layout.json_file import as_object, read_object
from clipzoo.models.weights.files import kind_of_weights
from clipzoo.models.weights.hub import MODELSCOPE, from_hub, hub_folder, local_name

with lean():
    from timm.models import PretrainedCfg

HUB = "hf-hub:"  # before the name of a repository, as in timm
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def is_repository(name: str) -> bool:
    """Whether ``name`` is a repository or a folder rather than a model in timm's list."""
    return name.startswith((HUB, MODELSCOPE, "/", "./", "../", "~")) or "\\" in name


def repository_folder(name: str, where: str, *, pretrained: bool) -> Path:
    """The folder with ``config.json`` and, if pretrained, the weights: a local one, or the hub's in the local cache.

    Raises:
        BuildError: The folder does not exist, or the repository is unavailable (the message gives three ways to get it).
    """
    if name.startswith(HUB):
        repository, required = name.removeprefix(HUB), [("config.json",), *([_WEIGHTS] if pretrained else [])]
        return from_hub(lambda cached: hub_folder(repository, cached, required=required), where, repository, local="timm:FOLDER")
    folder = Path(expanded(local_name(name, where)))
    if not folder.is_dir():
        raise BuildError(f"{where}: no folder {name}. Pass one with timm's config.json, timm:hf-hub:<organisation>/<name>, or timm:<name>")
    return folder


def read_description(folder: Path, where: str) -> dict:
    """What ``config.json`` says about the network: ``architecture``, ``model_args`` and ``pretrained_cfg``, without the labels.

    Raises:
        BuildError: The file is missing, or is not timm's.
    """
    content = read_object(folder / "config.json", where)
    if not isinstance(content.get("architecture"), str):
        kind = content.get("model_type")
        other = "not timm's" if kind is None else f"of a {kind} model of transformers"
        raise BuildError(f"{where}: config.json is {other}. Use hf:<name or folder>, or openclip:")
    published = as_object(content.get("pretrained_cfg", content), f"{where}: config.json: pretrained_cfg")
    known = {field.name for field in dataclasses.fields(PretrainedCfg)} - {"label_names", "label_descriptions", "architecture"}
    kept = {key: value for key, value in published.items() if key in known and value is not None}
    arguments = as_object(content.get("model_args") or {}, f"{where}: config.json: model_args")
    if arguments.get("in_chans", 3) != 3:
        raise BuildError(f"{where}: the network takes images of {arguments['in_chans']} channels, not 3")
    arguments = {key: value for key, value in arguments.items() if key not in ("num_classes", "in_chans", "pretrained")}
    return {"architecture": content["architecture"], "model_args": arguments, "pretrained_cfg": kept}


def pretrained_cfg(description: dict) -> PretrainedCfg:
    """timm's record of the weights, from a description."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in description["pretrained_cfg"].items()}
    return PretrainedCfg(**{**values, "architecture": description["architecture"]})


def weights_of(folder: Path, where: str) -> Path:
    """The file of weights in a folder.

    Raises:
        BuildError: There is none.
    """
    found = [folder / name for name in _WEIGHTS if kind_of_weights(folder / name) is not None]
    if not found:
        raise BuildError(f"{where}: no weights next to config.json. Expected one of {', '.join(_WEIGHTS)}")
    return found[0]
