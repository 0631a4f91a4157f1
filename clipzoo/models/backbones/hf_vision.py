"""Any image model of transformers as an image tower; of a CLIP, its image tower with the projection into the joint space."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from clipzoo.config.arguments import FilePath, Whole, Width
from clipzoo.errors import BuildError, ConfigError, first_line
from clipzoo.models.backbones.base import Backbone
from clipzoo.models.backbones.spatial import FeatureMap, Patches, Pooling, Spatial
from clipzoo.models.layout.image_processor import clip_preprocessing, image_preprocessing, usual_preprocessing
from clipzoo.models.layout.modules import shapes_on_meta
from clipzoo.models.lora import Adapters
from clipzoo.models.modules import evaluating
from clipzoo.models.recompute import recompute_layers
from clipzoo.models.weights.hf_clip import build_side, check_exportable, kind_of, read_side
from clipzoo.models.weights.hf_files import config_file, opened
from clipzoo.models.weights.hub import local_name
from clipzoo.models.weights.hugging_face import (
    build_network,
    is_image_network,
    network_class,
    read_config,
    read_image_processor,
    read_model,
    space_of_name,
    where_from,
)
from clipzoo.models.weights.source import ChannelMeans, ChannelSpreads, Fitting, plain, preprocessing_for
from clipzoo.registries import BACKBONES
from clipzoo.structures import Preprocessing

if TYPE_CHECKING:
    from transformers import PretrainedConfig
    from transformers.utils import ModelOutput

_LAYER = re.compile(r"\.(?:stages|layers?|blocks?|h)\.(\d+)\.(?:(?:layers?|blocks?)\.(\d+)\.)?")
_STEM = re.compile(r"embed|patch|stem")
_LAST = 10**6  # what follows the blocks of a stage


@BACKBONES.register_module()
class HFVision(Backbone):
    """An image model from the Hugging Face hub, or from a local folder: DINOv2, ViT, Swin, …, or the image tower of a CLIP or SigLIP.

    Args:
        name: Hub name (``'facebook/dinov2-base'``, ``'openai/clip-vit-base-patch32'``), or a folder with ``config.json``, the image
            processor's file and, if pretrained, the weights.
        pretrained: ``False`` loads only the architecture from ``name``.
        pooling: ``'pooler'`` for the network's own pooled output, ``'cls'`` for the state of the first token, ``'mean'`` for the mean over
            all positions. ``None``: as a CLIP was trained; otherwise ``'pooler'``, or ``'cls'`` if the weights have no pooling layer.
        image_size: Image size in pixels; ``None``: that of the image processor, or of the config without one.
        freeze: ``'all'`` freezes the whole tower.
        unfreeze_blocks: Number of last depth groups that are trained; ``None`` leaves the choice to ``freeze``.
        lora: Adapters that are trained instead of the weights: ``rank``, ``alpha`` and ``dropout``; ``None`` for none.
        fit: How non-square images are made square; see ``Preprocessing``. ``None``: as a CLIP was trained, otherwise ``'pad'``.
        mean: Per-channel mean of images in [0, 1]. ``None``: that of the image processor, or ImageNet's without one.
        std: Per-channel standard deviation; ``None`` likewise.
        interpolation: Interpolation for resizing images; ``None`` likewise.
        files: Content of ``config.json``, used instead of that of ``name``; without weights. Supplied by checkpoints.

    Raises:
        BuildError: The files are unavailable, the weights do not fit, or the model does not turn an image into one vector.
        ConfigError: An argument contradicts the training of a CLIP.
    """

    def __init__(
        self,
        name: FilePath,
        pretrained: bool = True,
        pooling: Literal["pooler", "cls", "mean"] | None = None,
        image_size: Width | None = None,
        freeze: Literal["none", "all"] = "none",
        unfreeze_blocks: Whole | None = None,
        lora: Adapters | None = None,
        fit: Fitting | None = None,
        mean: ChannelMeans | None = None,
        std: ChannelSpreads | None = None,
        interpolation: Literal["bilinear", "bicubic"] | None = None,
        files: dict | None = None,
    ):
        super().__init__(freeze, unfreeze_blocks, lora)
        self.name, self._files = name, files
        with opened(name if files else local_name(name, "HFVision"), files, "HFVision") as source:
            config = read_config("HFVision", source)
            kind = kind_of(config, "HFVision", name)
            own = None if files is not None else _published(source, config, is_clip=kind is not None)
            if kind is None:
                self._read(source, config, pretrained, pooling)
            else:
                self._read_clip(source, config, pretrained, pooling)
        default = usual_preprocessing(config.to_dict()) if own is None else own
        wanted = {"image_size": image_size or default.size, "fit": fit, "mean": mean, "std": std, "interpolation": interpolation}
        self.preprocessing = preprocessing_for("HFVision", own, default=default, **wanted)
        self._config = config
        for parameter_name, parameter in self.named_parameters():
            if parameter_name.endswith("mask_token"):  # for masked images in pretraining only
                parameter.requires_grad_(False)
        self.num_features = self._measure()
        self.apply_freeze()

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` to ``[B, num_features]``, in the joint space for a CLIP."""
        output = self.net(pixel_values=images, **self._resizing(images))
        if self.pooling == "pooler":
            features = self._pooled(output).flatten(1)
        else:
            hidden = output.last_hidden_state  # [B, L, D], or [B, D, H, W] of a convolutional network
            positions_BLD = hidden if hidden.ndim == 3 else hidden.flatten(2).transpose(1, 2)
            features = positions_BLD[:, 0] if self.pooling == "cls" else positions_BLD.mean(dim=1)
        return features if self.projection is None else self.projection(features)

    def depth_groups(self) -> list[list[str]]:
        """From the stem to the last block; final norm, pooling and projection belong to the last block."""
        return _groups(name for name, _ in self.named_parameters())

    def spatial(self) -> Spatial:
        """See ``Backbone.spatial``; measured on one black image, as transformers does not declare it."""
        size = self.preprocessing.size
        with torch.no_grad(), evaluating(self):
            images = torch.zeros(1, 3, size, size, device=next(self.parameters()).device)
            shape = self.net(pixel_values=images, **self._resizing(images)).last_hidden_state.shape
        if len(shape) == 4:
            return (FeatureMap("last_hidden_state", self.net, "last_hidden_state"),)
        config = self.net.config
        patch, layers = getattr(config, "patch_size", None), getattr(config, "num_hidden_layers", None)
        if not isinstance(patch, int) or not isinstance(layers, int):
            return None
        side = size // patch
        prefix = shape[1] - side * side
        pooling = self._read_from(prefix)
        return None if prefix < 0 or pooling is None else Patches(side, side, prefix, layers, pooling)

    def _read_from(self, prefix: int) -> Pooling | None:
        """What ``pooling`` reads. transformers pools at the first token, over the patches (BEiT), or by attention without a first token."""
        if self.pooling == "mean":
            return "tokens"
        if self.pooling == "pooler" and getattr(self.net.config, "use_mean_pooling", False):
            return "patches"
        if self.pooling == "pooler" and prefix == 0:
            return "attention"
        return "class_token" if prefix > 0 else None

    def blueprint(self) -> dict:
        """See ``Tower.blueprint``."""
        if self._files is None:
            self._files = config_file(self._config)
        return {"pretrained": False, "pooling": self.pooling, "files": self._files, **plain(self.preprocessing)}

    def clip_layout(self, where: str) -> tuple[dict[str, Tensor], dict]:
        """See ``Backbone.clip_layout``.

        Raises:
            BuildError: Always; the message names the tower that has the same weights and can be exported.
        """
        check_exportable(self, self._config.model_type, where)
        return super().clip_layout(where)

    def checkpoint_gradients(self) -> None:
        """See ``Tower.checkpoint_gradients``."""
        recompute_layers(self.net, f"HFVision {self.name}")

    def _read(self, source: str, config: PretrainedConfig, pretrained: bool, pooling: str | None) -> None:
        """A network without a text tower.

        Raises:
            BuildError: It does not take images.
        """
        cls = network_class(config)
        if not is_image_network(cls):
            raise BuildError(f"HFVision: '{self.name}' is a {config.model_type} model, not an image model. Use hf:{self.name} for texts")
        optional = "add_pooling_layer" in inspect.signature(cls.__init__).parameters
        arguments = {"add_pooling_layer": pooling in ("pooler", None)} if optional else {}
        if pretrained:

            def choose(state: dict[str, Tensor]) -> dict:
                nonlocal arguments
                if optional and pooling is None:
                    arguments = {"add_pooling_layer": _has_pooler(state, cls, config)}
                return arguments

            self.net = read_model("HFVision", source, cls, config, choose)
            self.weights = where_from(source)
        else:
            self.net = build_network(config, **arguments)
        self.pooling = pooling or ("pooler" if arguments.get("add_pooling_layer", True) else "cls")
        self.projection = None

    def _read_clip(self, source: str, config: PretrainedConfig, pretrained: bool, pooling: str | None) -> None:
        """The image tower of a CLIP, with its projection, temperature and bias.

        Raises:
            ConfigError: ``pooling`` differs from the training.
        """
        if pooling not in (None, "pooler"):
            raise ConfigError(f"HFVision.pooling: '{self.name}' is a CLIP, trained with another pooling than {pooling!r}. Remove it")
        self.pooling, self.projected = "pooler", True
        if not pretrained:
            self.net, self.projection = build_side(config, "vision")
        else:
            (self.net, self.projection), loaded = read_side(config, "vision", name=source, where="HFVision")
            self.logit_scale, self.logit_bias = loaded
            self.weights, self.space = where_from(source), space_of_name(source)

    def _resizing(self, images: Tensor) -> dict:
        """Position embeddings are resized where images have another size than in training and the network can do it."""
        own = getattr(self.net.config, "image_size", None)
        can = "interpolate_pos_encoding" in inspect.signature(self.net.forward).parameters
        return {"interpolate_pos_encoding": True} if can and isinstance(own, int) and own != images.shape[-1] else {}

    def _pooled(self, output: ModelOutput) -> Tensor:
        if getattr(output, "pooler_output", None) is None:
            raise BuildError(f"HFVision: '{self.name}' has no pooled output. Set pooling='cls' or pooling='mean'")
        return output.pooler_output

    @torch.no_grad()
    def _measure(self) -> int:
        """The width of the features, from one black image.

        Raises:
            BuildError: The network has no pooled output, or does not take images of this size.
        """
        size = self.preprocessing.size
        try:
            with evaluating(self):
                features = self(torch.zeros(1, 3, size, size))
        except (RuntimeError, ValueError, TypeError) as error:
            raise BuildError(f"HFVision: '{self.name}' does not encode images of {size} px ({first_line(error)})") from error
        return features.shape[1]


