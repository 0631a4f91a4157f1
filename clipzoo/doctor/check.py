"""The check of the data of a config, from the dataset to the report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from clipzoo.config.settings import DataSettings
from clipzoo.datasets.build import build_dataset, build_folds
from clipzoo.datasets.file_dataset import FileDataset
from clipzoo.datasets.files.checks import refusals_listed
from clipzoo.datasets.group_hint import group_note
from clipzoo.datasets.inspection.image_facts import SIDE, FileFact, look_at
from clipzoo.datasets.inspection.similar import Pair, find_pairs
from clipzoo.datasets.tiny_imagenet import TinyImageNetDataset
from clipzoo.doctor import rules
from clipzoo.doctor.findings import Finding, ordered
from clipzoo.doctor.places import Places
from clipzoo.doctor.probe import mean_borders, probe_border
from clipzoo.doctor.texts import audit
from clipzoo.doctor.tokenizers import tokenizer_of
from clipzoo.doctor.words import Language, Words
from clipzoo.errors import ConfigError, DataError
from clipzoo.watching import Show

if TYPE_CHECKING:
    from clipzoo.config import Config
    from clipzoo.datasets.base import Dataset
    from clipzoo.records.folds import Folds

_ROOTS = ("root", "val_root", "test_root")  # arguments of datasets that list folders
_FEW = 4  # formats or classes on one line


@dataclass(frozen=True, eq=False)
class Report:
    """What was found.

    Attributes:
        name: Name of the config.
        words: Language of the report.
        findings: Findings, the most serious first.
        lines: Facts in words: label and value.
        table: One row per class: name, images, groups, unreadable images, images in pairs.
        data: Dataset of single images; ``None`` if it could not be built.
        facts: Facts of its images, by row.
        borders: Class names and ``[64, 64]`` uint8 mean borders; empty unless the border tells the class.
    """

    name: str
    words: Words
    findings: tuple[Finding, ...]
    lines: tuple[tuple[str, str], ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    data: Dataset | None = None
    facts: tuple[FileFact, ...] = ()
    borders: tuple[tuple[str, np.ndarray], ...] = ()


@dataclass(eq=False)
class _Collected:
    """A report in the making."""

    words: Words
    findings: list[Finding] = field(default_factory=list)
    lines: list[tuple[str, str]] = field(default_factory=list)

    def add(self, level: str, check: str, why: object) -> None:
        self.findings.append(Finding(level, check, self.words(check, why=why)))


def check_data(
    config: Config, *, language: Language = "en", workers: int = 1, progress: Show | None = None, out: str | None = None
) -> Report:
    """Check the data, the folds and the captions of a config. Damaged images and data that training refuses are findings, not errors.

    Args:
        config: A config whose sections ``data`` and ``splits`` are checked; ``model`` is optional.
        language: Language of the findings.
        workers: Threads that decode images.
        progress: Shows the progress of long work.
        out: Folder for the report, which must not be inside the data; ``None`` for none.

    Raises:
        ConfigError: ``out`` is inside the data.
    """
    collected = _Collected(Words(language))
    data = _dataset(config, collected, out, progress)
    if data is None:
        return Report(config.name, collected.words, tuple(collected.findings))
    images, folds = data.single_images, _folds(config, data, collected)
    facts = _look(images, workers, progress)
    places, pairs = Places.of(data, folds), find_pairs(facts)
    readable = np.array([not fact.error for fact in facts])
    collected.findings += rules.of_files(facts, collected.words)
    collected.findings += rules.of_pairs(pairs, places, collected.words, accepted=_accepted(config, images))
    collected.findings += rules.of_classes(data, places, readable, collected.words)
    _add_facts(facts, folds, collected)
    borders = _border(data, facts, places, collected)
    _texts(config, data, collected)
    hints = group_note(list(places.ids), list(places.kinds))  # a finding of its own
    for remark in data.notes:
        if remark not in hints:
            collected.add("note", "remark", remark)
    findings, table = ordered(collected.findings), _table(places, readable, pairs, collected.words)
    return Report(config.name, collected.words, tuple(findings), tuple(collected.lines), table, images, tuple(facts), borders)


def _dataset(config: Config, collected: _Collected, out: str | None, progress: Show | None) -> Dataset | None:
    """The dataset, with the files that training refuses; ``None``, and a finding, if it cannot be built even so.

    Raises:
        ConfigError: ``out`` is inside the data.
    """
    spec = config.data.dataset
    _refuse_inside((spec[name] for name in _ROOTS if isinstance(spec.get(name), str)), out)
    with refusals_listed() as refused:
        try:
            data = build_dataset(config, show=progress)
        except DataError as error:
            collected.add("error", "dataset", error)
            return None
    images = data.single_images
    if isinstance(images, FileDataset):
        folders = {os.path.realpath(images.path_of(row).parent) for row in range(len(images))}
        here = os.path.join(os.path.realpath("."), "")  # a table may name images in the current folder; work_dirs is below it
        _refuse_inside((folder for folder in folders if not here.startswith(os.path.join(folder, ""))), out)
    for message in refused:
        collected.add("error", "refused", message)
    return data


def _look(images: Dataset, workers: int, progress: Show | None) -> list[FileFact]:
    if progress is None:
        return look_at(images, workers)
    with progress("images", len(images), "images") as advance:
        return look_at(images, workers, advance)


def _folds(config: Config, data: Dataset, collected: _Collected) -> Folds | None:
    """The folds of the config; ``None``, and a finding, if the data cannot be split so."""
    if data.classes and not data.labelled.any():
        collected.add("error", "folds", "no image has a label")
        return None
    try:
        return build_folds(config, data)
    except DataError as error:
        collected.add("error", "folds", error)
        return None


def _accepted(config: Config, images: Dataset) -> set[str]:
    """What the config accepts, or the publisher of the data has left in them: see ``rules.of_pairs``."""
    spec = config.data.dataset
    conflicts = isinstance(images, TinyImageNetDataset) or spec.get("allow_label_conflicts")
    return {word for word, accepted in (("conflict", conflicts), ("leak", spec.get("allow_copies"))) if accepted}


def _refuse_inside(folders: Iterable[str], out: str | None) -> None:
    """Refuse an output folder in which the next start would look for images.

    Raises:
        ConfigError: ``out`` is one of the folders, or inside one.
    """
    if out is None:
        return
    known = {os.path.realpath(folder) for folder in folders}
    above = os.path.realpath(out)
    while above not in known:
        if above == os.path.dirname(above):
            return
        above = os.path.dirname(above)
    raise ConfigError(f"--out: {out} is inside the data ({above}). Choose a folder elsewhere")


def _add_facts(facts: Sequence[FileFact], folds: Folds | None, collected: _Collected) -> None:
    words = collected.words
    sides = sorted(max(fact.width, fact.height) for fact in facts if not fact.error)
    kinds = Counter(f"{fact.kind} {fact.mode}".strip() or "?" for fact in facts)
    collected.lines.append((words("formats_line"), ", ".join(f"{kind} {n}" for kind, n in kinds.most_common(_FEW))))
    if sides:
        collected.lines.append((words("sizes_line"), words("sizes", low=sides[0], high=sides[-1], median=int(median(sides)))))
    if folds is not None:
        collected.lines.append((words("folds_line"), f"{len(folds.splits)} ({folds.spec.get('type', '')})"))


def _border(data: Dataset, facts: Sequence[FileFact], places: Places, collected: _Collected) -> tuple[tuple[str, np.ndarray], ...]:
    """Probe the border; returns the mean borders of the classes if it tells them."""
    words = collected.words
    if data.task != "classification" or not places.folds:
        why = words("no_classes" if data.task != "classification" else "no_folds")
        collected.lines.append((words("border_line"), words("border_skipped", why=why)))
        return ()
    blank = np.zeros((SIDE, SIDE), dtype=np.uint8)
    pictures = np.stack([blank if fact.thumbnail is None else fact.thumbnail for fact in facts])
    labels = np.where([fact.thumbnail is not None for fact in facts], places.labels, -1)
    score = probe_border(pictures, labels, places.joined, places.rounds())
    if score is None:
        collected.lines.append((words("border_line"), words("border_skipped", why=words("too_few"))))
        return ()
    values = {name: f"{getattr(score, name):.2f}" for name in ("value", "low", "high", "chance")}
    collected.lines.append((words("border_line"), words("border_score", **values)))
    if not score.above_chance:
        return ()
    told = [words("border_class", name=places.classes[found.label], auroc=f"{found.auroc:.2f}") for found in score.classes[:_FEW]]
    what = words("border", **values, classes="".join(told))
    collected.findings.append(Finding("warning" if score.strong else "note", "border", what))
    found = mean_borders(pictures, labels, len(places.classes))
    return tuple((name, picture) for name, picture in zip(places.classes, found, strict=True) if picture is not None)


def _texts(config: Config, data: Dataset, collected: _Collected) -> None:
    """Audit the captions with the tokenizer of the model, if it is on this machine."""
    words = collected.words
    if "model" not in config:
        tokenizer, why = None, words("no_model")
    else:
        tokenizer, why = tokenizer_of(config.model)
        why = why or words("no_text_tower")
    settings = DataSettings.of(config)
    found, line = audit(data.captions, tokenizer, words, classes=data.classes, allow_overlong=settings.allow_overlong_captions)
    collected.findings += found
    collected.lines.append((words("tokens_line"), line or words("texts_skipped", why=why)))


def _table(places: Places, readable: np.ndarray, pairs: Sequence[Pair], words: Words) -> tuple[tuple[str, ...], ...]:
    """The rows of ``Report.table``; images without any class are in a row of their own."""
    paired = {row for pair in pairs for row in (pair.first, pair.second)}
    rows_of: dict[int, list[int]] = {label: [] for label in range(len(places.classes))}
    for row, kinds in enumerate(places.kinds):
        for label in kinds or (-1,):
            rows_of.setdefault(label, []).append(row)
    table = []
    for label, rows in rows_of.items():
        name = places.classes[label] if label >= 0 else words("without_class")
        groups = len({places.joined[row] for row in rows})
        unreadable, repeated = sum(not readable[row] for row in rows), sum(row in paired for row in rows)
        table.append((name, *map(str, (len(rows), groups, unreadable, repeated))))
    return tuple(table)
