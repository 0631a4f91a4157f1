"""Cross-validation: a driver over runs. Folds communicate through files only, so any fold can be trained alone, on any machine."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from logging.handlers import MemoryHandler
from pathlib import Path

from rich.console import Console

from clipzoo.config import Config
from clipzoo.config.checking import check
from clipzoo.config.plugins import import_plugins
from clipzoo.config.settings import EvaluationSettings
from clipzoo.engine import build, work_dir
from clipzoo.engine.checkpoint import BEST, LATEST, how_to_retrain
from clipzoo.engine.checks.decisions import check_decisions, joined_units
from clipzoo.engine.checks.images import check_images
from clipzoo.engine.epochs import inner, wise_ft
from clipzoo.engine.fingerprint import Fingerprint, compare_fingerprint, keep_fingerprint, recorded
from clipzoo.engine.finished import FinishedFold, read_fold
from clipzoo.engine.runner import Runner
from clipzoo.errors import ConfigError, first_line
from clipzoo.files import file_sha256
from clipzoo.records.folds import Folds, Split
from clipzoo.records.inner import INNER_RESULT_FILE, EpochChoice, InnerResult
from clipzoo.records.provenance import Provenance
from clipzoo.records.results import OUT_OF_FOLD_FILE, FoldResult, Summary
from clipzoo.records.tables import FindingsTable, PredictionTable, Table
from clipzoo.records.tuning import VAL_RESULT_FILE, Tuned, ValResult
from clipzoo.registries import HOOKS, SPLITTERS
from clipzoo.runtime import device, distributed
from clipzoo.runtime.environment import environment
from clipzoo.runtime.log import close_log, make_console, make_log
from clipzoo.scoring.decisions import Choice
from clipzoo.scoring.summary import make_summary
from clipzoo.signals import Interrupt
from clipzoo.structures import Preprocessing


class CrossValidation:
    """Trains every fold of a config that is not done yet, and writes the summary when all are.

    Args:
        config: A loaded config; it is checked here.
        folder: The work dir.
        console: Console for messages; ``None`` for standard error.
        tuned: The search that chose the config, which is recorded in the work dir and noted in the summary; ``None`` without one.
        is_dry: Whether nothing may be written, also not in the cache folder; see ``clipzoo.engine.dry_run``.

    Raises:
        ClipzooError: The config or the data is invalid; nothing has been written.
    """

    def __init__(
        self,
        config: Config,
        folder: str | Path,
        *,
        console: Console | None = None,
        tuned: Tuned | None = None,
        is_dry: bool = False,
    ):
        import_plugins(config.get("plugins", []))
        check(config)
        inner.check(config)
        self.config, self.folder, self.tuned = config, Path(folder), tuned
        self.console = console or make_console(quiet=not distributed.is_main())
        device.choose_device(config.get("runtime", {}).get("device", "auto"))
        self.dataset = build.dataset(config, console=self.console, is_dry=is_dry)
        build.metrics(EvaluationSettings.of(config), self.dataset)
        self.folds: Folds = build.folds(config, self.dataset)
        check_decisions(config, self.dataset, self.folds.splits)
        self.inner = SPLITTERS.build(config.splits).inner_splits(self.folds)
        self.interrupt = Interrupt()
        self.introduced = False  # the model is logged once, not once per fold
        self.began: Callable[[Runner], None] = lambda runner: None  # called before each training
        self.rehearsed: dict[str, Runner] = {}  # built before the work dir exists, trained in it later
        self.image_warnings: list[str] | None = None  # None until the images were checked
        self.fingerprint: Fingerprint | None = None  # of the data, after the comparison with the work dir's record

    def train(self, fold: int | None = None, *, accept_changed_data: bool = False) -> Summary | None:
        """Train all folds, or one of them.

        Args:
            fold: Number of the fold, counted from 1; ``None`` for all.
            accept_changed_data: Continue even if images or texts changed since an earlier start; the summary notes it permanently.

        Returns:
            The summary, if every fold is done now.

        Raises:
            loop.Interrupted: A signal ended the run; the same call resumes it.
        """
        splits = self.chosen(fold)
        with self.opened(splits[0], accept_changed_data=accept_changed_data) as log:
            for split in splits:
                self.train_fold(split, log)
            return distributed.from_main(lambda: self.summarise(log))

    def validate(self) -> Iterator[ValResult]:
        """Train the folds in order, and yield the val score of each; no test part is scored.

        A fold that is done is read, and an unfinished one is resumed. The checkpoints of a fold are deleted when it is done.

        Raises:
            loop.Interrupted: A signal ended the run; the same call resumes it.
            TrainingError: A loss is not finite, or the selecting metric was never defined.
        """
        with self.opened(self.folds.splits[0]) as log:
            for split in self.folds.splits:
                yield self.validate_fold(split, log)

    @contextmanager
    def opened(self, first: Split, *, accept_changed_data: bool = False) -> Iterator[logging.Logger]:
        """The work dir, new or continued, with everything checked that can be before training; yields its log.

        Args:
            first: The split to be trained first.
            accept_changed_data: Continue even if images or texts changed since an earlier start.
        """
        distributed.from_main(lambda: work_dir.check_ours(self.folder, self.config, self.folds))
        records = self.rehearse(first)
        if self.image_warnings is None:
            self.check_images()
        self.fingerprint = self.compare_data(accept_changed_data)
        distributed.from_main(self.check_done)
        distributed.from_main(lambda: work_dir.open_experiment(self.folder, self.config, self.folds))
        found, accept = self.fingerprint, accept_changed_data
        self.fingerprint = distributed.from_main(lambda: keep_fingerprint(self.folder, found, accept_changes=accept))
        if self.tuned is not None:
            distributed.from_main(lambda: self.tuned.write(self.folder))
        log = make_log(self.console, self.folder / work_dir.LOG_FILE if distributed.is_main() else None)
        try:
            if distributed.is_main():
                self.greet(log)
            for record in records:
                log.handle(record)
            yield log
        finally:
            close_log(log)

    def check_images(self, preprocessing: Preprocessing | None = None) -> None:
        """Decode every image file once, and keep what a tower with ``preprocessing`` needs; see ``clipzoo.engine.checks.images``."""
        log = make_log(self.console, None)
        try:
            self.image_warnings = check_images(self.dataset, self.config, log=log, console=self.console, preprocessing=preprocessing)
        finally:
            close_log(log)

    def compare_data(self, accept_changes: bool) -> Fingerprint:
        """Compare the data with the record in the work dir; see ``compare_fingerprint``."""
        log = make_log(self.console, None)  # without a file: a refused start leaves no trace
        try:
            return compare_fingerprint(self.folder, self.dataset, accept_changes=accept_changes, log=log, console=self.console)
        finally:
            close_log(log)

    def provenance(self, split: Split) -> Provenance:
        """The provenance of a fold's files; without the data while a new work dir is being made."""
        fingerprint = self.fingerprint or recorded(self.folder)
        data = () if fingerprint is None else (fingerprint.digest, fingerprint.earlier)
        return Provenance.of(self.config.plain(), split.name, self.folds.digest, *data)

    def check_done(self) -> None:
        """Check the finished folds before others are trained for days, only to be refused in the summary.

        Raises:
            CheckpointError: A file of a finished fold is damaged, edited or foreign.
        """
        for split in self.folds.splits:
            if work_dir.is_done(self.folder / split.name):
                self.read_fold(split, weights=True)

    def read_fold(self, split: Split, *, weights: bool = False) -> FinishedFold:
        """The results of a finished fold; see ``finished.read_fold``."""
        return read_fold(self.folder / split.name, split, self.provenance(split), self.dataset, weights=weights)

    def rehearse(self, split: Split) -> list[logging.LogRecord]:
        """Build the first run before a new work dir is made, so that a failure (such as missing weights) leaves nothing behind.

        Returns:
            The log records, for the log that does not exist yet.
        """
        if distributed.from_main(lambda: work_dir.is_experiment(self.folder)):
            return []
        log, handler = logging.Logger("rehearsal"), MemoryHandler(capacity=sys.maxsize, flushLevel=sys.maxsize)
        log.addHandler(handler)
        if self.inner:
            first = self.inner[split.name][0]
            self.rehearsed[first.name] = self.runner(first, log, outer=split)
        else:
            self.rehearsed[split.name] = self.runner(split, log)
        return handler.buffer

    def runner(self, split: Split, log: logging.Logger, *, outer: Split | None = None, choice: EpochChoice | None = None) -> Runner:
        """The runner of a fold: the rehearsed one on the first call, otherwise a new one.

        Args:
            split: The fold, or an inner split.
            log: Logger for messages.
            outer: The fold of an inner split; ``None`` if ``split`` is a fold.
            choice: The epoch that inner folds chose, at which the training ends.
        """
        runner = self.rehearsed.pop(split.name, None)
        if runner is None:
            config = self.config if outer is None else inner.inner_config(self.config)
            outputs = {"log": log, "console": self.console, "interrupt": self.interrupt}
            folder, provenance = self.folder_of(split, outer), self.provenance(split)
            outputs["before_images"] = self.check_images if self.image_warnings is None else None
            return Runner(config, self.dataset, split, folder, provenance=provenance, choice=choice, **outputs)
        runner.log = runner.run.log = log
        runner.run.provenance = self.provenance(split)
        return runner

    def folder_of(self, split: Split, outer: Split | None = None) -> Path:
        """``fold_1`` in the work dir or, for an inner split of it, ``fold_1/inner_1``."""
        return self.folder / split.name if outer is None else self.folder / outer.name / split.name.removeprefix(f"{outer.name}-")

    def chosen(self, fold: int | None) -> list[Split]:
        """All splits, or the one with number ``fold``.

        Raises:
            ConfigError: There is no such fold.
        """
        splits = list(self.folds.splits)
        if fold is None:
            return splits
        if not 1 <= fold <= len(splits):
            raise ConfigError(f"--fold: there is no fold {fold}; folds are numbered 1 … {len(splits)}")
        return [splits[fold - 1]]

    def train_fold(self, split: Split, log: logging.Logger) -> None:
        """Train and score one fold, unless it is done."""
        folder = self.folder / split.name
        if distributed.from_main(lambda: work_dir.is_done(folder)):
            if distributed.is_main():
                log.info(f"{split.name}: already done, skipped")
            return
        with ExitStack() as lock:
            distributed.from_main(lambda: lock.enter_context(work_dir.locked(folder)))
            self._train_fold(split, log)

    def _train_fold(self, split: Split, log: logging.Logger) -> None:
        choice = self.choose_epoch(split, log) if self.inner else None
        runner = self.runner(split, log, choice=choice)
        self._introduce(runner, log)
        with closing(runner), self.interrupt.listening():
            result = runner.train_and_test()
        if distributed.is_main():
            numbers = "  ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())
            log.info(f"{split.name}: test {numbers}  ({result.selection}, epoch {result.epoch})")

    def _introduce(self, runner: Runner, log: logging.Logger) -> None:
        self.began(runner)
        if distributed.is_main() and not self.introduced:
            self.introduced = True
            for line in runner.run.model.describe():
                log.info(line)

    def choose_epoch(self, split: Split, log: logging.Logger) -> EpochChoice:
        """Train the inner runs of a fold that are not done, and choose the epoch; see ``clipzoo.engine.epochs.inner``."""
        results = [self.train_inner(part, split, log) for part in self.inner[split.name]]
        choice = inner.choose(results, build.metrics(EvaluationSettings.of(self.config), self.dataset)[1].greater_is_better)
        if distributed.is_main():
            log.info(f"{split.name}: epoch {choice.epoch} has the {choice} (mean {choice.value:.4f})")
        return choice

    def train_inner(self, split: Split, outer: Split, log: logging.Logger) -> InnerResult:
        """Train one inner run of the fold ``outer``, unless it is done; its checkpoints are deleted then."""
        folder = self.folder_of(split, outer)

        def found() -> InnerResult | None:
            return InnerResult.read(folder) if (folder / INNER_RESULT_FILE).exists() else None

        result = distributed.from_main(found)
        if result is not None:
            self.provenance(split).check(result.provenance, folder / INNER_RESULT_FILE, how_to_retrain(folder))
        else:
            with ExitStack() as lock:
                distributed.from_main(lambda: lock.enter_context(work_dir.locked(folder)))
                runner = self.runner(split, log, outer=outer)
                self._introduce(runner, log)
                with closing(runner), self.interrupt.listening():
                    result = runner.train_and_record()
        distributed.from_main(lambda: delete_checkpoints(folder))
        return result

    def validate_fold(self, split: Split, log: logging.Logger) -> ValResult:
        """Train one fold and score its val part, unless that is done."""
        folder = self.folder / split.name
        if (folder / VAL_RESULT_FILE).exists():
            result = ValResult.read(folder)
            self.provenance(split).check(result.provenance, folder / VAL_RESULT_FILE, how_to_retrain(folder))
            return result
        with work_dir.locked(folder):
            runner = self.runner(split, log)
            with closing(runner), self.interrupt.listening():
                result = runner.train_and_validate()
            delete_checkpoints(folder)
        log.info(f"{split.name}: val {result.metric} {result.value:.4f}  (epoch {result.epoch})")
        return result

    def greet(self, log: logging.Logger) -> None:
        """Log overridden keys, versions, data and folds; the whole resolved config is in ``config.py``."""
        packages = environment()["packages"]
        log.info(f"{self.config.name} -> {self.folder}")
        for path, value in self.config.overridden():
            log.info(f"override  {path} = {value!r}")
        for path, value in self.config.dropped():
            log.info(f"note: {path} = {value!r} was set for another type and is ignored. Pass it with --cfg-options to keep it")
        log.info("versions  " + "  ".join(f"{name} {packages[name]}" for name in ("torch", "torchvision", "timm", "transformers")))
        for line in self.dataset.describe():
            log.info(line)
        log.info(f"data  digest {self.fingerprint.digest[:12]}")
        log.info(f"folds  {self.folds.spec.get('type')} x {len(self.folds.splits)}, digest {self.folds.digest[:12]}")
        for note in [*self.folds.notes, *inner.cost(self.config)]:
            log.info(f"note: {note}")
        for line in self.image_warnings or ():
            log.warning(f"warning: {line}")

    def summarise(self, log: logging.Logger | None = None) -> Summary | None:
        """Write ``oof_predictions.csv`` and ``cv_summary.json`` if every fold is done.

        Raises:
            CheckpointError: A file of a fold is damaged, edited or foreign.
        """
        folders = [self.folder / split.name for split in self.folds.splits]
        missing = [folder.name for folder in folders if not work_dir.is_done(folder)]
        if missing:
            if log is not None:
                log.info(f"not done yet: {', '.join(missing)}; the summary is written when all folds are done")
            return None
        started = time.perf_counter()
        found = [self.read_fold(split) for split in self.folds.splits]
        table = type(found[0].table).join([fold.table for fold in found])
        with work_dir.owned(self.folder):
            table.write(self.folder / OUT_OF_FOLD_FILE)
            val = {fold.result.fold: fold.val for fold in found if fold.val is not None}
            summary = self.summary_of([fold.result for fold in found], table, val)
            summary = replace(summary, predictions_digest=file_sha256(self.folder / OUT_OF_FOLD_FILE))
            summary.write(self.folder)
        if log is not None:
            log.info(f"summary in {time.perf_counter() - started:.1f} s -> {self.folder}")
        return summary

    def call_hooks(self, summary: Summary) -> None:
        """Call ``after_cross_validation`` of every hook, once all files of the work dir are written. For the main process only.

        An error of a hook is a warning, as all results are already on disk.
        """
        log = make_log(self.console, self.folder / work_dir.LOG_FILE)
        try:
            for spec in self.config.get("hooks", build.DEFAULT_HOOKS):
                try:
                    HOOKS.build(spec).after_cross_validation(summary, self.folder, log)
                except Exception as error:
                    name = spec if isinstance(spec, str) else spec["type"]
                    log.warning(
                        f"warning: {name}: its work after the cross-validation failed ({first_line(error)}). The results are complete"
                    )
        finally:
            close_log(log)

    def summary_of(self, results: list[FoldResult], table: Table, val: dict[str, PredictionTable | FindingsTable] | None = None) -> Summary:
        """The summary of all folds, with notes on changes of the data; ``val`` are their val predictions, by name."""
        fingerprint = self.fingerprint or recorded(self.folder)
        settings = EvaluationSettings.of(self.config)
        chosen, selector = build.metrics(settings, self.dataset)
        options = {
            "attributes": self.dataset.attributes,
            "select": selector.name,
            "val": val,
            "choice": Choice.of(settings.operating_point, settings.positive_class),
            "unit": build.unit_of(self.config),
        }
        summary = make_summary(self.config.name, chosen, self.folds, results, table, **options)
        tuned = self.tuned or Tuned.read(self.folder)
        further = [
            *joined_units(self.config, self.dataset),
            *inner.chosen_epochs(self.config, results),
            *wise_ft.chosen_shares(results),
            *(fingerprint.notes if fingerprint is not None else ()),
            *(tuned.notes if tuned is not None else ()),
        ]
        return replace(summary, notes=[*summary.notes, *further])


def delete_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of a run that is done: those of many trials or inner runs would fill the disk."""
    for name in (BEST, LATEST):
        (folder / name).unlink(missing_ok=True)
