"""What is found in a data set, as facts that the rules ask for and lines for the reader."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from statistics import median

from clipzoo.datasets.base import Dataset
from clipzoo.datasets.files.dicom.detect import HEAD, is_dicom
from clipzoo.datasets.group_hint import group_hint
from clipzoo.errors import DataError, shortened
from clipzoo.planning.source import Source
from clipzoo.registries import DATASETS
from clipzoo.text import is_chinese

_LOOKED_AT = 24  # images that are opened
_RADIOGRAPH = 128  # pixels; smaller grey images, such as digits, are no radiographs
_COLOUR = 8  # grey levels of 255 by which channels of a grey JPEG may differ


@dataclass(frozen=True)
class Findings:
    """A data set and what was found in it.

    Attributes:
        source: Kind and spec of the data; the spec may have got a ``group_pattern``.
        data: The dataset.
        facts: Facts for the rules that follow from the data.
        language: Key of ``rules.CLIPS`` for the captions and the images.
        lines: Facts in words: label and value.
        notes: Remarks, one sentence each.
    """

    source: Source
    data: Dataset
    facts: dict[str, object]
    language: str
    lines: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def look(source: Source) -> Findings:
    """Build the dataset, and collect what the rules need. A sample of the images is opened.

    Raises:
        DataError: The data cannot be read, have one class, or a class has one patient only.
    """
    data = DATASETS.build(source.spec)
    source, data, notes = _with_groups(source, data)
    groups = _groups_per_class(data)
    if data.classes:
        _check_classes(source, data, groups)
    counts = Counter(case.label for case in data.cases)
    pixels, grey, kinds = _images(data)
    repeated = len({case.group for case in data.cases}) < len(data)
    facts = {
        "data": source.kind,
        "images": len(data),
        "smallest": min(groups.values()),
        "imbalance": round(max(counts.values()) / min(counts.values()), 1),
        "repeated": "yes" if repeated else "no",
        "mixed": "yes" if _mixed(data) else "no",
        "pixels": pixels,
    }
    chinese = 2 * sum(map(is_chinese, data.captions.sentences)) >= len(data.captions)
    language = "Chinese" if chinese else "English, radiographs" if grey and pixels >= _RADIOGRAPH else "English"
    lines = _lines(facts, data, groups, f"{pixels} px (median longer side), {'grey' if grey else 'colour'}, {kinds}", language)
    return Findings(source, data, facts, language, lines, (*source.notes, *data.notes, *notes))


def _with_groups(source: Source, data: Dataset) -> tuple[Source, Dataset, list[str]]:
    """Group by the names of files if nothing else does and they look like it: a patient in two parts makes scores too good."""
    ids = {case.id for case in data.cases}
    if any(case.group not in ids for case in data.cases) or "groups" in source.spec:
        return source, data, []
    hint = group_hint([case.id for case in data.cases], [case.label for case in data.cases])
    if hint is None:
        return source, data, []
    source = replace(source, spec={**source.spec, "group_pattern": hint.pattern})
    what = f"names look as if patients had several images, such as {hint.example[0]} and {hint.example[1]}"
    note = f"{what}, so group_pattern={hint.pattern!r} keeps them together. Remove it if they are different patients"
    return source, DATASETS.build(source.spec), [note]


def _groups_per_class(data: Dataset) -> dict[int | None, int]:
    groups: dict[int | None, set[str]] = defaultdict(set)
    for case in data.cases:
        groups[case.label].add(case.group)
    return {label: len(found) for label, found in groups.items()}


def _check_classes(source: Source, data: Dataset, groups: dict[int | None, int]) -> None:
    where = source.spec.get("root", source.spec.get("path"))
    if len(data.classes) < 2:
        raise DataError(f"{where}: only one class, '{data.classes[0]}'. Classification needs at least two: add another one")
    few = [data.classes[label] for label, count in sorted(groups.items()) if count < 2]
    if few and source.kind != "given parts":
        one = "patient" if len(data) > sum(groups.values()) else "image"
        advice = "it can be learned or tested, never both. Add images, or remove the class"
        raise DataError(f"{where}: only one {one} in class {shortened(few, 5)}: {advice}")


def _mixed(data: Dataset) -> bool:
    labels: dict[str, set[int | None]] = defaultdict(set)
    for case in data.cases:
        labels[case.group].add(case.label)
    return any(len(found) > 1 for found in labels.values())


def _images(data: Dataset) -> tuple[int, bool, str]:
    """Median longer side, whether all are grey, and the formats, of a sample of the images."""
    import numpy as np

    step = max(1, len(data) // _LOOKED_AT)
    sides, grey, kinds = [], True, Counter()
    for row in range(0, len(data), step):
        content = data.encoded_image(row)
        image = data.decode_image(row, content)
        sides.append(max(image.size))
        small = np.asarray(image.resize((32, 32)), dtype=np.int16)
        grey &= bool(np.ptp(small, axis=2).max() <= _COLOUR)
        kinds[_format(content, data.path_of(row))] += 1
    return int(median(sides)), grey, ", ".join(kind for kind, _ in kinds.most_common())


def _format(content: bytes, path: os.PathLike) -> str:
    return "DICOM" if is_dicom(content[:HEAD]) else os.path.splitext(path)[1].lower().lstrip(".") or "no ending"


def _lines(facts: dict, data: Dataset, groups: dict[int | None, int], images: str, language: str) -> tuple[tuple[str, str], ...]:
    num_groups = len({case.group for case in data.cases})
    patients = f"{num_groups} patients or other groups" if facts["repeated"] == "yes" else "no groups: every image counts as a patient"
    lines = [("data", str(facts["data"])), ("images", f"{len(data)}; {images}"), ("patients", patients)]
    if data.classes:
        counts = Counter(case.label for case in data.cases)
        each = shortened([f"{name} {counts[label]}" for label, name in enumerate(data.classes)], 12)
        lines.append(("classes", f"{len(data.classes)}: {each}; largest / smallest {facts['imbalance']:g}"))
    else:
        lines.append(("captions", f"{len(data.captions)} distinct"))
    return (*lines, ("language", language.partition(",")[0]))
