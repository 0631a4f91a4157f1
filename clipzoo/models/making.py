"""A model from its specification; for one of a checkpoint also from the blueprints of its towers, without any other file."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING

from clipzoo.errors import BuildError
from clipzoo.registries import BACKBONES, MODELS, SLOTS, TEXT_ENCODERS

if TYPE_CHECKING:
    from clipzoo.config.registry import Registry
    from clipzoo.models.base import Model


def make_model(spec: object, num_classes: int, towers: Mapping[str, dict] | None = None) -> Model:
    """The model with its first weights, which depend on the state of torch's generator alone.

    Args:
        spec: Section ``model`` of a config.
        num_classes: Number of classes in the data; 0 where they have captions only. Passed to models that take it.
        towers: The towers' blueprints from a checkpoint, whose weights replace these at once: nothing is downloaded or read then. An
            optional tower that the checkpoint does not have is omitted.

    Raises:
        BuildError: The model is for data with classes, and these have none.
    """
    spec = MODELS.expand(spec)
    parameters = inspect.signature(MODELS.get(spec["type"])).parameters
    if towers is not None:
        for name in spec:
            if SLOTS.get(name) in (BACKBONES, TEXT_ENCODERS) and name not in towers:
                if spec[name] is not None and (name not in parameters or parameters[name].default is not None):
                    raise BuildError(f"model.{name}: the checkpoint does not say what it is made of")
                spec[name] = None
        for name, blueprint in towers.items():
            spec[name] = _from_blueprint(SLOTS[name], spec[name], blueprint)
    if "num_classes" in parameters and not num_classes:
        raise BuildError(
            f"model: {spec['type']} tells classes apart, and the data have captions and no classes. Choose a model such as CLIP"
        )
    return MODELS.build(spec, **({"num_classes": num_classes} if "num_classes" in parameters else {}))


def _from_blueprint(registry: Registry, spec: object, blueprint: dict) -> dict:
    """A tower's specification without its weights: whatever the two say, no file and no hub is asked for any."""
    made = {**registry.expand(spec), **blueprint}
    without = {"pretrained": False} if "pretrained" in inspect.signature(registry.get(made["type"])).parameters else {}
    return {**made, **without}
