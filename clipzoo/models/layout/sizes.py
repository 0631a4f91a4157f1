"""The tensors of a CLIP, and the sizes that follow from their shapes. Names are OpenAI's; for a BERT, Hugging Face's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from clipzoo.errors import BuildError
from clipzoo.models.layout.modules import Shapes, bert, modified_resnet, shapes_on_meta, text_transformer, vision_transformer
from clipzoo.models.layout.states import differences, shapes_of

CLIP_VOCABULARY = 49408
# Shapes do not determine the number of heads. A head is 64 wide, except in these larger transformers of open_clip, by width.
_HEAD_WIDTH = {1280: 80, 1408: 88, 1664: 104, 1792: 112}
_OTHERS = "use openclip:<name>/<tag> for others"


def vision_sizes(visual: Mapping[str, Tensor], where: str) -> dict:
    """The fields of ``CLIPWeights`` determined by the image tower, after checking that all tensors are present and fit.

    Raises:
        BuildError: The tensors are not a CLIP image tower, or some are missing, unexpected or of another shape.
    """
    if "attnpool.positional_embedding" in visual and "layer1.0.conv1.weight" in visual:
        _check_dimensions(visual, {"attnpool.positional_embedding": 2, "layer1.0.conv1.weight": 4}, f"{where}: the image tower")
        sizes = _resnet_sizes(visual, where)
        shape = (sizes["vision_width"], sizes["vision_layers"], sizes["image_size"], sizes["embed_dim"])
        wanted = shapes_on_meta(lambda: modified_resnet(*shape))
    elif {"conv1.weight", "positional_embedding", "proj"} <= visual.keys() and visual["conv1.weight"].ndim == 4:
        _check_dimensions(visual, {"conv1.weight": 4, "positional_embedding": 2, "proj": 2}, f"{where}: the image tower")
        sizes = _vit_sizes(visual, where)
        shape = [sizes[name] for name in ("vision_width", "vision_layers", "vision_mlp", "patch_size", "image_size", "embed_dim")]
        wanted = shapes_on_meta(lambda: vision_transformer(*shape))
    else:
        raise BuildError(f"{where}: {_other_image_tower(visual)}. Supported: CLIP's vision transformers and ResNets; {_OTHERS}")
    _check(visual, wanted, f"{where}: the image tower")
    return sizes


def text_sizes(text: Mapping[str, Tensor], where: str) -> dict:
    """The same for CLIP's text transformer.

    Raises:
        BuildError: Tensors are missing, unexpected or of another shape, or the vocabulary is not OpenAI's.
    """
    if not {"token_embedding.weight", "positional_embedding", "text_projection"} <= text.keys():
        raise BuildError(f"{where}: {_other_text_tower(text)}. Supported: CLIP's text transformer and Chinese-CLIP's BERT; {_OTHERS}")
    matrices = {"token_embedding.weight": 2, "positional_embedding": 2, "text_projection": 2}
    _check_dimensions(text, matrices, f"{where}: the text tower")
    vocab_size, width = text["token_embedding.weight"].shape
    if vocab_size != CLIP_VOCABULARY:
        raise BuildError(
            f"{where}: the text tower has a vocabulary of {vocab_size} tokens, not OpenAI's {CLIP_VOCABULARY} byte pairs. "
            "Its tokenizer is not supported"
        )
    sizes = {
        "context_length": len(text["positional_embedding"]),
        "vocab_size": vocab_size,
        "text_width": width,
        "text_layers": _blocks(text, "transformer.resblocks."),
        "text_heads": max(1, width // 64),
        "text_mlp": _rows(text, "transformer.resblocks.0.mlp.c_fc.weight"),
    }
    embed_dim = text["text_projection"].shape[-1]
    shape = (width, sizes["text_layers"], sizes["text_mlp"], sizes["context_length"], vocab_size, embed_dim)
    wanted = shapes_on_meta(lambda: text_transformer(*shape))
    _check(text, wanted, f"{where}: the text tower")
    return sizes


def bert_sizes(text: Mapping[str, Tensor], where: str) -> dict:
    """The same for a BERT, except its context length, which no tensor determines.

    Raises:
        BuildError: Tensors are missing, unexpected or of another shape.
    """
    if not {"embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight", "text_projection"} <= text.keys():
        raise BuildError(f"{where}: the text tower is not a BERT. It has {_some(text)}")
    matrices = {"embeddings.word_embeddings.weight": 2, "embeddings.position_embeddings.weight": 2, "text_projection": 2}
    _check_dimensions(text, matrices, f"{where}: the text tower")
    vocab_size, width = text["embeddings.word_embeddings.weight"].shape
    sizes = {
        "vocab_size": vocab_size,
        "text_width": width,
        "text_layers": _blocks(text, "encoder.layer."),
        "text_heads": max(1, width // 64),
        "text_mlp": _rows(text, "encoder.layer.0.intermediate.dense.weight"),
    }
    positions, types = (_rows(text, f"embeddings.{kind}_embeddings.weight") for kind in ("position", "token_type"))
    config = {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "num_hidden_layers": sizes["text_layers"],
        "num_attention_heads": 1,
        "intermediate_size": sizes["text_mlp"],
        "max_position_embeddings": positions,
        "type_vocab_size": types,
    }
    wanted = {**shapes_on_meta(lambda: bert(config)), "text_projection": (width, text["text_projection"].shape[-1])}
    _check(text, wanted, f"{where}: the text tower")
    return sizes


def check_joint(embed_dim: int, text: Mapping[str, Tensor], where: str) -> None:
    """Check that both towers end in the same space.

    Raises:
        BuildError: The widths differ.
    """
    own = text["text_projection"].shape[1]
    if own != embed_dim:
        raise BuildError(f"{where}: the image tower has {embed_dim} outputs, the text tower {own}")


def scalars(state: Mapping[str, Tensor], where: str) -> tuple[float, float | None]:
    """``logit_scale`` and ``logit_bias``; some files store them as a vector of one number."""
    for name in ("logit_scale", "logit_bias"):
        if name in state and state[name].numel() != 1:
            raise BuildError(f"{where}: {name} contains {state[name].numel()} numbers instead of one")
    if "logit_scale" not in state:
        raise BuildError(f"{where}: logit_scale is missing")
    return float(state["logit_scale"]), float(state["logit_bias"]) if "logit_bias" in state else None


def _vit_sizes(visual: Mapping[str, Tensor], where: str) -> dict:
    width, channels, patch, _ = visual["conv1.weight"].shape
    grid = _side(len(visual["positional_embedding"]) - 1, f"{where}: the image tower's positional_embedding")
    if channels != 3:
        raise BuildError(f"{where}: the image tower has {channels} input channels, not 3")
    return {
        "vision_kind": "vit",
        "image_size": grid * patch,
        "patch_size": patch,
        "vision_width": width,
        "vision_layers": _blocks(visual, "transformer.resblocks."),
        "vision_heads": max(1, width // _HEAD_WIDTH.get(width, 64)),
        "vision_mlp": _rows(visual, "transformer.resblocks.0.mlp.c_fc.weight"),
        "embed_dim": visual["proj"].shape[-1],
    }


def _resnet_sizes(visual: Mapping[str, Tensor], where: str) -> dict:
    width = len(visual["layer1.0.conv1.weight"])
    grid = _side(len(visual["attnpool.positional_embedding"]) - 1, f"{where}: the image tower's attnpool.positional_embedding")
    return {
        "vision_kind": "resnet",
        "image_size": grid * 32,
        "patch_size": None,
        "vision_width": width,
        "vision_layers": tuple(_blocks(visual, f"layer{stage}.") for stage in (1, 2, 3, 4)),
        "vision_heads": max(1, width * 32 // 64),
        "vision_mlp": None,
        "embed_dim": _rows(visual, "attnpool.c_proj.weight"),
    }


def _check_dimensions(state: Mapping[str, Tensor], wanted: Mapping[str, int], where: str) -> None:
    """Check that the tensors that define sizes have the right number of dimensions and are not empty."""
    for name, dimensions in wanted.items():
        if state[name].ndim != dimensions or not state[name].numel():
            raise BuildError(f"{where} is not a plain CLIP tower. {name} has the shape {list(state[name].shape)}")


def _check(state: Mapping[str, Tensor], wanted: Shapes, where: str) -> None:
    problems = differences(shapes_of(state), wanted)
    if problems:
        raise BuildError(f"{where} is not a plain CLIP tower. {problems}")


def _other_image_tower(visual: Mapping[str, Tensor]) -> str:
    """Description of an unsupported image tower."""
    if any(key.startswith("trunk.") for key in visual):
        return "the image tower is a timm network inside open_clip (visual.trunk.*)"
    return f"the image tower is not CLIP's. It has {_some(visual)}" if visual else "there is no image tower (visual.*)"


def _other_text_tower(text: Mapping[str, Tensor]) -> str:
    """Description of an unsupported text tower."""
    if any(key.startswith("transformer.") and not key.startswith("transformer.resblocks.") for key in text):
        return "the text tower is a Hugging Face network inside open_clip (text.transformer.*)"
    if "text_projection.weight" in text:
        return "the text tower's projection has a bias, unlike CLIP's"
    return f"the text tower is not CLIP's. It has {_some(text)}" if text else "there is no text tower"


def _some(state: Mapping[str, Tensor]) -> str:
    return f"{len(state)} tensors such as {', '.join(list(state)[:3])}"


def _blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    numbers = {key[len(prefix) :].partition(".")[0] for key in state if key.startswith(prefix)}
    return len(numbers)


def _rows(state: Mapping[str, Tensor], key: str) -> int:
    """Number of rows of a tensor; 0 if it is missing, which the check then lists."""
    return len(state[key]) if key in state and state[key].ndim else 0


def _side(count: int, where: str) -> int:
    side = round(count**0.5)
    if side < 1 or side**2 != count:
        raise BuildError(f"{where} has {count + 1} rows, which is not a square grid plus a class token")
    return side
