"""Using a trained classifier: class probabilities and features of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from clipzoo.datasets.batches.image_list import ImageLike, ImageReader, listed_cases
from clipzoo.errors import BuildError
from clipzoo.inference.model import Classification, LoadedModel

if TYPE_CHECKING:
    from clipzoo.datasets.transforms import Transform


class LoadedClassifier(LoadedModel):
    """A model with its own classifier and no text side. Features are fp32, of length 1, and on the CPU. See ``LoadedModel``."""

    def classify(
        self,
        images: ImageLike | Sequence[ImageLike] | Sequence[Sequence[ImageLike]],
        texts: object | None = None,
        templates: object | None = None,
        *,
        allow_overlong: bool = True,
        batch_size: int = 64,
        num_workers: int = 0,
        transform: Transform | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Classification:
        """The probability of each class that the model was trained on, calibrated if the training did so (``evaluation.calibrate``).

        Of findings (several labels per image), each has a probability on its own.

        Args:
            images: N images; see ``encode_image``. Or N lists of images, each the views of one case: their features are averaged, as in
                training with ``data.views``.
            texts: Must be ``None``, as the classes are those of the training; accepted so that all loaded models are called alike.
            templates: Must be ``None``, likewise.
            allow_overlong: Ignored.
            batch_size: Images per batch.
            num_workers: Worker processes that read images; 0 reads in this process.
            transform: Replacement for ``preprocess``; see ``encode_image``.
            progress: Function called with the number of images done, after each batch.

        Raises:
            BuildError: ``texts`` or ``templates`` is given.
            DataError: An image is missing or cannot be decoded, or an item is not an image.
        """
        for name, given in (("texts", texts), ("templates", templates)):
            if given is not None:
                self._no_text_side(name)
        items, sizes = listed_cases(images)
        reader = ImageReader(items, transform or self.preprocess)
        return self._predicted(reader, sizes, None, self.classes, batch_size, num_workers, progress, calibrated=True)

    def encode_text(self, *_: object, **__: object) -> NoReturn:
        """Always refused: the model has no text side.

        Raises:
            BuildError: Always.
        """
        self._no_text_side("encode_text")

    def similarity(self, *_: object, **__: object) -> NoReturn:
        """Always refused: the model has no text side.

        Raises:
            BuildError: Always.
        """
        self._no_text_side("similarity")

    def _no_text_side(self, what: str) -> NoReturn:
        raise BuildError(
            f"{what}: {self.source} is a classifier of {len(self.classes)} classes without a text side. "
            "Call classify without texts; to compare with texts, train the model CLIP"
        )
