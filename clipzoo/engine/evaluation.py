"""Predictions of a part, and the numbers over them. The class captions are encoded once, never per batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from clipzoo.engine import distributed
from clipzoo.structures import ClassCaptions, Predictions

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from clipzoo.engine.state import Run
    from clipzoo.metrics.base import Metric
    from clipzoo.models.base import Model


def predict(run: Run, part: str) -> Predictions:
    """The predictions of ``part`` (``'val'`` or ``'test'``) in the order of the dataset's rows, on every process."""
    distributed.share_buffers(run.model)
    return predict_cases(
        run.model, run.eval_loaders[part], run.classes, run.device, autocast=run.autocast, channels_last=run.runtime.channels_last
    )


@torch.inference_mode()
def predict_cases(
    model: Model,
    loader: DataLoader,
    classes: ClassCaptions,
    device: torch.device,
    *,
    autocast: torch.dtype | None = None,
    channels_last: bool = True,
) -> Predictions:
    """Run ``model`` over ``loader``; with several processes each brings its share, and no case is there twice."""
    was_training = model.training
    model.eval()
    cases, labels, logits = [], [], []
    with torch.autocast(device.type, autocast, enabled=autocast is not None):
        encoded = model.encode_classes(classes)
        for batch in loader:
            cases.append(batch.cases)
            labels.append(batch.labels)
            logits.append(model.predict(batch.to(device, channels_last=channels_last), encoded).float())
    model.train(was_training)
    own = (
        torch.cat(cases).numpy() if cases else np.zeros(0, dtype=np.int64),
        torch.cat(labels).numpy() if labels else np.zeros(0, dtype=np.int64),
        torch.cat(logits).cpu().numpy() if logits else np.zeros((0, classes.num_classes), dtype=np.float32),
    )
    parts = distributed.gathered(own)
    return Predictions(*(np.concatenate([part[i] for part in parts]) for i in range(3))).ordered()


def score(metrics: Sequence[Metric], predictions: Predictions) -> dict[str, float]:
    """Every metric over all predictions at once, by name; cases without a label are left out."""
    known = predictions.labels >= 0
    labels, probabilities = predictions.labels[known], predictions.probabilities[known]
    return {metric.name: float(metric.compute(labels, probabilities)) for metric in metrics}
