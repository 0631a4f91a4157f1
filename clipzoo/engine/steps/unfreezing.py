"""Gradual unfreezing: which blocks of a tower are trained in which epoch (``train.unfreeze``).

The towers are brought to their last stage before anything is built from the model, so that the optimizer holds every parameter that is
ever trained, and no features are cached of a tower that is frozen now and trained later. Each epoch then begins by applying its own stage:
parameters of later stages get no gradient, so torch's optimizers skip them, weight decay included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from clipzoo.errors import BuildError, ConfigError, did_you_mean, shortened
from clipzoo.models.tower import Tower

if TYPE_CHECKING:
    from clipzoo.models.base import Model


def to_last_stage(net: Model, stages: Sequence[Mapping]) -> None:
    """Check ``stages``, and bring the towers they name to the last one.

    Args:
        net: Newly constructed model.
        stages: The setting ``TrainSettings.unfreeze``.

    Raises:
        ConfigError: A tower is unknown or has fewer blocks than a stage unfreezes, or a stage unfreezes fewer than are trained before it.
        BuildError: Nothing is trained before the first stage.
    """
    for name in _named(stages):
        tower = _tower(net, name)
        before = tower.depth if tower.first_blocks is None else tower.first_blocks
        for stage in (stage for stage in stages if name in stage):
            blocks = tower.depth if stage[name] == "all" else stage[name]
            where = f"train.unfreeze: epoch {stage['epoch']}: {name}={stage[name]!r}"
            if blocks > tower.depth:
                raise ConfigError(f"{where} is beyond its depth: {tower.name} has {tower.depth} blocks, the stem included")
            if blocks < before:
                raise ConfigError(
                    f"{where}, but {before} of its {tower.depth} blocks are trained before. Start with fewer (freeze='all'), or raise it"
                )
            before = blocks
    enter_stage(net, stages, 0)
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise BuildError("train.unfreeze: nothing is trained before the first stage. Unfreeze a block, a projection or the temperature")
    enter_stage(net, stages, stages[-1]["epoch"])


def enter_stage(net: Model, stages: Sequence[Mapping], epoch: int) -> bool:
    """Apply the stage that holds after ``epoch`` finished epochs; call ``net.train()`` afterwards to update the modes.

    Returns:
        Whether the set of trained parameters changed.
    """
    before = _learning(net)
    for name in _named(stages):
        tower = _tower(net, name)
        blocks = tower.first_blocks
        for stage in stages:
            if stage["epoch"] <= epoch and name in stage:
                blocks = None if stage[name] == "all" else stage[name]
        tower.unfreeze(blocks)
    return _learning(net) != before


def describe_stage(net: Model, stages: Sequence[Mapping]) -> str:
    """How much of each tower is trained now, for the log."""
    towers = {name: _tower(net, name) for name in _named(stages)}
    return "; ".join(
        f"{name}: {tower.describe_trainable()}{'' if tower.lora is None else ', beside its adapters'}" for name, tower in towers.items()
    )


def _named(stages: Sequence[Mapping]) -> list[str]:
    """Names of all towers in ``stages``, in order."""
    return list(dict.fromkeys(name for stage in stages for name in stage if name != "epoch"))


def _tower(net: Model, name: str) -> Tower:
    towers = {child: module for child, module in net.named_children() if isinstance(module, Tower)}
    if name not in towers:
        available = f"Available: {shortened(towers)}" if towers else "It has no towers"
        raise ConfigError(f"train.unfreeze: {type(net).__name__} has no tower '{name}'.{did_you_mean(name, towers)} {available}")
    return towers[name]


def _learning(net: Model) -> set[str]:
    return {name for name, parameter in net.named_parameters() if parameter.requires_grad}
