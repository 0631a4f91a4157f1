"""Reading of this project's checkpoints: the model is rebuilt from its config and its towers' blueprints, without any other file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from clipzoo.errors import BuildError, ClipzooError
from clipzoo.models.layout.clip_weights import CLIPWeights
from clipzoo.models.layout.from_model import from_model
from clipzoo.models.layout.states import check_finite, load_strictly
from clipzoo.models.making import make_model

FORMAT = "clipzoo-checkpoint-2"


def is_checkpoint(content: Mapping) -> bool:
    """Was the file written by clipzoo?"""
    return content.get("format") == FORMAT


def from_checkpoint(content: Mapping, where: str) -> CLIPWeights:
    """Load the best or latest weights of a run whose model is a CLIP with CLIP's towers.

    Raises:
        BuildError: The model is of another kind or cannot be rebuilt, or its weights do not fit.
    """
    try:
        spec, towers, state, num_classes = content["config"]["model"], content["towers"], content["model"], len(content.get("classes", ()))
        if not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise TypeError("not all weights are tensors")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BuildError(f"{where} does not describe its model ({error!r}); it was saved by another version") from error
    with torch.random.fork_rng(devices=[]):  # for the random weights, which are then replaced
        try:
            model = make_model(spec, num_classes, towers)
        except (ClipzooError, TypeError, KeyError, AttributeError) as error:
            raise BuildError(f"{where}: its model cannot be rebuilt ({error})") from error
    load_strictly(model, state, where)
    check_finite(model.state_dict(), where)
    return replace(from_model(model, where), format="clipzoo")
