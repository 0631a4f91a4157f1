"""The common part of all loaded models: features of images, and a description."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from clipzoo.datasets.batches.image_list import ImageLike, ImageReader, Loaded, Preprocess, batches, listed, rgb, whole
from clipzoo.errors import BuildError, DataError
from clipzoo.features.digest import feature_digest
from clipzoo.models.modules import evaluating
from clipzoo.models.pooling import in_full, mean_per_case
from clipzoo.runtime import device as runtime
from clipzoo.structures import Batch, Predictions

if TYPE_CHECKING:
    from PIL import Image

    from clipzoo.datasets.transforms import Transform
    from clipzoo.inference.restore import Restored
    from clipzoo.models.base import Model


_SINGLE = (
    "the model was trained on several images per case (data.views), but here every image is a case. Pass a list of images for each "
    "case, or predict --by-folder"
)


@dataclass(frozen=True)
class Classification:
    """The classification of N images into C classes.

    Attributes:
        classes: Names of the C classes.
        probabilities: ``[N, C]`` fp32, each row summing to 1; of findings, each in [0, 1] on its own.
        multi_label: Whether the classes are findings, of which an image may have several or none.
    """

    classes: tuple[str, ...]
    probabilities: Tensor
    multi_label: bool = False

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def predictions(self) -> list[str]:
        """The most probable class of every image.

        Raises:
            DataError: The classes are findings.
        """
        if self.multi_label:
            raise DataError(
                "predictions: the classes are findings, of which an image may have several or none. Use probabilities; the "
                "thresholds in result.json of a fold are for the probabilities of its own model"
            )
        return [self.classes[i] for i in self.probabilities.argmax(dim=1).tolist()]

    def top(self, k: int = 5) -> list[list[tuple[str, float]]]:
        """The ``k`` most probable classes of every image with their probabilities, best first."""
        values, ids = self.probabilities.sort(dim=1, descending=True, stable=True)
        return [
            [(self.classes[i], p) for i, p in zip(row_ids[:k], row[:k], strict=True)]
            for row_ids, row in zip(ids.tolist(), values.tolist(), strict=True)
        ]

    @classmethod
    def mean(cls, results: Sequence[Classification]) -> Classification:
        """The mean probability of several models, computed in fp64.

        Raises:
            DataError: The models have different classes.
        """
        if any(result.classes != results[0].classes for result in results):
            raise DataError("ensemble: the models have different classes, so their probabilities cannot be averaged")
        joint = torch.stack([result.probabilities.double() for result in results]).mean(dim=0)
        return cls(results[0].classes, joint.float(), results[0].multi_label)


def features_only(features: Tensor) -> Batch:
    """A batch of ``[B, F]`` outputs of the image tower, for ``Model.predict``."""
    rows = torch.arange(len(features), device=features.device)
    return Batch(images=features[:, :0], labels=torch.full_like(rows, -1), cases=rows, features=features)


class LoadedModel:
    """A model with its own preprocessing. Features are fp32, of length 1, and on the CPU.

    No method changes the model, so several threads may share it.

    Args:
        restored: The model, and the metadata of its source.
        precision: ``'fp32'``, ``'bf16'`` or ``'fp16'``.

    Attributes:
        model: The model, in evaluation mode. You may train it further: the methods below always evaluate, but only one at a time while it
            is in training mode.
        source: Description of its origin.
        classes: Classes it was trained on; empty for image-text pairs and published models.
        class_captions: Sentences of each class.
        preprocess: Function from any Pillow image to the ``[3, size, size]`` tensor that ``model`` expects.
        precision: Precision of the computation.
        reads_texts: Whether images can be compared with any text.
        several_images: Whether it was trained on several images per case (``data.views``).
    """

    reads_texts: ClassVar[bool] = False

    def __init__(self, restored: Restored, *, precision: str = "fp32"):
        self.model: Model = restored.model
        self.source = restored.source
        self.classes, self.class_captions = restored.classes, restored.class_captions
        self.preprocess = Preprocess(restored.model.preprocessing)
        self.precision = precision
        self._channels_last, self.several_images = restored.channels_last, restored.several_images

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return next(self.model.parameters()).device

    @property
    def digest(self) -> str:
        """32 hexadecimal digits for architecture, weights, preprocessing and precision: equal digests mean equal features."""
        return self.digest_of()

    def digest_of(self, *, on_device: bool = False) -> str:
        """The digest, optionally for the type of device; see ``feature_digest``."""
        return feature_digest(self.model, self.preprocess.preprocessing, precision=self.precision, on_device=on_device)

    def require_image_features(self) -> None:
        """Refuse a model that cannot encode images.

        Raises:
            BuildError: The model has no method ``encode_image``.
        """
        if self.model.lacks("encode_image"):
            raise BuildError(f"{self.source}: {type(self.model).__name__} cannot encode images, as it has no method encode_image")

    def encode_image(
        self,
        images: ImageLike | Sequence[ImageLike],
        batch_size: int = 64,
        num_workers: int = 0,
        *,
        transform: Transform | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Tensor:
        """``[N, D]`` features of images.

        Args:
            images: Paths, Pillow images, or tensors ``[3, H, W]`` or ``[N, 3, H, W]`` that are not normalised (uint8 in 0 … 255, or float
                in 0 … 1): one, or a list that may mix them.
            batch_size: Images per batch.
            num_workers: Worker processes that read and preprocess images; 0 reads in this process.
            transform: Replacement for ``preprocess``: function from an upright RGB Pillow image to a normalised tensor.
            progress: Function called with the number of images done, after each batch.

        Raises:
            DataError: A file is missing or cannot be decoded (the message names it), or an item is not an image.
            BuildError: The model cannot encode images.
        """
        self.require_image_features()
        reader = ImageReader(listed(images), transform or self.preprocess)
        found = [self.image_features(batch.images) for batch in whole(batches(reader, batch_size, num_workers), progress)]
        return torch.cat(found)

    def decoded(self, images: ImageLike | Sequence[ImageLike]) -> list[Image.Image]:
        """Images as upright RGB with 8 bits per channel: what ``preprocess`` makes the input of the tower from.

        Args:
            images: See ``encode_image``.

        Raises:
            DataError: A file is missing or cannot be decoded, or an item is not an image.
        """
        return [rgb(item) for item in listed(images)]

    def image_features(self, images: Tensor) -> Tensor:
        """``[B, D]`` features of preprocessed, normalised images ``[B, 3, H, W]``."""
        with self._evaluating():
            features = self.model.encode_image(self.on_device(images)).float().cpu()
        return features.clone()  # no inference tensor, so that a classifier can be trained on it

    def describe(self) -> list[str]:
        """Lines that describe source, towers, preprocessing and classes."""
        images = self.preprocess.preprocessing
        lines = [self.source, *self.model.describe()]
        lines.append(f"images {images.size} px, {images.interpolation}, {images.fit}; {self.device} {self.precision}")
        if self.classes:
            lines.append(f"{len(self.classes)} classes: {', '.join(self.classes)}")
        return lines

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source})"

    def _predicted(
        self,
        reader: ImageReader,
        sizes: Sequence[int] | None,
        encoded: object,
        names: Sequence[str],
        batch_size: int,
        num_workers: int,
        progress: Callable | None,
        *,
        calibrated: bool,
    ) -> Classification:
        """The probabilities of all images of ``reader``, or of all cases of ``sizes`` images each.

        Args:
            reader: Images.
            sizes: Number of images of each case; ``None`` if every image is one.
            encoded: Result of ``encode_classes``.
            batch_size: Images per batch.
            num_workers: See ``encode_image``.
            progress: See ``encode_image``.
            calibrated: Whether to apply the model's calibration.
        """
        if sizes is None and self.several_images:
            warnings.warn(_SINGLE, stacklevel=3)
        temperature = self.model.calibration if calibrated else 1.0
        read = whole(batches(reader, batch_size, num_workers), progress)
        found = (
            [self._logits(batch, encoded) for batch in read] if sizes is None else self._logits_of_cases(read, sizes, encoded, batch_size)
        )
        logits = torch.cat(found) / temperature
        predictions = Predictions(np.arange(len(logits)), np.full(len(logits), -1, dtype=np.int64), logits.numpy())
        several = self.model.multi_label
        found = predictions.finding_probabilities if several else predictions.probabilities
        return Classification(tuple(names), torch.from_numpy(found), several)

    def _logits(self, batch: Loaded, encoded: object) -> Tensor:
        images = self.on_device(batch.images)
        rows = torch.tensor(batch.rows, device=images.device)
        with self._evaluating():
            return self.model.predict(Batch(images=images, labels=torch.full_like(rows, -1), cases=rows), encoded).float().cpu()

    def _logits_of_cases(self, read: Iterable[Loaded], sizes: Sequence[int], encoded: object, batch_size: int) -> list[Tensor]:
        """The logits of cases with several images each, whose tower features are averaged, as in training with ``data.views``."""
        if not self.model.takes_views or not self.model.takes_features:
            raise BuildError(
                f"{self.source}: {type(self.model).__name__} does not support several images per case. Pass a plain list of images"
            )
        with self._evaluating():
            features_IF = torch.cat([in_full(self.model.tower_features(self.on_device(batch.images))).cpu() for batch in read])
            pooled = mean_per_case(features_IF, torch.tensor(sizes)).split(batch_size)
            return [self.model.predict(features_only(part.to(self.device)), encoded).float().cpu() for part in pooled]

    def represent_classes(self) -> object | None:
        """The representation of ``classes`` for ``Model.predict``, whose result can be differentiated; ``None`` if the model needs none."""
        return None

    def on_device(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` images on the model's device, in its memory format."""
        images = images.to(self.device, non_blocking=True)
        return images.contiguous(memory_format=torch.channels_last) if self._channels_last else images

    @contextmanager
    def differentiating(self) -> Iterator[None]:
        """Evaluation mode with gradients, always in full precision: for explanations, which differentiate the model without changing it."""
        with torch.inference_mode(False), torch.enable_grad(), evaluating(self.model), torch.autocast(self.device.type, enabled=False):
            yield

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        autocast = runtime.DTYPES[self.precision]
        with torch.inference_mode(), evaluating(self.model), torch.autocast(self.device.type, autocast, enabled=autocast is not None):
            yield
