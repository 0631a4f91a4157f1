"""A checkpoint for the hub: its tensors as safetensors, everything else as JSON, loaded without running any code."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file

from clipzoo.engine import checkpoint
from clipzoo.errors import CheckpointError
from clipzoo.files import file_sha256, read_json, write_text
from clipzoo.models.export.folder import write_safetensors

CONFIG, WEIGHTS = "clipzoo_config.json", "clipzoo_model.safetensors"
_KEPT = tuple(name for name in checkpoint.BestContent.__dataclass_fields__ if name != "model")


def write_hub_checkpoint(content: dict, folder: Path) -> None:
    """Write the model of a checkpoint into an existing folder; what only a restart of the training needs is left out.

    Args:
        content: Result of ``checkpoint.read``.
        folder: The folder.

    Raises:
        DataError: A file cannot be written.
    """
    write_safetensors(folder / WEIGHTS, content["model"])
    kept = {name: content[name] for name in _KEPT if content.get(name) is not None}
    kept |= {"kind": "best"}
    kept["weights"] = file_sha256(folder / WEIGHTS)
    write_text(folder / CONFIG, json.dumps(kept, ensure_ascii=False, indent=1, sort_keys=True) + "\n")


def read_hub_checkpoint(folder: Path) -> dict:
    """The content of a checkpoint, as ``checkpoint.read`` returns it.

    Raises:
        CheckpointError: A file is missing or damaged, or the weights are not those of the configuration.
    """
    where, advice = folder / CONFIG, "Export or download the folder again"
    content = read_json(where)
    if not isinstance(content, dict) or content.get("format") != checkpoint.FORMAT:
        raise CheckpointError(f"{where}: not a model of clipzoo. {advice}")
    weights = content.pop("weights", None)
    if not (folder / WEIGHTS).is_file() or file_sha256(folder / WEIGHTS) != weights:
        raise CheckpointError(f"{folder / WEIGHTS}: missing, damaged, or of another model than {CONFIG}. {advice}")
    content["model"] = load_file(folder / WEIGHTS)
    checkpoint.check_content(content, where, advice)
    return {**content, "digest": weights}
