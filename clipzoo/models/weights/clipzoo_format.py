"""Reading checkpoints of this project: the model is made again from its config and its towers' blueprints, without any other file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from clipzoo.errors import BuildError, ClipzooError
from clipzoo.models.layout.clip_weights import CLIPWeights
from clipzoo.models.layout.states import check_finite, load_strictly
from clipzoo.models.making import make_model

FORMAT = "clipzoo-checkpoint-2"


def is_checkpoint(content: Mapping) -> bool:
    """Was the file written by this project?"""
    return content.get("format") == FORMAT


def from_checkpoint(content: Mapping, where: str) -> CLIPWeights:
    """The best or latest weights of a run, where its model is a CLIP with CLIP's towers.

    Raises:
        BuildError: The model is another one, cannot be made again, or its weights do not fit.
    """
    from clipzoo.models.layout.from_model import from_model  # the towers themselves read weights from here

    try:
        spec, towers, state, num_classes = content["config"]["model"], content["towers"], content["model"], len(content.get("classes", ()))
        if not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise TypeError("not all weights are tensors")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BuildError(f"{where} does not say how its model is made ({error!r}); it was saved by another version") from error
    with torch.random.fork_rng(devices=[]):  # the random weights that the file's replace
        try:
            model = make_model(spec, num_classes, towers)
        except (ClipzooError, TypeError, KeyError, AttributeError) as error:
            raise BuildError(f"{where}: its model cannot be made again ({error})") from error
    load_strictly(model, state, where)
    check_finite(model.state_dict(), where)
    return replace(from_model(model, where), format="clipzoo")
