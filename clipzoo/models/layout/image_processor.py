"""The image processors of transformers, as their JSON describes them: size, mean, standard deviation and interpolation."""

from __future__ import annotations

from dataclasses import replace

from clipzoo.errors import BuildError
from clipzoo.models.layout.clip_weights import OPENAI_MEAN, OPENAI_STD
from clipzoo.models.layout.json_file import as_object, three_numbers
from clipzoo.structures import Preprocessing

_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}  # PIL constants
_IMAGENET = Preprocessing(interpolation="bilinear")
_SIGLIP = {"image_mean": (0.5,) * 3, "image_std": (0.5,) * 3, "size": {"height": 224, "width": 224}, "do_center_crop": False}


def clip_preprocessing(config: dict, image_size: int, where: str) -> Preprocessing:
    """The preprocessing of a CLIP, whose images must become squares of the size of its weights.

    Args:
        config: Content of the file; missing values are those of CLIP's image processor, or of SigLIP's if the file names it.
        image_size: Image size of the weights in pixels.
        where: Start of a message.

    Raises:
        BuildError: The images are processed in a way that is not supported, or to another size.
    """
    if str(config.get("image_processor_type", "")).startswith("Siglip"):
        config = {**_SIGLIP, "size": {"height": image_size, "width": image_size}, **config}
    _check_steps(config, where)
    mean = three_numbers(config.get("image_mean") or OPENAI_MEAN, f"{where}: image_mean")
    std = three_numbers(config.get("image_std") or OPENAI_STD, f"{where}: image_std")
    return Preprocessing(image_size, mean, std, _interpolation(config, where), _fit(config, image_size, where))


def image_preprocessing(config: dict, where: str) -> Preprocessing:
    """The preprocessing of any other network: its images are padded to a square, as those of timm's networks.

    Only the size after cropping counts: transformers scales the shorter side of an image to a slightly larger size and crops the centre.

    Raises:
        BuildError: The images are not square, or are processed in a way that is not supported.
    """
    _check_steps(config, where)
    for switch in ("do_flip_channel_order", "rescale_offset"):
        if config.get(switch):
            raise BuildError(f"{where}: {switch}={config[switch]!r} is not supported")
    mean = three_numbers(config.get("image_mean") or _IMAGENET.mean, f"{where}: image_mean")
    std = three_numbers(config.get("image_std") or _IMAGENET.std, f"{where}: image_std")
    cropped = config.get("do_center_crop") and config.get("crop_size") is not None
    size = _one_side(config["crop_size"] if cropped else config.get("size", 224), where)
    return Preprocessing(size, mean, std, _interpolation(config, where), "pad")


def usual_preprocessing(config: dict) -> Preprocessing:
    """The preprocessing of a model without an image processor's file: that of the published models of its kind, or ImageNet's.

    Args:
        config: Content of ``config.json``.
    """
    kind, vision = config.get("model_type"), config.get("vision_config") or config
    size = vision.get("image_size")
    size = size if isinstance(size, int) else 224
    if kind == "siglip":
        return clip_preprocessing({"image_processor_type": "SiglipImageProcessor"}, size, "config.json")
    if kind in ("clip", "metaclip_2", "chinese_clip"):
        return Preprocessing(size, OPENAI_MEAN, OPENAI_STD, "bicubic", "squash" if kind == "chinese_clip" else "crop")
    return replace(_IMAGENET, size=size)


def _check_steps(config: dict, where: str) -> None:
    for switch in ("do_resize", "do_rescale", "do_normalize"):
        if config.get(switch, True) is not True:
            raise BuildError(f"{where}: {switch}={config[switch]!r} is not supported")
    if abs((config.get("rescale_factor") or 1 / 255) * 255 - 1) > 1e-6:
        raise BuildError(f"{where}: rescale_factor={config['rescale_factor']!r}, but images are always scaled to [0, 1]")


def _interpolation(config: dict, where: str) -> str:
    resample = config.get("resample", 3)
    if resample not in _INTERPOLATIONS:
        raise BuildError(f"{where}: resample={resample!r} is not supported, only 2 (bilinear) and 3 (bicubic)")
    return _INTERPOLATIONS[resample]


def _one_side(size: object, where: str) -> int:
    """The side of a square in pixels, from a number, or from a height and a width, or the shorter side."""
    sides = set(size.values()) if isinstance(size, dict) else {size}
    side = sides.pop() if len(sides) == 1 else None
    if not isinstance(side, int) or side < 1:
        raise BuildError(f"{where}: images of size {size} are not square")
    return side


def _fit(config: dict, image_size: int, where: str) -> str:
    """How an image is made square, derived from the sizes for scaling and cropping."""
    size, crop = config.get("size", {"shortest_edge": 224}), config.get("crop_size") or 224
    size = {"shortest_edge": size} if isinstance(size, int) else as_object(size, f"{where}: size")
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else as_object(crop, f"{where}: crop_size")
    cropped = config.get("do_center_crop", True)
    if {*size.values(), *(crop.values() if cropped else ())} != {image_size}:
        scaled = f"scaled to {size} and cropped to {crop}" if cropped else f"scaled to {size}"
        raise BuildError(f"{where}: images are {scaled}, but the weights are for {image_size} px")
    if size.keys() == {"height", "width"}:
        return "squash"
    if size.keys() == {"shortest_edge"} and cropped:
        return "crop"
    raise BuildError(f"{where}: size={size} with do_center_crop={cropped} does not produce a square image")
