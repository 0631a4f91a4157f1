"""Export to open_clip: one file, or a folder whose config stores everything besides the weights."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from torch import Tensor, tensor

from clipzoo.errors import BuildError
from clipzoo.files import check_new, new_folder, write_json
from clipzoo.models.export.folder import write_safetensors
from clipzoo.models.layout.clip_weights import OPENAI_MEAN, OPENAI_STD, CLIPWeights
from clipzoo.models.layout.open_clip import CONFIG, FITS, HEADER, TEXT_SIZES, VISION_SIZES, WEIGHTS, check_options
from clipzoo.structures import Preprocessing


def write_open_clip(weights: CLIPWeights, path: str | Path) -> None:
    """Write a CLIP for open_clip.

    Args:
        weights: CLIP weights with CLIP's own text transformer.
        path: With the extension ``.safetensors``: one file for ``open_clip.create_model(<name>, pretrained=<path>)``. Its header stores
            activation and preprocessing, which this project reads and open_clip ignores. Otherwise a new folder for
            ``open_clip.create_model_and_transforms('local-dir:<path>')``, whose config stores them.

    Raises:
        BuildError: open_clip has no equivalent model.
        DataError: The path already exists or cannot be written.
    """
    path = Path(path)
    if weights.text_kind != "clip":
        raise BuildError(f"{path}: open_clip cannot build {weights.describe_text()} without the hub. Use the transformers format")
    if path.suffix == ".safetensors":
        check_new(path)
        write_safetensors(path, state_dict(weights), {HEADER: _header(weights)})
        return
    if path.suffix in (".pt", ".pth", ".bin", ".json", ".zip"):
        raise BuildError(f"{path}: use the extension .safetensors for a file, or a folder name without an extension")
    if weights.quick_gelu is None:
        raise BuildError(f"{path}: unknown activation (QuickGELU or GELU), which the folder's config must specify")
    with new_folder(path) as folder:
        write_safetensors(folder / WEIGHTS[0], state_dict(weights))
        shown = weights.preprocessing or Preprocessing(weights.image_size, OPENAI_MEAN, OPENAI_STD, "bicubic", "crop")
        write_json(folder / CONFIG, {"model_cfg": model_config(weights), "preprocess_cfg": preprocess_config(shown)})


def state_dict(weights: CLIPWeights) -> dict[str, Tensor]:
    """The state dict with open_clip's names."""
    state = {**{f"visual.{key}": value for key, value in weights.visual.items()}, **weights.text}
    state["logit_scale"] = tensor(weights.logit_scale)
    if weights.logit_bias is not None:
        state["logit_bias"] = tensor(weights.logit_bias)
    return state


def model_config(weights: CLIPWeights) -> dict:
    """open_clip's ``model_cfg``."""
    towers = {"vision_cfg": vision_config(weights), "text_cfg": text_config(weights)}
    config = {"embed_dim": weights.embed_dim, **towers, "quick_gelu": bool(weights.quick_gelu)}
    return config if weights.logit_bias is None else {**config, "init_logit_bias": weights.logit_bias}


def vision_config(weights: CLIPWeights) -> dict:
    """open_clip's ``vision_cfg``."""
    vision: dict = {"image_size": weights.image_size, "width": weights.vision_width}
    if weights.vision_kind == "resnet":
        vision |= {"layers": list(weights.vision_layers), "head_width": weights.vision_width * 32 // weights.vision_heads}
    else:
        vision |= {"layers": weights.vision_layers, "patch_size": weights.patch_size}
        vision |= {"head_width": weights.vision_width // weights.vision_heads, **_mlp(weights.vision_width, weights.vision_mlp)}
    return vision


def text_config(weights: CLIPWeights) -> dict:
    """open_clip's ``text_cfg``."""
    return {
        "context_length": weights.context_length,
        "vocab_size": weights.vocab_size,
        "width": weights.text_width,
        "heads": weights.text_heads,
        "layers": weights.text_layers,
        **_mlp(weights.text_width, weights.text_mlp),
    }


def open_clip_names(weights: CLIPWeights) -> list[str]:
    """The open_clip model names that have these sizes and this activation."""
    import open_clip

    wanted = model_config(weights)
    return [name for name in open_clip.list_models() if _same_model(open_clip.get_model_config(name), wanted)]


def preprocess_config(shown: Preprocessing) -> dict:
    """open_clip's ``preprocess_cfg``."""
    mode = next(mode for mode, fit in FITS.items() if fit == shown.fit)
    return {"mean": list(shown.mean), "std": list(shown.std), "interpolation": shown.interpolation, "resize_mode": mode}


def _same_model(config: dict, wanted: dict) -> bool:
    """Do two ``model_cfg`` describe the same network, with every default filled in?"""
    try:
        check_options(config, config["vision_cfg"], config["text_cfg"], "")
    except BuildError:
        return False
    return _written_out(config) == _written_out(wanted)


def _written_out(config: dict) -> dict:
    vision = {"width": 768, "layers": 12, "head_width": 64, "mlp_ratio": 4.0, "patch_size": 16, "image_size": 224, **config["vision_cfg"]}
    text = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12, "mlp_ratio": 4.0, **config["text_cfg"]}
    for section in (vision, text):
        section["mlp_ratio"] = int(section["width"] * section["mlp_ratio"])
    if isinstance(vision["layers"], list):
        vision["patch_size"] = vision["mlp_ratio"] = None
    return {
        "embed_dim": config["embed_dim"],
        "quick_gelu": bool(config.get("quick_gelu")),
        "logit_bias": config.get("init_logit_bias") is not None,
        "vision": {key: vision[key] for key in VISION_SIZES},
        "text": {key: text[key] for key in TEXT_SIZES},
    }


def _mlp(width: int, mlp: int) -> dict[str, float]:
    """open_clip's ratio of the two widths, whose product it truncates; empty for the default of 4."""
    if mlp == 4 * width:
        return {}
    return {"mlp_ratio": mlp / width if int(width * (mlp / width)) == mlp else (mlp + 0.5) / width}


def _header(weights: CLIPWeights) -> str:
    return json.dumps(
        {
            "quick_gelu": weights.quick_gelu,
            "preprocessing": None if weights.preprocessing is None else asdict(weights.preprocessing),
            "vision_heads": weights.vision_heads,
            "text_heads": weights.text_heads,
        }
    )
