"""Scoring from checkpoints: the out-of-fold table again, and external images with every fold's model and their ensemble."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipzoo.commands import typed
from clipzoo.config import Config
from clipzoo.config.checking import check
from clipzoo.config.plugins import import_plugins
from clipzoo.config.settings import DataSettings, EvaluationSettings, RuntimeSettings
from clipzoo.datasets.batches.loader import eval_loader
from clipzoo.datasets.captions import Captions
from clipzoo.datasets.image_folder import ImageFolderDataset
from clipzoo.datasets.table import TableDataset
from clipzoo.datasets.transforms import evaluation_transform
from clipzoo.datasets.views import GROUP, with_views
from clipzoo.engine import build, checkpoint, inputs, work_dir
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.evaluation import ClassEvaluator, Compute, Evaluation, Evaluator, FindingsEvaluator
from clipzoo.engine.fingerprint import Fingerprint
from clipzoo.engine.finished import check_checkpoint
from clipzoo.errors import CheckpointError, DataError, LeakError, shortened
from clipzoo.files import check_regular, finite, read_json, write_json
from clipzoo.inference.restore import checkpoint_model
from clipzoo.records.folds import Folds
from clipzoo.records.provenance import Provenance
from clipzoo.records.results import OUT_OF_FOLD_FILE, FoldResult, mean_and_sd
from clipzoo.records.tables import FindingsTable, RetrievalTable, Table, read_table
from clipzoo.registries import DATASETS
from clipzoo.runtime import device as runtime
from clipzoo.runtime import distributed
from clipzoo.scoring.intervals import LEVEL, intervals_of, plain
from clipzoo.scoring.summary import score
from clipzoo.structures import ClassCaptions
from clipzoo.text_tables import groups_text, limits, rows_or_columns

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset
    from clipzoo.metrics.base import Metric

# Two machines sum in different orders; the same machine gives 0.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Agreement:
    """How far the recomputed table is from the one on disk.

    Attributes:
        table: The recomputed table.
        what: The compared quantity, ``'probability'`` or ``'similarity'``.
        largest: Its largest absolute difference.
        changed: Ids of cases whose predicted class changed, or queries with another result.
        rows: Number of rows.
    """

    table: Table
    what: str
    largest: float
    changed: tuple[str, ...]
    rows: int

    @property
    def holds(self) -> bool:
        """Whether the two tables agree."""
        return not self.changed and self.largest <= TOLERANCE


def score_again(validation: CrossValidation, log: logging.Logger, *, accept_changed_data: bool = False) -> Agreement:
    """Predict every fold's test part from its checkpoint and compare with ``oof_predictions.csv``. Nothing in the work dir is changed.

    Args:
        validation: Cross-validation of the work dir.
        log: Logger for messages.
        accept_changed_data: Score even if images or texts changed since the training.

    Raises:
        CheckpointError: A fold is not done or its files are damaged, or the work dir belongs to another config or other folds.
        DataError: There is no table to compare with.
    """
    folder = validation.folder
    require_experiment(folder)
    work_dir.check_same(folder, validation.config, validation.folds)
    unfinished = [s.name for s in validation.folds.splits if not work_dir.is_done(folder / s.name)]
    if unfinished:
        raise CheckpointError(f"{folder}: {', '.join(unfinished)} not trained yet. Run {typed('train')} first")
    validation.fingerprint = validation.compare_data(accept_changed_data)
    for split in validation.folds.splits:
        check_checkpoint(folder / split.name, validation.read_fold(split).result)
    stored = read_table(folder / OUT_OF_FOLD_FILE)
    tables = []
    for split in validation.folds.splits:
        with closing(validation.runner(split, log)) as runner:
            evaluation, scored = runner.test()
        log.info(f"{split.name}: {scored.name}  " + "  ".join(f"{metric} {value:.4f}" for metric, value in evaluation.metrics.items()))
        tables.append(evaluation.table)
    table = type(tables[0]).join(tables)
    same = type(stored) is type(table) and stored.case_ids == table.case_ids and classes_or_queries(stored) == classes_or_queries(table)
    if not same:
        raise DataError(f"{folder / OUT_OF_FOLD_FILE}: its cases, captions or classes differ from those of the checkpoints")
    return compare(stored, table)


def classes_or_queries(table: Table) -> list[str]:
    """What must be equal in two compared tables, besides the cases."""
    return list(table.query if isinstance(table, RetrievalTable) else table.classes)


def compare(stored: Table, table: Table) -> Agreement:
    """How far apart two tables of the same cases are."""
    if not isinstance(table, RetrievalTable):
        changed = stored.probabilities.argmax(axis=1) != table.probabilities.argmax(axis=1)
        if isinstance(table, FindingsTable):  # no class is predicted
            changed = (np.abs(stored.probabilities - table.probabilities) > TOLERANCE).any(axis=1)
        largest = np.abs(stored.probabilities - table.probabilities).max()
        return Agreement(table, "probability", float(largest), tuple(np.array(table.case_ids)[changed]), len(changed))
    differences = np.abs(stored.positive_similarity - table.positive_similarity)
    changed = (stored.ahead > 0) != (table.ahead > 0)
    largest = np.nanmax(differences, initial=0)
    return Agreement(table, "similarity", float(largest), tuple(table.query[changed]), len(changed))


@dataclass(frozen=True)
class External:
    """Scores on an external set.

    Attributes:
        folds: Metrics of every fold's model, by fold name.
        metrics: Metrics of the ensemble or, for retrieval, the mean over the folds' models.
        tables: Tables to write, by file name.
        intervals: Interval of each metric of the ensemble, as in ``Summary``; empty for retrieval.
        num_groups: Number of groups that the intervals are over.
    """

    folds: dict[str, dict[str, float]]
    metrics: dict[str, float]
    tables: dict[str, Table]
    intervals: dict[str, dict] = field(default_factory=dict)
    num_groups: int = 0

    @property
    def joint(self) -> str:
        """How ``metrics`` combine the folds: ``'ensemble'`` or ``'mean'``."""
        return "mean" if any(isinstance(table, RetrievalTable) for table in self.tables.values()) else "ensemble"

    def table(self) -> str:
        """A text table with one row per fold and one for all, or with one row per metric if there are many metrics."""
        columns = {name: {k: f"{v:.4f}" for k, v in found.items()} for name, found in {**self.folds, self.joint: self.metrics}.items()}
        if not self.intervals:
            return rows_or_columns("model", columns, num_totals=1)
        name = f"{100 * LEVEL:g} % interval"
        columns[name] = {metric: limits((found["low"], found["high"])) for metric, found in self.intervals.items()}
        notes = dict.fromkeys(found["note"] for found in self.intervals.values() if found["note"])
        return "\n\n".join(
            [
                rows_or_columns("model", columns, num_totals=2),
                f"{name}: of the ensemble, over {groups_text(self.num_groups)}, whose cases count together; for new cases of the same kind "
                "scored by these models",
                *(f"note: interval: {note}" for note in notes),
            ]
        )

    def write(self, folder: Path) -> None:
        """Write the tables and ``summary.json``; results of an earlier call must be equal.

        Raises:
            CheckpointError: ``folder`` holds other results.
        """
        summary = {self.joint: self.metrics, "folds": self.folds}
        existing = folder / "summary.json"
        before = read_json(existing) if existing.exists() else finite(summary)
        if not isinstance(before, dict) or any(before.get(key) != value for key, value in finite(summary).items()):
            raise CheckpointError(f"{folder}: holds results of other images or weights. Choose another folder with --out")
        for name, table in self.tables.items():
            table.write(folder / name)
        write_json(existing, {**summary, "intervals": self.intervals})


def score_external(config: Config, folder: Path, data: str, log: logging.Logger, *, allow_overlap: bool = False) -> External:
    """Score every finished fold's model, and their ensemble, on other images. The training data is not needed.

    Args:
        config: The config of the work dir.
        folder: The work dir.
        data: Class folders; for a model that was trained on pairs, a file or folder of pairs.
        log: Logger for messages.
        allow_overlap: Accept images that the models were trained on.

    Raises:
        CheckpointError: ``folder`` holds no finished fold, or belongs to another config.
        DataError: A folder below ``data`` is not a class of the model.
        LeakError: An image of ``data`` is byte-identical with one that the models were trained on.
    """
    import_plugins(config.get("plugins", []))
    check(config)
    require_experiment(folder)
    work_dir.check_same(folder, config, None)
    folds = Folds.read(folder / work_dir.FOLDS_FILE)
    done = [s.name for s in folds.splits if work_dir.is_done(folder / s.name)]
    if not done:
        raise CheckpointError(f"{folder}: no fold is done. Run {typed('train')} first")
    images = with_views(external_cases(config, folds, data), DataSettings.of(config))
    _tell_joined(images, data, log)
    trained_on = Fingerprint.read(folder)
    if not allow_overlap:
        distributed.from_main(lambda: refuse_overlap(trained_on, images.single_images, log))
    metrics, _ = build.metrics(EvaluationSettings.of(config), images)
    evaluations: dict[str, Evaluation] = {}
    for name in done:
        provenance = Provenance.of(config.plain(), name, folds.digest, trained_on.digest, trained_on.earlier)
        evaluations[name] = score_with(config, provenance, folder / name, images, metrics)
        log.info(f"{name}: scored {len(images)} cases of {data}")
    per_fold = {name: evaluation.metrics for name, evaluation in evaluations.items()}
    tables = [evaluation.table for evaluation in evaluations.values()]
    if not images.classes:
        mean = {metric.name: mean_and_sd([scores[metric.name] for scores in per_fold.values()])[0] for metric in metrics}
        return External(per_fold, mean, {f"predictions_{name}.csv": evaluation.table for name, evaluation in evaluations.items()})
    mean = np.mean([table.probabilities for table in tables], axis=0, dtype=np.float64).astype(np.float32)
    ensemble = replace(tables[0], folds=("ensemble",) * len(images), probabilities=mean)
    scored = build.unit_of(config).of(ensemble)
    scores = score(metrics, scored)
    found = intervals_of(scored, scores)
    intervals = {metric: plain(found.overall[metric]) for metric in scores if metric in found.overall}
    return External(per_fold, scores, {"predictions.csv": ensemble}, intervals, found.num_groups)


def external_cases(config: Config, folds: Folds, data: str) -> Dataset:
    """The images of ``data``: in folders of the model's classes, in a table with labels, or pairs.

    Columns have their usual names, or those of the config's dataset.

    Raises:
        DataError: ``data`` cannot be read either way.
    """
    spec = DATASETS.expand(config.data.dataset)
    joined = _joining(spec, DataSettings.of(config).views)
    if any(case.findings is not None for case in folds.cases):
        return _external_findings(spec, folds, data, joined)
    if folds.classes:
        given = {"template": "{class_name}", "classes": list(folds.classes)}
        if not os.path.isfile(data):
            if "attributes" in joined:
                what = f"the cases of this model are the images with one value of '{joined['attributes'][0]}' (data.views)"
                raise DataError(f"{data}: {what}. Pass a table of the images with this column")
            return ImageFolderDataset(data, **given, **{key: joined[key] for key in ("group_pattern",) if key in joined})
        keys = ("image_key", "label_key", "sheet") if spec["type"] == TableDataset.__name__ else ()
        return TableDataset(data, **given, **joined, **{key: spec[key] for key in keys if spec.get(key) is not None})
    plain = {"type": spec["type"], "path": data, "allow_duplicates": spec.get("allow_duplicates", False), **joined}
    keys = {key: spec[key] for key in ("image_key", "caption_key") if spec.get(key) is not None}
    try:
        return DATASETS.build(plain)
    except DataError:
        if not keys:
            raise
        return DATASETS.build({**plain, **keys})


def _tell_joined(images: Dataset, data: str, log: logging.Logger) -> None:
    """Say which images were joined to cases, and warn if nothing says which belong together."""
    if images.single_images is images:
        return
    log.info(images.notes[-1])
    singles = images.single_images
    if len(images) == len(singles) and all(singles.given_groups.get(case.id, case.group) == case.id for case in singles.cases):
        log.warning(
            f"warning: {data}: nothing says which images are of one case (data.views), so each image is scored as one. Pass a table with a "
            "column of groups, or use data.dataset.group_pattern in training"
        )


def _joining(spec: Mapping, views: str | None) -> dict:
    """Arguments of the config's dataset that say which images are of one case, if ``data.views`` joins them."""
    if views is None:
        return {}
    found = {key: spec[key] for key in ("group_key", "group_pattern") if spec.get(key) is not None}
    return found if views == GROUP else {**found, "attributes": [views]}


