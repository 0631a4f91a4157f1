"""Reading of folders written by transformers' ``CLIPModel`` and ``ChineseCLIPModel``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clipzoo.errors import BuildError, DataError, first_line, shortened
from clipzoo.files import read_text
from clipzoo.models.layout.byte_pairs import check_vocabulary
from clipzoo.models.layout.clip_weights import CHINESE_CONTEXT, OPENAI_MEAN, OPENAI_STD, CLIPWeights
from clipzoo.models.layout.image_processor import clip_preprocessing
from clipzoo.models.layout.json_file import as_object, check_sizes, read_object
from clipzoo.models.layout.sizes import CLIP_VOCABULARY, bert_sizes, check_joint, scalars, text_sizes, vision_sizes
from clipzoo.models.layout.transformers import BLOCK, TEXT, TOKENIZER_FILES, VISION, bert_config
from clipzoo.models.weights.files import read_file, tensors
from clipzoo.structures import Preprocessing

if TYPE_CHECKING:
    from transformers import PretrainedConfig

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
PROCESSORS = ("processor_config.json", "preprocessor_config.json")
_ACTIVATIONS = {"quick_gelu": True, "gelu": False}
_EPSILON = 1e-5


def from_folder(folder: Path, where: str) -> CLIPWeights:
    """Load a folder with ``config.json``; weights are required, preprocessing and tokenizer are optional."""
    raw = read_object(folder / "config.json", where)
    kind = raw.get("model_type")
    if kind not in ("clip", "chinese_clip"):
        what = "has no model_type, so it is not from transformers" if kind is None else f"is of a {kind} model, not of a CLIP"
        other = f" Use hf:{folder} for both towers" if kind in ("siglip", "metaclip_2") else ""
        raise BuildError(f"{where}: config.json {what}. Supported: model_type clip and chinese_clip.{other}")
    config = _read_config(raw, f"{where}: config.json")
    state = read_weights(folder, where)
    state = {name: value for name, value in state.items() if not name.endswith(".position_ids")}  # 0, 1, 2 … in older files
    scale, _ = scalars(state, where)
    state.pop("logit_scale")
    visual = _visual(state)
    text = _clip_text(state) if kind == "clip" else _bert_text(state)
    if state:
        raise BuildError(f"{where}: {len(state)} tensors belong to no part of a {kind} model: {shortened(state, 4)}")
    sizes = {**vision_sizes(visual, where), **(text_sizes if kind == "clip" else bert_sizes)(text, where)}
    check_joint(sizes["embed_dim"], text, where)
    _check_config(config, sizes, f"{where}: config.json")
    sizes |= {"vision_heads": config.vision_config.num_attention_heads, "text_heads": config.text_config.num_attention_heads}
    if kind == "clip":
        check_vocabulary(folder, where)
    else:
        sizes["context_length"] = min(CHINESE_CONTEXT, len(text["embeddings.position_embeddings.weight"]))
    return CLIPWeights(
        format="transformers",
        visual=visual,
        text=text,
        text_kind="clip" if kind == "clip" else "bert",
        text_config=None if kind == "clip" else bert_config(config.text_config.to_dict()),
        files={} if kind == "clip" else tokenizer_files(folder, where),
        logit_scale=scale,
        quick_gelu=_quick_gelu(config, f"{where}: config.json"),
        preprocessing=_preprocessing(folder, sizes["image_size"], where, fit=None if kind == "clip" else "squash"),
        **sizes,
    )


def read_weights(folder: Path, where: str) -> dict[str, Tensor]:
    """The state dict of a transformers folder, from one file, or from several with an index."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return tensors(read_file(folder / name, where), f"{where}: {name}")
        index = folder / f"{name}.index.json"
        if index.is_file():
            state: dict[str, Tensor] = {}
            for part in parts_of(index, where):
                if not (folder / part).is_file():
                    raise BuildError(f"{where}: {part}, listed in {index.name}, is missing")
                found = tensors(read_file(folder / part, where), f"{where}: {part}")
                twice = sorted(state.keys() & found.keys())
                if twice:
                    raise BuildError(f"{where}: {part} has tensors that are also in another part: {shortened(twice, 4)}")
                state |= found
            return state
    raise BuildError(f"{where}: no weights next to config.json. Expected one of {', '.join(WEIGHTS)}")


def parts_of(index: Path, where: str) -> list[str]:
    """The files listed in the index of multi-file weights.

    Raises:
        BuildError: The index is damaged, or lists files outside its folder.
    """
    where = f"{where}: {index.name}"
    parts = as_object(read_object(index, where).get("weight_map"), f"{where}: weight_map")
    names = sorted({str(part) for part in parts.values()})
    for name in names:
        if Path(name).name != name:
            raise BuildError(f"{where}: {name!r} is not a file in its folder")
    return names


def tokenizer_files(folder: Path, where: str) -> dict[str, str]:
    """The available files of a BERT's tokenizer, name to content."""
    try:
        files = {name: read_text(folder / name) for name in TOKENIZER_FILES if (folder / name).is_file()}
    except DataError as error:
        raise BuildError(f"{where}: {error}") from error
    if files and "tokenizer_config.json" not in files:  # published folders contain only vocab.txt; this is transformers' default
        files["tokenizer_config.json"] = json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    return files


def _read_config(raw: dict, where: str) -> PretrainedConfig:
    """The config with transformers' defaults, which older files omit."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import ChineseCLIPConfig, CLIPConfig

    try:
        return (CLIPConfig if raw["model_type"] == "clip" else ChineseCLIPConfig).from_dict(raw)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, StrictDataclassError) as error:
        raise BuildError(f"{where} cannot be read ({first_line(error)})") from error


def _visual(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the image tower from ``state`` and return it with OpenAI's names."""
    visual = _take(state, VISION) | _take_blocks(state, "vision_model.encoder.layers.")
    if "visual_projection.weight" in state:
        visual["proj"] = state.pop("visual_projection.weight").T.contiguous()
    return visual


