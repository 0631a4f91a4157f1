"""Reading of OpenAI's and open_clip's files, which share their tensor names, and open_clip's folders with a config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from clipzoo.errors import BuildError, shortened
from clipzoo.models.layout.clip_weights import OPENAI_MEAN, OPENAI_STD, CLIPWeights
from clipzoo.models.layout.json_file import as_object, check_sizes, read_object
from clipzoo.models.layout.open_clip import CONFIG, HEADER, WEIGHTS, check_options, preprocessing_of, with_matrix
from clipzoo.models.layout.sizes import check_joint, scalars, text_sizes, vision_sizes
from clipzoo.models.weights.files import kind_of_weights, read_file, tensors
from clipzoo.structures import Preprocessing

# Only OpenAI's own archives contain these values; their models were trained with QuickGELU.
_OPENAI_MARKS = ("input_resolution", "context_length", "vocab_size")
# Ignored on purpose: these values, and the causal mask in older files, which is the same for every CLIP.
_IGNORED = (*_OPENAI_MARKS, "attn_mask", "text.attn_mask")
_TEXT_NAMES = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")


def from_state(state: Mapping[str, Tensor], where: str, *, script: bool = False, path: Path | None = None) -> CLIPWeights:
    """Convert a state dict with OpenAI's or open_clip's names.

    Args:
        state: State dict in fp32, without ``module.``.
        where: Start of a message.
        script: Whether it came from a TorchScript archive, the format of OpenAI's published weights.
        path: Weight file, whose header may contain more.
    """
    openai = script or any(mark in state for mark in _OPENAI_MARKS)
    visual, text, rest = split(state)
    if rest:
        raise BuildError(f"{where}: {len(rest)} tensors belong to no part of a CLIP: {shortened(rest, 4)}")
    sizes = {**vision_sizes(visual, where), **text_sizes(text, where)}
    stored = {name: state[name].squeeze().tolist() for name in _OPENAI_MARKS if name in state}
    found = {"input_resolution": sizes["image_size"], "context_length": sizes["context_length"], "vocab_size": sizes["vocab_size"]}
    wrong = [f"{name} is {value}, but the tensors have {found[name]}" for name, value in stored.items() if value != found[name]]
    if wrong:
        raise BuildError(f"{where}: the file contradicts itself: {'; '.join(wrong)}")
    scale, bias = scalars(state, where)
    check_joint(sizes["embed_dim"], text, where)
    weights = CLIPWeights(
        format="openai-torchscript" if script else "openai" if openai else "open_clip",
        visual=visual,
        text=text,
        logit_scale=scale,
        logit_bias=bias,
        quick_gelu=True if openai else None,
        preprocessing=Preprocessing(sizes["image_size"], OPENAI_MEAN, OPENAI_STD, "bicubic", "crop") if openai else None,
        **sizes,
    )
    return weights if path is None else _with_header(weights, path, where)


def from_folder(folder: Path, where: str) -> CLIPWeights:
    """Load a folder with ``open_clip_config.json``, as in open_clip's repositories on the hub."""
    config = read_object(folder / CONFIG, where)
    model = as_object(config.get("model_cfg"), f"{where}: {CONFIG}: model_cfg")
    vision, text = (as_object(model.get(name), f"{where}: {CONFIG}: {name}") for name in ("vision_cfg", "text_cfg"))
    check_options(model, vision, text, f"{where}: {CONFIG}", " Use openclip:FOLDER for both towers")
    file = weights_in(folder, where)
    weights = from_state(tensors(read_file(file, where), f"{where}: {file.name}"), f"{where}: {file.name}", path=file)
    weights = _with_config(weights, model, vision, text, f"{where}: {CONFIG}")
    quick_gelu = bool(model.get("quick_gelu", False))
    if weights.quick_gelu not in (None, quick_gelu):
        raise BuildError(f"{where}: {CONFIG} has quick_gelu={quick_gelu}, but {file.name} has {weights.quick_gelu}")
    where = f"{where}: {CONFIG}: preprocess_cfg"
    preprocessing = _preprocessing(as_object(config.get("preprocess_cfg", {}), where), weights.image_size, where)
    return replace(weights, quick_gelu=quick_gelu, preprocessing=preprocessing)


