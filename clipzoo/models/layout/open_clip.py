"""open_clip's names and options."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from clipzoo.errors import BuildError, did_you_mean, shortened
from clipzoo.models.layout.clip_weights import OPENAI_MEAN, OPENAI_STD
from clipzoo.models.layout.json_file import three_numbers
from clipzoo.structures import Preprocessing

# File names in the folder, in open_clip's order of preference.
CONFIG = "open_clip_config.json"
WEIGHTS = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth"),
    *("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth"),
)
# Sizes, which are compared with the tensors, and options that only matter in training.
VISION_SIZES = ("image_size", "patch_size", "width", "layers", "head_width", "mlp_ratio")
TEXT_SIZES = ("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio")
_HARMLESS = {
    "vision_cfg": ("patch_dropout", "output_tokens", "timm_model_pretrained", "timm_pool", "timm_proj", "timm_drop", "timm_drop_path"),
    "text_cfg": ("output_tokens", "hf_model_pretrained", "hf_tokenizer_name", "eos_id", "pad_id"),
    "model_cfg": (
        *("embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "custom_text"),
        *("init_logit_scale", "init_logit_bias", "nonscalar_logit_scale"),
    ),
}
FITS = {"shortest": "crop", "longest": "pad", "squash": "squash"}
END_OF_TEXT = 49407
# Where open_clip looks for a Hugging Face encoder and its tokenizer; replaced by the folder or repository that is written.
TOWER_FOLDER = {"hf_model_name": ".", "hf_tokenizer_name": "."}
HEADER = "clipzoo"  # key of our entry in the header of a .safetensors file; ignored by open_clip


@dataclass(frozen=True)
class OpenCLIPTower:
    """A tower as one of open_clip's that wrap a network of timm or transformers.

    Attributes:
        state: Tensors under open_clip's names, without ``visual.`` or ``text.``, with the projection into the joint space.
        config: ``vision_cfg`` or ``text_cfg``.
        files: Tokenizer files and ``config.json`` of a text tower, name to content.
    """

    state: dict[str, Tensor]
    config: dict
    files: dict[str, str] = field(default_factory=dict)


def with_matrix(text: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tower with its projection as a matrix ``[width, embed_dim]``, which open_clip may store as a layer without bias."""
    if "text_projection.weight" not in text or "text_projection.bias" in text:
        return text
    rest = {name: value for name, value in text.items() if name != "text_projection.weight"}
    return {**rest, "text_projection": text["text_projection.weight"].T.contiguous()}


def is_plain(vision: dict, text: dict) -> bool:
    """Whether no option of a tower changes its computation beyond CLIP's own; see ``check_options``."""
    try:
        check_options({}, vision, text, "")
    except BuildError:
        return False
    return True


def unprojected(tower: str, matrix_ED: Tensor, where: str, bias_E: Tensor | None = None) -> None:
    """Refuse a projection behind one of open_clip's own towers, which ends in its own.

    Raises:
        BuildError: There is such a projection.
    """
    if bias_E is not None or matrix_ED.shape[0] != matrix_ED.shape[1] or not bool((matrix_ED == torch.eye(len(matrix_ED))).all()):
        raise BuildError(f"{where}: {tower} ends in its own projection, and open_clip has no place for another behind it. Remove it")


def check_options(model: dict, vision: dict, text: dict, where: str, instead: str = "") -> None:
    """Refuse options that change the towers' computation without affecting the tensors.

    Args:
        model: open_clip's ``model_cfg``, or the part of it to be checked.
        vision: ``vision_cfg`` of the model.
        text: ``text_cfg`` of the model.
        where: Start of a message.
        instead: End of the message.

    Raises:
        BuildError: There is such an option.
    """
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    defaults = {"vision_cfg": asdict(CLIPVisionCfg()), "text_cfg": {**asdict(CLIPTextCfg()), "tokenizer_kwargs": None}, "model_cfg": {}}
    known = {"vision_cfg": VISION_SIZES, "text_cfg": TEXT_SIZES, "model_cfg": ()}
    for section, values in (("model_cfg", model), ("vision_cfg", vision), ("text_cfg", text)):
        for name, value in values.items():
            if name in known[section] or name in _HARMLESS[section] or not value or value == defaults[section].get(name):
                continue
            if (section, name, value) == ("text_cfg", "pool_type", "eos") and text.get("eos_id") == END_OF_TEXT:
                continue  # equivalent: the end of text has the largest id
            raise BuildError(f"{where}: {section}.{name}={value!r} is not supported in a plain CLIP.{instead}")


def preprocessing_of(values: object, where: str) -> Preprocessing:
    """open_clip's evaluation transform; missing values are OpenAI's. The size belongs to the tower.

    Args:
        values: ``preprocess_cfg`` of a folder, or the entry of a model in open_clip's index.
        where: First words of a message.

    Raises:
        BuildError: It is malformed, or asks for something that is not supported.
    """
    if not isinstance(values, dict):
        raise BuildError(f"{where}: preprocess_cfg is not a JSON object")
    mode = values.get("resize_mode") or "shortest"
    if mode not in FITS:
        raise BuildError(f"{where}: unknown resize_mode={mode!r}.{did_you_mean(str(mode), FITS)} Known: {shortened(FITS)}")
    if mode == "longest" and values.get("fill_color"):
        raise BuildError(f"{where}: fill_color={values['fill_color']!r} is not supported; images are always padded with black")
    return Preprocessing(
        mean=_per_channel(values.get("mean") or OPENAI_MEAN, f"{where}: mean"),
        std=_per_channel(values.get("std") or OPENAI_STD, f"{where}: std"),
        interpolation="bilinear" if values.get("interpolation") == "bilinear" else "bicubic",  # as in open_clip
        fit=FITS[mode],
    )


def _per_channel(value: object, where: str) -> tuple[float, float, float]:
    """One number per channel; in open_clip a single number applies to all."""
    return three_numbers((value,) * 3 if isinstance(value, (int, float)) else value, where)
