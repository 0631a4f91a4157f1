"""From facts to findings: files, pairs and classes, with the limits above which something is worth saying."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from statistics import median

import numpy as np

from clipzoo.datasets.base import Dataset
from clipzoo.datasets.group_hint import group_hint
from clipzoo.datasets.inspection.image_facts import DEEP, FileFact
from clipzoo.datasets.inspection.similar import FLAT, MOST_PAIRS, Pair
from clipzoo.doctor.findings import Finding, Level, Shown
from clipzoo.doctor.places import Places
from clipzoo.doctor.words import Words
from clipzoo.errors import shortened
from clipzoo.records.folds import PARTS

TINY, HUGE = 16, 8000  # pixels: shorter side, longer side
OUTLIER = 4  # times smaller than the median image
IMBALANCE: tuple[tuple[float, Level], ...] = ((10, "warning"), (3, "note"))  # largest class / smallest class
_PAIR_LEVELS: dict[str, tuple[Level, Level]] = {  # of equal, of nearly equal images
    "conflict": ("error", "warning"),
    "leak": ("error", "warning"),
    "groups": ("warning", "warning"),
    "inside": ("note", "note"),
}


def of_files(facts: Sequence[FileFact], words: Words) -> list[Finding]:
    """What is wrong with single files."""
    readable = [fact for fact in facts if not fact.error]
    tiny = max(TINY, median(min(f.width, f.height) for f in readable) / OUTLIER) if readable else TINY
    deep = sum(fact.bits > DEEP for fact in readable)
    mixed = 0 < deep < sum(fact.bits > 0 for fact in readable)
    total = len(facts)
    checks = (
        ("error", "unreadable", lambda f: f.error, lambda f: f.error, {}),
        ("warning", "truncated", lambda f: not f.error and f.incomplete, lambda f: f.kind, {}),
        ("warning", "ending", lambda f: f.wrong_ending, lambda f: f.kind, {}),
        ("warning", "cmyk", lambda f: f.mode == "CMYK", lambda f: f.mode, {}),
        ("warning" if mixed else "note", "mixed_depth" if mixed else "depth", lambda f: f.bits > DEEP, _depth, {"total": total}),
        ("note", "orientation", lambda f: f.orientation != 1, lambda f: str(f.orientation), {}),
        ("warning", "tiny", lambda f: 0 < min(f.width, f.height) < tiny, _size, {"limit": round(tiny)}),
        ("note", "huge", lambda f: max(f.width, f.height) > HUGE, _size, {"limit": HUGE}),
        ("warning", "flat", lambda f: f.thumbnail is not None and f.thumbnail.std() <= FLAT, _size, {}),
    )
    found = []
    for level, check, fits, detail, values in checks:
        cases = tuple(Shown((row,), detail(fact)) for row, fact in enumerate(facts) if fits(fact))
        if cases:
            found.append(Finding(level, check, words(check, n=len(cases), **values), cases))
    return found


def _size(fact: FileFact) -> str:
    return f"{fact.width}x{fact.height}"


def _depth(fact: FileFact) -> str:
    return f"{fact.kind} {fact.bits} bit"


def of_pairs(pairs: Sequence[Pair], places: Places, words: Words, *, accepted: Collection[str] = ()) -> list[Finding]:
    """Equal and nearly equal images, by where they are. A pair is in one finding only, the most serious one.

    Args:
        pairs: Pairs of images.
        places: Places of the images.
        words: Language of the findings.
        accepted: ``'conflict'`` or ``'leak'``, or both, if the config accepts them, so that they are warnings.
    """
    sorted_out: dict[tuple[bool, str], list[Shown]] = defaultdict(list)
    for pair in pairs:
        where, details = _where(pair, places, words)
        how = words(pair.kind, similarity=f"{pair.similarity:.3f}")
        sorted_out[pair.kind in ("bytes", "pixels"), where].append(Shown((pair.first, pair.second), "; ".join([how, *details])))
    found = []
    for exact in (True, False):
        for where, levels in _PAIR_LEVELS.items():
            cases = sorted_out.get((exact, where))
            if cases:
                check = f"{'copies' if exact else 'near'}_{where}"
                level = levels[not exact or where in accepted]
                found.append(Finding(level, check, words(check, n=len(cases)), tuple(cases)))
    if sum(pair.kind in ("near", "mirrored") for pair in pairs) >= MOST_PAIRS:
        found.append(Finding("warning", "too_many_pairs", words("too_many_pairs", n=MOST_PAIRS)))
    return found


def _where(pair: Pair, places: Places, words: Words) -> tuple[str, list[str]]:
    """The kind of place of a pair, and details."""
    a, b = pair.first, pair.second
    details, apart = [], places.apart(a, b)
    conflict = places.conflict(a, b)
    if conflict:
        details.append(f"{places.class_names(a)} | {places.class_names(b)}")
    if apart is not None:
        fold, one, other = apart
        details.append(words("in_fold", fold=fold, one=one, other=other))
    # Without given groups an image is its own group, and the dataset has put its copies into it.
    alone = places.groups[a] == places.ids[a] and places.groups[b] == places.ids[b]
    groups = places.groups[a] != places.groups[b] and not (alone and places.joined[a] == places.joined[b])
    return "conflict" if conflict else "leak" if apart else "groups" if groups else "inside", details


def of_classes(data: Dataset, places: Places, readable: np.ndarray, words: Words) -> list[Finding]:
    """Classes that are absent from parts of the folds, imbalance, and patients that the config does not know.

    Args:
        data: The dataset.
        places: Places of its images.
        readable: ``[N]`` bool: the images that can be decoded.
        words: Language of the findings.
    """
    found = _absent(places, words)
    counts = Counter(label for row, kinds in enumerate(places.kinds) if readable[row] for label in kinds or ())
    if data.task == "classification" and len(counts) > 1:
        (large, most), (small, least) = counts.most_common()[0], counts.most_common()[-1]
        level = next((level for limit, level in IMBALANCE if most / least >= limit), None)
        if level:
            names = {"large": places.classes[large], "small": places.classes[small]}
            found.append(Finding(level, "imbalance", words("imbalance", ratio=f"{most / least:.1f}", most=most, least=least, **names)))
    return [*found, *_patients(data, words)]


def _absent(places: Places, words: Words) -> list[Finding]:
    """Classes without an image in the train, val or test part of a fold."""
    groups: dict[int, set[str]] = defaultdict(set)
    for row, kinds in enumerate(places.kinds):
        for label in kinds or ():
            groups[label].add(places.joined[row])
    absent: dict[tuple[int, str], list[str]] = defaultdict(list)
    for fold, parts_N in zip(places.folds, places.parts.T, strict=True):
        for index, part in enumerate(PARTS):
            rows = np.flatnonzero(parts_N == index)
            present = {label for row in rows for label in places.kinds[row] or ()}
            for label in range(len(places.classes)):
                if len(rows) and label not in present:
                    absent[label, part].append(fold)
    levels: dict[str, Level] = {"train": "error", "val": "note", "test": "error" if len(places.folds) > 1 else "warning"}
    found = []
    for (label, part), folds in sorted(absent.items()):
        values = {"name": places.classes[label], "groups": len(groups[label]), "part": part, "folds": shortened(folds, 4)}
        found.append(Finding(levels[part], "absent", words("absent", **values)))
    return found


def _patients(data: Dataset, words: Words) -> list[Finding]:
    """Names that look as if patients had several images, where every image is its own group."""
    images = data.single_images
    ids = [case.id for case in images.cases]
    if any(images.given_groups.get(case.id, case.group) != case.id for case in images.cases):
        return []
    hint = group_hint(ids, [case.classes for case in images.cases])
    if hint is None:
        return []
    one, other = hint.example
    values = {"one": one, "other": other, "pattern": hint.pattern, "n": len(ids), "groups": hint.num_groups}
    return [Finding("warning", "patients", words("patients", **values))]
