"""What a report says about the data: classes and groups by fold, files that are equal, sizes of images."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from clipzoo.report.content.records import RunRecords

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset

_MOST_SIZES = 2000  # images whose size is looked up


def data_part(run: RunRecords, data: Dataset | None) -> dict[str, Any]:
    """The numbers of cases and groups of every class and fold, and of equal images; empty for a baseline."""
    folds = run.folds
    if folds is None:
        return {}
    names = list(folds.classes) or [""]
    by_class: dict[int, list] = defaultdict(list)
    for case in folds.cases:
        for label in case.classes or (() if folds.classes else (0,)):
            by_class[label].append(case)
    fold_of = {case_id: split.name for split in folds.splits for case_id in split.test}
    rows = []
    for label, name in enumerate(names):
        tested = Counter(fold_of.get(case.id) for case in by_class[label])
        groups = len({case.group for case in by_class[label]})
        rows.append(
            {
                "class": name,
                "cases": len(by_class[label]),
                "groups": groups,
                "tested": {split.name: tested[split.name] for split in folds.splits},
            }
        )
    return {
        "cases": len(folds.cases),
        "groups": len({case.group for case in folds.cases}),
        "without_class": sum(not case.classes for case in folds.cases) if folds.classes else 0,
        "classes": rows,
        "parts": {split.name: {part: len(getattr(split, part)) for part in ("train", "val", "test")} for split in folds.splits},
        "splits": dict(folds.spec),
        "equal_images": _equal_images(run),
        "sizes": {} if data is None else _sizes(data),
        "captions": 0 if data is None else len(data.captions.sentences),
    }


def _equal_images(run: RunRecords) -> dict[str, int]:
    """Images whose bytes equal those of another one: how many, in how many sets, and sets of several classes."""
    fingerprint = run.fingerprint
    if fingerprint is None:
        return {}
    sets = defaultdict(list)
    for mark in fingerprint.cases.values():
        sets[mark.image].append(mark.label)
    several = [labels for labels in sets.values() if len(labels) > 1]
    return {"images": sum(map(len, several)), "sets": len(several), "of_several_classes": sum(len(set(labels)) > 1 for labels in several)}


def _sizes(data: Dataset) -> dict[str, float]:
    """Smallest, median and largest longer side of the images in pixels, of evenly chosen ones if there are many; empty if unknown."""
    from PIL import Image

    images = data.single_images
    step = max(-(-len(images) // _MOST_SIZES), 1)
    sides = []
    for row in range(0, len(images), step):
        source = images.source_of(row)
        try:
            if source is not None:
                with Image.open(source) as image:
                    sides.append(max(image.size))
        except (OSError, ValueError, Image.DecompressionBombError):  # DICOM, or a file that has changed
            continue
    return {"images": len(sides), "low": min(sides), "median": statistics.median(sides), "high": max(sides)} if sides else {}
