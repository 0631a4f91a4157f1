"""The weights of a model of this project, so that other libraries can have them."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clipzoo.errors import BuildError
from clipzoo.models.weights.base import CLIPWeights
from clipzoo.models.weights.layout import bert_sizes, check_joint, text_sizes, vision_sizes
from clipzoo.models.weights.open_clip_format import check_options, with_matrix
from clipzoo.models.weights.transformers_format import TOKENIZER_FILES, bert_config

if TYPE_CHECKING:
    from clipzoo.models.clip import CLIP


def from_model(model: CLIP, where: str = "export") -> CLIPWeights:
    """Both towers, their projections into the joint space and the scale.

    A linear projection is multiplied into the tower's own: the product is computed in fp64, so that features stay what they were. Low-rank
    adapters are added to the weights. ``model`` itself stays as it is.

    Args:
        model: With ``CLIPVision`` or a plain ``OpenCLIPBackbone`` as its image tower; and ``CLIPText``, a plain ``OpenCLIPText`` or a
            ``BERT`` read at ``[CLS]`` as its text tower. Plain is what has no option that CLIP itself has not.
        where: First words of a message.

    Raises:
        BuildError: Another library could not express it: another tower, or a projection that is not linear.
    """
    from clipzoo.models.clip import CLIP

    if not isinstance(model, CLIP):
        raise BuildError(f"{where}: a {type(model).__name__} is no CLIP. Only a model with an image tower and a text tower can be exported")
    model = _merged(model)
    visual, image = _image_tower(model, where)
    text, words = _text_tower(model, where)
    check_joint(image["embed_dim"], text, where)
    quick_gelu = _activation(model, where)
    return CLIPWeights(
        format="clipzoo",
        visual=visual,
        text=text,
        logit_scale=model.logit_scale.item(),
        logit_bias=_bias(model),
        quick_gelu=quick_gelu,
        preprocessing=model.preprocessing,
        context_length=model.text_encoder.context_length,
        **image,
        **words,
    )


def _merged(model: CLIP) -> CLIP:
    """The model, or, where a tower has low-rank adapters, a copy with these folded in."""
    if model.image_encoder.lora is None and model.text_encoder.lora is None:
        return model
    model = copy.deepcopy(model)
    model.image_encoder.merge_lora()
    model.text_encoder.merge_lora()
    return model


def _image_tower(model: CLIP, where: str) -> tuple[dict[str, Tensor], dict]:
    """Its tensors with the projection folded in, and its sizes."""
    from clipzoo.models.backbones import CLIPVision, OpenCLIPBackbone

    tower = model.image_encoder
    if isinstance(tower, OpenCLIPBackbone):
        check_options({}, tower.config["vision_cfg"], {}, f"{where}: the image tower {tower.name}")
    elif not isinstance(tower, CLIPVision):
        raise BuildError(f"{where}: {_not_exported('image', tower)}. CLIPVision is needed")
    visual, resnet = _copied(tower.net), hasattr(tower.net, "attnpool")
    matrix_ED, bias_E = _linear(model.image_projection, f"{where}: model.image_projection")
    if matrix_ED is not None and resnet:
        weight_DC, own_D = visual["attnpool.c_proj.weight"].double(), visual["attnpool.c_proj.bias"].double()
        visual["attnpool.c_proj.weight"] = (matrix_ED @ weight_DC).float()
        visual["attnpool.c_proj.bias"] = (matrix_ED @ own_D + (0 if bias_E is None else bias_E)).float()
    elif matrix_ED is not None:
        _refuse_bias(bias_E, f"{where}: model.image_projection")
        visual["proj"] = (visual["proj"].double() @ matrix_ED.T).float()
    return visual, {
        **vision_sizes(visual, where),
        "vision_heads": (tower.net.attnpool if resnet else tower.net.transformer.resblocks[0].attn).num_heads,
    }


def _text_tower(model: CLIP, where: str) -> tuple[dict[str, Tensor], dict]:
    """Its tensors with the projection folded in, and what ``CLIPWeights`` says of it."""
    from clipzoo.models.text_encoders import BERT, CLIPText, OpenCLIPText

    tower = model.text_encoder
    matrix_ED, bias_E = _linear(model.text_projection, f"{where}: model.text_projection")
    _refuse_bias(bias_E, f"{where}: model.text_projection")
    if isinstance(tower, (CLIPText, OpenCLIPText)):
        return _clip_text(tower, matrix_ED, where)
    if not isinstance(tower, BERT):
        raise BuildError(f"{where}: {_not_exported('text', tower)}. CLIPText or BERT is needed")
    if tower.pooling != "cls":
        raise BuildError(f"{where}: the text tower has pooling={tower.pooling!r}, but Chinese-CLIP reads a BERT at its first token, 'cls'")
    text = _copied(tower.bert)
    own_WD = torch.eye(tower.num_features) if tower.text_projection is None else tower.text_projection.detach().cpu()
    text["text_projection"] = own_WD.clone() if matrix_ED is None else (own_WD.double() @ matrix_ED.T).float()
    sizes = {**bert_sizes(text, where), "text_heads": tower.bert.config.num_attention_heads}
    config = bert_config(tower.bert.config.to_dict())
    return text, {**sizes, "text_kind": "bert", "text_config": config, "files": _tokenizer_files(tower)}


def _clip_text(tower: nn.Module, matrix_ED: Tensor | None, where: str) -> tuple[dict[str, Tensor], dict]:
    """CLIP's text transformer, ours or open_clip's; they name their tensors alike."""
    from clipzoo.models.text_encoders import OpenCLIPText

    net = tower
    if isinstance(tower, OpenCLIPText):
        check_options({}, {}, tower.config["text_cfg"], f"{where}: the text tower {tower.name}")
        net = tower.net
    text = with_matrix(_copied(net))
    sizes = text_sizes(text, where)
    if matrix_ED is not None:
        text["text_projection"] = (text["text_projection"].double() @ matrix_ED.T).float()
    attention = net.transformer.resblocks[0].attn
    heads = attention.heads if hasattr(attention, "heads") else attention.num_heads
    return text, {**{name: value for name, value in sizes.items() if name != "context_length"}, "text_heads": heads}


def _not_exported(kind: str, tower: nn.Module) -> str:
    name = type(tower).__name__
    return f"the {kind} tower is {name}{'' if tower.name == name else f' {tower.name}'}, which other libraries' CLIPs have not"


def _activation(model: CLIP, where: str) -> bool:
    """Whether the CLIP transformers have QuickGELU; a ResNet and a BERT have activations of their own."""
    said = {name: getattr(model, name).quick_gelu for name in ("image_encoder", "text_encoder")}
    known = {value for value in said.values() if value is not None}
    if len(known) > 1:
        towers = " and ".join(f"model.{name} with quick_gelu={value}" for name, value in said.items())
        raise BuildError(f"{where}: {towers}: other libraries' CLIPs have one activation in both towers")
    return known.pop() if known else False


def _linear(projection: nn.Module, where: str) -> tuple[Tensor | None, Tensor | None]:
    """``[E, D]`` and ``[E]`` in fp64 of a linear projection; ``None`` for what it has not."""
    layer = getattr(projection, "layers", projection)
    if isinstance(layer, nn.Identity):
        return None, None
    if not isinstance(layer, nn.Linear):
        raise BuildError(
            f"{where} is {type(projection).__name__}, which is not linear and cannot be multiplied into the tower's own projection"
        )
    bias = None if layer.bias is None else layer.bias.detach().cpu().double()
    return layer.weight.detach().cpu().double(), bias


def _refuse_bias(bias_E: Tensor | None, where: str) -> None:
    if bias_E is not None:
        raise BuildError(f"{where} has a bias, which the projection of other libraries' CLIPs has not. Train it with bias=False")


def _bias(model: CLIP) -> float | None:
    """Of a sigmoid loss."""
    bias = getattr(model.loss, "logit_bias", None)
    return None if bias is None else bias.item()


def _tokenizer_files(tower: nn.Module) -> dict[str, str]:
    """Of a BERT: those of its published weights, or the vocabulary that is made in code."""
    from clipzoo.models.text_encoders.tokenizer import WordPieceTokenizer, character_vocabulary

    if not isinstance(tower.tokenizer, WordPieceTokenizer):
        files = tower.blueprint()["files"]
        return {name: files[name] for name in TOKENIZER_FILES if name in files}
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": tower.context_length}
    tokens = sorted(character_vocabulary().items(), key=lambda item: item[1])
    return {"vocab.txt": "".join(f"{token}\n" for token, _ in tokens), "tokenizer_config.json": json.dumps(config)}


def _copied(module: nn.Module) -> dict[str, Tensor]:
    """The state dict on the CPU, in fp32, apart from the model's own memory."""
    state = {name: value.detach().cpu() for name, value in module.state_dict().items()}
    return {name: value.to(torch.float32 if value.is_floating_point() else value.dtype, copy=True) for name, value in state.items()}
