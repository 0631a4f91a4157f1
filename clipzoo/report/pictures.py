"""Small pictures of cases inside the page, up to a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from clipzoo.errors import ClipzooError
from clipzoo.pictures.data_uri import thumbnail_uri
from clipzoo.report.blocks import Picture

if TYPE_CHECKING:
    from PIL import Image

    from clipzoo.datasets.base import Dataset
    from clipzoo.report.words import Words

PIXELS = 176  # longer side
MOST_BYTES = 3_000_000  # of all pictures in a page, as they are written in it
_MOST_VIEWS = 4  # images of a case with several


class Pictures:
    """Pictures of the cases of a dataset as data URIs; each image is read once.

    Args:
        data: The dataset; ``None`` if it cannot be read.
        problem: Why it cannot be read.
        overlays: Explanations by case id and by what is explained; see ``evidence``.
    """

    def __init__(self, data: Dataset | None, problem: str = "", overlays: Mapping[tuple[str, str], Image.Image] | None = None):
        self._data, self._problem = data, problem
        self._overlays = overlays or {}
        self._made: dict[str, list[Picture]] = {}
        self._bytes = 0

    @property
    def explains(self) -> bool:
        """Whether some cases have an explanation."""
        return bool(self._overlays)

    def of(self, case_id: str, explained: str = "") -> list[Picture]:
        """The pictures of a case, and the explanation of ``explained``; empty if it cannot be read or the budget is spent."""
        if case_id not in self._made:
            self._made[case_id] = self._make(case_id)
        overlay = self._overlays.get((case_id, explained))
        shown = self._made[case_id]
        last = self._picture(lambda: overlay, explained) if overlay is not None and shown else None
        return [*shown, last] if last is not None else shown

    def _make(self, case_id: str) -> list[Picture]:
        data = self._data
        if data is None:
            return []
        if case_id in data.rows:
            images, rows = data.single_images, list(data.image_rows(data.rows[case_id]))
        else:  # a group whose images were joined
            images = data.single_images
            rows = [row for row, case in enumerate(data.cases) if case.group == case_id]
        found = [self._picture(lambda row=row: images.read_image(row), "") for row in rows[:_MOST_VIEWS]]
        return [picture for picture in found if picture is not None]

    def _picture(self, read: Callable[[], Image.Image], caption: str) -> Picture | None:
        if self._bytes >= MOST_BYTES:
            return None
        try:
            uri = thumbnail_uri(read(), PIXELS)
        except ClipzooError:  # missing or changed since the training
            return None
        self._bytes += len(uri)
        return Picture(uri, caption)

    def notes(self, words: Words) -> list[str]:
        """Why pictures are missing."""
        if self._data is None:
            return [words("no_pictures", why=self._problem)] if self._problem else []
        return [words("budget_spent", megabytes=f"{MOST_BYTES / 1e6:g}")] if self._bytes >= MOST_BYTES else []
