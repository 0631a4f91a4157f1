"""What a baseline learns from, and its predictions of one fold."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import TYPE_CHECKING, Literal

import numpy as np

from clipzoo.baselines.towers import ClassTexts
from clipzoo.errors import BuildError, ProcessError
from clipzoo.probes import Examples, Probe
from clipzoo.probes.threads import threads_for
from clipzoo.records.folds import Split
from clipzoo.records.table_file import columns_of
from clipzoo.records.tables import PredictionTable
from clipzoo.runtime.jobs import memory, shares

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset
    from clipzoo.metrics import Metric

_PROCESS = 600 * 2**20  # bytes of a process that learns, without features


@dataclass(frozen=True)
class Frozen:
    """Frozen features of a dataset.

    Attributes:
        features: ``[N, D]`` float32 features of unit length for all cases; 0 for cases that no fold needs.
        logit_scale: 1 / temperature that the image tower's weights were trained with; 100 if undefined.
        texts: Class texts; ``None`` if not needed, or in another space.
        balanced: Whether all classes count equally in a fit.
        select: Metric that chooses hyper-parameters; ``None`` for the log loss.
    """

    features: np.ndarray
    logit_scale: float = 100.0
    texts: ClassTexts | None = None
    balanced: bool = False
    select: Metric | None = None

    def criterion(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """The cost of held-out predictions by ``select``; lower is better."""
        value = self.select.compute(labels, probabilities)
        return -value if self.select.greater_is_better else value


@dataclass(frozen=True)
class _Part:
    """The rows of a fold that a method learns from and predicts, and what it may know of them; small, as it may travel to a process."""

    train: np.ndarray
    test: np.ndarray
    labels: np.ndarray  # of the training rows
    groups: np.ndarray | None
    classes: Sequence[str]

    @classmethod
    def of(cls, data: Dataset, split: Split) -> _Part:
        train, test = (data.rows_of(part) for part in (split.train, split.test))
        train = train[data.labels[train] >= 0]
        names, groups = np.unique([data.cases[row].group for row in train], return_inverse=True)
        return cls(train, test, data.labels[train], groups if len(names) < len(train) else None, data.classes)


def _fit(
    probe: Probe, part: _Part, known: Frozen, chosen: Mapping[str, float] | None
) -> tuple[np.ndarray, dict[str, float], tuple[str, ...]]:
    """The probabilities of the test rows, the hyper-parameters, and notes."""
    examples = Examples(
        known.features[part.train],
        part.labels,
        len(part.classes),
        groups=part.groups,
        text=None if known.texts is None else known.texts.features,
        logit_scale=known.logit_scale,
        classes=part.classes,
        balanced=known.balanced,
        criterion=None if known.select is None else known.criterion,
    )
    with threads_for(known.features.size):  # also so that a fit is the same alone and beside others
        fitted = probe.fit(examples) if chosen is None else probe.refit(examples, chosen)
        return fitted.predict(known.features[part.test]), fitted.chosen, fitted.notes


def predict_fold(
    probe: Probe, data: Dataset, split: Split, known: Frozen, chosen: Mapping[str, float] | None = None
) -> tuple[PredictionTable, dict[str, float], tuple[str, ...]]:
    """Learn from the train part of a fold, and predict its test part.

    Args:
        probe: Method.
        data: Dataset with the cases.
        split: Split of the fold.
        known: Features of all cases; only rows of the fold's parts are used.
        chosen: Hyper-parameters of an earlier fit that is repeated for its variance; ``None`` to learn as usual.

    Returns:
        The predictions; the hyper-parameters; and notes.
    """
    return next(predict_folds(probe, data, [split], known, {split.name: chosen}))


def predict_folds(
    probe: Probe,
    data: Dataset,
    splits: Sequence[Split],
    known: Frozen,
    chosen: Mapping[str, Mapping[str, float] | None] | None = None,
    *,
    jobs: int = 1,
) -> Iterator[tuple[PredictionTable, dict[str, float], tuple[str, ...]]]:
    """``predict_fold`` of each split, in order; ``chosen`` is by name.

    Args:
        probe: Method.
        data: Dataset with the cases.
        splits: Splits, which may have the same names.
        known: Features of all cases.
        chosen: Hyper-parameters by the name of the split.
        jobs: Number of processes that learn side by side, each with one thread for products; 1 for this process.
    """
    calls = ((probe, _Part.of(data, split), known, (chosen or {}).get(split.name)) for split in splits)
    for split, (probabilities, found, notes) in zip(splits, _side_by_side(calls, jobs), strict=True):
        rows = data.rows_of(split.test)
        columns = columns_of(data.classes, [data.cases[row] for row in rows], split.name)
        yield PredictionTable(*columns, labels=data.labels[rows], probabilities=probabilities), found, notes


def jobs_for(kinds: Iterable[type[Probe]], num_bytes: int, wanted: int | Literal["auto"], num_folds: int, log: logging.Logger) -> int:
    """The number of processes that learn side by side: as many as asked for, or as cores and memory allow.

    Args:
        kinds: Methods; the largest counts.
        num_bytes: Size of the features of all cases.
        wanted: The number asked for.
        num_folds: Number of folds.
        log: Receives a line if there are fewer than cores.

    Raises:
        BuildError: The memory is too small for ``wanted`` processes.
    """
    number, free = shares.num_jobs(wanted, num_folds), memory.available()
    need = _PROCESS + max(kind.copies for kind in kinds) * num_bytes
    fit = number if free is None else max(1, int(memory.SPARE * free / need))
    if number <= fit:
        return number
    line = f"a process that learns a baseline takes about {memory.in_words(need)} of memory, and {memory.in_words(free)} are free"
    if wanted != "auto":
        raise BuildError(f"--jobs {wanted}: {line}. Use --jobs {fit} or --jobs auto")
    log.info(f"{line}: {fit} at a time")
    return fit


def _side_by_side(calls: Iterable[tuple], jobs: int) -> Iterator:
    """``_fit`` of each call, in order. The processes of joblib remain for the next calls, and large features are mapped, not copied.

    Raises:
        ProcessError: A process died.
    """
    if jobs == 1:
        yield from starmap(_fit, calls)
        return
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    try:
        with parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1):
            yield from Parallel(return_as="generator")(delayed(_fit)(*call) for call in calls)
    except TerminatedWorkerError as error:
        raise ProcessError(
            "--jobs: a process that learned a baseline was killed, as the system does when memory runs out. Start again with fewer"
        ) from error
