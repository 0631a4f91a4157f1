"""Using a trained classifier: the classes of images, and their features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from clipzoo.datasets.batches.image_list import ImageLike, ImageReader, listed
from clipzoo.errors import BuildError
from clipzoo.inference.model import Classification, LoadedModel

if TYPE_CHECKING:
    from clipzoo.datasets.transforms import Transform


class LoadedClassifier(LoadedModel):
    """A model with a classifier of its own and no text side. Features are fp32, of length 1, and on the CPU. See ``LoadedModel``."""

    def classify(
        self,
        images: ImageLike | Sequence[ImageLike],
        texts: object | None = None,
        templates: object | None = None,
        *,
        allow_overlong: bool = True,
        batch_size: int = 64,
        num_workers: int = 0,
        transform: Transform | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Classification:
        """The probability of each of the classes that it was trained on.

        Args:
            images: As for ``encode_image``, as ``batch_size``, ``num_workers``, ``transform`` and ``progress``.
            texts: Must be ``None``, as ``templates``: the classes are those of the training. They are here so that every loaded model is
                called alike, as ``allow_overlong``.

        Raises:
            BuildError: Texts are given.
            DataError: As ``encode_image``.
        """
        for name, given in (("texts", texts), ("templates", templates)):
            if given is not None:
                self._no_text_side(name)
        reader = ImageReader(listed(images), transform or self.preprocess)
        return self._predicted(reader, None, self.classes, batch_size, num_workers, progress)

    def encode_text(self, *_: object, **__: object) -> NoReturn:
        """Not here.

        Raises:
            BuildError: Always.
        """
        self._no_text_side("encode_text")

    def similarity(self, *_: object, **__: object) -> NoReturn:
        """Not here.

        Raises:
            BuildError: Always.
        """
        self._no_text_side("similarity")

    def _no_text_side(self, what: str) -> NoReturn:
        raise BuildError(
            f"{what}: {self.source} is a classifier of {len(self.classes)} classes without a text side. "
            "Leave texts out; to compare with texts, train the model CLIP"
        )