def _external_findings(spec: Mapping, folds: Folds, data: str, joined: Mapping) -> Dataset:
    """A table with the model's findings in the columns that the config names."""
    if not os.path.isfile(data):
        raise DataError(f"{data}: a model of findings (several labels per image) is scored on a table like that of its training")
    keys = ("image_key", "label_key", "sheet", "separator", "no_finding")
    given = {key: spec[key] for key in keys if spec.get(key) is not None}
    names = {"classes" if spec.get("separator") is not None else "findings": list(folds.classes)}
    return TableDataset(data, template="{class_name}", **names, **given, **joined)


def score_with(config: Config, provenance: Provenance, fold_folder: Path, images: Dataset, metrics: list[Metric]) -> Evaluation:
    """Score ``images`` with a fold's scored checkpoint, which also provides the classes and their captions."""
    settings, data = RuntimeSettings.of(config), DataSettings.of(config)
    device = runtime.choose_device(settings.device)
    runtime.apply(settings, device)
    path = check_checkpoint(fold_folder, FoldResult.read(fold_folder))
    content = checkpoint.read(path)
    provenance.check(content["provenance"], path, checkpoint.how_to_retrain(fold_folder))
    net = checkpoint_model(content, device, path)
    if images.classes:
        classes = None if net.tokenizer is None else captions_of(content, net.tokenizer)
        if classes is not None:
            net.prepare(classes.tokens)  # a frozen text tower encodes in full precision, as in training
        evaluator: Evaluator = ClassEvaluator(classes, images.classes, metrics, build.unit_of(config))
        if images.task == "findings":
            evaluator = FindingsEvaluator(classes, images.classes, metrics)
    else:
        tokens = images.captions.tokenise(net.tokenizer, "model.text_encoder", allow_overlong=data.allow_overlong_captions)
        net.prepare(tokens)
        evaluator = build.evaluator(net, images, tokens, metrics, build.unit_of(config))
    loader = eval_loader(
        images,
        np.arange(len(images)),
        evaluation_transform(net.preprocessing),
        batch_size=data.scored_batch_size,
        num_workers=data.num_workers,
        pin_memory=device.type == "cuda",
        rank=distributed.rank(),
        world_size=distributed.world_size(),
        timeout=settings.timeout,
        name="external images",
        cache=inputs.image_cache(config),
    )
    compute = Compute(device, runtime.DTYPES[content["precision"]], settings.channels_last)
    with closing(loader):
        return evaluator.evaluate(net, loader, images, "external", fold_folder.name, compute)


