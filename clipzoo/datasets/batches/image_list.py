"""Images passed to a loaded model: files, Pillow images and tensors, one or many, and their conversion to batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms.v2.functional import to_pil_image

from clipzoo.datasets.batches.workers import Loader
from clipzoo.datasets.files.images import read_image, upright_rgb
from clipzoo.datasets.transforms import evaluation_transform
from clipzoo.errors import DataError
from clipzoo.structures import Preprocessing

if TYPE_CHECKING:
    from clipzoo.datasets.transforms import Transform

ImageLike = str | os.PathLike | Image.Image | Tensor
_KINDS = "Pass paths, Pillow images, or tensors [3, H, W] or [N, 3, H, W] (uint8 in 0 … 255, or float in 0 … 1)"


@dataclass(frozen=True)
class Loaded:
    """Images of one batch.

    Attributes:
        rows: Indices of the images in the given list.
        images: ``[B, 3, H, W]`` float32, one image per row.
        failed: Problem of each image that could not be read, by row.
    """

    rows: list[int]
    images: Tensor
    failed: dict[int, str]


class Preprocess:
    """Converts any Pillow image to the input of a tower: upright RGB, then preprocessed as in evaluation.

    Args:
        preprocessing: Preprocessing of the tower.
    """

    def __init__(self, preprocessing: Preprocessing):
        self.preprocessing = preprocessing
        self._transform = evaluation_transform(preprocessing)

    def __call__(self, image: Image.Image) -> Tensor:
        """``[3, size, size]`` float32, normalised."""
        return self._transform(upright_rgb(image))

    def __repr__(self) -> str:
        return f"Preprocess({self.preprocessing})"


def listed(images: ImageLike | Sequence[ImageLike]) -> list[Path | Image.Image | Tensor]:
    """Convert the input to a list with one entry per image, and check that all files exist.

    Raises:
        DataError: There are no images, files are missing (all of them are named), or an entry is not an image.
    """
    single = isinstance(images, (str, os.PathLike, Image.Image, Tensor))
    try:
        given = [images] if single else list(images)
    except TypeError as error:
        raise DataError(f"images: {type(images).__name__} is not an image. {_KINDS}") from error
    items: list[Path | Image.Image | Tensor] = []
    for item in given:
        if isinstance(item, Tensor):
            items += item.unbind(0) if item.ndim == 4 else [item]
        else:
            items.append(Path(item) if isinstance(item, (str, os.PathLike)) else item)
    if not items:
        raise DataError(f"images: empty list. {_KINDS}")
    _check(items)
    return items


def listed_cases(images: object) -> tuple[list[Path | Image.Image | Tensor], list[int] | None]:
    """``listed``, and how many images each case has if ``images`` is a list of lists, one for each case; ``None`` if it is not.

    Raises:
        DataError: A reason of ``listed``; or some entries are lists and others are not.
    """
    given = list(images) if isinstance(images, (list, tuple)) else []
    several = [isinstance(entry, (list, tuple)) for entry in given]
    if not any(several):
        return listed(images), None
    if not all(several):
        where = several.index(False)
        raise DataError(
            f"images: position {where} is not a list, but others are. Pass a list for every case, also for one with a single image"
        )
    empty = [place for place, entry in enumerate(given) if not entry]
    if empty:
        raise DataError(f"images: the list of the case at position {empty[0]} is empty. Every case needs an image")
    cases = [listed(entry) for entry in given]
    return [item for case in cases for item in case], [len(case) for case in cases]


def _check(items: Sequence[object]) -> None:
    missing = [str(item) for item in items if isinstance(item, Path) and not item.is_file()]
    if missing:
        what = "is a folder, not an image" if Path(missing[0]).is_dir() else "no such file"
        others = f" (and {len(missing) - 1} more: {', '.join(missing[1:])})" if len(missing) > 1 else ""
        raise DataError(f"{missing[0]}: {what}{others}")
    for index, item in enumerate(items):
        if isinstance(item, Tensor):
            _check_tensor(item, f"images: the tensor at position {index}")
        elif not isinstance(item, (Path, Image.Image)):
            hint = " Convert arrays with Image.fromarray(array)." if type(item).__name__ == "ndarray" else ""
            raise DataError(f"images: {type(item).__name__} at position {index} is not an image.{hint} {_KINDS}")


def _check_tensor(tensor: Tensor, where: str) -> None:
    """Refuse anything but images in [0, 1] or 0 … 255, above all tensors that are already normalised."""
    if tensor.ndim != 3 or tensor.shape[0] != 3 or not tensor.numel():
        raise DataError(f"{where} has the shape {list(tensor.shape)}. {_KINDS}")
    if tensor.dtype == torch.uint8:
        return
    if not tensor.is_floating_point():
        raise DataError(f"{where} is {str(tensor.dtype).removeprefix('torch.')}. {_KINDS}")
    low, high = float(tensor.min()), float(tensor.max())
    if not (low >= 0 and high <= 1):  # also true for NaN
        raise DataError(
            f"{where} has values from {low:.4g} to {high:.4g}; floats must be in [0, 1]. Divide by 255 if they are in 0 … 255; "
            "images that are already normalised cannot be preprocessed again"
        )


def rgb(item: Path | Image.Image | Tensor) -> Image.Image:
    """Convert an entry of ``listed`` to upright RGB with 8 bits per channel; floats are rounded to 8 bits, as in a file.

    Raises:
        DataError: The image cannot be decoded.
    """
    if isinstance(item, Path):
        return read_image(item)
    if isinstance(item, Tensor):
        pixels = item.detach().cpu()
        return to_pil_image(pixels if pixels.dtype == torch.uint8 else (pixels.float() * 255).round().to(torch.uint8))
    try:
        return upright_rgb(item)
    except DataError as error:  # a file that Pillow opened is decoded only now
        raise DataError(f"{getattr(item, 'filename', '') or 'images: a Pillow image'}: {error}") from error


class ImageReader(TorchDataset):
    """Reads and preprocesses one image; a failure is returned rather than raised, since exceptions change form between processes.

    Args:
        items: Output of ``listed``.
        transform: Function from an RGB Pillow image to ``[3, H, W]``.
    """

    def __init__(self, items: Sequence[Path | Image.Image | Tensor], transform: Transform):
        self.items, self.transform = items, transform

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> tuple[int, Tensor | str]:
        try:
            image = rgb(self.items[row])
        except DataError as error:
            return row, str(error)
        tensor = self.transform(image)
        if not isinstance(tensor, Tensor) or tensor.ndim != 3 or not tensor.is_floating_point():
            shown = f"{tensor.dtype} {list(tensor.shape)}" if isinstance(tensor, Tensor) else type(tensor).__name__
            return row, f"transform: gives {shown}, not a float tensor [3, H, W]. End it with ToImage(), ToDtype(torch.float32, scale=True)"
        return row, tensor.float()


def batches(reader: ImageReader, batch_size: int, num_workers: int) -> Iterator[Loaded]:
    """Yield all images of ``reader`` in order.

    Raises:
        DataError: A Pillow image cannot be decoded although there are workers; other failures are in the batches.
        ProcessError: A worker process died.
    """
    if num_workers:  # an open file is read here: processes would share the place in it
        items = [rgb(item) if isinstance(item, Image.Image) else item for item in reader.items]
        reader = ImageReader(items, reader.transform)
    with closing(Loader(reader, _collate, num_workers, name="images", batch_size=batch_size)) as loader:
        yield from loader


def workers(asked: int | None, images: int) -> int:
    """Number of workers for ``images`` images: as requested, or depending on ``images``, as starting one takes longer than reading few."""
    return min(8, os.cpu_count() or 1, images // 256) if asked is None else asked


def _collate(samples: Sequence[tuple[int, Tensor | str]]) -> Loaded:
    read = [(row, image) for row, image in samples if isinstance(image, Tensor)]
    failed = {row: image for row, image in samples if isinstance(image, str)}
    if len({image.shape for _, image in read}) > 1:
        different = {
            row: f"transform: gives {list(image.shape)} for one image and other sizes for others; all must be equal" for row, image in read
        }
        return Loaded([], torch.empty(0), {**different, **failed})
    return Loaded([row for row, _ in read], torch.stack([image for _, image in read]) if read else torch.empty(0), failed)


def whole(loaded: Iterator[Loaded], progress: Callable[[int], None] | None = None) -> Iterator[Loaded]:
    """The same batches, but every image must be readable.

    Args:
        loaded: Output of ``batches``.
        progress: Function called with the number of finished images after each batch.

    Raises:
        DataError: An image is unreadable.
    """
    done = 0
    for batch in loaded:
        if batch.failed:
            raise DataError(next(iter(batch.failed.values())))
        yield batch
        done += len(batch.rows)
        if progress is not None:
            progress(done)
