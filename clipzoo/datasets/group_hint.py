"""A hint at groups that were not given: file or folder names that look as if a patient had several images.

Every image without a group counts as a patient of its own. If the names say otherwise, images of one patient are in both train and test
part, and scores are too good. The hint is only a note: names may mislead, and nobody but the user knows.

A part of the names, such as all before the first underscore, is proposed if the groups that it makes are neither too few nor too large,
are not the classes, and the rest of the names recurs, as views and visits do. The limits are chosen so that running numbers (``img_0001`` …
``img_0300``), numbers within a class (``digit_3_0001``) and ImageNet's names (``n01443537_17``) give no hint.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from clipzoo.datasets.files.groups import groups_from_pattern
from clipzoo.errors import DataError

_SEPARATORS = "_- "
_FEWEST_CASES, _FEWEST_GROUPS = 6, 3
_MOST_CASES = 50_000  # more take seconds
_SHARED = 0.2  # share of the images, at least, that share a group with another one
_LARGEST_MEAN = {True: 200, False: 8}  # images per group, with classes and without: without, a group may be a class
_GROUPS_PER_CLASS = 2
_REPEATED = 0.5  # share of distinct rests among the images: views such as AP recur, running numbers do not
_MOST = 0.9
_DATE = re.compile(r"(19|20)\d\d[-_.]?(0[1-9]|1[0-2])[-_.]?([0-2]\d|3[01])")
_COUNTER = re.compile(r"0\d{2,}|\d{3,7}")  # digits that count all images of a class rather than those of a patient
_VIEW = re.compile(
    r"[a-z]{0,4}?(ap|pa|lat|lateral|ll|rl|l|r|left|right|front|side|oblique|axial|pre|post|view)[-_ ]?\d{0,2}|\d{1,2}"
    r"|.{0,3}(正|侧|斜|轴|左|右|前|后)(位|侧|髋|膝|片|像)?\d{0,2}"
)


class Hint(NamedTuple):
    """A proposal.

    Attributes:
        pattern: Value for ``group_pattern`` that matches every case.
        num_groups: Number of groups that it makes.
        example: Ids of two cases that it joins.
    """

    pattern: str
    num_groups: int
    example: tuple[str, str]


def group_note(ids: Sequence[str], labels: Sequence[object]) -> list[str]:
    """The note for a dataset in which every case is its own group; empty if the names give no reason for it.

    Args:
        ids: Case ids (paths with ``/``).
        labels: Class of each case; all equal if there are no classes.
    """
    hint = group_hint(ids, labels)
    if hint is None:
        return []
    one, other = hint.example
    return [
        f"every image is its own group, but names look as if patients had several, such as {one} and {other}. If so, set "
        f"data.dataset.group_pattern={hint.pattern!r}: {len(ids)} images, {hint.num_groups} groups. Otherwise scores are too good"
    ]


def group_hint(ids: Sequence[str], labels: Sequence[object]) -> Hint | None:
    """The coarsest plausible grouping by names.

    Args:
        ids: See ``group_note``.
        labels: See ``group_note``.

    >>> group_hint([f'a/P{n:03d}_{view}.png' for n in range(9) for view in ('AP', 'LL')], [0] * 18)
    Hint(pattern='^([^_]+)_', num_groups=9, example=('a/P000_AP.png', 'a/P000_LL.png'))
    >>> group_hint([f'a/img_{n:04d}.png' for n in range(300)], [0] * 300) is None
    True
    """
    if not _FEWEST_CASES <= len(ids) <= _MOST_CASES:
        return None
    found = [hint for pattern in _patterns(ids) if (hint := _plausible(pattern, ids, labels)) is not None]
    return min(found, key=lambda hint: hint.num_groups, default=None)


def _patterns(ids: Sequence[str]) -> list[str]:
    """Candidates: a folder of each level, all before the first or the last separator, and all up to the first number or its letter."""
    depth = min(case_id.count("/") for case_id in ids)
    folders = [f"^{'[^/]+/' * level}([^/]+)/" for level in range(depth)]
    before_first = [f"^([^{mark}]+){mark}" for mark in _SEPARATORS]
    before_last = [f"^(.+){mark}[^{mark}]+$" for mark in _SEPARATORS]
    return [*folders, *before_first, r"^(\D*\d+)", *before_last]


def _plausible(pattern: str, ids: Sequence[str], labels: Sequence[object]) -> Hint | None:
    """The hint for a pattern, if the groups that it makes look like patients."""
    try:
        group_of = groups_from_pattern(pattern, list(ids))
    except DataError:
        return None
    members: dict[str, list[str]] = defaultdict(list)
    for case_id in ids:
        members[group_of[case_id]].append(case_id)
    several = {group: cases for group, cases in members.items() if len(cases) > 1}
    shared = sum(map(len, several.values()))
    label_of = dict(zip(ids, labels, strict=True))
    with_classes, classes = len(set(labels)) > 1, {label_of[case_id] for cases in several.values() for case_id in cases}
    if (
        len(members) < _FEWEST_GROUPS
        or len(several) < max(2, _GROUPS_PER_CLASS * len(classes))
        or shared < _SHARED * len(ids)
        or len(ids) > _LARGEST_MEAN[with_classes] * len(members)
        or ("/" not in pattern and not _rests_recur(pattern, several))
    ):
        return None
    first = next(iter(several.values()))
    return Hint(pattern, len(members), (first[0], first[1]))


def _rests_recur(pattern: str, several: dict[str, list[str]]) -> bool:
    """Is what follows the group a view, a side, a visit or a small number, rather than a running number or nothing?"""
    compiled = re.compile(pattern)
    rests = []
    for cases in several.values():
        for case_id in cases:
            name = case_id.rsplit("/", 1)[-1]
            rests.append(name[compiled.search(name).end(1) :].rsplit(".", 1)[0].strip(_SEPARATORS + "()（）"))

    def share(fits: Callable[[str], object]) -> float:
        return sum(bool(fits(rest)) for rest in rests) / len(rests)

    if share(lambda rest: not rest) > 1 - _MOST or share(_COUNTER.fullmatch) > 1 - _MOST:
        return share(_DATE.fullmatch) >= _MOST
    numbered = sum(any(character.isdigit() for character in group) for group in several)
    if numbered < _MOST * len(several) and share(lambda rest: _VIEW.fullmatch(rest.casefold())) < _MOST:
        return False
    return len(set(rests)) <= _REPEATED * len(rests) or share(_DATE.search) >= _MOST