def _clip_text(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove CLIP's text tower from ``state`` and return it with OpenAI's names."""
    text = _take(state, TEXT) | _take_blocks(state, "text_model.encoder.layers.")
    if "text_projection.weight" in state:
        text["text_projection"] = state.pop("text_projection.weight").T.contiguous()
    return text


def _bert_text(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove a BERT from ``state`` and return it without its pooling layer, which neither library uses."""
    names = [name for name in state if name.startswith("text_model.")]
    text = {name.removeprefix("text_model."): state.pop(name) for name in names}
    if "text_projection.weight" in state:
        text["text_projection"] = state.pop("text_projection.weight").T.contiguous()
    return {name: value for name, value in text.items() if not name.startswith("pooler.")}


def _take(state: dict[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    return {new: state.pop(old) for old, new in names.items() if old in state}


def _take_blocks(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The blocks with OpenAI's names; tensors without an equivalent stay in ``state``."""
    found: dict[str, Tensor] = {}
    for name in [name for name in state if name.startswith(prefix)]:
        number, _, rest = name.removeprefix(prefix).partition(".")
        part, _, kind = rest.rpartition(".")
        if part in BLOCK:
            found[f"transformer.resblocks.{number}.{BLOCK[part]}.{kind}"] = state.pop(name)
        elif part == "self_attn.q_proj":
            three = [f"{prefix}{number}.self_attn.{letter}_proj.{kind}" for letter in "qkv"]
            if all(one in state for one in three):
                found[f"transformer.resblocks.{number}.attn.in_proj_{kind}"] = torch.cat([state.pop(one) for one in three])
    return found


def _check_config(config: PretrainedConfig, sizes: dict, where: str) -> None:
    """Compare sizes, and refuse options that change the computation without affecting the tensors."""
    vision, text = config.vision_config, config.text_config
    pairs = {
        "projection_dim": (config.projection_dim, sizes["embed_dim"]),
        "vision_config.image_size": (vision.image_size, sizes["image_size"]),
        "vision_config.patch_size": (vision.patch_size, sizes["patch_size"]),
        "vision_config.hidden_size": (vision.hidden_size, sizes["vision_width"]),
        "vision_config.num_hidden_layers": (vision.num_hidden_layers, sizes["vision_layers"]),
        "vision_config.intermediate_size": (vision.intermediate_size, sizes["vision_mlp"]),
        "text_config.hidden_size": (text.hidden_size, sizes["text_width"]),
        "text_config.num_hidden_layers": (text.num_hidden_layers, sizes["text_layers"]),
        "text_config.intermediate_size": (text.intermediate_size, sizes["text_mlp"]),
        "text_config.vocab_size": (text.vocab_size, sizes["vocab_size"]),
    }
    clip = config.model_type == "clip"
    if clip:
        pairs["text_config.max_position_embeddings"] = (text.max_position_embeddings, sizes["context_length"])
    check_sizes(pairs, where)
    for name, part in (("vision_config", vision), *((("text_config", text),) if clip else ())):
        if part.layer_norm_eps != _EPSILON:
            raise BuildError(f"{where}: {name}.layer_norm_eps={part.layer_norm_eps}, but only CLIP's {_EPSILON} is supported")
    # In OpenAI's own files 2 means "the largest id", which is the end of text.
    if clip and text.eos_token_id not in (2, CLIP_VOCABULARY - 1):
        raise BuildError(f"{where}: text_config.eos_token_id={text.eos_token_id}, but OpenAI's end of text is {CLIP_VOCABULARY - 1}")
    if getattr(text, "position_embedding_type", None) not in (None, "absolute"):
        raise BuildError(f"{where}: text_config.position_embedding_type={text.position_embedding_type!r} is not supported, only 'absolute'")


def _quick_gelu(config: PretrainedConfig, where: str) -> bool:
    activations = {"vision_config": config.vision_config.hidden_act}
    if config.model_type == "clip":
        activations["text_config"] = config.text_config.hidden_act
    for name, activation in activations.items():
        if activation not in _ACTIVATIONS:
            raise BuildError(f"{where}: {name}.hidden_act={activation!r} is not supported, only {' and '.join(_ACTIVATIONS)}")
    if len(set(activations.values())) > 1:
        raise BuildError(f"{where}: the towers have two activations, {' and '.join(activations.values())}; only one is supported")
    return _ACTIVATIONS[activations["vision_config"]]


def image_processor(folder: Path, where: str) -> tuple[dict, str] | None:
    """``processor_config.json``, since transformers 5, or ``preprocessor_config.json``: content and name; ``None`` without them."""
    for name in PROCESSORS:
        if (folder / name).is_file():
            config = read_object(folder / name, where)
            config = config if name.startswith("pre") else config.get("image_processor")
            if config is not None:
                return as_object(config, f"{where}: {name}"), name
    return None


def _preprocessing(folder: Path, image_size: int, where: str, fit: str | None) -> Preprocessing | None:
    """Read the preprocessing from a folder.

    Args:
        fit: How images are made square without a file, with OpenAI's mean and standard deviation, as in the training of the published
            Chinese-CLIP; ``None`` if unknown.
    """
    found = image_processor(folder, where)
    if found is None:
        return None if fit is None else Preprocessing(image_size, OPENAI_MEAN, OPENAI_STD, "bicubic", fit)
    return clip_preprocessing(found[0], image_size, f"{where}: {found[1]}")
