"""The image tower of any open_clip model."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from clipzoo.config.arguments import FilePath, Share, Whole, Width
from clipzoo.errors import ConfigError
from clipzoo.models.backbones.base import Backbone
from clipzoo.models.backbones.clip_vision import run_resnet, visual_groups, visual_heads, with_positions
from clipzoo.models.backbones.spatial import FeatureMap, Spatial, open_clip_spatial, timm_spatial
from clipzoo.models.backbones.timm_backbone import timm_groups
from clipzoo.models.layout.open_clip import OpenCLIPTower, check_options, is_plain, unprojected
from clipzoo.models.layout.states import copied, load_strictly
from clipzoo.models.lora import Adapters
from clipzoo.models.recompute import count_once, let_timm_recompute
from clipzoo.models.weights.open_clip_model import OpenCLIPModel, building, open_clip_model
from clipzoo.models.weights.source import ChannelMeans, ChannelSpreads, Fitting, plain, preprocessing_for
from clipzoo.registries import BACKBONES


@BACKBONES.register_module()
class OpenCLIPBackbone(Backbone):
    """An open_clip image tower: a vision transformer, CLIP's ResNet, or a timm network with a projection into the joint space.

    Args:
        name: Model name in open_clip (``'ViT-B-16-SigLIP'``), or ``'hf-hub:'`` and the name of a repository, or a folder with
            ``open_clip_config.json`` and weights.
        tag: Tag of published weights (``'webli'``), or a local file in open_clip's format; ``None`` for random weights, or the folder's.
        pretrained: ``False`` for random weights, whatever ``name`` and ``tag`` are.
        image_size: Image size in pixels; ``None``: that of the configuration. Position embeddings are resized if necessary.
        freeze: ``'all'`` freezes the whole tower.
        unfreeze_blocks: Number of last depth groups that are trained; ``None`` leaves the choice to ``freeze``.
        lora: Adapters that are trained instead of the weights: ``rank``, ``alpha`` and ``dropout``; ``None`` for none.
        patch_dropout: Share of patches dropped from each training image, in [0, 1); ``None``: that of the configuration.
        fit: How non-square images are made square; see ``Preprocessing``. ``None``: as the weights were trained, ``'pad'`` for random ones.
        mean: Per-channel mean of images in [0, 1]. ``None``: that of the weights, or OpenAI's if undefined.
        std: Per-channel standard deviation; ``None`` likewise.
        interpolation: Interpolation for resizing images; ``None`` likewise.
        config: open_clip's model configuration itself; ``name`` is then only a label, and weights are random. Supplied by checkpoints.

    Raises:
        BuildError: The model or tag does not exist, or the weights are unavailable, do not fit, or contradict the configuration.
        ConfigError: ``image_size`` is not a multiple of the patch size.

    Source: Ilharco et al. 2021, open_clip, whose own modules are used; only this tower is built.
    """

    projected = True

    def __init__(
        self,
        name: FilePath,
        tag: FilePath | None = None,
        pretrained: bool = True,
        image_size: Width | None = None,
        freeze: Literal["none", "all"] = "none",
        unfreeze_blocks: Whole | None = None,
        lora: Adapters | None = None,
        patch_dropout: Share | None = None,
        fit: Fitting | None = None,
        mean: ChannelMeans | None = None,
        std: ChannelSpreads | None = None,
        interpolation: Literal["bilinear", "bicubic"] | None = None,
        config: dict | None = None,
    ):
        super().__init__(freeze, unfreeze_blocks, lora)
        model = open_clip_model("OpenCLIPBackbone", name, tag, pretrained, config)
        self.name, self.config, self.num_features = model.name, model.config, model.config["embed_dim"]
        own = self._own_size(model)
        self._build(model, own, image_size or own, patch_dropout)
        if not self._timm and not self._resnet:
            self.quick_gelu = model.quick_gelu
        wanted = {"image_size": image_size or own, "fit": fit, "mean": mean, "std": std, "interpolation": interpolation}
        self.preprocessing = preprocessing_for("OpenCLIPBackbone", model.preprocessing, default=model.default, **wanted)
        self._recompute = False
        self.apply_freeze()

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` to ``[B, num_features]`` in the joint space."""
        features = run_resnet(self.net, images) if self._recompute and self._resnet else self.net(images)
        return features[0] if isinstance(features, tuple) else features  # CoCa's towers also return their tokens

    def depth_groups(self) -> list[list[str]]:
        """From the stem to the last block; the final norm, pooling and projection belong to the last block."""
        if not self._timm:
            return visual_groups((name for name, _ in self.named_parameters()), resnet=self._resnet)
        groups = timm_groups(self.net.trunk, "net.trunk.")
        return [*groups[:-1], groups[-1] + [f"net.head.{name}" for name, _ in self.net.head.named_parameters()]]

    def spatial(self) -> Spatial:
        """See ``Backbone.spatial``."""
        if not self._timm:
            return open_clip_spatial(self.net)
        found, pool = timm_spatial(self.net.trunk), getattr(self.net.head, "pool", None)
        if pool is None or not isinstance(found, tuple):
            return found
        return (FeatureMap("the input of the pooling", pool, "input"), *found)  # open_clip's own pooling of a convolutional network

    def blueprint(self) -> dict:
        """See ``Tower.blueprint``."""
        return {"pretrained": False, "config": {**self.config, "text_cfg": {}}, **plain(self.preprocessing)}

    def clip_layout(self, where: str) -> tuple[dict[str, Tensor], dict]:
        """See ``Backbone.clip_layout``."""
        check_options({}, self.config["vision_cfg"], {}, f"{where}: the image tower {self.name}")
        return copied(self.net), {"vision_heads": visual_heads(self.net)}

    def open_clip_layout(self, matrix_ED: Tensor, bias_E: Tensor | None, where: str) -> OpenCLIPTower | None:
        """See ``Backbone.open_clip_layout``: the tower as it is, unless it is one of CLIP's own."""
        vision = self.config["vision_cfg"]
        if is_plain(vision, {}):
            return None
        unprojected(f"the image tower {self.name}", matrix_ED, where, bias_E)
        return OpenCLIPTower(copied(self.net), {**vision, "image_size": self.preprocessing.size, "timm_model_pretrained": False})

    def checkpoint_gradients(self) -> None:
        """See ``Tower.checkpoint_gradients``."""
        self._recompute = True
        if self._timm:
            let_timm_recompute(self.net.trunk, f"OpenCLIPBackbone {self.name}")
        else:
            self.net.set_grad_checkpointing(True)  # no effect for a ResNet, see ``run_resnet``
            count_once(self.net)

    @staticmethod
    def _own_size(model: OpenCLIPModel) -> int:
        size = model.config["vision_cfg"].get("image_size", 224)
        if isinstance(size, (list, tuple)) and len(set(size)) == 1:
            size = size[0]
        if not isinstance(size, int):
            raise ConfigError(f"OpenCLIPBackbone: '{model.name}' uses images of {size} pixels; only square images are supported")
        return size

    def _build(self, model: OpenCLIPModel, own_size: int, image_size: int, patch_dropout: float | None) -> None:
        """Build the network, load its weights, and set its image size."""
        from open_clip.model import _build_vision_tower
        from open_clip.modified_resnet import ModifiedResNet
        from open_clip.timm_model import TimmModel

        config = {**model.config["vision_cfg"], "timm_model_pretrained": False}
        if patch_dropout is not None:
            config["patch_dropout"] = patch_dropout
        if not config.get("timm_model_name"):
            config["image_size"] = image_size  # a timm network is built at its own size, then set to another one
        with building("OpenCLIPBackbone", model):
            self.net = _build_vision_tower(self.num_features, config, model.quick_gelu)
        self._timm, self._resnet = isinstance(self.net, TimmModel), isinstance(self.net, ModifiedResNet)
        if image_size != own_size:  # some timm networks have a margin at their own size
            _check_multiple(self.net.trunk if self._timm else self.net, image_size)
        if model.weights is not None:
            where = f"OpenCLIPBackbone({model.origin})"
            state, self.logit_scale, self.logit_bias = model.part("visual", where)
            load_strictly(self.net, with_positions(state, self.net), where)
            self.weights, self.space = model.origin, model.space
        if self._timm and image_size != own_size:
            with building(f"OpenCLIPBackbone: image_size={image_size}", model):
                self.net.set_input_size(image_size)


def _check_multiple(network: nn.Module, image_size: int) -> None:
    patch = getattr(network, "patch_size", None) or getattr(getattr(network, "patch_embed", None), "patch_size", None)
    unit = 32 if hasattr(network, "attnpool") else patch[0] if isinstance(patch, (tuple, list)) else 1
    if image_size % unit:
        raise ConfigError(f"OpenCLIPBackbone: image_size={image_size} is not a multiple of {unit}")
