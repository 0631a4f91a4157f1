"""Features of image files; files with equal content are encoded once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from clipzoo.datasets.batches.image_list import ImageReader, batches
from clipzoo.datasets.files.copies import file_digest
from clipzoo.errors import DataError
from clipzoo.features.store import FeatureStore, Shelf, saving
from clipzoo.models.modules import evaluating

if TYPE_CHECKING:
    from clipzoo.inference.model import LoadedModel


@dataclass(frozen=True)
class EncodedFiles:
    """Features of image files.

    Attributes:
        features: ``[N, D]`` float32 of length 1; NaN in the rows of unreadable files.
        failed: Error messages of unreadable files, by row.
        digests: Digest of the bytes of every file; empty for unreadable files.
        num_cached: Number of images that did not need encoding: cached earlier, or equal to another one.
    """

    features: np.ndarray
    failed: dict[int, str]
    digests: tuple[str, ...]
    num_cached: int


def encode_files(
    loaded: LoadedModel,
    paths: Sequence[str | os.PathLike],
    store: FeatureStore,
    *,
    batch_size: int = 64,
    num_workers: int = 0,
    progress: Callable[[int], object] | None = None,
) -> EncodedFiles:
    """Features of image files; files with equal content are encoded once, and unreadable files are reported instead of raising.

    Args:
        loaded: Result of ``clipzoo.load``.
        paths: N files.
        store: Store to read cached features from and to add new ones to.
        batch_size: Images per batch.
        num_workers: Worker processes that read images.
        progress: Function called with the number of images done, up to N, after each batch.

    Raises:
        BuildError: The model cannot encode images.
    """
    shelf, encode, finish = _steps(loaded, store)
    digests, failed = _digests(paths)
    rows_of: dict[str, list[int]] = {}
    for row, digest in enumerate(digests):
        if digest and digest not in shelf.rows:
            rows_of.setdefault(digest, []).append(row)
    new = list(rows_of)
    reader = ImageReader([Path(paths[rows_of[digest][0]]) for digest in new], loaded.preprocess)
    done = len(paths) - len(new)
    with saving(shelf):
        for batch in batches(reader, batch_size, num_workers) if new else ():
            for place, problem in batch.failed.items():
                same = rows_of[new[place]]
                failed |= {row: problem.replace(os.fspath(paths[same[0]]), os.fspath(paths[row]), 1) for row in same}
            if batch.rows:
                shelf.add([new[place] for place in batch.rows], encode(batch.images).numpy())
            done += len(batch.rows) + len(batch.failed)
            if progress is not None:
                progress(done)
    found = [row for row in range(len(paths)) if row not in failed]
    computed = finish(torch.from_numpy(shelf.take([digests[row] for row in found]))).numpy()
    features = np.full((len(paths), computed.shape[1]), np.nan, dtype=np.float32)
    features[found] = computed
    return EncodedFiles(features, failed, tuple(digests), len(paths) - len(new))


def _steps(
    loaded: LoadedModel, store: FeatureStore
) -> tuple[Shelf, Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]:
    """The shelf of cached features, the function that computes them, and the function that turns them into the model's features.

    A model that accepts features of its image tower shares them with every model that has the same tower; others cache their own features.
    """
    loaded.require_image_features()
    net = loaded.model
    if not net.takes_features:
        return store.shelf_of(loaded.digest_of(on_device=True), None), loaded.image_features, lambda kept: kept

    @torch.inference_mode()
    def encode(images: torch.Tensor) -> torch.Tensor:
        with evaluating(net):
            return net.tower_features(images.to(loaded.device)).float().cpu()

    @torch.inference_mode()
    def finish(kept: torch.Tensor) -> torch.Tensor:
        with evaluating(net):
            return net.encode_image(None, kept.to(loaded.device)).float().cpu()

    return store.shelf(net.image_tower, net.preprocessing), encode, finish


def _digests(paths: Sequence[str | os.PathLike]) -> tuple[list[str], dict[int, str]]:
    """The digest of the bytes of every file, and the error messages of unreadable files."""
    digests, failed = [], {}
    for row, path in enumerate(paths):
        try:
            digests.append(file_digest(os.fspath(path)).hex())
        except DataError as error:
            digests.append("")
            failed[row] = str(error)
    return digests, failed
