"""Every registered tower, and every kind of network behind one, as small as it gets; made without a network."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from clipzoo.models.text_encoders.tokenizer import character_vocabulary
from clipzoo.models.tower import Tower
from clipzoo.registries import BACKBONES, TEXT_ENCODERS

SENTENCES = ["一张髋关节假体的图片", "a cat", "!", "膝关节 2"]
_VIT = {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8}
_RESNET = {"image_size": 64, "layers": [1, 2, 1, 1], "width": 8}
_TEXT = {"width": 32, "heads": 2, "layers": 3}


def _timm(name: str) -> dict:
    return {"type": "TimmBackbone", "name": name, "image_size": 32}


def _open_clip(kind: str, vision: dict | None = None, text: dict | None = None) -> dict:
    return {"type": kind, "name": "small", "config": {"embed_dim": 24, "vision_cfg": vision or {}, "text_cfg": text or {}}}


_DINO = {"model_type": "dinov2", "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
_SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
_SIGLIP = {"model_type": "siglip", "text_config": _SIZES, "vision_config": {**_SIZES, "image_size": 32, "patch_size": 8}}

# The families ResNet, EfficientNet, ConvNeXt and VisionTransformer are TimmBackbone with a name of timm's.
IMAGES = {
    "ResNet": _timm("test_resnet"),
    "StarNet": {"type": "StarNet", "variant": "s050", "image_size": 32},
    "EfficientNet": _timm("test_efficientnet"),
    "ConvNeXt": _timm("test_convnext"),
    "VisionTransformer": _timm("test_vit"),
    "HFVision": {"type": "HFVision", "name": "small", "pretrained": False, "files": {"config.json": json.dumps(_DINO)}},
    "HFVision siglip": {"type": "HFVision", "name": "small", "pretrained": False, "files": {"config.json": json.dumps(_SIGLIP)}},
    "CLIPVision": {"type": "CLIPVision", **_VIT, "heads": 2, "output_dim": 24},
    "CLIPVision resnet": {"type": "CLIPVision", **_RESNET, "heads": 4, "output_dim": 24},
    "OpenCLIPBackbone": _open_clip("OpenCLIPBackbone", _VIT),
    "OpenCLIPBackbone resnet": _open_clip("OpenCLIPBackbone", {**_RESNET, "head_width": 64}),
    "OpenCLIPBackbone timm": _open_clip(
        "OpenCLIPBackbone", {"timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "mlp", "image_size": 160}
    ),
}
TEXTS = {
    "BERT": {"type": "BERT", "pretrained": False, "hidden_size": 32, "num_layers": 3, "num_heads": 2, "projection": 24},
    "CLIPText": {"type": "CLIPText", **_TEXT, "output_dim": 16},
    "HFText": {"type": "HFText", "pretrained": False},
    "OpenCLIPText": _open_clip("OpenCLIPText", text=_TEXT),
    "OpenCLIPText bert": _open_clip("OpenCLIPText", text={"hf_pooler_type": "mean_pooler", "context_length": 30}),
}
NAMES = [*IMAGES, *TEXTS]


def bert_folder(folder: Path) -> Path:
    """``config.json`` and tokenizer of a BERT with three layers."""
    from transformers import BertConfig, BertTokenizer

    if not (folder / "vocab.txt").exists():
        (folder / "vocab.txt").write_text("\n".join(character_vocabulary()), encoding="utf-8")
        BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
        sizes = {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 70,
        }
        BertConfig(**sizes, vocab_size=len(character_vocabulary())).save_pretrained(folder)
    return folder


def spec_of(name: str, folder: Path) -> dict:
    """What BACKBONES or TEXT_ENCODERS builds; ``folder`` is for the files that two of the text towers need."""
    spec = {**IMAGES, **TEXTS}[name]
    if name == "HFText":
        return {**spec, "name": str(bert_folder(folder))}
    if name == "OpenCLIPText bert":
        files = {"hf_model_name": str(bert_folder(folder)), "hf_tokenizer_name": str(bert_folder(folder))}
        return {**spec, "config": {**spec["config"], "text_cfg": {**spec["config"]["text_cfg"], **files}}}
    return spec


def build(name: str, folder: Path, **arguments: object) -> Tower:
    """A small tower with weights at which every layer matters, always the same."""
    table = BACKBONES if name in IMAGES else TEXT_ENCODERS
    torch.manual_seed(3)
    tower = table.build({**spec_of(name, folder), **arguments})
    return scatter(tower)


@torch.no_grad()
def scatter(tower: Tower) -> Tower:
    """Norms whose weights are not 0 (the last of a residual block often is) and not all alike; adapters stay as they are."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in tower.named_parameters():
        if tensor.ndim == 1 and name.endswith(("weight", "gamma")):
            tensor.copy_(1 + 0.3 * torch.randn(tensor.shape, generator=generator))
        elif tensor.ndim == 1:
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
    return tower


def inputs_of(tower: Tower) -> object:
    """Four images or sentences."""
    if hasattr(tower, "tokenizer"):
        return tower.tokenizer(SENTENCES)
    size = tower.preprocessing.size
    return torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(2))
