"""What both towers of a published CLIP share: OpenAI's sizes and weights, and how images are prepared for weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Interval, Len

from clipzoo.config.arguments import Positive
from clipzoo.errors import BuildError
from clipzoo.models.layout.clip_weights import OPENAI_MEAN, OPENAI_STD
from clipzoo.models.weights import CLIPWeights, read_clip
from clipzoo.models.weights.files import weights_file
from clipzoo.models.weights.hub import explained, from_hub, hub_file, names_of
from clipzoo.structures import Preprocessing

Variant = Literal["ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px", "RN50", "RN101", "RN50x4", "RN50x16", "RN50x64"]
Fitting = Literal["pad", "crop", "squash"]
ChannelMeans = Annotated[list[Annotated[float, Interval(ge=0, le=1)]], Len(3, 3)]
ChannelSpreads = Annotated[list[Positive], Len(3, 3)]


@dataclass(frozen=True)
class VisionSize:
    """Sizes of an image tower: a ResNet's where ``layers`` are four numbers, otherwise a vision transformer's.

    Attributes:
        image_size: Pixels.
        patch_size: Pixels; ``None`` for a ResNet.
        width: Of the transformer; of a ResNet's first stage, a quarter of its output channels.
        layers: Blocks, or a ResNet's blocks in each of its four stages.
        heads: Attention heads; a ResNet's are those of its attention pooling.
        output_dim: Width of the features.
        mlp_width: Inside the transformer's blocks; ``None`` means four times the width.
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
        """Is it one of CLIP's ResNets?"""
        return not isinstance(self.layers, int)

    @property
    def unit(self) -> int:
        """The image size is a multiple of it."""
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
    """Weights of a whole CLIP, of which one tower takes its part.

    Attributes:
        weights: All of them.
        space: The same words for both towers of one model; see ``Tower``.
        words: Where they come from, for the log.
    """

    weights: CLIPWeights
    space: str
    words: str


def joint_weights(tower: str, variant: str | None, pretrained: bool | str) -> Source | None:
    """What ``pretrained`` means: OpenAI's weights of ``variant`` from the hub, or any file or folder with a CLIP; ``None`` for random.

    Args:
        tower: Class that wants them, first words of a message.
        variant: Not ``None`` for OpenAI's weights.
        pretrained: As the argument of the towers.

    Raises:
        BuildError: They cannot be had or read.
    """
    if pretrained is False:
        return None
    if pretrained is not True:
        path = str(pretrained)
        return Source(read_clip(path, tower), str(Path(path).resolve()), f"file {path}")
    assert variant is not None
    path, space = _download(tower, variant)
    weights = read_clip(path, f"{tower}(variant='{variant}')")
    # The hub's files are in a format that does not say it, but these two are known of them.
    return Source(replace(weights, quick_gelu=True, preprocessing=openai_preprocessing("crop")), space, f"OpenAI {variant}")


def openai_preprocessing(fit: str) -> Preprocessing:
    """As for OpenAI's weights, but for the size and for how images are made square."""
    return Preprocessing(mean=OPENAI_MEAN, std=OPENAI_STD, interpolation="bicubic", fit=fit)


def preprocessing_for(
    tower: str,
    known: Preprocessing | None,
    *,
    default: Preprocessing,
    image_size: int,
    fit: str | None,
    mean: list[float] | None,
    std: list[float] | None,
    interpolation: str | None,
) -> Preprocessing:
    """How images are prepared: as the weights say; where they say nothing, as the arguments say, then as ``default`` says.

    Args:
        tower: First words of a message.
        known: What the weights say; ``None`` for nothing.
        default: Where they say nothing.
        image_size: Pixels; position embeddings are resized to it.
        fit: A choice that is always free, as it changes what is seen of an image, and not what a pixel means; ``None`` for the default.
        mean: Per channel; ``None`` for the default, as the next two.
        std: Per channel.
        interpolation: ``'bicubic'`` or ``'bilinear'``.

    Raises:
        BuildError: Mean, standard deviation or interpolation contradict the weights.
    """
    base = known or default
    wanted = {"mean": mean and tuple(mean), "std": std and tuple(std), "interpolation": interpolation}
    said = {name: value for name, value in wanted.items() if value is not None}
    for name, value in said.items():
        if known is not None and not _equal(value, getattr(known, name)):
            raise BuildError(f"{tower}: {name}={value}, but the weights were trained with {name}={getattr(known, name)}. Leave it out")
    return replace(base, size=image_size, fit=fit or base.fit, **said)


def plain(preprocessing: Preprocessing) -> dict:
    """The arguments of a tower that make ``preprocessing`` again, for its blueprint."""
    return {
        "image_size": preprocessing.size,
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "interpolation": preprocessing.interpolation,
        "fit": preprocessing.fit,
    }


def _download(tower: str, variant: str) -> tuple[Path, str]:
    """OpenAI's file, from the hub or its cache, and where it lies on the hub."""
    from open_clip.pretrained import get_pretrained_cfg

    published = get_pretrained_cfg(variant.replace("/", "-").replace("@336px", "-336"), "openai")
    path = published_file(published, tower, f"clip:{variant}", local="pretrained='FILE or FOLDER'", scratch="pretrained=False")
    return path, space_of(published)


def published_file(published: dict, where: str, what: str, *, local: str, scratch: str) -> Path:
    """A file of open_clip's index, from the local cache, the hub or another server.

    Args:
        published: Its entry in the index.
        where: As the next three of ``from_hub``.
        what: Name of the weights.
        local: How the user gives a local copy instead.
        scratch: How the user starts from random weights instead.

    Raises:
        BuildError: It cannot be had; with the three ways.
    """
    from open_clip.pretrained import download_pretrained

    repository, _, name = (published.get("hf_hub") or "").rpartition("/")
    if not repository:
        with explained(where, what, local=local, scratch=scratch):  # open_clip has a cache of its own for other servers
            return weights_file(download_pretrained(published), where)
    names = names_of(name or "open_clip_pytorch_model.bin")
    return from_hub(lambda cached: hub_file(repository, names, cached), where, what, local=local, scratch=scratch)


def space_of(published: dict) -> str:
    """What names a set of weights in open_clip's index: the same for all architectures that take them."""
    return published.get("hf_hub") or published.get("url") or ""


def _equal(value: object, other: object) -> bool:
    if isinstance(value, tuple):
        return all(abs(a - b) < 1e-6 for a, b in zip(value, other, strict=True))
    return value == other
