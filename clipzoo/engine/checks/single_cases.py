"""Batches of a single case, from which neither batch normalisation nor a contrastive loss can learn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from clipzoo.errors import ConfigError, shortened
from clipzoo.models.modules import evaluating
from clipzoo.runtime import distributed

if TYPE_CHECKING:
    from clipzoo.datasets.batches.epochs import EpochBatches
    from clipzoo.datasets.batches.workers import Loader
    from clipzoo.models.base import Model
    from clipzoo.structures import Batch


def check(net: Model, batches: EpochBatches, loader: Loader, device: torch.device) -> None:
    """Refuse batches of one case if a batch normalisation of ``net`` would see a single value per channel, which has no variance.

    Args:
        net: Model in any mode; left unchanged.
        batches: The order of the training part.
        loader: Loader of the training part.
        device: Device of ``net``.

    Raises:
        ConfigError: There are such batches; the message names the layers.
    """
    if batches.smallest > 1 or not learning_norms(net):
        return
    data = batches.dataset
    fewest = min(batches.rows.tolist(), key=lambda row: len(data.image_rows(row)))
    draw = next(iter(batches))[0]._replace(row=fewest)
    names = single_valued(net, loader.collate([loader.dataset[draw]]).to(device))
    if names:
        cases = len(batches.rows) // batches.world_size
        advice = "Use data.batch_size=2 or more"
        if cases < 2:
            fewer = "fewer processes or " if batches.world_size > 1 else ""
            advice = f"There is one training case for each process: use {fewer}more training cases"
        raise ConfigError(
            f"data.batch_size: in a batch of one case, batch normalisation sees a single value per channel and cannot learn "
            f"({shortened(names, 2)}). {advice}, or a model without batch normalisation (train.accumulation does not enlarge a batch)"
        )


def smallest_batch(net: Model) -> int:
    """The smallest usable ``data.batch_size`` for ``net``."""
    contrasts = net.captions not in ("none", "all") and distributed.world_size() == 1
    return 2 if contrasts or learning_norms(net) else 1


def learning_norms(net: nn.Module) -> dict[nn.Module, str]:
    """Batch normalisation layers that use batch statistics in training, with their names; those of frozen towers do not."""
    was_training = net.training
    net.train()
    found = {module: name for name, module in net.named_modules() if isinstance(module, _BatchNorm) and module.training}
    net.train(was_training)
    return found


def single_valued(net: Model, batch: Batch) -> list[str]:
    """Names of the learning batch normalisation layers that see a single value per channel in ``batch``, in order of execution."""
    norms, found = learning_norms(net), []

    def look(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].numel() == inputs[0].shape[1]:
            found.append(norms[norm])

    handles = [norm.register_forward_pre_hook(look) for norm in norms]
    try:
        with torch.no_grad(), evaluating(net):  # updates no statistics and draws no random number
            net(replace(batch, images=batch.images.float()))  # with data.augment_on_device they are uint8; only shapes matter
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(found))
