"""Reading of whole CLIPs: detects the format of a file or folder, and reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from clipzoo.errors import BuildError, DataError
from clipzoo.files import expanded
from clipzoo.models.layout import open_clip
from clipzoo.models.layout.clip_weights import CLIPWeights
from clipzoo.models.weights import chinese_clip, clipzoo_format, open_clip_format, transformers_format
from clipzoo.models.weights.files import kind_of_weights, read_file, tensors, weights_file
from clipzoo.records.sealed import check_seal


def read_clip(path: str | Path, where: str) -> CLIPWeights:
    """Read both towers of a CLIP from a file or folder in any supported format; every tensor is accounted for.

    Args:
        path: OpenAI's ``.pt`` (TorchScript archive or state dict); open_clip's ``.safetensors``, ``.bin`` or ``.pt``, or a folder with
            ``open_clip_config.json``; a folder of transformers' ``CLIPModel`` or ``ChineseCLIPModel``; Chinese-CLIP's ``.pt``; or a file
            of this project (a checkpoint).
        where: Start of a message: the class that requests the weights.

    Raises:
        BuildError: The source is unreadable, not a CLIP, an unsupported CLIP, or contradicts itself.
    """
    path = Path(expanded(path))
    if path.is_dir():
        return _read_folder(path, where)
    path = weights_file(path, where)
    where = f"{where}: {path}"
    content, script = read_file(path, where.removesuffix(f": {path}")), kind_of_weights(path) == "script"
    if isinstance(content, Mapping) and clipzoo_format.is_checkpoint(content):
        try:
            check_seal(path)
        except DataError as error:
            raise BuildError(f"{where.removesuffix(f': {path}')}: {error}") from error
        return clipzoo_format.from_checkpoint(content, where)
    if script and not any(key.startswith("visual.") for key in content):
        some = f"its tensors are {', '.join(list(content)[:3])} …" if content else "it has no tensors"
        raise BuildError(f"{where} is a TorchScript archive, but not of a CLIP: {some}. OpenAI's have visual.* and transformer.*")
    state = tensors(content, where)
    if any(key.startswith("bert.") for key in state):
        return chinese_clip.from_state(state, path, where)
    if any(key.startswith("visual.") for key in state):
        return open_clip_format.from_state(state, where, script=script, path=path)
    raise BuildError(f"{where} does not contain a CLIP: {_what_it_is(state, path)}")


def _read_folder(path: Path, where: str) -> CLIPWeights:
    where = f"{where}: {path}"
    both = (path / "config.json").is_file()  # many hub repositories contain weights for both libraries, or for one of them
    if (path / open_clip.CONFIG).is_file() and (not both or any(path.glob("open_clip*model.*"))):
        return open_clip_format.from_folder(path, where)
    if both:
        return transformers_format.from_folder(path, where)
    checkpoints = sorted(path.glob("checkpoint_*.pth"))
    if checkpoints:
        raise BuildError(f"{where} is a fold's folder. Pass its checkpoint, {checkpoints[0]}")
    raise BuildError(f"{where} has neither open_clip_config.json (open_clip) nor config.json (transformers). Pass the weights file itself")


def _what_it_is(state: Mapping[str, Tensor], path: Path) -> str:
    """Description of the content, for users who chose the wrong file."""
    folder = f"it is in transformers' layout. Pass its folder, {path.parent}, whose config.json defines sizes and activation"
    names = (
        ("vision_model.", folder),
        ("text_model.", folder),
        ("token_embedding.", "it is only CLIP's text tower"),
        ("class_embedding", "it is only CLIP's vision transformer"),
        ("attnpool.", "it is only CLIP's ResNet"),
        ("layer1.0.", "it is a ResNet for classification, with one tower only"),
        ("blocks.0.", "it is a timm vision transformer, with one tower only"),
        ("stages.0.", "it is a timm network, with one tower only"),
        ("embeddings.word_embeddings.", "it is a BERT, with one tower only"),
    )
    for prefix, words in names:
        if any(key.startswith(prefix) for key in state):
            return words
    return f"no tensors visual.*, but {', '.join(list(state)[:3])}"
