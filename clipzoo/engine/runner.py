"""One training run on one split: build, go on where a stopped run left off, train, score the test part once."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from clipzoo.config import Config
from clipzoo.datasets.base import Dataset
from clipzoo.engine import build, checkpoint, distributed, loop, runtime
from clipzoo.engine.evaluation import predict, score
from clipzoo.engine.runtime import Interrupt, make_console, make_log
from clipzoo.engine.state import Run
from clipzoo.errors import CheckpointError
from clipzoo.folds import Split
from clipzoo.results import PREDICTIONS_FILE, FoldResult, PredictionTable
from clipzoo.structures import Predictions


class Runner:
    """Trains one config on one split and leaves the contract's files in one folder. It does not know what a fold is.

    Args:
        config: A checked config.
        dataset: Built from it.
        split: The three parts.
        folder: Where checkpoints, history and results go.
        log: Where to write messages; ``None`` makes a log for the console alone.
        console: Where the progress bar goes; belongs to ``log``.
        interrupt: Listens for signals; ``None`` never ends early.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        split: Split,
        folder: str | Path,
        *,
        log: logging.Logger | None = None,
        console: Console | None = None,
        interrupt: Interrupt | None = None,
    ):
        self.console = console or make_console()
        self.log = log or make_log(self.console, None)
        self.run: Run = build.run(config, dataset, split, Path(folder), log=self.log, console=self.console, seed_name=split.name)
        self.run.interrupt = interrupt or Interrupt()

    def fit(self) -> None:
        """Train, or go on from ``checkpoint_latest.pth``. See ``loop.fit`` for what it raises."""
        if distributed.is_main():
            self.run.folder.mkdir(parents=True, exist_ok=True)
        distributed.barrier()
        resumed = checkpoint.resume(self.run)
        if self.run.is_main:
            for line in build.describe(self.run):
                self.log.info(line)
            if resumed:
                self.log.info(f"{self.run.split.name}: goes on after epoch {self.run.state.epoch}, batch {self.run.state.batch}")
        loop.fit(self.run)

    def test(self) -> tuple[PredictionTable, dict[str, float], str]:
        """Score the test part with the chosen checkpoint.

        Returns:
            The predictions, the metrics over them, and the file name of the checkpoint.
        """
        name = self.chosen()
        path = self.run.folder / name
        content = checkpoint.read(path)
        checkpoint.load_weights(self.run.model, content["model"], path)
        self.run.autocast = runtime.DTYPES[content["precision"]]  # what 'auto' means here may be something else
        predictions = predict(self.run, "test")
        return self.table(predictions), score(self.run.metrics, predictions), name

    def chosen(self) -> str:
        """The checkpoint to score: the best where a part chose one, otherwise the latest.

        Raises:
            CheckpointError: A part was to choose, but the selecting metric was never defined on it.
        """
        if self.run.watched is None:
            return checkpoint.LATEST
        if not (self.run.folder / checkpoint.BEST).exists():
            raise CheckpointError(
                f"{self.run.folder}: {self.run.selector.name} was never defined on the {self.run.watched} part, so no epoch could be "
                "chosen: weights are not finite (lower optimizer.lr), or the part is too small (raise splits.val_fraction or set it to 0)"
            )
        return checkpoint.BEST

    def train_and_test(self, folds_digest: str) -> FoldResult:
        """Train, score, and write ``predictions.csv`` and, last, ``result.json``."""
        started = time.perf_counter()
        self.fit()
        table, metrics, name = self.test()
        run = self.run
        best = name == checkpoint.BEST
        result = FoldResult(
            fold=run.split.name,
            selection=self.selection(),
            checkpoint=name,
            epoch=run.state.best_epoch if best else run.state.epoch,
            epochs_trained=run.state.epoch,
            metrics=metrics,
            counts={part: len(getattr(run.split, part)) for part in ("train", "val", "test")},
            folds_digest=folds_digest,
            seconds=round(time.perf_counter() - started, 2),
            device=str(run.device),
            precision=run.precision,
            processes=run.world_size,
        )
        if run.is_main:
            table.write(run.folder / PREDICTIONS_FILE)
            result.write(run.folder)
        distributed.barrier()
        return result

    def selection(self) -> str:
        """In words, how the scored checkpoint was chosen."""
        if self.run.watched is None:
            return "last epoch"
        optimistic = ", optimistic: the reported cases chose the epoch" if self.run.watched == "test" else ""
        return f"best {self.run.selector.name} on {self.run.watched}{optimistic}"

    def table(self, predictions: Predictions) -> PredictionTable:
        """Predictions of this run with ids, groups and names."""
        cases = [self.run.dataset.cases[row] for row in predictions.cases]
        return PredictionTable(
            classes=self.run.dataset.classes,
            case_ids=tuple(case.id for case in cases),
            groups=tuple(case.group for case in cases),
            folds=(self.run.split.name,) * len(cases),
            labels=predictions.labels.astype(np.int64),
            probabilities=predictions.probabilities,
        )
