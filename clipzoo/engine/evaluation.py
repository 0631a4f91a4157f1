"""Scoring a part: by classes, by findings or, if cases have captions only, by retrieval. Captions are encoded once, never per batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from clipzoo.metrics.ranking import Similarities, rank, retrieval_table
from clipzoo.models.modules import evaluating
from clipzoo.records.findings_table import FindingsTable
from clipzoo.records.table_file import columns_of
from clipzoo.records.tables import PredictionTable, Table
from clipzoo.runtime import distributed, sharding
from clipzoo.scoring.summary import score
from clipzoo.scoring.units import Unit
from clipzoo.structures import ClassCaptions, Predictions, Tokens

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset
    from clipzoo.datasets.batches.workers import Loader
    from clipzoo.engine.state import Run
    from clipzoo.metrics.base import Metric
    from clipzoo.models.base import Model


@dataclass(frozen=True)
class Evaluation:
    """The result of scoring one part.

    Attributes:
        part: ``'val'``, ``'test'``, or the name of an external set.
        table: One row per case, or per query; all ``metrics`` are computed from it.
        metrics: Values by name; NaN if undefined.
        similarities: Similarities of positives and negatives; retrieval only.
    """

    part: str
    table: Table
    metrics: dict[str, float]
    similarities: Similarities | None = None


@dataclass(frozen=True)
class Compute:
    """The device and precision of a computation.

    Attributes:
        device: Device of the model.
        autocast: Autocast dtype; ``None`` for full precision.
        channels_last: Whether images are in channels-last memory order.
    """

    device: torch.device
    autocast: torch.dtype | None = None
    channels_last: bool = True


class Evaluator(Protocol):
    """Scores cases of one dataset."""

    def evaluate(self, model: Model, loader: Loader, dataset: Dataset, part: str, fold: str, compute: Compute) -> Evaluation:
        """Score ``model`` on the cases of ``loader``, which are rows of ``dataset``. Every process gets the whole result."""


@dataclass(frozen=True)
class ClassEvaluator:
    """Scores by class probabilities.

    Attributes:
        classes: Captions of the classes; ``None`` for a model that reads no captions.
        names: Class names.
        metrics: Metrics to compute.
        unit: What counts once in the metrics; the table always has a row per case.
    """

    classes: ClassCaptions | None
    names: tuple[str, ...]
    metrics: Sequence[Metric]
    unit: Unit = Unit()

    def evaluate(self, model: Model, loader: Loader, dataset: Dataset, part: str, fold: str, compute: Compute) -> Evaluation:
        """See ``Evaluator.evaluate``."""
        classes = None if self.classes is None else self.classes.to(compute.device)
        predictions = predict_cases(model, loader, classes, len(self.names), compute)
        table = PredictionTable(
            *columns_of(self.names, [dataset.cases[row] for row in predictions.cases], fold),
            labels=predictions.labels.astype(np.int64),
            probabilities=predictions.probabilities,
        )
        return Evaluation(part, table, score(self.metrics, self.unit.of(table)))


@dataclass(frozen=True)
class FindingsEvaluator:
    """Scores several labels per case, each by its own probability.

    Attributes:
        classes: Captions of the findings; ``None`` for a model that reads no captions.
        names: Names of the findings.
        metrics: Metrics to compute.
    """

    classes: ClassCaptions | None
    names: tuple[str, ...]
    metrics: Sequence[Metric]

    def evaluate(self, model: Model, loader: Loader, dataset: Dataset, part: str, fold: str, compute: Compute) -> Evaluation:
        """See ``Evaluator.evaluate``."""
        assert dataset.findings is not None
        classes = None if self.classes is None else self.classes.to(compute.device)
        predictions = predict_cases(model, loader, classes, len(self.names), compute)
        table = FindingsTable(
            *columns_of(self.names, [dataset.cases[row] for row in predictions.cases], fold),
            findings=dataset.findings[predictions.cases],
            probabilities=predictions.finding_probabilities,
        )
        return Evaluation(part, table, score(self.metrics, table))


@dataclass(frozen=True)
class RetrievalEvaluator:
    """Scores by finding, for every image of a part, its captions among all captions of that part, and vice versa.

    Attributes:
        tokens: Tokens of the dataset's whole caption table.
        metrics: Metrics to compute.
    """

    tokens: Tokens
    metrics: Sequence[Metric]

    def evaluate(self, model: Model, loader: Loader, dataset: Dataset, part: str, fold: str, compute: Compute) -> Evaluation:
        """See ``Evaluator.evaluate``."""
        rows, image_ND = encode_cases(model, loader, compute)
        described = [dataset.captions_of(row) for row in rows]
        ids = sorted({i for found in described for i in found})
        text_TD = encode_captions(model, self.tokens, ids, compute)
        place = {caption: row for row, caption in enumerate(ids)}

        def make() -> Evaluation:  # on one process: a tie broken differently elsewhere must not stop only some of them
            positives = [[place[i] for i in found] for found in described]
            ranks = rank(image_ND, text_TD, positives, device=compute.device)
            captions, cases = [dataset.captions.sentences[i] for i in ids], [dataset.cases[row] for row in rows]
            table = retrieval_table(ranks, cases=cases, captions=captions, fold=fold, positives=positives)
            return Evaluation(part, table, score(self.metrics, table), ranks.similarities)

        return distributed.from_main(make)


def evaluate(run: Run, part: str) -> Evaluation:
    """Score ``part`` (``'val'`` or ``'test'``) of a run, on every process."""
    distributed.share_buffers(run.scored)
    compute = Compute(run.device, run.autocast, run.runtime.channels_last)
    with sharding.whole(run.scored):
        return run.evaluator.evaluate(run.scored, run.eval_loaders[part], run.dataset, part, run.split.name, compute)


@torch.inference_mode()
def predict_cases(model: Model, loader: Loader, classes: ClassCaptions | None, num_classes: int, compute: Compute) -> Predictions:
    """Calibrated predictions in the order of the dataset's rows; several processes share the cases, and each case occurs once."""
    cases, labels, logits = [], [], []
    with evaluating(model), torch.autocast(compute.device.type, compute.autocast, enabled=compute.autocast is not None):
        encoded = None if classes is None else model.encode_classes(classes)
        for batch in loader:
            cases.append(batch.cases)
            labels.append(batch.labels)
            logits.append(model.predict(batch.to(compute.device, channels_last=compute.channels_last), encoded).float() / model.calibration)
    own = (
        torch.cat(cases).numpy() if cases else np.zeros(0, dtype=np.int64),
        torch.cat(labels).numpy() if labels else np.zeros(0, dtype=np.int64),
        torch.cat(logits).cpu().numpy() if logits else np.zeros((0, num_classes), dtype=np.float32),
    )
    parts = distributed.gathered(own)
    return Predictions(*(np.concatenate([part[i] for part in parts]) for i in range(3))).ordered()


