"""Nearly equal images in one group, so that no fold learns from one and is tested on the other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, replace

from clipzoo.datasets.base import Dataset
from clipzoo.datasets.file_dataset import reads_files
from clipzoo.datasets.files.groups import merge_groups
from clipzoo.datasets.inspection.image_facts import MOST_WORKERS, FileFact, fact_of, facts_of
from clipzoo.datasets.inspection.remembered import read_remembered, record_of, remember
from clipzoo.datasets.inspection.similar import MOST_PAIRS, find_pairs
from clipzoo.errors import DataError, shortened
from clipzoo.watching import working

FOLDER = "near_duplicates"  # in the cache folder
_VERSION = 1  # of the search; a higher one searches again
_TURN_SECONDS = 1.0

Search = Generator[None, None, list[list[int]]]
Run = Callable[[Search], list[list[int]]]


@dataclass(frozen=True)
class FoundPairs:
    """What is remembered of a search.

    Attributes:
        pairs: Rows of equal and of nearly equal images; see ``find_pairs``.
    """

    pairs: list[list[int]]


def join_near_duplicates(images: Dataset, *, run: Run | None = None, is_dry: bool = False) -> None:
    """Join the groups of equal and nearly equal images, also mirrored ones, and add a note to the dataset and to its folds.

    The first search decodes all images; its result is remembered in the cache folder. Images that cannot be decoded are left alone.

    Args:
        images: Dataset of single images, whose groups are changed.
        run: Function that returns the result of the search, which takes turns; with several processes ``distributed.in_turns``, so that
            only one searches. ``None``: this process searches.
        is_dry: Whether nothing is remembered.

    Raises:
        DataError: There are so many pairs that the search was not finished.
    """
    pairs = (run or _run_alone)(_search(images, is_dry))
    ids = [case.id for case in images.cases]
    groups = {case.id: case.group for case in images.cases}
    apart = [[ids[a], ids[b]] for a, b in pairs if groups[ids[a]] != groups[ids[b]]]
    joined = merge_groups(groups, apart)
    images.given_groups = images.given_groups or groups
    images.cases = tuple(replace(case, group=joined[case.id]) for case in images.cases)
    images.group_notes += (_note(apart, joined),)
    images.notes += images.group_notes[-1:]


def _run_alone(search: Search) -> list[list[int]]:
    while True:
        try:
            next(search)
        except StopIteration as end:
            return end.value


def _search(images: Dataset, is_dry: bool) -> Search:
    """Rows of equal and nearly equal images, remembered or found now. What a subclass makes of files is not remembered by the files."""
    record = record_of(images, FOLDER, _VERSION) if reads_files(images) else None
    known = read_remembered(FoundPairs, record)
    if known is not None:
        return known.pairs
    facts: list[FileFact] = []
    turn = time.monotonic()
    with working("near duplicates", len(images), "images") as done:
        for portion in facts_of(images, range(len(images)), min(os.cpu_count() or 1, MOST_WORKERS), fact_of):
            facts += portion
            done(len(facts))
            if time.monotonic() - turn > _TURN_SECONDS:
                yield
                turn = time.monotonic()
    found = find_pairs(facts)
    if sum(pair.kind in ("near", "mirrored") for pair in found) >= MOST_PAIRS:
        raise DataError(
            f"data.near_duplicates: more than {MOST_PAIRS} pairs of images are nearly equal, too many to be copies. "
            "Remove data.near_duplicates, and set groups (data.dataset.groups or group_pattern)"
        )
    pairs = [[pair.first, pair.second] for pair in found]
    if not is_dry and not any(fact.error for fact in facts):
        remember(record, asdict(FoundPairs(pairs)))
    return pairs


def _note(apart: Sequence[Sequence[str]], joined: dict[str, str]) -> str:
    if not apart:
        return "No nearly equal images are in two groups (data.near_duplicates='group')."
    sets: dict[str, list[str]] = {}
    for case_id in sorted({case_id for pair in apart for case_id in pair}):
        sets.setdefault(joined[case_id], []).append(case_id)
    first = next(iter(sets.values()))
    number = sum(map(len, sets.values()))
    return f"{len(sets)} sets of nearly equal images ({number} images) share a group (data.near_duplicates='group'): {shortened(first, 3)}."
