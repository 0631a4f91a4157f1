"""Scoring from checkpoints: the out-of-fold table once more, and external images by every fold's model and by their ensemble."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipzoo.checking import check
from clipzoo.config import Config
from clipzoo.datasets.captions import Captions
from clipzoo.datasets.image_folder import ImageFolderDataset
from clipzoo.datasets.loader import eval_loader
from clipzoo.datasets.transforms import evaluation_transform
from clipzoo.engine import build, checkpoint, runtime, work_dir
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.evaluation import predict_cases, score
from clipzoo.engine.runner import Runner
from clipzoo.errors import CheckpointError, DataError, LeakError, shortened
from clipzoo.files import read_json, write_json
from clipzoo.folds import Folds
from clipzoo.plugins import import_plugins
from clipzoo.results import OUT_OF_FOLD_FILE, FoldResult, PredictionTable, aligned
from clipzoo.settings import DataSettings, EvaluationSettings, RuntimeSettings
from clipzoo.structures import ClassCaptions, Predictions

# Two machines sum in different orders; the same machine gives 0.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Agreement:
    """How far the table computed again is from the one on disk.

    Attributes:
        table: Computed again.
        largest: Largest difference of a probability.
        changed: Case ids whose predicted class changed.
    """

    table: PredictionTable
    largest: float
    changed: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Do the two tables agree?"""
        return not self.changed and self.largest <= TOLERANCE


def score_again(validation: CrossValidation, log: logging.Logger) -> Agreement:
    """Predict every fold's test part from its checkpoint and compare with ``oof_predictions.csv``.

    Raises:
        CheckpointError: A fold is not done, or the work dir is of another config or other folds.
        DataError: There is no table to compare with.
    """
    folder = validation.folder
    require_experiment(folder)
    work_dir.check_same(folder, validation.config, validation.folds)
    unfinished = [s.name for s in validation.folds.splits if not work_dir.is_done(folder / s.name)]
    if unfinished:
        raise CheckpointError(f"{folder}: {', '.join(unfinished)} not trained yet. Run tools/train.py first")
    known = PredictionTable.read(folder / OUT_OF_FOLD_FILE)
    tables = []
    for split in validation.folds.splits:
        runner = Runner(validation.config, validation.dataset, split, folder / split.name, log=log, console=validation.console)
        table, metrics, name = runner.test()
        log.info(f"{split.name}: {name}  " + "  ".join(f"{metric} {value:.4f}" for metric, value in metrics.items()))
        tables.append(table)
    table = PredictionTable.join(tables)
    if known.case_ids != table.case_ids or known.classes != table.classes:
        raise DataError(f"{folder / OUT_OF_FOLD_FILE}: its cases or classes are not those of the checkpoints")
    changed = known.probabilities.argmax(axis=1) != table.probabilities.argmax(axis=1)
    return Agreement(
        table=table,
        largest=float(np.abs(known.probabilities - table.probabilities).max()),
        changed=tuple(np.array(table.case_ids)[changed]),
    )


@dataclass(frozen=True)
class External:
    """Scores on an external set.

    Attributes:
        ensemble: Predictions of the mean probability over all folds.
        folds: Metrics of every fold's model, by fold name.
        metrics: Metrics of the ensemble.
    """

    ensemble: PredictionTable
    folds: dict[str, dict[str, float]]
    metrics: dict[str, float]

    def table(self) -> str:
        """One row per fold and one for the ensemble."""
        rows = [[name, *(f"{v:.4f}" for v in found.values())] for name, found in self.folds.items()]
        rows.append(["ensemble", *(f"{v:.4f}" for v in self.metrics.values())])
        return aligned(["model", *self.metrics], rows, rule_before=len(rows) - 1)

    def write(self, folder: Path) -> None:
        """Write ``predictions.csv`` and ``summary.json``; what an earlier call left there must be the same.

        Raises:
            CheckpointError: ``folder`` holds other results.
        """
        summary = {"ensemble": self.metrics, "folds": self.folds}
        existing = folder / "summary.json"
        if existing.exists() and read_json(existing) != summary:
            raise CheckpointError(f"{folder}: holds results of other images or weights. Choose another folder with --out")
        self.ensemble.write(folder / "predictions.csv")
        write_json(existing, summary)