def captions_of(content: dict, tokenizer: object) -> ClassCaptions:
    """The class captions stored in a checkpoint, tokenised."""
    captions, ids = Captions.of_classes(content["class_captions"])
    return ClassCaptions.of(captions.tokenise(tokenizer, "model.text_encoder"), ids)


def refuse_overlap(trained_on: Fingerprint, images: Dataset, log: logging.Logger) -> None:
    """Refuse external images that the models may have seen. The training images are not needed: their digests are recorded.

    Raises:
        LeakError: There are such images; the message names the first.
    """
    if (images.source_of(0) is None) != any(size is None for _, size in trained_on.images()):
        log.info("not compared with the training images, as only one of the two sets is read from plain image files")
    same = shared_images(trained_on, images)
    if same:
        raise LeakError(
            f"{len(same)} images are byte-identical with images of the dataset that the models were trained on ({shortened(same, 3)}). "
            "Remove them, or score them anyway with --allow-overlap"
        )


def shared_images(trained_on: Fingerprint, images: Dataset) -> list[str]:
    """Ids of ``images`` with the same content as a case of a fingerprint; a file is read only if one there has the same size."""
    trained = trained_on.images()
    sizes = {size for _, size in trained}
    same = []
    for row, case in enumerate(images.cases):
        source = images.source_of(row)
        size = None if source is None else check_regular(source).st_size
        if size in sizes and (images.content_digest(row), size) in trained:
            same.append(case.id)
    return same


def require_experiment(folder: Path) -> None:
    """Refuse a folder that is not a work dir.

    Raises:
        CheckpointError: The folder does not exist, or is not a work dir.
    """
    if not (folder / work_dir.CONFIG_JSON).exists():
        what = f"not a work dir of clipzoo ({work_dir.CONFIG_JSON} is missing)" if folder.is_dir() else "no such folder"
        raise CheckpointError(f"{folder}: {what}. Pass a work dir made by {typed('train')}")
