"""Any timm model as an image tower; the named families are thin subclasses."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Literal

from torch import Tensor, nn

from clipzoo.config.arguments import FilePath, Whole, Width
from clipzoo.errors import BuildError, ConfigError, did_you_mean, first_line, shortened
from clipzoo.lean_imports import lean
from clipzoo.models.backbones.base import Backbone
from clipzoo.models.backbones.efficientnet_names import is_efficientnet_pytorch, to_timm
from clipzoo.models.backbones.spatial import Spatial, timm_spatial
from clipzoo.models.backbones.timm_repository import (
    HUB,
    is_repository,
    pretrained_cfg,
    read_description,
    repository_folder,
    weights_of,
)
from clipzoo.models.layout.open_clip import OpenCLIPTower
from clipzoo.models.layout.states import check_finite, copied, load_strictly
from clipzoo.models.lora import Adapters
from clipzoo.models.recompute import let_timm_recompute
from clipzoo.models.weights.files import read_state_dict
from clipzoo.models.weights.hub import explained, from_hub, hub_file, names_of
from clipzoo.registries import BACKBONES
from clipzoo.structures import Preprocessing

with lean():
    import timm
    import torchvision.transforms.v2  # noqa: F401 - which timm does not load, but every use of a tower does
    from timm.models import group_parameters


@BACKBONES.register_module()
class TimmBackbone(Backbone):
    """A timm model without its classifier.

    Args:
        name: A timm model name, with or without the tag of its weights (``'resnet18'``, ``'resnet18.a1_in1k'``); ``'hf-hub:'`` and the
            name of a repository in timm's layout; or such a folder (a path that starts with ``/``, ``./``, ``../`` or ``~``).
        pretrained: ``True`` loads the weights from the hub (those of the tag, or timm's default for the name) or the folder; a string is a
            local ``.safetensors`` or ``.pth`` file in timm's format, with or without a classifier, or for an EfficientNet in that of
            efficientnet_pytorch; ``False`` for random weights.
        image_size: Image height and width in pixels. ``None``: the size the weights were trained at if pretrained, else 224.
        freeze: ``'all'`` freezes the whole tower.
        unfreeze_blocks: Number of last depth groups that are trained; ``None`` leaves the choice to ``freeze``.
        lora: Adapters that are trained instead of the weights: ``rank``, ``alpha`` and ``dropout``; ``None`` for none.
        config: Description of a network from a repository or folder (``architecture``, ``model_args``, ``pretrained_cfg``); ``name`` is
            then only a label, and weights are random. Supplied by checkpoints.

    Raises:
        BuildError: timm has no such model, has no weights for it, or they cannot be loaded.
    """

    def __init__(
        self,
        name: str,
        pretrained: bool | FilePath = False,
        image_size: Width | None = None,
        freeze: Literal["none", "all"] = "none",
        unfreeze_blocks: Whole | None = None,
        lora: Adapters | None = None,
        config: dict | None = None,
    ):
        super().__init__(freeze, unfreeze_blocks, lora)
        self.name, self.config, folder = name, config, None
        if config is None and is_repository(name):
            folder = repository_folder(name, type(self).__name__, pretrained=pretrained is True)
            self.config = read_description(folder, f"{type(self).__name__}: {name}")
        config = self._timm_config(name) if self.config is None else pretrained_cfg(self.config)
        if image_size is None:
            image_size = config.input_size[-1] if pretrained else 224
        # Towers with position embeddings are built for one size; timm resizes the embeddings of published weights.
        size = {"img_size": image_size} if config.fixed_input_size else {}
        if self.config is not None:
            self._build_described(config, size)
        elif pretrained is True:
            self.net = self._from_hub(name, size)
            check_finite(self.net.state_dict(), f"{type(self).__name__}: {name}")
            self.weights = f"timm {config.architecture}.{config.tag}"
        else:
            self.net = timm.create_model(name, pretrained=False, num_classes=0, **size)
        patch = getattr(getattr(self.net, "patch_embed", None), "patch_size", None)
        if size and isinstance(patch, tuple) and image_size % patch[0]:
            raise ConfigError(f"{type(self).__name__}: image_size={image_size} is not a multiple of the patch size {patch[0]} of '{name}'")
        if isinstance(pretrained, str):
            self._load_file(pretrained)
            self.weights = f"file {pretrained}"
        elif pretrained and folder is not None:
            self._load_file(str(weights_of(folder, f"{type(self).__name__}: {name}")))
            self.weights = f"Hugging Face {name.removeprefix(HUB)}" if name.startswith(HUB) else f"folder {name}"
        self.num_features = getattr(self.net, "head_hidden_size", None) or self.net.num_features
        self.preprocessing = Preprocessing(image_size, tuple(config.mean), tuple(config.std), config.interpolation)
        self.apply_freeze()

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` to ``[B, num_features]``, pooled over the image."""
        return self.net(images)

    def depth_groups(self) -> list[list[str]]:
        """Parameter names from the stem to the last block, by timm's own grouping; a final norm belongs to the last block."""
        return timm_groups(self.net, "net.")

    def spatial(self) -> Spatial:
        """See ``Backbone.spatial``."""
        return timm_spatial(self.net)

    def blueprint(self) -> dict:
        """See ``Tower.blueprint``."""
        described = {} if self.config is None else {"config": self.config}
        return {"pretrained": False, "image_size": self.preprocessing.size, **described}

    def open_clip_layout(self, matrix_ED: Tensor, bias_E: Tensor | None, where: str) -> OpenCLIPTower:
        """See ``Backbone.open_clip_layout``."""
        name = self.name.partition(".")[0] if self.config is None else self.config["architecture"]
        if self.config is not None and self.config["model_args"]:
            raise BuildError(f"{where}: open_clip builds timm's {name} without model_args, but {self.name} has {self.config['model_args']}")
        usual = timm.get_pretrained_cfg(name)
        if usual.fixed_input_size and usual.input_size[-1] != self.preprocessing.size:
            sizes = f"{usual.input_size[-1]} px, not {self.preprocessing.size}"
            raise BuildError(f"{where}: open_clip builds timm's {name} for {sizes}, as its position embeddings are of one size")
        state = {f"trunk.{key}": value for key, value in copied(self.net).items()}
        state["head.proj.weight"] = matrix_ED.float()
        if bias_E is not None:
            state["head.proj.bias"] = bias_E.float()
        pooled = {"timm_model_name": name, "timm_model_pretrained": False, "timm_pool": ""}
        head = {"timm_proj": "linear", "timm_proj_bias": bias_E is not None, "image_size": self.preprocessing.size}
        return OpenCLIPTower(state, {**pooled, **head})

    def checkpoint_gradients(self) -> None:
        """See ``Tower.checkpoint_gradients``."""
        let_timm_recompute(self.net, f"{type(self).__name__} {self.name}")

    def _build_described(self, config: timm.models.PretrainedCfg, size: dict[str, int]) -> None:
        """Build a network that a repository describes.

        Raises:
            BuildError: timm has no such architecture, or it takes other arguments.
        """
        arguments = {**self.config["model_args"], **size}
        try:
            self.net = timm.create_model(config.architecture, pretrained=False, num_classes=0, pretrained_cfg=config, **arguments)
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            raise BuildError(f"{type(self).__name__}: timm cannot build '{self.name}' ({first_line(error)})") from error

    def _timm_config(self, name: str) -> timm.models.PretrainedCfg:
        """timm's record of the weights that ``name`` refers to.

        Raises:
            BuildError: timm has no such architecture or no such tag.
        """
        architecture, _, tag = name.partition(".")
        if not timm.is_model(architecture):
            raise BuildError(
                f"{type(self).__name__}: timm has no model '{architecture}'.{did_you_mean(architecture, timm.list_models())} "
                f"timm.list_models() lists all {len(timm.list_models())}"
            )
        tagged = timm.list_models(f"{architecture}.*", pretrained=True)
        if tag and name not in tagged:
            raise BuildError(f"{type(self).__name__}: timm has no weights '{name}'.{did_you_mean(name, tagged)} Known: {shortened(tagged)}")
        return timm.get_pretrained_cfg(name)

    def _from_hub(self, name: str, size: dict[str, int]) -> nn.Module:
        if not timm.models.is_model_pretrained(name):
            raise BuildError(
                f"{type(self).__name__}: timm has no published weights for '{name}'.{self._with_weights()} "
                "Choose one of these, pass a local file (pretrained='FILE.pth'), or use random weights (pretrained=False)"
            )
        where, local = type(self).__name__, "pretrained='FILE.safetensors' (or .pth, in timm's format)"
        config = timm.get_pretrained_cfg(name)
        if not config.hf_hub_id:
            with explained(where, name, local=local):
                return timm.create_model(name, pretrained=True, num_classes=0, **size)
        repository, _, revision = config.hf_hub_id.partition("@")
        names = names_of(config.hf_hub_filename or "pytorch_model.bin")
        path = from_hub(lambda cached: hub_file(repository, names, cached, revision or None), where, name, local=local)
        read_state_dict(path, f"{where}: {name}")  # verified here; timm reads it again and adapts it
        with explained(where, name, local=local):
            overlay = {"file": str(path), "custom_load": False}
            return timm.create_model(name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **size)

    def _with_weights(self) -> str:
        """Similar models that have weights, for a message."""
        family = re.split(r"[_\d]", self.name, maxsplit=1)[0]
        names = [name for name in timm.list_models(f"{family}*") if timm.models.is_model_pretrained(name)]
        return f" Weights exist for {shortened(names, 6)}." if names else ""

    def _load_file(self, path: str) -> None:
        where = f"{type(self).__name__}(pretrained='{path}')"
        state = read_state_dict(path, where)
        if is_efficientnet_pytorch(state) and hasattr(self.net, "blocks"):
            state = to_timm(state, self.net)
        # The family's own filter: renames older layouts and resizes position embeddings to this image size.
        adapt = getattr(sys.modules[type(self.net).__module__], "checkpoint_filter_fn", None)
        if adapt is not None:
            state = adapt(state, self.net) if len(inspect.signature(adapt).parameters) > 1 else adapt(state)
        classifiers = self.net.pretrained_cfg.get("classifier") or ()
        classifiers = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
        own = self.net.state_dict()
        # Only the file's classifier is omitted on purpose.
        kept = {key: value for key, value in state.items() if key in own or key.rpartition(".")[0] not in classifiers}
        load_strictly(self.net, kept, where)


def timm_groups(network: nn.Module, prefix: str) -> list[list[str]]:
    """Parameter names of a timm network, with ``prefix`` added, from the stem to the last block."""
    matcher = getattr(network, "group_matcher", None)
    if matcher is None:
        return [[f"{prefix}{name}" for name, _ in network.named_parameters()]]
    patterns = matcher(coarse=False)
    numbered = group_parameters(network, patterns)
    groups = [numbered[key] for key in sorted(numbered)]
    # timm puts parameters that match no pattern into an additional last group: the norm or neck after the last block.
    if len(groups) > 1 and isinstance(patterns, dict) and not any(_matches(patterns, name) for name in groups[-1]):
        groups[-2:] = [groups[-2] + groups[-1]]
    return [[f"{prefix}{name}" for name in group] for group in groups]


def _matches(patterns: dict, name: str) -> bool:
    for pattern in patterns.values():
        expressions = [pattern] if isinstance(pattern, str) else [p[0] for p in pattern or ()]
        if any(re.match(expression, name) for expression in expressions):
            return True
    return False
