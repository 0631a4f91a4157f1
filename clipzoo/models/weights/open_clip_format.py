"""OpenAI's and open_clip's files, which share their names, and open_clip's folders with a config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from clipzoo.errors import BuildError, shortened
from clipzoo.models.weights.base import OPENAI_MEAN, OPENAI_STD, CLIPWeights
from clipzoo.models.weights.layout import text_sizes, vision_sizes
from clipzoo.structures import Preprocessing

# Only OpenAI's own archives carry these numbers; their models were trained with QuickGELU.
_OPENAI_MARKS = ("input_resolution", "context_length", "vocab_size")
# Left out knowingly: the marks, and the causal mask, which older files hold and which is the same for every CLIP.
_IGNORED = (*_OPENAI_MARKS, "attn_mask", "text.attn_mask")
_TEXT_NAMES = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")


def from_state(state: Mapping[str, Tensor], where: str, *, script: bool = False, path: Path | None = None) -> CLIPWeights:
    """A state dict with OpenAI's or open_clip's names.

    Args:
        state: In fp32, without ``module.``.
        where: First words of a message.
        script: It came from a TorchScript archive, in which OpenAI published its weights.
        path: The file, whose header may say more.
    """
    openai = script or any(mark in state for mark in _OPENAI_MARKS)
    visual, text, rest = split(state)
    if rest:
        raise BuildError(f"{where}: {len(rest)} tensors belong to no part of a CLIP: {shortened(rest, 4)}")
    sizes = {**vision_sizes(visual, where), **text_sizes(text, where)}
    said = {name: int(state[name]) for name in _OPENAI_MARKS if name in state}
    found = {"input_resolution": sizes["image_size"], "context_length": sizes["context_length"], "vocab_size": sizes["vocab_size"]}
    wrong = [f"{name} says {value}, the tensors {found[name]}" for name, value in said.items() if value != found[name]]
    if wrong:
        raise BuildError(f"{where}: the file contradicts itself: {'; '.join(wrong)}")
    scale, bias = scalars(state, where)
    check_joint(sizes["embed_dim"], text, where)
    return CLIPWeights(
        format="openai-torchscript" if script else "openai" if openai else "open_clip",
        visual=visual,
        text=text,
        logit_scale=scale,
        logit_bias=bias,
        quick_gelu=True if openai else None,
        preprocessing=Preprocessing(sizes["image_size"], OPENAI_MEAN, OPENAI_STD, "bicubic", "crop") if openai else None,
        **sizes,
    )


def split(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """The image tower, the text tower (also where open_clip nests it under ``text.``), and the names of what belongs to neither."""
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
    if "text_projection.weight" in text and "text_projection.bias" not in text:  # open_clip's newer towers: a layer without bias
        text["text_projection"] = text.pop("text_projection.weight").T.contiguous()
    return visual, text, rest


def check_joint(embed_dim: int, text: Mapping[str, Tensor], where: str) -> None:
    """Both towers must end in the same space.

    Raises:
        BuildError: They do not.
    """
    own = text["text_projection"].shape[1]
    if own != embed_dim:
        raise BuildError(f"{where}: the image tower ends in {embed_dim} numbers, the text tower in {own}")


def scalars(state: Mapping[str, Tensor], where: str) -> tuple[float, float | None]:
    """``logit_scale`` and ``logit_bias``; some files hold a vector of one number."""
    for name in ("logit_scale", "logit_bias"):
        if name in state and state[name].numel() != 1:
            raise BuildError(f"{where}: {name} holds {state[name].numel()} numbers, not one")
    if "logit_scale" not in state:
        raise BuildError(f"{where}: logit_scale is missing")
    return float(state["logit_scale"]), float(state["logit_bias"]) if "logit_bias" in state else None
