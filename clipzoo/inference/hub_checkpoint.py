"""A checkpoint for the hub: its tensors as safetensors, everything else as JSON, loaded without running any code."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from clipzoo.engine import checkpoint
from clipzoo.errors import CheckpointError, DataError, first_line
from clipzoo.files import file_sha256, json_kind, read_json, write_text
from clipzoo.models.export.folder import write_safetensors
from clipzoo.scoring.card.first_weights import without_paths

CONFIG, WEIGHTS = "clipzoo_config.json", "clipzoo_model.safetensors"
_KEPT = tuple(name for name in checkpoint.BestContent.__dataclass_fields__ if name not in ("model", "config", "towers"))
# What rebuilding the model needs of its config; the rest names data, folders and servers. Keys of ``None`` are kept as a whole.
_SECTIONS = {"model": None, "plugins": None, "data": ("views",), "evaluation": ("tta",), "runtime": ("channels_last",)}
_LOCAL = "local"  # in place of a path, whose weights are in the folder
_ADVICE = "Export or download the folder again"


def write_hub_checkpoint(content: dict, folder: Path) -> None:
    """Write the model of a checkpoint into an existing folder, without what only a training needs, and without any path.

    Args:
        content: Result of ``checkpoint.read``.
        folder: The folder.

    Raises:
        DataError: A file cannot be written.
    """
    write_safetensors(folder / WEIGHTS, content["model"])
    kept = {name: content[name] for name in _KEPT if content.get(name) is not None}
    towers = without_paths(content["towers"], _LOCAL)
    kept |= {"kind": "best", "config": _without_training(content["config"]), "towers": towers, "weights": file_sha256(folder / WEIGHTS)}
    write_text(folder / CONFIG, json.dumps(kept, ensure_ascii=False, indent=1, sort_keys=True) + "\n")


def read_hub_checkpoint(folder: Path) -> dict:
    """The content of a checkpoint, as ``checkpoint.read`` returns it.

    Raises:
        CheckpointError: A file is missing or damaged, or the weights are not those of the configuration.
    """
    where = folder / CONFIG
    try:
        content = read_json(where)
    except DataError as error:
        raise CheckpointError(f"{error}. {_ADVICE}") from error
    if not isinstance(content, dict) or content.get("format") != checkpoint.FORMAT:
        raise CheckpointError(f"{where}: not a model of clipzoo. {_ADVICE}")
    weights = content.pop("weights", None)
    if not (folder / WEIGHTS).is_file() or file_sha256(folder / WEIGHTS) != weights:
        raise CheckpointError(f"{folder / WEIGHTS}: missing, damaged, or of another model than {CONFIG}. {_ADVICE}")
    try:
        content["model"] = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{folder / WEIGHTS}: not a complete file of tensors ({first_line(error)}). {_ADVICE}") from error
    _check(content, where)
    return {**content, "digest": weights}


def _without_training(config: dict) -> dict:
    """The part of a plain config that rebuilds its model, without paths."""
    found = {}
    for section, keys in _SECTIONS.items():
        values = config.get(section)
        if values is not None and keys is not None:
            values = {key: values[key] for key in keys if key in values}
        if values:
            found[section] = values
    return without_paths(found, _LOCAL)


def _check(content: dict, where: Path) -> None:
    """Validate what a checkpoint's seal would have protected, so that no later step meets a surprise.

    Raises:
        CheckpointError: A key is missing or unknown, or its value has the wrong type.
    """
    checkpoint.check_content(content, where, _ADVICE)
    sections = {f"config.{name}": value for name, value in content["config"].items() if name != "plugins" and name != "hooks"}
    for name, value in {**sections, **{f"towers.{name}": value for name, value in content["towers"].items()}}.items():
        if not isinstance(value, dict):
            raise CheckpointError(f"{where}: {name} must be a JSON object, not {json_kind(value)}. {_ADVICE}")
    required = {"state": ("epoch",), "preprocessing": ("size", "mean", "std", "interpolation", "fit"), "config": ("model",)}
    for part, keys in required.items():
        absent = [key for key in keys if key not in content[part]]
        if absent:
            raise CheckpointError(f"{where}: {part}.{absent[0]} is missing. {_ADVICE}")
    if len(content["class_captions"]) not in (0, len(content["classes"])):
        raise CheckpointError(f"{where}: {len(content['classes'])} classes, but sentences of {len(content['class_captions'])}. {_ADVICE}")
