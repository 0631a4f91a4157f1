"""Common parts of both towers of a published CLIP: OpenAI's sizes and weights, and the preprocessing of weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Interval, Len

from clipzoo.config.arguments import Positive
from clipzoo.errors import BuildError
from clipzoo.models.layout.clip_weights import OPENAI_MEAN, OPENAI_STD
from clipzoo.models.layout.transformers import TOKENIZER_FILES
from clipzoo.models.weights import CLIPWeights, read_clip
from clipzoo.models.weights.files import weights_file
from clipzoo.models.weights.hub import explained, from_hub, hub_file, hub_folder, is_hub_name, local_name, names_of
from clipzoo.models.weights.hugging_face import weights_folder
from clipzoo.models.weights.transformers_format import PROCESSORS
from clipzoo.structures import Preprocessing

_VOCABULARY = ("vocab.txt", "vocab.json", "tokenizer.json")

Variant = Literal["ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px", "RN50", "RN101", "RN50x4", "RN50x16", "RN50x64"]
Fitting = Literal["pad", "crop", "squash"]
ChannelMeans = Annotated[list[Annotated[float, Interval(ge=0, le=1)]], Len(3, 3)]
ChannelSpreads = Annotated[list[Positive], Len(3, 3)]


@dataclass(frozen=True)
class VisionSize:
    """Sizes of an image tower: a ResNet if ``layers`` has four numbers, otherwise a vision transformer.

    Attributes:
        image_size: Image size in pixels.
        patch_size: Patch size in pixels; ``None`` for a ResNet.
        width: Width of the transformer; for a ResNet, of its first stage, a quarter of that stage's output channels.
        layers: Number of blocks; for a ResNet, in each of its four stages.
        heads: Number of attention heads; for a ResNet, those of its attention pooling.
        output_dim: Width of the features.
        mlp_width: Width inside the transformer blocks' MLPs; ``None`` means four times the width.
    """

    image_size: int
    patch_size: int | None
    width: int
    layers: int | tuple[int, ...]
    heads: int
    output_dim: int
    mlp_width: int | None = None

    @property
    def resnet(self) -> bool:
        """Whether it is one of CLIP's ResNets."""
        return not isinstance(self.layers, int)

    @property
    def unit(self) -> int:
        """The image size must be a multiple of this."""
        return 32 if self.resnet else self.patch_size


@dataclass(frozen=True)
class TextSize:
    """Sizes of CLIP's text transformer; ``mlp_width=None`` means four times the width."""

    width: int
    layers: int
    heads: int
    output_dim: int
    mlp_width: int | None = None


# Radford et al. 2021, Tables 19 and 20, and OpenAI's files.
VISION: dict[str, VisionSize] = {
    "ViT-B/32": VisionSize(224, 32, 768, 12, 12, 512),
    "ViT-B/16": VisionSize(224, 16, 768, 12, 12, 512),
    "ViT-L/14": VisionSize(224, 14, 1024, 24, 16, 768),
    "ViT-L/14@336px": VisionSize(336, 14, 1024, 24, 16, 768),
    "RN50": VisionSize(224, None, 64, (3, 4, 6, 3), 32, 1024),
    "RN101": VisionSize(224, None, 64, (3, 4, 23, 3), 32, 512),
    "RN50x4": VisionSize(288, None, 80, (4, 6, 10, 6), 40, 640),
    "RN50x16": VisionSize(384, None, 96, (6, 8, 18, 8), 48, 768),
    "RN50x64": VisionSize(448, None, 128, (3, 15, 36, 10), 64, 1024),
}
TEXT: dict[str, TextSize] = {
    "ViT-B/32": TextSize(512, 12, 8, 512),
    "ViT-B/16": TextSize(512, 12, 8, 512),
    "ViT-L/14": TextSize(768, 12, 12, 768),
    "ViT-L/14@336px": TextSize(768, 12, 12, 768),
    "RN50": TextSize(512, 12, 8, 1024),
    "RN101": TextSize(512, 12, 8, 512),
    "RN50x4": TextSize(640, 12, 10, 640),
    "RN50x16": TextSize(768, 12, 12, 768),
    "RN50x64": TextSize(1024, 12, 16, 1024),
}


@dataclass(frozen=True)
class Source:
    """Weights of a whole CLIP, of which each tower takes its part.

    Attributes:
        weights: Weights of the whole CLIP.
        space: Joint space, equal for both towers of one model; see ``Tower``.
        origin: Origin of the weights, for the log.
    """

    weights: CLIPWeights
    space: str
    origin: str


