"""One door for the weights of whole CLIPs: looks at what a file or folder is, and reads it."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from clipzoo.errors import BuildError
from clipzoo.models.pretrained import first_line, is_script, read_file, tensors, weights_file
from clipzoo.models.weights import chinese_clip, clipzoo_format, open_clip_format, transformers_format
from clipzoo.models.weights.base import CLIPWeights


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
    path = Path(os.path.expanduser(path))
    if path.is_dir():
        return _read_folder(path, where)
    path = weights_file(path, where)
    where = f"{where}: {path}"
    if is_script(path):
        return open_clip_format.from_state(_script_state(path, where), where, script=True)
    content = read_file(path, where.removesuffix(f": {path}"))
    if isinstance(content, Mapping) and clipzoo_format.is_checkpoint(content):
        return clipzoo_format.from_checkpoint(content, where)
    state = tensors(content, where)
    if any(key.startswith("bert.") for key in state):
        return chinese_clip.from_state(state, path, where)
    if any(key.startswith("visual.") for key in state):
        return open_clip_format.from_state(state, where, path=path)
    raise BuildError(f"{where} holds no CLIP: {_what_it_is(state, path)}")


def _read_folder(path: Path, where: str) -> CLIPWeights:
    where = f"{where}: {path}"
    both = (path / "config.json").is_file()  # many repositories on the hub have the weights for both libraries, or for one of the two
    if (path / open_clip_format.CONFIG).is_file() and (not both or any(path.glob("open_clip*model.*"))):
        return open_clip_format.from_folder(path, where)
    if both:
        return transformers_format.from_folder(path, where)
    checkpoints = sorted(path.glob("checkpoint_*.pth"))
    if checkpoints:
        raise BuildError(f"{where} is the folder of a fold. Give its checkpoint, {checkpoints[0]}")
    raise BuildError(f"{where} has neither open_clip_config.json (open_clip) nor config.json (transformers). Give the weights file itself")


def _script_state(path: Path, where: str) -> dict[str, Tensor]:
    """The tensors of a TorchScript archive.

    None of its code runs: modules are made from their attributes, methods are only called by whoever calls the module, and
    ``__setstate__``, the one that loading itself would call, is refused.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            code = [archive.read(name) for name in archive.namelist() if "/code/" in name and name.endswith(".py")]
        if any(b"__setstate__" in text for text in code):
            raise BuildError(f"{where} is a TorchScript archive that runs code when it is loaded (__setstate__), as OpenAI's do not")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces the end of TorchScript; OpenAI's archives stay as they are
            script = torch.jit.load(path, map_location="cpu")
    except (RuntimeError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise BuildError(f"{where} cannot be read as a TorchScript archive ({first_line(error)})") from error
    state = {key: value.detach() for key, value in script.state_dict().items()}
    if not any(key.startswith("visual.") for key in state):
        some = f"its tensors are {', '.join(list(state)[:3])} …" if state else "it has no tensors"
        raise BuildError(f"{where} is a TorchScript archive, but of no CLIP: {some}. OpenAI's have visual.* and transformer.*")
    return tensors(state, where)


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
