"""One training run on one split: build, go on where a stopped run left off, train, score the test part once."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from clipzoo.config import Config
from clipzoo.datasets.base import Dataset
from clipzoo.engine import build, checkpoint, loop
from clipzoo.engine.evaluation import Evaluation, evaluate
from clipzoo.engine.state import Run
from clipzoo.engine.waiting import Waiting
from clipzoo.errors import CheckpointError
from clipzoo.files import file_sha256
from clipzoo.records.folds import Split
from clipzoo.records.provenance import Provenance, digest_of
from clipzoo.records.results import PREDICTIONS_FILE, FoldResult
from clipzoo.runtime import device, distributed
from clipzoo.runtime.log import make_console, make_log
from clipzoo.signals import Interrupt


@dataclass(frozen=True)
class Scored:
    """The checkpoint that was scored, as it says itself: a run that was started again may know less of it.

    Attributes:
        name: Of its file.
        digest: Of its file.
        epoch: Counted from 1.
        step: Optimizer steps made.
    """

    name: str
    digest: str
    epoch: int
    step: int


class Runner:
    """Trains one config on one split and leaves the contract's files in one folder. It does not know what a fold is.

    Args:
        config: A checked config.
        dataset: Built from it.
        split: The three parts.
        folder: Where checkpoints, history and results go.
        log: Where to write messages; ``None`` makes a log for the console alone.
        console: Where the progress bar goes; belongs to ``log``.
        provenance: What its files are made from; ``None`` for a split that is of no cross-validation.
        interrupt: Listens for signals; ``None`` never ends early.
        is_dry: For a step in memory: an earlier start in ``folder`` and the features of a frozen tower are left out.
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
        provenance: Provenance | None = None,
        interrupt: Interrupt | None = None,
        is_dry: bool = False,
    ):
        self.console = console or make_console()
        self.log = log or make_log(self.console, None)
        folder = Path(folder)
        outputs = {"log": self.log, "console": self.console}
        provenance = provenance or Provenance.of(config.plain(), split.name, digest_of(asdict(split)))
        begun = None if is_dry else checkpoint.begun(folder, provenance)
        self.run: Run = build.run(config, dataset, split, folder, **outputs, provenance=provenance, begun=begun, features=not is_dry)
        self.run.interrupt = interrupt or Interrupt()
        self.loaders = (self.run.train_loader, *self.run.eval_loaders.values())
        watch = Waiting(self.run)
        for loader in self.loaders:
            loader.watch = watch

    def close(self) -> None:
        """End the processes that read images; they start again where they are needed."""
        for loader in self.loaders:
            loader.close()

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

    def test(self) -> tuple[Evaluation, Scored]:
        """Score the test part with the chosen checkpoint.

        Returns:
            The evaluation, and what was scored.

        Raises:
            CheckpointError: The checkpoint is damaged, or is not of this run.
        """
        run, name = self.run, self.chosen()
        path, kind = run.folder / name, "best" if name == checkpoint.BEST else "latest"
        content = checkpoint.read(path, kind=kind, advice=checkpoint.retrain(run.folder))
        run.provenance.check(content["provenance"], path, checkpoint.retrain(run.folder))
        checkpoint.load_weights(run.scored, content["model"], path)
        run.autocast = device.DTYPES[content["precision"]]  # what 'auto' means here may be something else
        state = content["state"]
        epoch, step = (state["best_epoch"], state["best_step"]) if kind == "best" else (state["epoch"], state["step"])
        return evaluate(run, "test"), Scored(name, content["digest"], epoch, step)

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

    def train_and_test(self) -> FoldResult:
        """Train, score, and write ``predictions.csv``, what hooks make of it, and, last, ``result.json``: a fold that has one is done."""
        started = time.perf_counter()
        self.fit()
        evaluation, scored = self.test()
        run = self.run
        path = run.folder / PREDICTIONS_FILE
        digest = distributed.from_main(lambda: (evaluation.table.write(path), file_sha256(path))[1])
        result = FoldResult(
            fold=run.split.name,
            selection=self.selection(),
            checkpoint=scored.name,
            epoch=scored.epoch,
            epochs_trained=run.state.epoch,
            metrics=evaluation.metrics,
            counts={part: len(getattr(run.split, part)) for part in ("train", "val", "test")},
            provenance=run.provenance.plain(),
            seconds=round(time.perf_counter() - started, 2),
            device=str(run.device),
            precision=run.precision,
            processes=run.world_size,
            step=scored.step,
            checkpoint_digest=scored.digest,
            predictions_digest=digest,
            rounding=run.rounding,
            notes=run.state.notes,
        )
        run.call("after_test", evaluation, result)
        distributed.barrier()
        distributed.from_main(lambda: result.write(run.folder))
        return result

    def selection(self) -> str:
        """In words, how the scored checkpoint was chosen."""
        if self.run.watched is None:
            return "last epoch"
        optimistic = ", optimistic: the reported cases chose the epoch" if self.run.watched == "test" else ""
        return f"best {self.run.selector.name} on {self.run.watched}{optimistic}"
