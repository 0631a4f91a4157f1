"""Several images of one case: the views of an examination, or all images of a patient, encoded by one tower and averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from clipzoo.config.settings import DataSettings
from clipzoo.datasets.base import Dataset
from clipzoo.datasets.files.groups import merge_groups
from clipzoo.errors import ConfigError, DataError, did_you_mean
from clipzoo.files import natural
from clipzoo.records.folds import Case

if TYPE_CHECKING:
    from PIL import Image

GROUP = "group"


class Views(Dataset):
    """A dataset whose cases are the groups of another one, or its images with one value of an attribute; made by ``data.views``.

    Byte-identical images do not join the cases of two patients, although their cases are in one group. Images without a group, such as a
    patient, are joined by the attribute alone; with one, only within it.

    The id of a case is that of its first image, in natural order. Its label (or findings) is that of all its images, and its captions are
    theirs together. An attribute has a value for it if all its images with one have the same.

    Args:
        images: The dataset of single images.
        by: ``'group'``, or the name of an attribute, such as the number of the examination; images without a value stand alone.
        most: At most this many images of a case are used at a time in training, drawn anew in every epoch; ``None`` for all.

    Attributes:
        most_images: ``most``.

    Raises:
        ConfigError: There is no such attribute.
        DataError: Images of one case differ in label, findings or given part.

    Source: mean pooling over views as in Su et al. 2015 (arXiv:1505.00880), with the mean of the tower's outputs instead of the maximum.
    """

    def __init__(self, images: Dataset, by: str = GROUP, most: int | None = None):
        if by != GROUP and by not in images.attributes:
            names = (GROUP, *images.attributes)
            advice = "List the column in data.dataset.attributes, or use 'group'"
            raise ConfigError(f"data.views: there is no attribute '{by}'.{did_you_mean(by, names)} Known: {', '.join(names)}. {advice}")
        rows_of = _by_case(images, by)
        self._rows_of_case = {images.cases[rows[0]].id: rows for rows in rows_of}
        # Images of one case are in one group, also without patients and where a copy of one of them has merged two groups.
        ids = [[images.cases[row].id for row in rows] for rows in rows_of]
        groups = merge_groups({case.id: case.group for case in images.cases}, ids)
        joined = [_joined([images.cases[row] for row in rows], by) for rows in rows_of]
        super().__init__(
            [replace(case, group=groups[case.id]) for case in joined],
            images.classes,
            captions=images.captions,
            captions_of_case={
                case_id: list(dict.fromkeys(i for row in rows for i in images.captions_of(row)))
                for case_id, rows in self._rows_of_case.items()
            },
            captions_of_class=images.class_captions(),
            notes=[*images.notes, _note(list(self._rows_of_case.values()), by)],
        )
        self._images, self.most_images = images, most
        for name, values in images.attributes.items():
            if name == by:  # the number of an examination is no subgroup, and may identify a patient
                continue
            joint = {case_id: _common([values.get(images.cases[row].id) for row in rows]) for case_id, rows in self._rows_of_case.items()}
            self.attributes[name] = {case_id: value for case_id, value in joint.items() if value is not None}

    @property
    def single_images(self) -> Dataset:
        """See ``Dataset.single_images``."""
        return self._images

    def image_rows(self, row: int) -> Sequence[int]:
        """See ``Dataset.image_rows``; in natural order of their ids."""
        return self._rows_of_case[self.cases[row].id]

    def image_groups(self) -> list[str]:
        """See ``Dataset.image_groups``."""
        found = [""] * len(self.single_images)
        for row, case in enumerate(self.cases):
            for image in self.image_rows(row):
                found[image] = f"{case.group}\n{case.id}"
        return found

    def read_image(self, row: int) -> Image.Image:
        """The first image of the case in ``row``."""
        return self.single_images.read_image(self.image_rows(row)[0])

    def describe(self) -> list[str]:
        """See ``Dataset.describe``."""
        return [*self.single_images.describe()[:1], *super().describe()]


def with_views(images: Dataset, settings: DataSettings) -> Dataset:
    """``images``, with several of them per case if section ``data`` says so."""
    return images if settings.views is None else Views(images, settings.views, settings.max_views)


def _by_case(images: Dataset, by: str) -> list[list[int]]:
    """The rows of each case's images, in natural order."""
    values = {} if by == GROUP else images.attributes[by]
    found: dict[tuple[str | None, str | None], list[int]] = {}
    for row, case in enumerate(images.cases):
        group = images.given_groups.get(case.id, case.group)
        value = values.get(case.id)
        key = (group, None) if by == GROUP else (None if group == case.id else group, value) if value else (case.id, None)
        found.setdefault(key, []).append(row)
    return [sorted(rows, key=lambda row: natural(images.cases[row].id)) for rows in found.values()]


def _joined(images: Sequence[Case], by: str) -> Case:
    """The case of several images.

    Raises:
        DataError: They differ in what must be the same.
    """
    first = images[0]
    for other in images[1:]:
        kinds = {"label": "classes", "findings": "findings", "part": "given parts"}
        differ = next((word for name, word in kinds.items() if getattr(first, name) != getattr(other, name)), None)
        if differ is not None:
            what = "of one group" if by == GROUP else f"with the same '{by}'"
            raise DataError(
                f"data.views: '{first.id}' and '{other.id}' are {what}, so they would be one case, but their {differ} differ. "
                "Correct them, or remove data.views; evaluation.unit='group' joins predictions instead"
            )
    return first


def _common(values: Sequence[str | None]) -> str | None:
    distinct = {value for value in values if value}
    return distinct.pop() if len(distinct) == 1 else None


def _note(cases: Sequence[Sequence[int]], by: str) -> str:
    sizes = [len(rows) for rows in cases]
    several = sum(size > 1 for size in sizes)
    what = "a group" if by == GROUP else f"a value of '{by}'"
    return (
        f"data.views: a case is all images of {what}: {sum(sizes)} images make {len(sizes)} cases, of {min(sizes)} to {max(sizes)} images, "
        + ("none with several" if not several else f"{several} with several")
    )
