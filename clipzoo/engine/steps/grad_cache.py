"""The gradient of a contrastive loss over more cases than fit into memory at once.

Source: Gao et al. 2021 (arXiv:2101.06983, "GradCache"), section 3. The loss needs the features of all cases, but not their activations:

1. compute the features of every batch of the group without gradient, and keep the generators' state before each batch
2. compute the loss over all of them, and its gradient with respect to the features and the temperature
3. run every batch again with the same random numbers (so dropout masks are equal), and propagate its features' gradients through the towers

The gradient equals that of a single batch of all these cases, except that batch normalisation normalises each batch separately; its running
statistics are updated in step 3 only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clipzoo.runtime.seeds import rng_state, set_rng_state
from clipzoo.structures import Batch, is_measure, joined

if TYPE_CHECKING:
    from clipzoo.engine.state import Run


def cached_backward(run: Run, group: list[Batch]) -> None:
    """Compute the gradients of the loss over all cases of ``group`` jointly, with the memory of one batch."""
    images, texts, generators = [], [], []
    with torch.no_grad(), resting_statistics(run.model), autocast(run):
        for batch in group:
            generators.append(rng_state(run.device))
            image_BD, text_UD = run.model.encode(on_device(run, batch))
            images.append(image_BD)
            texts.append(text_UD)
    joint, rows_U = joined(group)
    image_ND, text_MD = (torch.cat(parts).detach().requires_grad_() for parts in (images, texts))
    with synchronised(run, is_last=False), autocast(run):
        losses = run.model.contrast(image_ND, text_MD[rows_U.to(run.device)], joint.to(run.device))
    run.scaler.scale(total(losses)).backward()
    run.meter.add(losses, len(joint), run.state.step + 1)
    gradients = zip(image_ND.grad.split([len(f) for f in images]), text_MD.grad.split([len(f) for f in texts]), strict=True)
    for index, (batch, gradient) in enumerate(zip(group, gradients, strict=True)):
        set_rng_state(generators[index], run.device)
        with synchronised(run, is_last=index == len(group) - 1):
            with autocast(run):
                product = run.parallel(on_device(run, batch), feature_gradients=gradient)
            total(product).backward()  # already scaled


def total(losses: dict[str, Tensor]) -> Tensor:
    """The sum of a model's losses, without values that it only reports."""
    return sum(value for name, value in losses.items() if not is_measure(name))


def autocast(run: Run) -> torch.autocast:
    """The autocast context of the run's precision."""
    return torch.autocast(run.device.type, run.autocast, enabled=run.autocast is not None)


def synchronised(run: Run, *, is_last: bool) -> contextlib.AbstractContextManager:
    """A context in which DDP exchanges gradients for the last batch of a group only."""
    if is_last or not hasattr(run.parallel, "no_sync"):
        return contextlib.nullcontext()
    return run.parallel.no_sync()


def on_device(run: Run, batch: Batch) -> Batch:
    """``batch`` on the device of the model, augmented there with ``data.augment_on_device``."""
    if run.augmentation is not None:
        batch = run.augmentation(batch.to(run.device))
    return batch.to(run.device, channels_last=run.runtime.channels_last)


@contextlib.contextmanager
def resting_statistics(model: nn.Module) -> Iterator[None]:
    """Restore the running statistics of batch normalisation on exit; meanwhile it works as in training."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats]
    kept = [[buffer.clone() for buffer in norm.buffers(recurse=False)] for norm in norms]
    try:
        yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for buffer, value in zip(norm.buffers(recurse=False), buffers, strict=True):
                buffer.copy_(value)
