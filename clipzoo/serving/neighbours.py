"""The training cases whose features are nearest to those of an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipzoo.engine.work_dir import is_experiment, read_experiment
from clipzoo.pictures.data_uri import thumbnail_uri
from clipzoo.records.folds import Folds

if TYPE_CHECKING:
    from PIL import Image

    from clipzoo.datasets.base import Dataset
    from clipzoo.inference.classifier import LoadedClassifier
    from clipzoo.inference.clip import LoadedCLIP

MOST = 5000  # training cases that are encoded, evenly chosen if there are more
_CHUNK = 64
_PIXELS = 96


class Neighbours:
    """Features of training cases.

    Args:
        model: Model that encodes them and the images.
        data: Dataset of the cases.
        case_ids: The training cases.
        progress: Function called with the number of cases encoded so far.

    Attributes:
        case_ids: The encoded cases.
    """

    def __init__(
        self, model: LoadedCLIP | LoadedClassifier, data: Dataset, case_ids: Sequence[str], progress: Callable[[int], None] = lambda n: None
    ):
        self._model, self._data = model, data
        self.case_ids = list(case_ids)[:: max(-(-len(case_ids) // MOST), 1)]
        parts = []
        for start in range(0, len(self.case_ids), _CHUNK):
            chunk = self.case_ids[start : start + _CHUNK]
            parts.append(model.encode_image([self._image(case_id) for case_id in chunk]).numpy())
            progress(start + len(chunk))
        self._features_ND = np.concatenate(parts)

    def of(self, images: Sequence[Image.Image], k: int = 4) -> list[list[dict[str, Any]]]:
        """For each image its ``k`` nearest training cases, nearest first: ``case_id``, ``label``, cosine ``similarity``, ``picture``."""
        similarity_QN = self._model.encode_image(list(images)).numpy() @ self._features_ND.T
        return [[self._case(int(n), float(row[n])) for n in np.argsort(-row, kind="stable")[:k]] for row in similarity_QN]

    def _case(self, number: int, similarity: float) -> dict[str, Any]:
        case = self._data.cases[self._data.rows[self.case_ids[number]]]
        label = ", ".join(self._data.classes[c] for c in case.classes)
        return {"case_id": case.id, "label": label, "similarity": similarity, "picture": thumbnail_uri(self._image(case.id), _PIXELS)}

    def _image(self, case_id: str) -> Image.Image:
        """The first image of a case."""
        return self._data.read_image(self._data.rows[case_id])


def training_cases(fold_folder: Path) -> tuple[Dataset, tuple[str, ...]] | None:
    """The dataset of a work dir and the training cases of one of its folds; ``None`` for a checkpoint outside a work dir.

    Raises:
        ClipzooError: The data or the records of the work dir cannot be read.
    """
    work_dir = fold_folder.parent
    if not is_experiment(work_dir):
        return None
    experiment, folds = read_experiment(work_dir), Folds.read(work_dir / "folds.json")
    split = next((split for split in folds.splits if split.name == fold_folder.name), None)
    if split is None:
        return None
    data = experiment.dataset()
    return data, tuple(case_id for case_id in split.train if case_id in data.rows)
