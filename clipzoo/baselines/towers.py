"""The towers of a config before training, and the class texts in their joint space."""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from clipzoo.config import Config
from clipzoo.config.registry import Registry
from clipzoo.config.settings import DataSettings, EvaluationSettings
from clipzoo.datasets.captions import Captions
from clipzoo.datasets.files.class_texts import texts_from_templates
from clipzoo.errors import ConfigError
from clipzoo.features.digest import feature_digest
from clipzoo.models.modules import evaluating
from clipzoo.probes.base import normalised
from clipzoo.probes.prototype import prototypes
from clipzoo.registries import BACKBONES, MODELS, TEXT_ENCODERS
from clipzoo.structures import ClassCaptions

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset
    from clipzoo.models.tower import Tower


@dataclass(frozen=True)
class ClassTexts:
    """The class texts in the space of the image tower.

    Attributes:
        features: ``[C, D]`` float32 text features of unit length.
        description: Description of the text tower.
        digest: Digest of the tower, see ``feature_digest``, and of the sentences.
    """

    features: np.ndarray
    description: str
    digest: str


def build_tower(config: Config, slot: str, other: str | None, device: torch.device) -> Tower:
    """Build a tower of the config, or another one, with its initial weights, all frozen.

    Args:
        config: Config that names the tower in section ``model``.
        slot: ``'image_encoder'`` or ``'text_encoder'``.
        other: Short name of a tower to use instead; ``None`` for none.
        device: Target device.

    Raises:
        ConfigError: No tower is named.
        BuildError: The tower cannot be built.
    """
    registry: Registry = {"image_encoder": BACKBONES, "text_encoder": TEXT_ENCODERS}[slot]
    model = MODELS.expand(config.model)
    named = model.get(slot) if other is None else other
    if named is None:
        raise ConfigError(f"model: {model['type']} has no {slot}. Name one with --{slot.replace('_', '-')}")
    spec = registry.expand(named)
    arguments = inspect.signature(registry.get(spec["type"])).parameters
    for argument in ("freeze", "unfreeze_blocks", "lora"):  # training options do not affect the initial weights
        spec.pop(argument, None)
    if "freeze" in arguments:
        spec["freeze"] = "all"
    tower = registry.build(spec).to(device).eval()
    if slot == "image_encoder":
        tower.average_over(EvaluationSettings.of(config).tta)
    return tower


def class_texts(
    config: Config, tower: Tower, data: Dataset, log: logging.Logger, *, text_encoder: str | None, templates: Sequence[str]
) -> ClassTexts | str:
    """The class texts in the image tower's space, or the reason why none exist.

    Args:
        config: Config that names the text tower.
        tower: Image tower.
        data: Dataset with classes and captions for them.
        log: Logger for truncated captions.
        text_encoder: Short name of a tower to use instead of the config's; ``None`` for none.
        templates: Captions with ``{class_name}``, for every class; empty uses the dataset's own class captions.

    Raises:
        ConfigError: A template is invalid.
        DataError: The texts of two classes are identical for the text tower.
    """
    table, ids_of_class = _captions(templates, data)
    device = next(tower.parameters()).device
    if tower.space is None:
        return f"the image tower ({describe(tower)}) shares no joint space with a text tower"
    if text_encoder is None and MODELS.expand(config.model).get("text_encoder") is None:
        return "the config has no text tower. Name one with --text-encoder"
    reader = build_tower(config, "text_encoder", text_encoder, device)
    if reader.space != tower.space:
        return f"the image tower ({describe(tower)}) and the text tower ({describe(reader)}) do not come from one model, see --text-encoder"
    captions = table.worded(reader.tokenizer)
    allowed = DataSettings.of(config).allow_overlong_captions
    tokens = captions.tokenise(reader.tokenizer, "text tower", allow_overlong=allowed, classes=data.classes)
    if captions.note:
        log.info(captions.note)
    for warning in captions.warnings:
        log.warning(f"warning: {warning}")
    classes = ClassCaptions.of(tokens, ids_of_class)
    with torch.inference_mode(), evaluating(reader):
        read = classes.tokens.encoded(reader, device).float().cpu()
    features, _ = prototypes(normalised(read.numpy()), classes.labels.numpy(), len(data.classes))
    sentences = [[captions.sentences[i] for i in ids] for ids in ids_of_class]
    digest = hashlib.blake2b(f"{sentences}{feature_digest(reader)}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return ClassTexts(features, describe(reader), digest)


def _captions(templates: Sequence[str], data: Dataset) -> tuple[Captions, list[list[int]]]:
    """The class sentences: those of the dataset, or every template with every class name."""
    if not templates:
        return data.captions, data.class_captions()
    captions, of_class = Captions.of_classes(texts_from_templates(templates, list(data.classes), "--templates"))
    return captions, [list(dict.fromkeys(ids)) for ids in of_class]


def describe(tower: Tower) -> str:
    """A description of a tower and the origin of its weights."""
    return f"{tower.name}, weights {tower.weights}"