@torch.inference_mode()
def encode_cases(model: Model, loader: Loader, compute: Compute) -> tuple[np.ndarray, np.ndarray]:
    """``[N]`` int64 rows of the dataset in order, and ``[N, D]`` float32 features of their images, on every process."""
    rows, features = [], []
    with evaluating(model), torch.autocast(compute.device.type, compute.autocast, enabled=compute.autocast is not None):
        for batch in loader:
            rows.append(batch.cases)
            moved = batch.to(compute.device, channels_last=compute.channels_last)
            given = {"features": moved.features, "num_images": moved.num_images}  # which other models need not accept
            features.append(model.encode_image(moved.images, **{k: v for k, v in given.items() if v is not None}).float())
    own = (torch.cat(rows).numpy(), torch.cat(features).cpu().numpy()) if rows else None
    parts = [part for part in distributed.gathered(own) if part is not None]
    found, image_ND = (np.concatenate([part[i] for part in parts]) for i in range(2))
    order = np.argsort(found, kind="stable")
    return found[order], image_ND[order]


@torch.inference_mode()
def encode_captions(model: Model, tokens: Tokens, ids: Sequence[int], compute: Compute) -> np.ndarray:
    """``[T, D]`` float32 features of the captions ``ids`` of a table; each is encoded once, by one of the processes."""
    mine = torch.tensor(ids[distributed.rank() :: distributed.world_size()], dtype=torch.int64)
    with evaluating(model), torch.autocast(compute.device.type, compute.autocast, enabled=compute.autocast is not None):
        own = model.encode_captions(tokens, mine).float().cpu().numpy() if len(mine) else None
    parts = distributed.gathered(own)
    width = next(part.shape[1] for part in parts if part is not None)
    text_TD = np.empty((len(ids), width), dtype=np.float32)
    for first, part in enumerate(parts):
        if part is not None:
            text_TD[first :: distributed.world_size()] = part
    return text_TD
