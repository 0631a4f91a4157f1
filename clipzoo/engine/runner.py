"""One training run on one split: build, resume an interrupted run, train, score the test part once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from clipzoo.config import Config
from clipzoo.datasets.base import Dataset
from clipzoo.engine import build, checkpoint, loop
from clipzoo.engine.epochs import wise_ft
from clipzoo.engine.evaluation import Evaluation, evaluate
from clipzoo.engine.state import Run
from clipzoo.engine.waiting import Waiting
from clipzoo.errors import CheckpointError, TrainingError
from clipzoo.files import file_sha256
from clipzoo.records.findings_table import FindingsTable
from clipzoo.records.folds import Split
from clipzoo.records.inner import EpochChoice, InnerResult
from clipzoo.records.provenance import Provenance, digest_of
from clipzoo.records.results import PREDICTIONS_FILE, VAL_PREDICTIONS_FILE, FoldResult
from clipzoo.records.tuning import ValResult
from clipzoo.runtime import device, distributed
from clipzoo.runtime.log import make_console, make_log
from clipzoo.scoring.decisions import Choice, log_loss_change
from clipzoo.scoring.findings import fit_thresholds
from clipzoo.signals import Interrupt
from clipzoo.statistics.decisions.temperature import apply_temperature, fit_temperature
from clipzoo.structures import Preprocessing


@dataclass(frozen=True)
class Scored:
    """The scored checkpoint; epoch and step are read from the file, as the state of a resumed run may differ.

    Attributes:
        name: Name of the file.
        digest: Digest of the file.
        epoch: Epoch, counted from 1.
        step: Number of optimizer steps made.
    """

    name: str
    digest: str
    epoch: int
    step: int


class Runner:
    """Trains one config on one split and writes all its files to one folder. It does not know what a fold is.

    Args:
        config: A checked config.
        dataset: Dataset built from it.
        split: The three parts.
        folder: Folder for checkpoints, history and results.
        log: Logger for messages; ``None`` logs to the console only.
        console: Console for the progress bar; the one used by ``log``.
        provenance: Provenance of its files; ``None`` for a split outside a cross-validation.
        interrupt: Listener for signals; ``None`` never ends early.
        choice: Number of epochs to train, as inner folds chose it; ``None`` for all.
        is_dry: Train a step in memory: ignore an earlier start in ``folder``, and do not cache the features of a frozen tower.
        before_images: See ``build.run``.
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
        choice: EpochChoice | None = None,
        is_dry: bool = False,
        before_images: Callable[[Preprocessing], None] | None = None,
    ):
        self.console = console or make_console()
        self.log = log or make_log(self.console, None)
        folder = Path(folder)
        outputs = {"log": self.log, "console": self.console, "before_images": before_images}
        provenance = provenance or Provenance.of(config.plain(), split.name, digest_of(asdict(split)))
        earlier = None if is_dry else checkpoint.earlier_start(folder, provenance)
        self.run: Run = build.run(config, dataset, split, folder, **outputs, provenance=provenance, earlier=earlier, features=not is_dry)
        self.run.interrupt, self.run.choice = interrupt or Interrupt(), choice
        self.loaders = (self.run.train_loader, *self.run.eval_loaders.values())
        watch = Waiting(self.run)
        for loader in self.loaders:
            loader.watch = watch

    def close(self) -> None:
        """Stop the processes that read images; they are restarted when needed."""
        for loader in self.loaders:
            loader.close()

    def fit(self) -> None:
        """Train, or resume from ``checkpoint_latest.pth``. Raises the same errors as ``loop.fit``."""
        if distributed.is_main():
            self.run.folder.mkdir(parents=True, exist_ok=True)
        distributed.barrier()
        resumed = checkpoint.resume(self.run)
        if self.run.is_main:
            for line in build.describe(self.run):
                self.log.info(line)
            if self.run.choice is not None:
                self.log.info(f"{self.run.split.name}: will be trained for {self.run.choice.epoch} of {self.run.train.epochs} epochs")
            if resumed:
                self.log.info(f"{self.run.split.name}: resumed after epoch {self.run.state.epoch}, batch {self.run.state.batch}")
        if self.run.evaluation.wise_ft and not resumed:
            checkpoint.save_start(self.run)
        loop.fit(self.run)

    def test(self) -> tuple[Evaluation, Scored]:
        """Score the test part with the selected checkpoint.

        Returns:
            The evaluation, and the scored checkpoint.

        Raises:
            CheckpointError: The checkpoint is damaged, or does not belong to this run.
        """
        return self._score_test(self.load_chosen())

    def _score_test(self, content: dict) -> tuple[Evaluation, Scored]:
        """Score the test part with the loaded checkpoint ``content``."""
        state = content["state"]
        best = content["kind"] == "best"
        epoch, step = (state["best_epoch"], state["best_step"]) if best else (state["epoch"], state["step"])
        return evaluate(self.run, "test"), Scored(self.chosen(), content["digest"], epoch, step)

    def load_chosen(self) -> dict:
        """Load weights, calibration and precision of the selected checkpoint; return its content."""
        run, path = self.run, self.run.folder / self.chosen()
        kind = "best" if path.name == checkpoint.BEST else "latest"
        content = checkpoint.read(path, kind=kind, advice=checkpoint.how_to_retrain(run.folder))
        run.provenance.check(content["provenance"], path, checkpoint.how_to_retrain(run.folder))
        checkpoint.load_weights(run.scored, content["model"], path)
        run.scored.calibration = checkpoint.calibration_of(content)
        run.autocast = device.DTYPES[content["precision"]]  # 'auto' may mean another precision on this machine
        return content

    def score_val(self, content: dict) -> tuple[str, dict, dict]:
        """Write ``val_predictions.csv`` and, with ``evaluation.calibrate``, the temperature fitted on it to the selected checkpoint.

        The table has the probabilities of the same model as ``predictions.csv``, so calibrated ones if the test part's are.

        Args:
            content: Result of ``load_chosen``.

        Returns:
            The digest of the table, empty if the val part has no labelled cases; the calibration, empty without one; and the threshold of
            each finding, empty for data of other kinds.
        """
        run = self.run
        if not run.dataset.classes or not run.dataset.labelled[run.dataset.rows_of(run.split.val)].any():
            return "", {}, {}
        run.scored.calibration = 1.0  # a restart may find a calibrated file
        table = evaluate(run, "val").table

        def write() -> tuple[str, dict, dict]:
            nonlocal table
            calibration, thresholds = {}, {}
            if isinstance(table, FindingsTable):
                thresholds = fit_thresholds(table, Choice.of(run.evaluation.operating_point))
            if run.evaluation.calibrate:
                fitted = fit_temperature(table.labels, table.probabilities)
                calibration = {"temperature": float(fitted.value), **{k: v for k, v in asdict(fitted).items() if k != "value"}}
                checkpoint.save_calibration(run.folder / self.chosen(), content, calibration)
                table = replace(table, probabilities=apply_temperature(table.probabilities, fitted.value).astype(np.float32))
            table.write(run.folder / VAL_PREDICTIONS_FILE)
            return file_sha256(run.folder / VAL_PREDICTIONS_FILE), calibration, thresholds

        return distributed.from_main(write)

    def chosen(self) -> str:
        """The name of the checkpoint to score: the best if a part selects the epoch, otherwise the latest.

        Raises:
            CheckpointError: A part selects the epoch, but the selecting metric was never defined on it.
        """
        if self.run.watched is None:
            return checkpoint.LATEST
        if not (self.run.folder / checkpoint.BEST).exists():
            raise CheckpointError(
                f"{self.run.folder}: {self.run.selector.name} was never defined on the {self.run.watched} part, so no epoch could be "
                "selected: weights are not finite (lower optimizer.lr), or the part is too small (raise splits.val_fraction or set it to 0)"
            )
        return checkpoint.BEST

    def train_and_test(self) -> FoldResult:
        """Train, score, and write ``predictions.csv``, the files of hooks and, last, ``result.json``, which marks the fold as done."""
        started = time.perf_counter()
        self.fit()
        interpolation = wise_ft.interpolate(self.run, self.run.folder / self.chosen()) if self.run.evaluation.wise_ft else {}
        content = self.load_chosen()
        val_digest, calibration, thresholds = self.score_val(content)
        if calibration:
            content = self.load_chosen()  # it was written again, with the temperature
        evaluation, scored = self._score_test(content)
        run = self.run
        if calibration:
            calibration |= log_loss_change(evaluation.table, calibration["temperature"])
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
            val_predictions_digest=val_digest,
            calibration=calibration,
            interpolation=interpolation,
            thresholds=thresholds,
        )
        run.call("after_test", evaluation, result)
        distributed.barrier()
        if interpolation:
            distributed.from_main(lambda: (run.folder / checkpoint.START).unlink(missing_ok=True))
        distributed.from_main(lambda: result.write(run.folder))
        return result

    def train_and_validate(self) -> ValResult:
        """Train, and write the val score of the chosen epoch to ``val_result.json``. The test part is neither scored nor written.

        Raises:
            TrainingError: The selecting metric was never defined on the val part.
        """
        assert self.run.watched == "val", "the caller checks that every fold has a val part"
        started = time.perf_counter()
        self.fit()
        run = self.run
        if not (run.folder / checkpoint.BEST).exists():
            raise TrainingError(f"{run.split.name}: {run.selector.name} was never defined on the val part")
        state = checkpoint.read(run.folder / checkpoint.BEST, kind="best", advice=checkpoint.how_to_retrain(run.folder))["state"]
        seconds = round(time.perf_counter() - started, 2)
        result = ValResult(run.split.name, run.selector.name, state["best_score"], state["best_epoch"], run.provenance.plain(), seconds)
        distributed.from_main(lambda: result.write(run.folder))
        return result

    def train_and_record(self) -> InnerResult:
        """Train on an inner split, and write what its val part says of every epoch to ``inner_result.json``. There is no test part."""
        assert self.run.watched == "val" and not self.run.split.test, "an inner split"
        started = time.perf_counter()
        self.fit()
        run = self.run
        epochs, scores = [int(epoch) for epoch, _ in run.state.curve], [value for _, value in run.state.curve]
        seconds = round(time.perf_counter() - started, 2)
        result = InnerResult(run.split.name, run.selector.name, epochs, scores, run.provenance.plain(), seconds)
        distributed.from_main(lambda: result.write(run.folder))
        return result

    def selection(self) -> str:
        """A phrase that says how the scored checkpoint was selected."""
        if self.run.choice is not None:
            return str(self.run.choice)
        if self.run.watched is None:
            return "last epoch"
        optimistic = ", optimistic: the reported cases chose the epoch" if self.run.watched == "test" else ""
        mean = ", weights averaged with the starting ones (WiSE-FT)" if self.run.evaluation.wise_ft else ""
        return f"best {self.run.selector.name} on {self.run.watched}{mean}{optimistic}"
