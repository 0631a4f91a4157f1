"""One door for the weights of whole CLIPs: looks at what a file or folder is, and reads it."""

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
    """Read both towers of a CLIP from a file or folder of any of the formats; every tensor is accounted for.

    Args:
        path: OpenAI's ``.pt`` (TorchScript archive or state dict); open_clip's ``.safetensors``, ``.bin`` or ``.pt``, or a folder with its
            ``open_clip_config.json``; a folder of transformers' ``CLIPModel`` or ``ChineseCLIPModel``; Chinese-CLIP's ``.pt``; a checkpoint
            of this project.
        where: Who wants the weights, first words of a message.

    Raises:
        BuildError: It cannot be read, is no CLIP, is a CLIP that cannot be expressed, or contradicts itself.
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
        raise BuildError(f"{where} is a TorchScript archive, but of no CLIP: {some}. OpenAI's have visual.* and transformer.*")
    state = tensors(content, where)
    if any(key.startswith("bert.") for key in state):
        return chinese_clip.from_state(state, path, where)
    if any(key.startswith("visual.") for key in state):
        return open_clip_format.from_state(state, where, script=script, path=path)
    raise BuildError(f"{where} holds no CLIP: {_what_it_is(state, path)}")


def _read_folder(path: Path, where: str) -> CLIPWeights:
    where = f"{where}: {path}"
    both = (path / "config.json").is_file()  # many repositories on the hub have the weights for both libraries, or for one of the two
    if (path / open_clip.CONFIG).is_file() and (not both or any(path.glob("open_clip*model.*"))):
        return open_clip_format.from_folder(path, where)
    if both:
        return transformers_format.from_folder(path, where)
    checkpoints = sorted(path.glob("checkpoint_*.pth"))
    if checkpoints:
        raise BuildError(f"{where} is the folder of a fold. Give its checkpoint, {checkpoints[0]}")
    raise BuildError(f"{where} has neither open_clip_config.json (open_clip) nor config.json (transformers). Give the weights file itself")


def _what_it_is(state: Mapping[str, Tensor], path: Path) -> str:
    """In words, for those who took the wrong file."""
    folder = f"it is transformers' layout. Give its folder, {path.parent}, whose config.json says sizes and activation"
    names = (
        ("vision_model.", folder),
        ("text_model.", folder),
        ("token_embedding.", "it is CLIP's text tower alone"),
        ("class_embedding", "it is CLIP's vision transformer alone"),
        ("attnpool.", "it is CLIP's ResNet alone"),
        ("layer1.0.", "it is a ResNet for classification, with one tower only"),
        ("blocks.0.", "it is a timm vision transformer, with one tower only"),
        ("stages.0.", "it is a timm network, with one tower only"),
        ("embeddings.word_embeddings.", "it is a BERT, with one tower only"),
    )
    for prefix, words in names:
        if any(key.startswith(prefix) for key in state):
            return words
    return f"no tensor is called visual.*, but there are {', '.join(list(state)[:3])}"
