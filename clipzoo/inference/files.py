"""What a model makes of image files, each content encoded once."""

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
from clipzoo.models.base import evaluating

if TYPE_CHECKING:
    from clipzoo.inference.model import LoadedModel


@dataclass(frozen=True)
class EncodedFiles:
    """What a model makes of image files.

    Attributes:
        features: ``[N, D]`` float32 of length 1; NaN in the rows of files that cannot be read.
        failed: What is wrong with those, by row.
        digests: Of every file's bytes; empty where it cannot be read.
        num_cached: How many images were not encoded now: known already, or the same as another one.
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
    """Features of image files, each content encoded once; files that cannot be read are said and not raised.

    Args:
        loaded: What ``clipzoo.load`` returned.
        paths: N files.
        store: Where to look, and where to keep what is new.
        batch_size: Images that are encoded together.
        num_workers: Processes that read images.
        progress: Told how many of the N images are through, after each batch.

    Raises:
        BuildError: The model makes no features of images.
    """
    shelf, encode, finish = _steps(loaded, store)
    digests, failed = _digests(paths)
    rows_of: dict[str, list[int]] = {}
    for row, digest in enumerate(digests):
        if digest and digest not in shelf.rows:
            rows_of.setdefault(digest, []).append(row)
    new = list(rows_of)
    reader = ImageReader([Path(paths[rows_of[digest][0]]) for digest in new], loaded.preprocess)
    through = len(paths) - len(new)
    with saving(shelf):
        for batch in batches(reader, batch_size, num_workers) if new else ():
            for place, problem in batch.failed.items():
                same = rows_of[new[place]]
                failed |= {row: problem.replace(os.fspath(paths[same[0]]), os.fspath(paths[row]), 1) for row in same}
            if batch.rows:
                shelf.add([new[place] for place in batch.rows], encode(batch.images).numpy())
            through += len(batch.rows) + len(batch.failed)
            if progress is not None:
                progress(through)
    found = [row for row in range(len(paths)) if row not in failed]
    made = finish(torch.from_numpy(shelf.take([digests[row] for row in found]))).numpy()
    features = np.full((len(paths), made.shape[1]), np.nan, dtype=np.float32)
    features[found] = made
    return EncodedFiles(features, failed, tuple(digests), len(paths) - len(new))


def _steps(
    loaded: LoadedModel, store: FeatureStore
) -> tuple[Shelf, Callable[[torch.Tensor], torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]:
    """Where features of images are kept, what makes them, and what makes the model's own of them.

    A model that takes features of its image tower shares these with all others that have the tower; of another one its own are kept.
    """
    loaded.require_image_features()
    net = loaded.model
    if not net.takes_features:
        return store.shelf_of(loaded.digest_of(on_device=True), None), loaded.image_features, lambda kept: kept

    @torch.inference_mode()
    def encode(images: torch.Tensor) -> torch.Tensor:
        with evaluating(net):
            return net.image_tower(images.to(loaded.device)).float().cpu()

    @torch.inference_mode()
    def finish(kept: torch.Tensor) -> torch.Tensor:
        with evaluating(net):
            return net.encode_image(None, kept.to(loaded.device)).float().cpu()

    return store.shelf(net.image_tower, net.preprocessing), encode, finish


def _digests(paths: Sequence[str | os.PathLike]) -> tuple[list[str], dict[int, str]]:
    """Of every file's bytes, and what is wrong with the files that cannot be read."""
    digests, failed = [], {}
    for row, path in enumerate(paths):
        try:
            digests.append(file_digest(os.fspath(path)).hex())
        except DataError as error:
            digests.append("")
            failed[row] = str(error)
    return digests, failed
