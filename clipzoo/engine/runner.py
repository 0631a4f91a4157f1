"""One training run on one split: build, go on where a stopped run left off, train, score the test part once."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from rich.console import Console

from clipzoo.config import Config
from clipzoo.datasets.base import Dataset
from clipzoo.engine import build, checkpoint, distributed, loop, runtime
from clipzoo.engine.evaluation import Evaluation, evaluate
from clipzoo.engine.runtime import Interrupt, make_console, make_log
from clipzoo.engine.state import Run
from clipzoo.errors import CheckpointError
from clipzoo.folds import Split
from clipzoo.results import PREDICTIONS_FILE, FoldResult


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
        features: See ``build.run``.
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
        features: bool = True,
    ):
        self.console = console or make_console()
        self.log = log or make_log(self.console, None)
        folder = Path(folder)
        outputs = {"log": self.log, "console": self.console}
        begun = checkpoint.begun(folder)
        self.run: Run = build.run(config, dataset, split, folder, **outputs, seed_name=split.name, begun=begun, features=features)
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

    def test(self) -> tuple[Evaluation, str]:
        """Score the test part with the chosen checkpoint.

        Returns:
            The evaluation, and the file name of the checkpoint.
        """
        name = self.chosen()
        path = self.run.folder / name
        content = checkpoint.read(path)
        checkpoint.load_weights(self.run.scored, content["model"], path)
        self.run.autocast = runtime.DTYPES[content["precision"]]  # what 'auto' means here may be something else
        return evaluate(self.run, "test"), name

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
        evaluation, name = self.test()
        run = self.run
        best = name == checkpoint.BEST
        result = FoldResult(
            fold=run.split.name,
            selection=self.selection(),
            checkpoint=name,
            epoch=run.state.best_epoch if best else run.state.epoch,
            epochs_trained=run.state.epoch,
            metrics=evaluation.metrics,
            counts={part: len(getattr(run.split, part)) for part in ("train", "val", "test")},
            folds_digest=folds_digest,
            seconds=round(time.perf_counter() - started, 2),
            device=str(run.device),
            precision=run.precision,
            processes=run.world_size,
        )
        if run.is_main:
            evaluation.table.write(run.folder / PREDICTIONS_FILE)
            result.write(run.folder)
        run.call("after_test", evaluation, result)
        distributed.barrier()
        return result

    def selection(self) -> str:
        """In words, how the scored checkpoint was chosen."""
        if self.run.watched is None:
            return "last epoch"
        optimistic = ", optimistic: the reported cases chose the epoch" if self.run.watched == "test" else ""
        return f"best {self.run.selector.name} on {self.run.watched}{optimistic}"
