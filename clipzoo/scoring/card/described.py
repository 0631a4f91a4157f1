"""What is on record about a model, for its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from clipzoo.records.folds import Folds
from clipzoo.records.json_records import read_plain
from clipzoo.records.provenance import decisive, digest_of
from clipzoo.records.results import SUMMARY_FILE, FoldResult, Summary

_ADVICE = "The work dir is damaged. Restore the file"


@dataclass(frozen=True)
class Described:
    """What is on record about a model.

    Attributes:
        name: Its name, such as that of the config.
        config: Plain config it was trained with; empty for a published model.
        classes: Names of its classes.
        captions: Sentences of each class, if known.
        preprocessing: Fields of ``Preprocessing``; empty if unknown.
        fold: Name of the fold whose model it is; empty for all folds of a run.
        calibration: Temperature of its probabilities.
        folds: All cases and splits; ``None`` if unknown.
        summary: Summary of the finished run; ``None`` without one.
        result: Result of the fold; ``None`` without one.
        about: ``environment`` and ``seeds`` of the training.
        digests: SHA-256 of what it was made from, by name.
    """

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    classes: Sequence[str] = ()
    captions: Sequence[Sequence[str]] = ()
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    fold: str = ""
    calibration: float = 1.0
    folds: Folds | None = None
    summary: Summary | None = None
    result: FoldResult | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, work_dir: str | Path) -> Described:
        """The models of all folds of a work dir.

        Raises:
            CheckpointError: A record is missing or damaged.
            DataError: ``folds.json`` is missing or damaged.
        """
        folder = Path(work_dir)
        about, folds = read_plain(folder / "config.json", _ADVICE), Folds.read(folder / "folds.json")
        summary = Summary.read(folder) if (folder / SUMMARY_FILE).exists() else None
        digests = {"folds": folds.digest, "config": digest_of(decisive(about["config"]))}
        if summary is not None and summary.predictions_digest:
            digests["oof_predictions.csv"] = summary.predictions_digest
        name = about.get("name") or folder.name
        return cls(name, about["config"], folds.classes, folds=folds, summary=summary, about=about, digests=digests)

    @property
    def kind(self) -> str:
        """Class of the model."""
        return self.config.get("model", {}).get("type", "CLIP")

    @property
    def task(self) -> Literal["zero-shot-image-classification", "image-classification"]:
        """The hub's name of what it does."""
        return "image-classification" if self.kind == "ImageClassifier" else "zero-shot-image-classification"

    @property
    def answers(self) -> Literal["classes", "findings", "pairs"]:
        """What it knows: classes of which an image has one, findings of which it may have several or none, or only sentences."""
        found = self.summary is not None and self.summary.findings
        if found or _section(self.config, "data", "dataset").get("findings"):
            return "findings"
        return "classes" if self.classes else "pairs"

    @property
    def unit(self) -> Literal["case", "group"]:
        """What counts once in its scores."""
        return self.summary.unit if self.summary is not None else _section(self.config, "evaluation").get("unit", "case")

    @property
    def has_views(self) -> bool:
        """Whether a case has several images (``data.views``)."""
        return _section(self.config, "data").get("views") is not None

    @property
    def num_repeats(self) -> int:
        """Number of repeats of the cross-validation of which this is the first."""
        return _section(self.config, "splits").get("num_repeats", 1)


def _section(config: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """A part of a plain config; empty without it, and for a spec that is a name."""
    for name in names:
        config = config.get(name) or {}
        if not isinstance(config, Mapping):
            return {}
    return config
