"""Baselines on frozen features, on the same folds as an experiment, without training a tower.

The image tower of the config, with its initial weights, encodes every image once for all folds. On each fold every method learns from
the train part only (hyper-parameters are chosen within it, groups kept together) and is scored on the test part, like a trained model.

A baseline must not be a straw man: the metric that decides (``evaluation.select``) chooses its hyper-parameters, and all classes count
equally in its fit if the training corrects imbalance (``evaluation.balance_baselines``).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from rich.console import Console

from clipzoo.baselines.predictions import Frozen, jobs_for, predict_folds
from clipzoo.baselines.retraining import widening_of
from clipzoo.baselines.towers import ClassTexts, build_tower, class_texts, describe
from clipzoo.config import Config
from clipzoo.config.settings import DataSettings, EvaluationSettings, RuntimeSettings
from clipzoo.engine import build, inputs, work_dir
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.fingerprint import Fingerprint, compare_fingerprint, keep_fingerprint
from clipzoo.errors import CheckpointError, ConfigError, did_you_mean, shortened
from clipzoo.features.dataset import features_of_cases
from clipzoo.features.digest import feature_digest
from clipzoo.features.store import FeatureStore
from clipzoo.files import file_sha256
from clipzoo.probes import Probe
from clipzoo.probes.base import methods, normalised
from clipzoo.records.folds import PARTS, Folds, Split
from clipzoo.records.provenance import Provenance
from clipzoo.records.results import OUT_OF_FOLD_FILE, SUMMARY_FILE, FoldResult
from clipzoo.records.tables import PredictionTable
from clipzoo.registries import LOSSES, SAMPLERS
from clipzoo.runtime import device
from clipzoo.runtime.log import close_log, make_log
from clipzoo.runtime.seeds import derived_seed, seed_everything
from clipzoo.scoring.baselines import DESCRIPTIONS, FOLDER, Comparison, Record, folder_of
from clipzoo.scoring.summary import make_summary, score

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset
    from clipzoo.models.tower import Tower


@dataclass(frozen=True)
class Options:
    """Options of the baselines.

    Attributes:
        image_encoder: Short name of an image tower; ``None`` uses the config's.
        text_encoder: Short name of a text tower, likewise.
        templates: Captions with ``{class_name}``, for every class; empty uses the dataset's own class captions.
        only: Names of methods; empty for all.
        batch_size: Number of images encoded at once.
        num_workers: Number of processes that read images; ``None`` uses the config's.
        jobs: Number of processes that learn side by side; ``'auto'`` for as many as cores and memory allow.
    """

    image_encoder: str | None = None
    text_encoder: str | None = None
    templates: Sequence[str] = ()
    only: Sequence[str] = ()
    batch_size: int = 64
    num_workers: int | None = None
    jobs: int | Literal["auto"] = 1


class Baselines:
    """Computes the baselines of one work dir.

    A new work dir is created as in training, and later training uses the same folds.

    Args:
        config: Loaded config of a dataset with classes.
        folder: Work dir.
        options: Options of the baselines.
        console: Stream for messages; ``None`` for standard error.
        validation: Cross-validation of this config and folder, if the caller has read the data already.

    Raises:
        ConfigError: The data have no classes, or an option is invalid.
        CheckpointError: The folder belongs to another config or to other folds.
    """

    def __init__(
        self,
        config: Config,
        folder: str | Path,
        options: Options,
        *,
        console: Console | None = None,
        validation: CrossValidation | None = None,
    ):
        self.config, self.folder, self.options = config, Path(folder), options
        validation = validation or CrossValidation(config, self.folder, console=console)
        self.methods = chosen_methods(options.only)  # after the plugins of the config are imported
        self.data: Dataset = validation.dataset
        self.folds: Folds = validation.folds
        self.console: Console = validation.console
        self.data.require_classes("Baselines require")
        work_dir.check_ours(self.folder, config, self.folds)
        self.fingerprint: Fingerprint | None = None
        self.settings: RuntimeSettings = RuntimeSettings.of(config)
        evaluation = EvaluationSettings.of(config)
        self.metrics, self.select = build.metrics(evaluation, self.data)
        self.balanced = balances_classes(config) if evaluation.balance_baselines is None else evaluation.balance_baselines
        self.unit = build.unit_of(config)
        self.device = device.choose_device(self.settings.device)

    def compute(self) -> Comparison:
        """Compute the missing baselines and write them to the work dir.

        Raises:
            ConfigError: None of the requested methods can be computed.
            CheckpointError: The work dir has baselines from another tower or other texts.
            BuildError: A tower cannot be built.
            DataError: An image cannot be read; the message names it.
        """
        started = time.perf_counter()
        log = make_log(self.console, None)
        try:
            self.fingerprint = compare_fingerprint(self.folder, self.data, log=log, console=self.console)
            tower = self._tower()
            texts, skipped = self._texts(tower, log)
            record = self._record(tower, skipped)
            todo = self._not_done(record, texts, log)
            if todo:
                size = len(self.data) * tower.num_features * np.dtype(np.float32).itemsize
                jobs = jobs_for(todo.values(), size, self.options.jobs, len(self.folds.splits), log)  # before images are encoded
                known = self._frozen(tower, texts, log)
                work_dir.open_experiment(self.folder, self.config, self.folds)
                self.fingerprint = keep_fingerprint(self.folder, self.fingerprint)
                for name, kind in todo.items():
                    self._make(name, kind(), known, record, jobs, log)
            log.info(f"baselines in {time.perf_counter() - started:.1f} s -> {self.folder / FOLDER}")
        finally:
            close_log(log)
        return Comparison.read(self.folder)

    def frozen(self, log: logging.Logger) -> Frozen:
        """What the methods learn from: features of all cases, and texts if a method needs them. Nothing is written to the work dir.

        Raises:
            BuildError: A tower cannot be built.
            DataError: An image cannot be read; the message names it.
        """
        tower = self._tower()
        return self._frozen(tower, self._texts(tower, log)[0], log)

    def _tower(self) -> Tower:
        device.apply(self.settings, self.device)
        seed_everything(derived_seed(self.settings.seed, "baselines"))
        return build_tower(self.config, "image_encoder", self.options.image_encoder, self.device)

    def _frozen(self, tower: Tower, texts: ClassTexts | None, log: logging.Logger) -> Frozen:
        scale = {} if tower.logit_scale is None else {"logit_scale": math.exp(tower.logit_scale)}
        known = Frozen(self._features(tower, log), texts=texts, balanced=self.balanced, select=self.select, **scale)
        log.info(f"hyper-parameters are chosen by {self.select.name}{', classes count equally' * self.balanced}")
        return known

    def _texts(self, tower: Tower, log: logging.Logger) -> tuple[ClassTexts | None, list[str]]:
        """The class texts if a method uses them, and notes on methods that are skipped for lack of texts."""
        reading = [name for name, kind in self.methods.items() if kind.needs_text]
        if not reading:
            return None, []
        texts = class_texts(self.config, tower, self.data, log, text_encoder=self.options.text_encoder, templates=self.options.templates)
        if isinstance(texts, ClassTexts):
            return texts, []
        self.methods = {name: kind for name, kind in self.methods.items() if not kind.needs_text}
        if not self.methods:
            raise ConfigError(f"--only: {', '.join(reading)} cannot be computed, {texts}")
        return None, [f"{', '.join(reading)}: left out, {texts}"]

    def _record(self, tower: Tower, notes: list[str]) -> Record:
        """The existing record of the baselines in the work dir, or a new one.

        Raises:
            CheckpointError: The record is from another tower.
        """
        if tower.weights == "random":
            notes = ["the image tower has random weights: features of such a tower say little", *notes]
        digest = feature_digest(tower, tower.preprocessing, on_device=True)
        new = Record(self.folds.digest, self.select.name, self.select.greater_is_better, describe(tower), digest, notes=notes)
        new.data_digest = self.fingerprint.digest
        old, where = Record.read(self.folder), self.folder / FOLDER
        if old is None:
            return new
        if old.folds_digest != new.folds_digest:
            raise CheckpointError(f"{where}: computed on other folds. Delete that folder to compute them again")
        if old.data_digest != new.data_digest:
            raise CheckpointError(f"{where}: computed on other data. Delete that folder to compute them again")
        if old.image_digest != new.image_digest:
            differ = old.image_encoder != new.image_encoder
            what = f"{old.image_encoder}; now {new.image_encoder}" if differ else "its weights or the libraries differ"
            raise CheckpointError(f"{where}: computed with another image tower ({what}). Choose another --work-dir, or delete that folder")
        return replace(new, methods=old.methods)

    def _not_done(self, record: Record, texts: ClassTexts | None, log: logging.Logger) -> dict[str, type[Probe]]:
        """The methods without a result.

        Raises:
            CheckpointError: A method has a result from other texts.
        """
        todo = {}
        for name, kind in self.methods.items():
            known, where = record.methods.get(name), folder_of(self.folder, name)
            if known is None or not (where / SUMMARY_FILE).exists():
                todo[name] = kind
                continue
            if (known.get("chosen_by"), known.get("balanced")) != (self.select.name, self.balanced):
                log.info(f"{name}: was fitted for another metric or other weights of the classes, computed again")
                todo[name] = kind
                continue
            if kind.needs_text and texts is not None and known.get("text_digest") != texts.digest:
                differ = known.get("text_encoder") != texts.description
                before = f"another text tower ({known.get('text_encoder')}; now {texts.description})"
                what = before if differ else "other texts, weights or libraries"
                raise CheckpointError(f"{where}: computed with {what}. Choose another --work-dir, or delete that folder")
            log.info(f"{name}: already done, skipped")
        return todo

    def _features(self, tower: Tower, log: logging.Logger) -> np.ndarray:
        """``[N, F]`` float32 features of unit length of every case that a fold learns from or tests; other rows are 0."""
        rows = self.data.rows_of(tuple(sorted({i for split in self.folds.splits for i in (*split.train, *split.test)})))
        started = time.perf_counter()
        workers = DataSettings.of(self.config).num_workers if self.options.num_workers is None else self.options.num_workers
        store = FeatureStore.of(self.settings.feature_cache, lambda message: log.info(f"note: {message}"))
        table, new = features_of_cases(
            tower,
            self.data,
            rows,
            store,
            what="features of the image tower",
            console=self.console,
            log=log,
            device=self.device,
            batch_size=self.options.batch_size,
            num_workers=workers,
            cache=inputs.image_cache(self.config, log),
        )
        seconds = time.perf_counter() - started
        log.info(f"image tower {describe(tower)}: {new} images encoded for {len(rows)} cases, the others known, {seconds:.1f} s")
        if store.why:
            log.info(f"note: features are not kept: {store.why}")
        return normalised(table)

    def _make(self, name: str, probe: Probe, known: Frozen, record: Record, jobs: int, log: logging.Logger) -> None:
        """Train and score one method on all folds, and write its results, the record last."""
        results, tables, chosen = [], [], {}
        folds_of: dict[str, list[str]] = {}  # folds of every note
        fits, started = predict_folds(probe, self.data, self.folds.splits, known, jobs=jobs), time.perf_counter()
        for split, (table, chosen[split.name], remarks) in zip(self.folds.splits, fits, strict=True):
            for note in remarks:
                folds_of.setdefault(note, []).append(split.name)
            tables.append(table)
            results.append(self._result(name, split, table, time.perf_counter() - started))
            started = time.perf_counter()
        joined, folder = PredictionTable.join(tables), folder_of(self.folder, name)
        outputs = {"unit": self.unit, "console": self.console, "log": log, "jobs": jobs}
        widening = widening_of(probe, self.data, self.folds, known, joined, chosen, **outputs)
        joined.write(folder / OUT_OF_FOLD_FILE)
        summary = make_summary(self.config.name, self.metrics, self.folds, results, joined, widening=widening, unit=self.unit)
        rows = [{**row, "chosen": chosen[row["fold"]]} for row in summary.folds]
        notes = [f"{shortened(folds)}: {note}" for note, folds in folds_of.items()]
        digest = file_sha256(folder / OUT_OF_FOLD_FILE)
        replace(summary, name=f"{self.config.name}, {name}", folds=rows, notes=notes, predictions_digest=digest).write(folder)
        about: dict = {"seconds": summary.seconds, "chosen_by": self.select.name, "balanced": self.balanced}
        if probe.needs_text and known.texts is not None:
            about |= {"text_encoder": known.texts.description, "text_digest": known.texts.digest, "templates": list(self.options.templates)}
        record.methods[name] = about
        record.write(self.folder)
        values = "  ".join(f"{metric} {value:.4f}" for metric, value in summary.pooled.items())
        log.info(f"{name}: {values}  ({summary.seconds:.1f} s)")

    def _result(self, name: str, split: Split, table: PredictionTable, seconds: float) -> FoldResult:
        return FoldResult(
            fold=split.name,
            selection=f"{name}, learnt from the train part; no epoch",
            checkpoint="",
            epoch=0,
            epochs_trained=0,
            metrics=score(self.metrics, self.unit.of(table)),
            counts={part: len(getattr(split, part)) for part in PARTS},
            provenance=Provenance.of(self.config.plain(), split.name, self.folds.digest, self.fingerprint.digest).plain(),
            seconds=round(seconds, 2),
            device=str(self.device),
            precision="fp32",
            processes=1,
        )


def balances_classes(config: Config) -> bool:
    """Whether the training of ``config`` corrects class imbalance, by its sampler or by the class weights of its loss."""
    parts = ((SAMPLERS, DataSettings.of(config).sampler), (LOSSES, config.model.get("loss")))
    return any(getattr(table.build(spec), "balances", False) for table, spec in parts if spec is not None)


def chosen_methods(only: Sequence[str]) -> dict[str, type[Probe]]:
    """Probes by name, in table order.

    Raises:
        ConfigError: There is no such method.
    """
    found = methods()
    names = [*(name for name in DESCRIPTIONS if name in found), *sorted(set(found) - set(DESCRIPTIONS))]
    unknown = [name for name in only if name not in found]
    if unknown:
        raise ConfigError(f"--only: unknown method '{unknown[0]}'.{did_you_mean(unknown[0], names)} Known: {', '.join(names)}")
    return {name: found[name] for name in names if not only or name in only}
