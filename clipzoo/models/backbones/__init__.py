"""Image towers, from timm, open_clip and CLIP, with their weights, preprocessing and depth groups."""

from clipzoo.models.backbones.base import Backbone
from clipzoo.models.backbones.clip_vision import CLIPVision
from clipzoo.models.backbones.convnext import ConvNeXt
from clipzoo.models.backbones.efficientnet import EfficientNet
from clipzoo.models.backbones.hf_vision import HFVision
from clipzoo.models.backbones.open_clip_backbone import OpenCLIPBackbone
from clipzoo.models.backbones.resnet import ResNet
from clipzoo.models.backbones.starnet import StarNet
from clipzoo.models.backbones.timm_backbone import TimmBackbone
from clipzoo.models.backbones.vision_transformer import VisionTransformer

__all__ = [
    "Backbone",
    "CLIPVision",
    "ConvNeXt",
    "EfficientNet",
    "HFVision",
    "OpenCLIPBackbone",
    "ResNet",
    "StarNet",
    "TimmBackbone",
    "VisionTransformer",
]