def joint_weights(tower: str, variant: str | None, pretrained: bool | str) -> Source | None:
    """Resolve ``pretrained``: OpenAI's weights of ``variant``, a CLIP of transformers on the hub, or any file or folder with a CLIP.

    ``None`` for random weights.

    Args:
        tower: Start of a message: the class that requests the weights.
        variant: Variant; not ``None`` for OpenAI's weights.
        pretrained: Argument of the towers.

    Raises:
        BuildError: The weights are unavailable or unreadable.
    """
    if pretrained is False:
        return None
    if pretrained is not True:
        path = local_name(str(pretrained), tower)
        if is_hub_name(path):
            return _from_repository(tower, path)
        return Source(read_clip(path, tower), str(Path(path).resolve()), f"file {path}")
    assert variant is not None
    path, space = _download(tower, variant)
    weights = read_clip(path, f"{tower}(variant='{variant}')")
    # The hub's files do not define these two, but they are published.
    return Source(replace(weights, quick_gelu=True, preprocessing=openai_preprocessing("crop")), space, f"OpenAI {variant}")


def _from_repository(tower: str, name: str) -> Source:
    """A ``CLIPModel`` or ``ChineseCLIPModel`` of transformers on the hub."""

    def load(cached: bool) -> Path:
        hub_folder(name, cached, required=[("config.json",)], optional=[PROCESSORS, _VOCABULARY], extras=TOKENIZER_FILES)
        return weights_folder(name, cached)

    folder = from_hub(load, tower, name, local="weights:FOLDER or chinese-clip:FOLDER", scratch="clip:ViT-B/32:scratch")
    return Source(read_clip(folder, f"{tower}({name})"), f"Hugging Face {name}", f"Hugging Face {name}")


def openai_preprocessing(fit: str) -> Preprocessing:
    """The preprocessing of OpenAI's weights, except the size and how images are made square."""
    return Preprocessing(mean=OPENAI_MEAN, std=OPENAI_STD, interpolation="bicubic", fit=fit)


def preprocessing_for(
    tower: str,
    published: Preprocessing | None,
    *,
    default: Preprocessing,
    image_size: int,
    fit: str | None,
    mean: list[float] | None,
    std: list[float] | None,
    interpolation: str | None,
) -> Preprocessing:
    """The preprocessing of images: from the weights; where they define none, from the arguments, then from ``default``.

    Args:
        tower: Start of a message.
        published: Preprocessing defined by the weights; ``None`` if undefined.
        default: Preprocessing for undefined values.
        image_size: Image size in pixels; position embeddings are resized to it.
        fit: How images are made square; may differ from the weights', as the meaning of a pixel does not change. ``None`` for the default.
        mean: Per-channel mean; ``None`` for the default.
        std: Per-channel standard deviation; ``None`` for the default.
        interpolation: ``'bicubic'`` or ``'bilinear'``; ``None`` for the default.

    Raises:
        BuildError: Mean, standard deviation or interpolation contradict the weights.
    """
    base = published or default
    wanted = {"mean": mean and tuple(mean), "std": std and tuple(std), "interpolation": interpolation}
    overrides = {name: value for name, value in wanted.items() if value is not None}
    for name, value in overrides.items():
        if published is not None and not _equal(value, getattr(published, name)):
            raise BuildError(f"{tower}: {name}={value}, but the weights were trained with {name}={getattr(published, name)}. Remove it")
    return replace(base, size=image_size, fit=fit or base.fit, **overrides)


def plain(preprocessing: Preprocessing) -> dict:
    """The arguments of a tower that reproduce ``preprocessing``, for its blueprint."""
    return {
        "image_size": preprocessing.size,
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "interpolation": preprocessing.interpolation,
        "fit": preprocessing.fit,
    }


def _download(tower: str, variant: str) -> tuple[Path, str]:
    """OpenAI's file, from the hub or its cache, and its location on the hub."""
    from open_clip.pretrained import get_pretrained_cfg

    published = get_pretrained_cfg(variant.replace("/", "-").replace("@336px", "-336"), "openai")
    path = published_file(published, tower, f"clip:{variant}", local="pretrained='FILE or FOLDER'", scratch="pretrained=False")
    return path, space_of(published)


def published_file(published: dict, where: str, what: str, *, local: str, scratch: str) -> Path:
    """A file in open_clip's index, from the local cache, the hub or another server.

    Args:
        published: Entry in the index.
        where: Start of a message.
        what: Name of the weights.
        local: How the user passes a local copy instead.
        scratch: How the user starts from random weights instead.

    Raises:
        BuildError: The file is unavailable; the message gives three ways to get it.
    """
    from open_clip.pretrained import download_pretrained

    repository, _, name = (published.get("hf_hub") or "").rpartition("/")
    if not repository:
        with explained(where, what, local=local, scratch=scratch):  # open_clip has its own cache for other servers
            return weights_file(download_pretrained(published), where)
    names = names_of(name or "open_clip_pytorch_model.bin")
    return from_hub(lambda cached: hub_file(repository, names, cached), where, what, local=local, scratch=scratch)


def space_of(published: dict) -> str:
    """The identity of a set of weights in open_clip's index: equal for all architectures that use them."""
    return published.get("hf_hub") or published.get("url") or ""


def _equal(value: object, other: object) -> bool:
    if isinstance(value, tuple):
        return all(abs(a - b) < 1e-6 for a, b in zip(value, other, strict=True))
    return value == other
