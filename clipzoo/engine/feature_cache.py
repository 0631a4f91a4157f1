"""Features of an image tower, kept on disk: an image that a tower has seen once is not encoded again, whichever run asks.

A row is found by what makes it: the tower (kind, architecture, weights, code), how images are read and prepared, the kind of device, the
versions of the libraries that compute it, and the bytes of the image's file. Where any of them differs there is no row, so a row cannot be
out of date.

Features are computed in full precision and without augmentation: what a tower makes of an image before any projection or normalisation.

Legend: N images · F width of the tower's features · D width of what the model makes of them.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from clipzoo import __version__
from clipzoo.datasets import images, transforms
from clipzoo.datasets.copies import file_digest
from clipzoo.datasets.loader import eval_loader
from clipzoo.datasets.transforms import evaluation_transform
from clipzoo.engine import distributed
from clipzoo.engine.evaluation import evaluating
from clipzoo.engine.image_inputs import ImageReader, batches
from clipzoo.engine.progress import shown
from clipzoo.errors import DataError
from clipzoo.files import write_atomically
from clipzoo.structures import Preprocessing

if TYPE_CHECKING:
    from logging import Logger

    from rich.console import Console

    from clipzoo.datasets.base import Dataset
    from clipzoo.datasets.workers import Loader
    from clipzoo.engine.inference import LoadedCLIP
    from clipzoo.models.base import Tower

Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]

FILE = "features.npz"
_LIBRARIES = ("torch", "torchvision", "timm", "open_clip_torch", "pillow")
# Attributes of a tower, or of a part, that change no feature: how it learns, where its weights come from, its mode, who watches it.
_NO_FEATURE = frozenset(("freeze", "unfreeze_blocks", "weights", "space", "logit_scale", "logit_bias", *vars(torch.nn.Module())))
_IMAGES_BETWEEN_SAVES = 5000  # what an interruption costs at most


@dataclass(frozen=True)
class FeatureStore:
    """Where features are kept, a folder for every tower.

    Attributes:
        folder: ``None`` keeps nothing.
    """

    folder: Path | None

    @classmethod
    def of(cls, where: str | os.PathLike | None) -> FeatureStore:
        """The store that ``runtime.feature_cache`` means: ``'auto'`` is ``$CLIPZOO_CACHE/features``, or ``~/.cache/clipzoo/features``."""
        if where is None:
            return cls(None)
        if where != "auto":
            return cls(Path(os.path.expanduser(where)))
        root = os.environ.get("CLIPZOO_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "clipzoo")
        return cls(Path(os.path.expanduser(root)) / "features")

    def shelf(self, tower: Tower, preprocessing: Preprocessing) -> Shelf:
        """The features of one tower."""
        digest = tower_digest(tower, preprocessing)
        return Shelf(None if self.folder is None else self.folder / digest, tower.num_features)


class Shelf:
    """The features of one tower, by the digest of the image.

    Args:
        folder: Where they are kept; ``None`` for this process's memory alone.
        width: F.
    """

    def __init__(self, folder: Path | None, width: int):
        self.folder, self.width = folder, width
        self.rows: dict[str, np.ndarray] = self._read()
        self.unsaved = 0

    def add(self, digests: Sequence[str], features: np.ndarray) -> None:
        """Put ``[n, F]`` features on the shelf, and on disk from time to time."""
        self.rows.update(zip(digests, features.astype(np.float32), strict=True))
        self.unsaved += len(digests)
        if self.unsaved >= _IMAGES_BETWEEN_SAVES:
            self.save()

    def save(self) -> None:
        """Write what is new, whole or not at all; what another process has written in the meantime is kept.

        A disk that is full or may not be written costs the rows, not the run.
        """
        if self.folder is None or not self.unsaved:
            return
        self.rows = {**self._read(), **self.rows}
        keys = np.array(list(self.rows), dtype="S32")
        features = np.stack(list(self.rows.values()))

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, keys=keys, features=features)

        try:
            write_atomically(self.folder / FILE, write)
        except DataError:
            return
        self.unsaved = 0

    def take(self, digests: Sequence[str]) -> np.ndarray:
        """``[n, F]`` features of images that are on the shelf."""
        return np.stack([self.rows[digest] for digest in digests]) if digests else np.zeros((0, self.width), dtype=np.float32)

    def _read(self) -> dict[str, np.ndarray]:
        """What is on disk; nothing where it is damaged, for then it is computed again."""
        if self.folder is None:
            return {}
        try:
            with np.load(self.folder / FILE, allow_pickle=False) as content:
                keys, features = content["keys"], content["features"]
        except (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile):
            return {}
        if features.dtype != np.float32 or features.shape != (len(keys), self.width):
            return {}
        return dict(zip((key.decode("ascii") for key in keys), features, strict=True))


def tower_digest(tower: Tower, preprocessing: Preprocessing) -> str:
    """32 hexadecimal digits for everything but the image that a feature depends on."""
    kind = type(tower)
    about = {
        "kind": f"{kind.__module__}.{kind.__qualname__}",
        "code": [_code(inspect.getmodule(kind)), _code(images), _code(transforms)],
        "device": next(tower.parameters()).device.type,
        "blueprint": tower.blueprint(),
        "parts": {name: _said_by(part) for name, part in tower.named_modules()},
        "preprocessing": asdict(preprocessing),
        "versions": {"clipzoo": __version__, **{name: version(name) for name in _LIBRARIES}},
    }
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True, default=str).encode(), digest_size=16)
    add_weights(digest, tower)
    kept = tower.state_dict().keys()
    _add_tensors(digest, {name: buffer for name, buffer in tower.named_buffers() if name not in kept})
    return digest.hexdigest()


def add_weights(digest: object, module: torch.nn.Module) -> None:
    """Let names, kinds, shapes and values of all weights and buffers of ``module`` go into a digest of ``hashlib``."""
    _add_tensors(digest, module.state_dict())


def _add_tensors(digest: object, tensors: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tensor.dtype}{list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)


def _said_by(part: torch.nn.Module) -> list:
    """What no weight says of a part of a tower: its class, such as that of an activation, what it prints, and its plain attributes."""
    own = {name: value for name, value in vars(part).items() if name not in _NO_FEATURE and _is_plain(value)}
    return [f"{type(part).__module__}.{type(part).__qualname__}", part.extra_repr(), own]


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    return value is None or type(value) in (bool, int, float, str)


def _code(module: object) -> str:
    """Digest of the file that something is written in: it may change under the same name and version."""
    try:
        return hashlib.blake2b(inspect.getsource(module).encode(), digest_size=8).hexdigest()
    except (OSError, TypeError):  # written in a console
        return ""


def dataset_features(
    tower: Tower,
    data: Dataset,
    rows: np.ndarray,
    store: FeatureStore,
    *,
    device: torch.device,
    batch_size: int,
    num_workers: int,
    progress: Progress | None = None,
) -> np.ndarray:
    """What a tower makes of cases of a dataset; every image that is new to the store is encoded once. All processes share the work.

    Args:
        tower: On ``device``; used in evaluation mode.
        data: The cases.
        rows: ``[N]`` rows of ``data``.
        store: Where to look, and where to keep what is new.
        device: Of the tower.
        batch_size: Images that are encoded together.
        num_workers: Processes that read images.
        progress: Given the number of images to encode, if there are any, it makes a context whose function is told how many are through.

    Returns:
        ``[N, F]`` float32, on every process.

    Raises:
        DataError: An image cannot be read; the message names it.
    """
    shelf: Shelf | None = None  # of the main process

    def plan() -> tuple[dict[int, str], list[int]]:
        nonlocal shelf
        shelf = store.shelf(tower, tower.preprocessing)
        digests = {int(row): data.content_digest(int(row)) for row in rows}
        # In the dataset's order, whatever the parts of a fold: which images share a batch may change a last bit, and folds shall be alike.
        return digests, list({digests[row]: row for row in sorted(digests) if digests[row] not in shelf.rows}.values())

    digest_of, new = distributed.from_main(plan)
    loader = eval_loader(
        data,
        np.array(new, dtype=np.int64),
        evaluation_transform(tower.preprocessing),
        batch_size=batch_size,
        num_workers=num_workers,
        pin_memory=device.type == "cuda",
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )
    elsewhere = []
    with _saving(shelf), closing(loader), progress(len(new)) if progress and new else nullcontext() as through:
        for done, (cases, features) in enumerate(_encoded(tower, loader, device), start=1):
            if shelf is None:
                elsewhere.append((cases, features))
            else:
                shelf.add([digest_of[case] for case in cases], features)
            if through is not None:
                through(min(done * batch_size * distributed.world_size(), len(new)))
        for cases, features in itertools.chain.from_iterable(distributed.gathered(elsewhere)):
            if shelf is not None:
                shelf.add([digest_of[case] for case in cases], features)
    return distributed.from_main(lambda: shelf.take([digest_of[int(row)] for row in rows]))


def features_of_cases(
    tower: Tower, data: Dataset, rows: np.ndarray, store: FeatureStore, *, what: str, console: Console, log: Logger, **options: object
) -> tuple[np.ndarray, int]:
    """The same with progress, as a table of the whole dataset.

    Args:
        tower: As the next three, of ``dataset_features``.
        data: See there.
        rows: See there.
        store: See there.
        what: Is being done, in words.
        console: Where a progress bar goes.
        log: Where lines go, if ``console`` is no terminal.
        options: ``device``, ``batch_size`` and ``num_workers`` of ``dataset_features``.

    Returns:
        ``[N, F]`` float32 of all N cases, 0 in the rows of others; and how many images were encoded now.
    """
    new = 0

    def progress(total: int) -> AbstractContextManager:
        nonlocal new
        new = total
        return shown(what, total, console, log)

    found = dataset_features(tower, data, rows, store, progress=progress, **options)
    table = np.zeros((len(data), found.shape[1]), dtype=np.float32)
    table[rows] = found
    return table, new


@torch.inference_mode()
def _encoded(tower: Tower, loader: Loader, device: torch.device) -> Iterator[tuple[list[int], np.ndarray]]:
    """Cases and ``[B, F]`` features of every batch, in full precision."""
    for batch in loader:
        with evaluating(tower):
            yield batch.cases.tolist(), tower(batch.images.to(device, non_blocking=True)).float().cpu().numpy()


@contextmanager
def _saving(shelf: Shelf | None) -> Iterator[None]:
    """What is on the shelf is on disk afterwards, also if the work was interrupted."""
    try:
        yield
    finally:
        if shelf is not None:
            shelf.save()


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
    loaded: LoadedCLIP,
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
    """
    tower, preprocessing = loaded.model.image_encoder, loaded.model.preprocessing
    shelf = store.shelf(tower, preprocessing)
    digests, failed = _digests(paths)
    rows_of: dict[str, list[int]] = {}
    for row, digest in enumerate(digests):
        if digest and digest not in shelf.rows:
            rows_of.setdefault(digest, []).append(row)
    new = list(rows_of)
    reader = ImageReader([Path(paths[rows_of[digest][0]]) for digest in new], loaded.preprocess)
    through = len(paths) - len(new)
    with _saving(shelf), torch.inference_mode(), evaluating(tower):
        for batch in batches(reader, batch_size, num_workers) if new else ():
            for place, problem in batch.failed.items():
                same = rows_of[new[place]]
                failed |= {row: problem.replace(os.fspath(paths[same[0]]), os.fspath(paths[row]), 1) for row in same}
            if batch.rows:
                features = tower(batch.images.to(loaded.device)).float().cpu().numpy()
                shelf.add([new[place] for place in batch.rows], features)
            through += len(batch.rows) + len(batch.failed)
            if progress is not None:
                progress(through)
    found = [row for row in range(len(paths)) if row not in failed]
    with torch.inference_mode(), evaluating(loaded.model):
        known = torch.from_numpy(shelf.take([digests[row] for row in found])).to(loaded.device)
        made = loaded.model.encode_image(None, known).float().cpu().numpy()
    features = np.full((len(paths), made.shape[1]), np.nan, dtype=np.float32)
    features[found] = made
    return EncodedFiles(features, failed, tuple(digests), len(paths) - len(new))


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
