"""Learning curve of a config: scores on the same test parts after learning from nested shares of the training groups of every fold.

A probe on frozen features of the config's image tower takes seconds. The trained model itself (method ``train``) is a cross-validation
per share, each in a work dir of its own; the whole training parts are the config's own run.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from clipzoo.baselines.predictions import predict_fold
from clipzoo.baselines.run import Baselines, Options
from clipzoo.baselines.shares import Plan, reduced
from clipzoo.config import Config
from clipzoo.config.settings import EvaluationSettings
from clipzoo.engine import build, work_dir
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.epochs.inner import hooks_without, number_of
from clipzoo.engine.fingerprint import Fingerprint, compare_fingerprint, keep_fingerprint
from clipzoo.errors import ConfigError, did_you_mean
from clipzoo.files import read_json
from clipzoo.probes.base import methods
from clipzoo.records.folds import Folds
from clipzoo.records.results import OUT_OF_FOLD_FILE
from clipzoo.records.tables import PredictionTable
from clipzoo.runtime.log import close_log, make_log
from clipzoo.scoring.learning_curve import FOLDER, LearningCurve, ShareResult, make_curve
from clipzoo.statistics.scores import OVERALL

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset
    from clipzoo.probes import Probe

TRAIN = "train"


@dataclass(frozen=True)
class Draw:
    """A draw of a share of the training groups.

    Attributes:
        share: In (0, 1].
        number: Number of the draw, 0 or more.
        folds: Folds with the smaller train parts.
    """

    share: float
    number: int
    folds: Folds

    @property
    def name(self) -> str:
        """Name of its work dir."""
        return f"share_{self.share:g}_draw_{self.number + 1}"


class Learning:
    """Computes the learning curve of a work dir, which is created as in training.

    Args:
        config: Loaded config of a dataset with classes.
        folder: Work dir.
        method: Name of a probe that learns from images, or ``train``.
        plan: Shares and draws.
        options: Options of the baselines, for probes.
        metric: Metric that decides; ``None``: ``evaluation.select``.
        console: Stream for messages; ``None`` for standard error.

    Raises:
        ConfigError: The data have no classes, or the method or the metric does not exist.
        DataError: A share is too small for a fold.
        CheckpointError: The folder belongs to another config or to other folds.
    """

    def __init__(
        self,
        config: Config,
        folder: str | Path,
        method: str,
        plan: Plan,
        *,
        options: Options | None = None,
        metric: str | None = None,
        console: Console | None = None,
    ):
        self.config, self.folder, self.method, self.plan = config, Path(folder), method, plan
        validation = CrossValidation(config, self.folder, console=console)
        self.console: Console = validation.console
        self.data: Dataset = validation.dataset
        self.folds: Folds = validation.folds
        self.data.require_classes("A learning curve requires")
        self.probe = _probe_of(method)  # after the plugins of the config are imported
        if self.probe is None and number_of(config):
            raise ConfigError(
                "splits.inner_folds: must be 0 for a learning curve of the trained model: smaller train parts have no inner folds"
            )
        self.metric = _metric_of(metric, build.metrics(EvaluationSettings.of(config), self.data)[1].name)
        work_dir.check_ours(self.folder, config, self.folds)
        self.draws = [
            Draw(share, number, reduced(self.folds, share, number, plan.seed)) for share in plan.shares for number in plan.draws(share)
        ]
        options = replace(options or Options(), only=[method])
        self.baselines = None if self.probe is None else Baselines(config, folder, options, validation=validation)

    @property
    def place(self) -> Path:
        """Folder of the results."""
        return self.folder / FOLDER / self.method

    def compute(self) -> LearningCurve:
        """Learn from every share, and write ``learning_curve.json`` and ``.csv``.

        Raises:
            ClipzooError: See ``Baselines.compute`` and ``CrossValidation.train``.
            Interrupted: A signal ended a training; the same call resumes it.
        """
        log = make_log(self.console, None)
        try:
            fingerprint = compare_fingerprint(self.folder, self.data, log=log, console=self.console)
            tables = self._trained(log) if self.baselines is None else self._probed(fingerprint, log)
        finally:
            close_log(log)
        curve = make_curve(
            [self._result(share, tables) for share in self.plan.shares],
            self.metric,
            seed=self.plan.seed,
            name=self.config.name,
            method=self.method,
            repeats=self.plan.repeats,
            folds_digest=self.folds.digest,
            data_digest=fingerprint.digest,
            notes=list(fingerprint.notes),
        )
        curve.write(self.place)
        return curve

    def _probed(self, fingerprint: Fingerprint, log: logging.Logger) -> dict[tuple[float, int], PredictionTable]:
        """The out-of-fold tables of the probe, by share and draw."""
        known = self.baselines.frozen(log)
        work_dir.open_experiment(self.folder, self.config, self.folds)
        keep_fingerprint(self.folder, fingerprint)
        tables = {}
        for draw in self.draws:
            parts = [predict_fold(self.probe, self.data, split, known)[0] for split in draw.folds.splits]
            tables[draw.share, draw.number] = PredictionTable.join(parts)
        return tables

    def _trained(self, log: logging.Logger) -> dict[tuple[float, int], PredictionTable]:
        """The out-of-fold tables of the trained model, by share and draw; the largest share first, as it is the config's own run."""
        tables = {}
        for number, draw in enumerate(sorted(self.draws, key=lambda draw: -draw.share), 1):
            folder = self.folder if draw.share == 1 else self.place / draw.name
            log.info(f"training {number} of {len(self.draws)}: {draw.share:g} of the training groups, draw {draw.number + 1} -> {folder}")
            validation = CrossValidation(self._config_of(draw), folder, console=self.console)
            validation.train()
            tables[draw.share, draw.number] = PredictionTable.read(folder / OUT_OF_FOLD_FILE)
        return tables

    def _config_of(self, draw: Draw) -> Config:
        """The config with the smaller train parts, whose folds are written next to the work dir."""
        if draw.share == 1:
            return self.config
        path = (self.place / f"{draw.name}.folds.json").absolute()
        known = read_json(path) if path.exists() else None
        if not isinstance(known, dict) or known.get("digest") != draw.folds.digest:
            path.parent.mkdir(parents=True, exist_ok=True)
            draw.folds.write(path)
        splits = {"type": "FromFile", "path": str(path), "select_on_test": self.config.splits.get("select_on_test", False)}
        content = {**self.config.plain(), "splits": splits, "hooks": hooks_without(self.config)}
        return Config.from_dict(content, f"{self.config.name}, {draw.name}")

    def _result(self, share: float, tables: dict[tuple[float, int], PredictionTable]) -> ShareResult:
        """What was learned from a share, with the sizes of its train parts."""
        draws = [draw for draw in self.draws if draw.share == share]
        cases = {case.id: case for case in self.folds.cases}
        missing: Counter[str] = Counter()
        parts = [[cases[case_id] for case_id in split.train] for draw in draws for split in draw.folds.splits]
        for part in parts:
            present = {case.label for case in part}
            missing.update(name for label, name in enumerate(self.folds.classes) if label not in present)
        return ShareResult(
            share,
            sum(len({case.group for case in part}) for part in parts) / len(parts),
            sum(map(len, parts)) / len(parts),
            [tables[draw.share, draw.number] for draw in draws],
            dict(missing),
            len(parts),
        )


def _probe_of(method: str) -> Probe | None:
    """The probe of a method; ``None`` for the trained model.

    Raises:
        ConfigError: There is no such method, or it does not learn from images.
    """
    if method == TRAIN:
        return None
    found = methods()
    names = [TRAIN, *(name for name, kind in found.items() if kind.needs_examples)]
    if method not in names:
        what = "learns from no images" if method in found else f"no such method.{did_you_mean(method, names)}"
        raise ConfigError(f"--method: {method}: {what} Allowed: {', '.join(names)}".replace("images Allowed", "images. Allowed"))
    return found[method]()


def _metric_of(metric: str | None, select: str) -> str:
    """The metric that decides.

    Raises:
        ConfigError: It is not among those of learning curves.
    """
    name = metric or select
    if name not in OVERALL:
        where = "--metric" if metric else "evaluation.select"
        hint = did_you_mean(name, OVERALL) if metric else " Pass --metric."
        raise ConfigError(f"{where}: '{name}' is not among the metrics of learning curves.{hint} Available: {', '.join(OVERALL)}")
    return name