def score_external(config: Config, folder: Path, data: str, log: logging.Logger, *, allow_overlap: bool = False) -> External:
    """Score every finished fold's model, and their ensemble, on the class folders below ``data``. The training data need not be here.

    Raises:
        CheckpointError: ``folder`` holds no finished fold, or is of another config.
        DataError: A folder below ``data`` is no class of the model.
        LeakError: An image of ``data`` is byte-identical with one the models were trained on.
    """
    import_plugins(config.get("plugins", []))
    check(config)
    require_experiment(folder)
    work_dir.check_same(folder, config, None)
    folds = Folds.read(folder / work_dir.FOLDS_FILE)
    done = [s.name for s in folds.splits if work_dir.is_done(folder / s.name)]
    if not done:
        raise CheckpointError(f"{folder}: no fold is done. Run tools/train.py first")
    images = ImageFolderDataset(data, template="{class_name}", classes=list(folds.classes))
    if not allow_overlap:
        refuse_overlap(config, images, log)
    settings = RuntimeSettings(**config.get("runtime", {}))
    metrics, _ = build.metrics(EvaluationSettings(**config.get("evaluation", {})))
    per_fold: dict[str, Predictions] = {}
    for name in done:
        per_fold[name] = predict_with(config, folder / name, images, settings)
        log.info(f"{name}: scored {len(images)} images of {data}")
    mean = np.mean([p.probabilities for p in per_fold.values()], axis=0, dtype=np.float64).astype(np.float32)
    first = next(iter(per_fold.values()))
    ensemble = PredictionTable(
        classes=folds.classes,
        case_ids=tuple(case.id for case in images.cases),
        groups=tuple(case.group for case in images.cases),
        folds=("ensemble",) * len(images),
        labels=first.labels,
        probabilities=mean,
    )
    pooled = {metric.name: float(metric.compute(ensemble.labels, mean)) for metric in metrics}
    return External(ensemble=ensemble, folds={name: score(metrics, p) for name, p in per_fold.items()}, metrics=pooled)


def predict_with(config: Config, fold_folder: Path, images: ImageFolderDataset, settings: RuntimeSettings) -> Predictions:
    """The predictions of one fold's chosen checkpoint; classes and captions come from the checkpoint."""
    device = runtime.choose_device(settings.device)
    runtime.apply(settings, device)
    path = fold_folder / FoldResult.read(fold_folder).checkpoint
    content = checkpoint.read(path)
    net = build.model(config, device, channels_last=settings.channels_last)
    checkpoint.load_weights(net, content["model"], path)
    classes = captions_of(content, net.tokenizer)
    net.prepare(classes.tokens)  # a frozen text tower is read in full precision, as in training
    data = DataSettings(**config.data)
    loader = eval_loader(
        images,
        np.arange(len(images)),
        evaluation_transform(net.preprocessing),
        batch_size=data.eval_batch_size or 2 * data.batch_size,
        num_workers=data.num_workers,
        pin_memory=device.type == "cuda",
    )
    autocast = runtime.DTYPES[content["precision"]]
    return predict_cases(net, loader, classes.to(device), device, autocast=autocast, channels_last=settings.channels_last)


def captions_of(content: dict, tokenizer: object) -> ClassCaptions:
    """The class captions that a checkpoint remembers, tokenised."""
    import torch

    captions = Captions()
    labels = [label for label, sentences in enumerate(content["class_captions"]) for _ in sentences]
    ids = [captions.add(s, label) for label, sentences in enumerate(content["class_captions"]) for s in sentences]
    tokens = captions.tokenise(tokenizer, "model.text_encoder").take(torch.tensor(ids))
    return ClassCaptions(tokens=tokens, labels=torch.tensor(labels), caption_ids=torch.tensor(ids), num_classes=len(content["classes"]))


def refuse_overlap(config: Config, images: ImageFolderDataset, log: logging.Logger) -> None:
    """Refuse external images that are byte-identical with training images, where those are at hand.

    Raises:
        LeakError: With the first such image.
    """
    try:
        known = build.dataset(config)
    except DataError as error:
        log.info(f"not compared with the training images, which cannot be read here ({str(error).splitlines()[0]})")
        return
    if not isinstance(known, ImageFolderDataset):
        return
    same = shared_files(known, images)
    if same:
        raise LeakError(
            f"{images.root}: {len(same)} images are byte-identical with images of {known.root} ({shortened(same, 3)}), which the models "
            "were trained on. Remove them, or score them all the same with --allow-overlap"
        )


def shared_files(known: ImageFolderDataset, images: ImageFolderDataset) -> list[str]:
    """Ids of ``images`` whose bytes are those of a file of ``known``; only files of equal size are read."""
    by_size: dict[int, list[Path]] = {}
    for row in range(len(known)):
        path = known.path_of(row)
        by_size.setdefault(path.stat().st_size, []).append(path)
    same = []
    for row, case in enumerate(images.cases):
        path = images.path_of(row)
        candidates = by_size.get(path.stat().st_size, [])
        if candidates:
            content = path.read_bytes()
            if any(candidate.read_bytes() == content for candidate in candidates):
                same.append(case.id)
    return same


def require_experiment(folder: Path) -> None:
    """Refuse a folder that no training made."""
    if not (folder / work_dir.CONFIG_JSON).exists():
        what = f"not a work dir of clipzoo ({work_dir.CONFIG_JSON} is missing)" if folder.is_dir() else "no such folder"
        raise CheckpointError(f"{folder}: {what}. Give a folder that tools/train.py made")
