"""Export to folders that transformers' ``CLIPModel`` or ``ChineseCLIPModel`` and their processors load without a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import Tensor, tensor

from clipzoo.errors import BuildError, ConfigError
from clipzoo.files import new_folder, write_json, write_text
from clipzoo.models.export.folder import write_safetensors
from clipzoo.models.layout import byte_pairs
from clipzoo.models.layout.clip_weights import OPENAI_MEAN, OPENAI_STD, CLIPWeights
from clipzoo.models.layout.sizes import CLIP_VOCABULARY
from clipzoo.models.layout.transformers import BLOCK, TEXT, VISION
from clipzoo.structures import Preprocessing

_RESAMPLE = {"bilinear": 2, "bicubic": 3}  # PIL constants


def write_transformers(weights: CLIPWeights, folder: str | Path, fit: Literal["crop", "squash"] | None = None) -> None:
    """Write a folder with ``config.json``, ``model.safetensors``, the preprocessing and the tokenizer.

    Args:
        weights: CLIP weights with a vision transformer; the text tower is CLIP's, or a BERT with its tokenizer files.
        folder: New folder.
        fit: How transformers' processor makes an image square; ``None`` uses the weights' own preprocessing. The processor does not support
            ``'pad'``, so that such weights require another value.

    Raises:
        BuildError: transformers has no equivalent model.
        ConfigError: ``fit`` is unknown.
        DataError: The folder already exists or cannot be written.
    """
    folder = Path(folder)
    _check(weights, folder)
    clip = weights.text_kind == "clip"
    shown = weights.preprocessing or Preprocessing(weights.image_size, OPENAI_MEAN, OPENAI_STD, "bicubic", "crop")
    shown = replace(shown, fit=_fit(shown.fit if fit is None else fit, folder))
    files = byte_pairs.tokenizer_files(weights.context_length) if clip else weights.files
    with new_folder(folder) as new:
        write_safetensors(new / "model.safetensors", state_dict(weights))
        write_json(new / "config.json", config(weights))
        write_json(new / "preprocessor_config.json", _preprocessor("CLIP" if clip else "ChineseCLIP", shown))
        for name, text in files.items():
            write_text(new / name, text)


def state_dict(weights: CLIPWeights) -> dict[str, Tensor]:
    """The state dict with transformers' names."""
    state = _renamed(weights.visual, VISION, "vision_model.encoder.layers.")
    state["visual_projection.weight"] = weights.visual["proj"].T
    if weights.text_kind == "clip":
        state |= _renamed(weights.text, TEXT, "text_model.encoder.layers.")
    else:
        state |= {f"text_model.{name}": value for name, value in weights.text.items() if name != "text_projection"}
    state["text_projection.weight"] = weights.text["text_projection"].T
    state["logit_scale"] = tensor(weights.logit_scale)
    return state


def config(weights: CLIPWeights) -> dict:
    """``config.json``."""
    activation = "quick_gelu" if weights.quick_gelu else "gelu"
    clip = weights.text_kind == "clip"
    vision = {
        "model_type": "clip_vision_model" if clip else "chinese_clip_vision_model",
        "hidden_size": weights.vision_width,
        "num_hidden_layers": weights.vision_layers,
        "num_attention_heads": weights.vision_heads,
        "intermediate_size": weights.vision_mlp,
        "image_size": weights.image_size,
        "patch_size": weights.patch_size,
        "hidden_act": activation,
        "projection_dim": weights.embed_dim,
    }
    text = {
        "model_type": "clip_text_model",
        "hidden_size": weights.text_width,
        "num_hidden_layers": weights.text_layers,
        "num_attention_heads": weights.text_heads,
        "intermediate_size": weights.text_mlp,
        "max_position_embeddings": weights.context_length,
        "vocab_size": weights.vocab_size,
        "hidden_act": activation,
        "projection_dim": weights.embed_dim,
        "bos_token_id": CLIP_VOCABULARY - 2,
        "eos_token_id": CLIP_VOCABULARY - 1,
        "pad_token_id": CLIP_VOCABULARY - 1,
    }
    return {
        "model_type": "clip" if clip else "chinese_clip",
        "architectures": ["CLIPModel" if clip else "ChineseCLIPModel"],
        "projection_dim": weights.embed_dim,
        "logit_scale_init_value": weights.logit_scale,
        "vision_config": vision,
        "text_config": text if clip else {"model_type": "chinese_clip_text_model", **(weights.text_config or {})},
    }


def _check(weights: CLIPWeights, folder: Path) -> None:
    if weights.vision_kind != "vit":
        raise BuildError(f"{folder}: transformers has no CLIP with {weights.describe_vision()}. Use the open_clip format")
    if weights.quick_gelu is None:
        raise BuildError(f"{folder}: unknown activation (QuickGELU or GELU), which config.json must specify")
    if weights.logit_bias is not None:
        raise BuildError(f"{folder}: transformers' CLIPModel has no logit_bias, which a sigmoid loss learned. Use the open_clip format")
    if weights.text_kind == "bert" and not weights.files:
        raise BuildError(f"{folder}: unknown BERT vocabulary. Put vocab.txt next to the weights")


def _fit(fit: str, folder: Path) -> str:
    if fit == "pad":
        raise BuildError(
            f"{folder}: the images were padded (fit='pad'), which transformers' processor does not support. Pass fit='crop' or fit='squash'"
        )
    if fit not in ("crop", "squash"):
        raise ConfigError(f"write_transformers: fit={fit!r} is not supported. Allowed: 'crop', 'squash'")
    return fit


def _preprocessor(family: str, shown: Preprocessing) -> dict:
    square = {"height": shown.size, "width": shown.size}
    return {
        "image_processor_type": f"{family}ImageProcessor",
        "processor_class": f"{family}Processor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": shown.size} if shown.fit == "crop" else square,
        "resample": _RESAMPLE[shown.interpolation],
        "do_center_crop": shown.fit == "crop",
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(shown.mean),
        "image_std": list(shown.std),
    }


def _renamed(tower: dict[str, Tensor], names: dict[str, str], prefix: str) -> dict[str, Tensor]:
    """A tower with transformers' names, without its projection."""
    back, parts = {new: old for old, new in names.items()}, {new: old for old, new in BLOCK.items()}
    state: dict[str, Tensor] = {}
    for name, value in tower.items():
        if name in back:
            state[back[name]] = value
        elif name.startswith("transformer.resblocks."):
            number, _, rest = name.removeprefix("transformer.resblocks.").partition(".")
            if rest.startswith("attn.in_proj_"):
                kind = rest.removeprefix("attn.in_proj_")
                state |= {f"{prefix}{number}.self_attn.{c}_proj.{kind}": one for c, one in zip("qkv", value.chunk(3), strict=True)}
            else:
                part, _, kind = rest.rpartition(".")
                state[f"{prefix}{number}.{parts[part]}.{kind}"] = value
    return state
