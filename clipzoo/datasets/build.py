"""The dataset and the folds that a config describes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from clipzoo.config.settings import DataSettings
from clipzoo.datasets.base import Dataset
from clipzoo.datasets.views import with_views
from clipzoo.registries import DATASETS, SPLITTERS
from clipzoo.watching import Show, shown_by

if TYPE_CHECKING:
    from clipzoo.config import Config
    from clipzoo.datasets.inspection.near_duplicates import Run
    from clipzoo.records.folds import Folds


def build_dataset(config: Config, *, run: Run | None = None, is_dry: bool = False, show: Show | None = None) -> Dataset:
    """The dataset that section ``data`` describes: nearly equal images in one group, and several images per case, if it says so.

    Args:
        config: A checked config.
        run: See ``join_near_duplicates``.
        is_dry: Whether nothing may be written, also not in the cache folder.
        show: Shows the progress of long work, which is done once: indexing shards, and the search for near duplicates.

    Raises:
        DataError: The data cannot be read, or contradict themselves.
    """
    settings = DataSettings.of(config)
    with shown_by(show):
        images = DATASETS.build(config.data.dataset)
        if settings.near_duplicates == "group":
            from clipzoo.datasets.inspection.near_duplicates import join_near_duplicates

            join_near_duplicates(images, run=run, is_dry=is_dry)
    return with_views(images, settings)


def build_folds(config: Config, data: Dataset) -> Folds:
    """Split all cases of ``data`` into folds, as section ``splits`` describes.

    Raises:
        DataError: The data cannot be split so.
    """
    folds = SPLITTERS.build(config.splits).split(data.cases, data.classes)
    return replace(folds, notes=(*folds.notes, *data.single_images.group_notes))
