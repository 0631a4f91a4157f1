"""What is on record about the model that ``clipzoo.load`` returns, for its card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from clipzoo.engine import checkpoint, work_dir
from clipzoo.files import expanded
from clipzoo.inference.restore import checkpoint_of
from clipzoo.records.folds import Folds
from clipzoo.records.provenance import Provenance
from clipzoo.records.results import FoldResult
from clipzoo.scoring.card.described import Described


def described_model(source: str | Path) -> Described:
    """A checkpoint with the records around it, or a published model, about which nothing is on record here.

    Results beside a checkpoint are used only if they belong to it: ``result.json`` if it scored this very file, the folds and the summary
    if the checkpoint records their digest.

    Args:
        source: See ``clipzoo.load``; of a work dir with several folds, one of them.

    Raises:
        CheckpointError: The checkpoint or a record is damaged.
        DataError: ``folds.json`` is damaged.
    """
    path = Path(expanded(source))
    found = checkpoint_of(path) if path.exists() else None
    if found is None:
        return Described(path.name if path.exists() else str(source))
    content = checkpoint.read(found)
    made_from = {key: value for key, value in content["provenance"].items() if key != "fold" and value}
    own = Described(
        name=content["config"].get("name") or found.parent.parent.name or found.stem,
        config=content["config"],
        classes=content["classes"],
        captions=content["class_captions"],
        preprocessing=content["preprocessing"],
        fold=content["fold"],
        calibration=checkpoint.calibration_of(content),
        digests={"checkpoint": content["digest"], **made_from},
    )
    return _with_records(own, found, content)


def _with_records(own: Described, path: Path, content: dict) -> Described:
    """The description with the result of the fold and the records of the run around it, if they belong to the checkpoint."""
    fold, run = path.parent, path.parent.parent
    if work_dir.is_done(fold):
        result = FoldResult.read(fold)
        own = replace(own, result=result if result.checkpoint_digest == content["digest"] else None)
    if not work_dir.is_experiment(run) or not (run / work_dir.FOLDS_FILE).exists():
        return own
    folds, around = Folds.read(run / work_dir.FOLDS_FILE), Described.read(run)
    expected = Provenance.of(around.config, own.fold, folds.digest).plain()
    if any(content["provenance"].get(key) != expected[key] for key in ("config", "folds")):
        return own
    digests = {**around.digests, **own.digests}
    return replace(own, name=around.name, folds=folds, summary=around.summary, about=around.about, digests=digests)
