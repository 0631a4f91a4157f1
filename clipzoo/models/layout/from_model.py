"""Conversion of a model of this project to ``CLIPWeights``, for other libraries."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from torch import Tensor, nn

from clipzoo.errors import BuildError
from clipzoo.models.layout.clip_weights import CLIPWeights
from clipzoo.models.layout.sizes import check_joint, vision_sizes

if TYPE_CHECKING:
    from clipzoo.models.clip import CLIP


def from_model(model: CLIP, where: str = "export") -> CLIPWeights:
    """Convert both towers, with their projections into the joint space, and the scale.

    A linear projection is multiplied into the tower's own in fp64, so that the features do not change. Low-rank adapters are merged into
    the weights. ``model`` itself is not modified.

    Args:
        model: Model with ``CLIPVision`` or a plain ``OpenCLIPBackbone`` as image tower; and ``CLIPText``, a plain ``OpenCLIPText``, or a
            ``BERT`` pooled at ``[CLS]`` as text tower. Plain means without options that CLIP itself does not have.
        where: Start of a message.

    Raises:
        BuildError: The model has no equivalent in other libraries: another tower, or a projection that is not linear.
    """
    from clipzoo.models.clip import CLIP

    if not isinstance(model, CLIP):
        raise BuildError(f"{where}: {type(model).__name__} cannot be exported. Only a CLIP, with an image tower and a text tower, can")
    model = merged(model)
    visual, image = image_tower(model, where)
    text, text_facts = text_tower(model, where)
    check_joint(image["embed_dim"], text, where)
    quick_gelu = activation(model, where)
    return CLIPWeights(
        format="clipzoo",
        visual=visual,
        text=text,
        logit_scale=model.logit_scale.item(),
        logit_bias=logit_bias(model),
        quick_gelu=quick_gelu,
        preprocessing=model.preprocessing,
        context_length=model.text_encoder.context_length,
        **image,
        **text_facts,
    )


def merged(model: CLIP) -> CLIP:
    """The model, or a copy with merged adapters if a tower has low-rank adapters."""
    if model.image_encoder.lora is None and model.text_encoder.lora is None:
        return model
    model = copy.deepcopy(model)
    model.image_encoder.merge_lora()
    model.text_encoder.merge_lora()
    return model


def image_tower(model: CLIP, where: str) -> tuple[dict[str, Tensor], dict]:
    """The image tower's tensors, with the projection merged, and its sizes."""
    visual, facts = model.image_encoder.clip_layout(where)
    matrix_ED, bias_E = linear(model.image_projection, f"{where}: model.image_projection")
    if matrix_ED is not None and "attnpool.c_proj.weight" in visual:
        weight_DC, own_D = visual["attnpool.c_proj.weight"].double(), visual["attnpool.c_proj.bias"].double()
        visual["attnpool.c_proj.weight"] = (matrix_ED @ weight_DC).float()
        visual["attnpool.c_proj.bias"] = (matrix_ED @ own_D + (0 if bias_E is None else bias_E)).float()
    elif matrix_ED is not None:
        refuse_bias(bias_E, f"{where}: model.image_projection")
        visual["proj"] = (visual["proj"].double() @ matrix_ED.T).float()
    return visual, {**vision_sizes(visual, where), **facts}


def text_tower(model: CLIP, where: str) -> tuple[dict[str, Tensor], dict]:
    """The text tower's tensors, with the projection merged, and its fields of ``CLIPWeights``."""
    matrix_ED, bias_E = linear(model.text_projection, f"{where}: model.text_projection")
    refuse_bias(bias_E, f"{where}: model.text_projection")
    text, text_facts = model.text_encoder.clip_layout(where)
    if matrix_ED is not None:
        text["text_projection"] = (text["text_projection"].double() @ matrix_ED.T).float()
    return text, text_facts


def activation(model: CLIP, where: str) -> bool:
    """Whether the CLIP transformers use QuickGELU; a ResNet and a BERT have other activations.

    Raises:
        BuildError: The two towers differ.
    """
    activations = {name: getattr(model, name).quick_gelu for name in ("image_encoder", "text_encoder")}
    defined = {value for value in activations.values() if value is not None}
    if len(defined) > 1:
        towers = " and ".join(f"model.{name} with quick_gelu={value}" for name, value in activations.items())
        raise BuildError(f"{where}: {towers}: other libraries' CLIPs have one activation in both towers")
    return defined.pop() if defined else False


def linear(projection: nn.Module, where: str) -> tuple[Tensor | None, Tensor | None]:
    """``[E, D]`` and ``[E]`` in fp64 of a linear projection; ``None`` for a missing projection or bias.

    Raises:
        BuildError: The projection is not linear.
    """
    layer = getattr(projection, "layers", projection)
    if isinstance(layer, nn.Identity):
        return None, None
    if not isinstance(layer, nn.Linear):
        raise BuildError(
            f"{where} is {type(projection).__name__}, which is not linear and cannot be multiplied into the tower's own projection"
        )
    bias = None if layer.bias is None else layer.bias.detach().cpu().double()
    return layer.weight.detach().cpu().double(), bias


def refuse_bias(bias_E: Tensor | None, where: str) -> None:
    """Refuse a bias.

    Raises:
        BuildError: There is one.
    """
    if bias_E is not None:
        raise BuildError(f"{where} has a bias, which other libraries' CLIP projections do not support. Train it with bias=False")


def logit_bias(model: CLIP) -> float | None:
    """The bias of a sigmoid loss."""
    bias = getattr(model.loss, "logit_bias", None)
    return None if bias is None else bias.item()