def _published(source: str, config: PretrainedConfig, *, is_clip: bool) -> Preprocessing | None:
    """The preprocessing that the image processor's file defines; ``None`` without a file."""
    found = read_image_processor("HFVision", source)
    if found is None:
        return None
    content, where = found
    return clip_preprocessing(content, config.vision_config.image_size, where) if is_clip else image_preprocessing(content, where)


def _has_pooler(state: dict[str, Tensor], cls: type, config: PretrainedConfig) -> bool:
    """Whether the weights have the parameters of the network's pooling layer, if it has any."""
    with_it, without = shapes_on_meta(lambda: cls(config)), shapes_on_meta(lambda: cls(config, add_pooling_layer=False))
    return all(any(key.endswith(name) for key in state) for name in with_it.keys() - without.keys())


def _groups(names: Iterable[str]) -> list[list[str]]:
    """Parameter names by stage and block; names without a number are the stem, or belong to the last block."""
    groups: dict[tuple[int, int], list[str]] = {}
    rest = []
    for name in names:
        found = _LAYER.search(name)
        if found:
            groups.setdefault((int(found[1]), _LAST if found[2] is None else int(found[2])), []).append(name)
        elif _STEM.search(name):
            groups.setdefault((-1, 0), []).append(name)
        else:
            rest.append(name)
    for stage, block in [key for key in groups if key[1] == _LAST]:
        blocks = sorted(key for key in groups if key[0] == stage and key[1] != _LAST)
        if blocks:  # a downsampling layer is before the blocks of its stage or behind them
            names = groups.pop((stage, block))
            groups[blocks[0 if "downsampling" in names[0] else -1]] += names
    ordered = [groups[key] for key in sorted(groups)]
    return [*ordered[:-1], ordered[-1] + rest] if ordered else [rest]