def split(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """Split into image tower, text tower (also if open_clip nests it under ``text.``), and the names of the remaining tensors."""
    visual, text, rest = {}, {}, []
    for key, value in state.items():
        if key in ("logit_scale", "logit_bias", *_IGNORED):
            continue
        if key.startswith("visual."):
            visual[key.removeprefix("visual.")] = value
        elif key.startswith("text."):
            text[key.removeprefix("text.")] = value
        elif key.startswith(_TEXT_NAMES):
            text[key] = value
        else:
            rest.append(key)
    return visual, with_matrix(text), rest


def _with_header(weights: CLIPWeights, path: Path, where: str) -> CLIPWeights:
    """Add the information in the header of one of our own ``.safetensors`` files."""
    if kind_of_weights(path) != "safetensors":
        return weights
    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get(HEADER)
    if text is None:
        return weights
    try:
        header = json.loads(text)
        fields = header["preprocessing"]
        preprocessing = fields and Preprocessing(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
        return replace(
            weights,
            quick_gelu=header["quick_gelu"],
            preprocessing=preprocessing,
            vision_heads=header["vision_heads"],
            text_heads=header["text_heads"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BuildError(f"{where}: the file's header was not written by clipzoo ({error})") from error


def _with_config(weights: CLIPWeights, model: dict, vision: dict, text: dict, where: str) -> CLIPWeights:
    """Add the numbers of heads, after comparing all other sizes with the tensors."""
    vision, text = ({key: value for key, value in section.items() if value is not None} for section in (vision, text))
    pairs = {
        "embed_dim": (model.get("embed_dim"), weights.embed_dim),
        "vision_cfg.image_size": (_one_side(vision.get("image_size", 224)), weights.image_size),
        "vision_cfg.width": (vision.get("width", 768), weights.vision_width),
        "vision_cfg.layers": (_tuple(vision.get("layers", 12)), weights.vision_layers),
        "text_cfg.context_length": (text.get("context_length", 77), weights.context_length),
        "text_cfg.vocab_size": (text.get("vocab_size", 49408), weights.vocab_size),
        "text_cfg.width": (text.get("width", 512), weights.text_width),
        "text_cfg.layers": (text.get("layers", 12), weights.text_layers),
        "text_cfg.mlp_ratio": (int(weights.text_width * text.get("mlp_ratio", 4.0)), weights.text_mlp),
    }
    if weights.vision_kind == "vit":
        pairs["vision_cfg.patch_size"] = (vision.get("patch_size", 16), weights.patch_size)
        pairs["vision_cfg.mlp_ratio"] = (int(weights.vision_width * vision.get("mlp_ratio", 4.0)), weights.vision_mlp)
    check_sizes(pairs, where)
    channels = weights.vision_width * (32 if weights.vision_kind == "resnet" else 1)
    head_width, heads = vision.get("head_width", 64), text.get("heads", 8)
    for name, value, largest in (("vision_cfg.head_width", head_width, channels), ("text_cfg.heads", heads, weights.text_width)):
        if not isinstance(value, int) or not 1 <= value <= largest:
            raise BuildError(f"{where}: {name}={value!r} must be a whole number from 1 to {largest}")
    return replace(weights, vision_heads=channels // head_width, text_heads=heads)


def _preprocessing(config: dict, image_size: int, where: str) -> Preprocessing:
    """``preprocess_cfg`` of a folder, whose size must be that of the weights."""
    size = _one_side(config.get("size") or image_size)
    if size != image_size:
        raise BuildError(f"{where}: size={size}, but the weights are for {image_size} px")
    return replace(preprocessing_of(config, where), size=image_size)


def weights_in(folder: Path, where: str) -> Path:
    """The weight file in an open_clip folder: under one of the standard names, or else the only one.

    Raises:
        BuildError: None exists, or it is ambiguous.
    """
    found = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if not found:
        found = sorted(path for path in folder.iterdir() if kind_of_weights(path) is not None)
        if len(found) != 1:
            which = f"there are {shortened([path.name for path in found])}" if found else "none exists"
            raise BuildError(f"{where}: the folder must contain one weights file, such as {WEIGHTS[0]}, but {which}")
    return found[0]


def _one_side(size: object) -> object:
    """Reduce two equal numbers to one."""
    return size[0] if isinstance(size, (list, tuple)) and len(set(size)) == 1 else size


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
