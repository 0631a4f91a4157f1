"""The CLIPs of transformers, one tower at a time: its network and projection, their weights, and the facts that belong to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from clipzoo.errors import BuildError, shortened
from clipzoo.models.layout.clip_weights import CHINESE_CONTEXT
from clipzoo.models.layout.modules import shapes_on_meta
from clipzoo.models.layout.sizes import scalars
from clipzoo.models.layout.states import differences, load_strictly, shapes_of
from clipzoo.models.tower import full_name
from clipzoo.models.weights.hugging_face import quiet_loading, read_tensors

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from clipzoo.models.tower import Tower

Side = Literal["vision", "text"]
Parts = tuple[nn.Module, nn.Linear | None]


@dataclass(frozen=True)
class Kind:
    """One family of CLIPs.

    Attributes:
        classes: Start of the names of the family's classes in transformers.
        reads: Position at which the text is read: its ``'end'`` token, the first token (``'cls'``), or the ``'last'`` position of the
            whole context, padding included.
        projection: Whether both towers end in a linear projection; SigLIP's end in their own heads.
        longest: Longest context in the training of published models; ``None`` for as many tokens as there are position embeddings.
    """

    classes: str
    reads: Literal["end", "cls", "last"]
    projection: bool = True
    longest: int | None = None


# By model_type. SigLIP 2 at a fixed resolution is published as a siglip model with another tokenizer.
KINDS: dict[str, Kind] = {
    "clip": Kind("CLIP", "end"),
    "metaclip_2": Kind("MetaClip2", "end"),
    "chinese_clip": Kind("ChineseCLIP", "cls", longest=CHINESE_CONTEXT),
    "siglip": Kind("Siglip", "last", projection=False),
}
# Prefix of the names of the same weights in CLIP's and Chinese-CLIP's own towers, which can be exported.
EXPORTABLE = {"clip": "weights", "chinese_clip": "chinese-clip"}
_PREFIX = {"vision": "vision_model.", "text": "text_model."}
_PROJECTION = {"vision": "visual_projection.weight", "text": "text_projection.weight"}


def check_exportable(tower: Tower, model_type: str, where: str) -> None:
    """Refuse the export of a tower if its weights have a name under which they can be exported.

    Raises:
        BuildError: They have; the message says which.
    """
    if model_type in EXPORTABLE:
        other = f"{EXPORTABLE[model_type]}:{tower.name}"
        raise BuildError(
            f"{where}: cannot export {full_name(tower)}. Train {other} instead, the same weights in towers that can be exported"
        )


def kind_of(config: PretrainedConfig, where: str, name: str) -> Kind | None:
    """The family of a CLIP; ``None`` for any other model.

    Raises:
        BuildError: The model is a SigLIP 2 whose images keep their aspect ratio.
    """
    if config.model_type == "siglip2":
        raise BuildError(
            f"{where}: '{name}' is a SigLIP 2 for images of any aspect ratio (NaFlex), which is not supported. "
            "Choose one of a fixed resolution, such as google/siglip2-base-patch16-224"
        )
    return KINDS.get(config.model_type)


def context_of(config: PretrainedConfig) -> int:
    """Maximum number of tokens per sentence in the training of a CLIP."""
    positions, longest = config.text_config.max_position_embeddings, KINDS[config.model_type].longest
    return positions if longest is None else min(longest, positions)


def build_side(config: PretrainedConfig, side: Side, state: dict[str, Tensor] | None = None, where: str = "") -> Parts:
    """One tower in fp32, and its projection into the joint space or ``None``.

    Args:
        config: Config of the whole CLIP.
        side: Which tower.
        state: All tensors of the CLIP; ``None`` for random weights.
        where: Start of a message.

    Raises:
        BuildError: The tensors do not fit the config.
    """
    import transformers

    kind, own = KINDS[config.model_type], getattr(config, f"{side}_config")
    cls = getattr(transformers, f"{kind.classes}{side.capitalize()}Model")
    # Chinese-CLIP has a pooling layer that it does not use, which would break distributed training.
    arguments = {"add_pooling_layer": False} if kind.reads == "cls" and side == "text" else {}
    projection = nn.Linear(own.hidden_size, config.projection_dim, bias=False) if kind.projection else None
    if state is None:  # the class itself rather than ``from_config``: in fp32 whatever precision a config names
        return cls(own, **arguments), projection
    wanted = shapes_on_meta(lambda: cls(own, **arguments))
    tensors = _own(state, wanted, _PREFIX[side])
    problems = differences(shapes_of(tensors), wanted)
    if problems:
        raise BuildError(f"{where}: {side}_model: the weights do not fit. {problems}")
    with quiet_loading():  # does not draw the random weights that the others replace
        network = cls.from_pretrained(None, config=own, state_dict=tensors, torch_dtype=torch.float32, **arguments)
    if projection is not None:
        matrix = {"weight": state[_PROJECTION[side]]} if _PROJECTION[side] in state else {}
        load_strictly(projection, matrix, f"{where}: {_PROJECTION[side].removesuffix('.weight')}")
    return network, projection


def read_side(config: PretrainedConfig, side: Side, *, name: str, where: str) -> tuple[Parts, tuple[float, float | None]]:
    """One tower of a CLIP from a hub name or folder, like ``build_side``; every tensor of the file is accounted for.

    Returns:
        Network and projection; then the log of 1 / temperature, and the bias of a sigmoid loss or ``None``.

    Raises:
        BuildError: The weights are unavailable or unreadable, or do not fit the config.
    """
    state = read_tensors(where, name)
    where = f"{where}: {name}"
    known = (*_PREFIX.values(), *_PROJECTION.values(), "logit_scale", "logit_bias")
    rest = [key for key in state if not key.startswith(known)]
    if rest:
        raise BuildError(f"{where}: {len(rest)} tensors belong to no part of a {config.model_type} model: {shortened(rest, 4)}")
    return build_side(config, side, state, where), scalars(state, where)


def _own(state: dict[str, Tensor], wanted: Iterable[str], prefix: str) -> dict[str, Tensor]:
    """One tower's tensors under the network's own names, which have the prefix before transformers 5.

    Omitted are the position ids of older files (0, 1, 2 …) and the pooling layer of a Chinese-CLIP.
    """
    kept = any(key.startswith(prefix) for key in wanted)
    found = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    found = {key: value for key, value in found.items() if not key.endswith("position_ids") and not key.startswith("pooler.")}
    return {f"{prefix}{key}": value for key, value in found.items()} if kept else found
