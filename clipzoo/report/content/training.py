"""What a report says about the training: learning curves of all folds, and how to reproduce them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clipzoo.commands import typed
from clipzoo.errors import ClipzooError
from clipzoo.report.content.records import RunRecords
from clipzoo.scoring import paper
from clipzoo.scoring.paper_words import LANGUAGES

_NOT_LOSSES = ("epoch", "step", "lr")
_PREFIXES = ("val_", "test_", "in_batch_")


def learning_curves(run: RunRecords) -> dict[str, Any]:
    """Training loss, and the deciding metric on val, of every epoch and fold; and the epoch that was scored."""
    curves = {}
    for fold, rows in run.histories.items():
        metric = next((f"{part}_{run.metric}" for part in ("val", "test") if f"{part}_{run.metric}" in rows[-1]), None)
        curves[fold] = {
            "epochs": [row["epoch"] for row in rows],
            "loss": [_loss(row) for row in rows],
            "metric": [row.get(metric) for row in rows] if metric else [],
        }
    if not curves:
        return {}
    scored = {fold["fold"]: fold["epoch"] for fold in run.summary.folds}
    on = "test" if run.summary.optimistic else "val"
    return {"metric": run.metric, "on": on, "folds": curves, "scored_epoch": {fold: scored.get(fold) for fold in curves}}


def _loss(row: dict) -> float | None:
    """The total loss of an epoch; of a run with one term, that term."""
    if "loss" in row:
        return row["loss"]
    terms = [value for key, value in row.items() if key not in _NOT_LOSSES and not key.startswith(_PREFIXES)]
    return None if not terms or None in terms else sum(terms)


def reproducibility(run: RunRecords) -> dict[str, Any]:
    """Config with the origin of its keys, versions, seeds, digests, commands, and the methods in a paragraph; empty for a baseline."""
    experiment, folds = run.experiment, run.folds
    if experiment is None or folds is None:
        return {}
    fingerprint = run.fingerprint
    return {
        "created": experiment.created,
        "seeds": experiment.seeds,
        "environment": experiment.environment,
        "digests": {
            "folds": folds.digest,
            "data": "" if fingerprint is None else fingerprint.digest,
            "predictions": run.summary.predictions_digest,
            **{f"checkpoint of {name}": result.checkpoint_digest for name, result in run.results.items() if result.checkpoint_digest},
        },
        "training": [
            {
                "fold": name,
                **{key: getattr(result, key) for key in ("device", "precision", "processes", "epochs_trained", "epoch", "seconds")},
            }
            for name, result in run.results.items()
        ],
        "commands": [
            typed(f"train {run.folder / 'config.py'} --work-dir {run.folder}_again"),
            typed(f"test {run.folder / 'config.py'} {run.folder}"),
        ],
        "config": _config_rows(run),
        "methods": _methods(run),
    }


def _config_rows(run: RunRecords) -> list[dict[str, str]]:
    """Every key that was set, its value, and the file and line that set it (unknown in a work dir of an earlier version)."""
    experiment = run.experiment
    assert experiment is not None
    rows = []
    for key, value in _leaves(experiment.config):
        parents = [key[: len(key) - i] for i in range(len(key))]
        origin = next((experiment.origins[".".join(path)] for path in parents if ".".join(path) in experiment.origins), "")
        rows.append({"key": ".".join(key), "value": repr(value), "origin": origin})
    return rows


def _leaves(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Dotted path and value of everything that holds no further keys."""
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    found = [leaf for key, item in inner for leaf in _leaves(item, (*path, str(key)))]
    yield from found or ([(path, value)] if path else [])


def _methods(run: RunRecords) -> dict[str, str]:
    """The paragraph on the methods by language; empty for findings, which have none."""
    try:
        found = paper.Paper.read(run.folder, run.name)
    except ClipzooError:
        return {}
    return {language: paper.paragraph(found, words) for language, words in LANGUAGES.items()}
