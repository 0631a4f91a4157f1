"""The ensemble of the models of all folds of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NoReturn

from clipzoo.datasets.batches.image_list import ImageLike, listed_cases
from clipzoo.errors import BuildError
from clipzoo.inference.model import Classification

if TYPE_CHECKING:
    from clipzoo.inference.classifier import LoadedClassifier
    from clipzoo.inference.clip import LoadedCLIP


class FoldEnsemble:
    """The mean probability of the models of several folds.

    Its accuracy on the images of the cross-validation is meaningless, as all but one of the models were trained on each image: use the
    out-of-fold predictions for that, and the ensemble for new images.

    Args:
        members: Loaded models of the folds, by fold name; all have the same classes.
        folder: The work dir.
        unfinished: Names of folds that are not finished and not included.

    Attributes:
        source: Description of the work dir and the included folds.
        classes: Classes that the models were trained on; empty for image-text pairs.
        class_captions: Sentences of each class.
    """

    def __init__(self, members: Mapping[str, LoadedCLIP | LoadedClassifier], folder: str, unfinished: Sequence[str] = ()):
        self.members = dict(members)
        rest = f"; not done yet: {', '.join(unfinished)}" if unfinished else ""
        self.source = f"{folder} (mean probability of {len(self.members)} folds: {', '.join(self.members)}{rest})"
        first = next(iter(self.members.values()))
        self.classes, self.class_captions = first.classes, first.class_captions

    def classify(
        self,
        images: ImageLike | Sequence[ImageLike] | Sequence[Sequence[ImageLike]],
        texts: object | None = None,
        templates: object | None = None,
        *,
        progress: Callable[[int], None] | None = None,
        **options: object,
    ) -> Classification:
        """The mean over the folds of the probability of each class, averaged in fp64.

        Args:
            images: N images, or N lists of images; this and the other arguments are those of ``classify`` of a single model.
            texts: Replacements for the classes.
            templates: Sentences with ``{class_name}``.
            progress: Function called with the number of images classified so far, up to N times the number of folds.
            options: ``allow_overlong``, ``batch_size``, ``num_workers``, ``transform``.

        Raises:
            DataError: An image is missing or cannot be decoded, or there are no texts and no classes.
        """
        items, sizes = listed_cases(images)
        given = items if sizes is None else _split(items, sizes)
        results = []
        for number, member in enumerate(self.members.values()):
            count = None if progress is None else partial(_count_on, progress, number * len(items))
            results.append(member.classify(given, texts, templates, progress=count, **options))
        return Classification.mean(results)

    @property
    def reads_texts(self) -> bool:
        """Whether images can be compared with any text."""
        return next(iter(self.members.values())).reads_texts

    def describe(self) -> list[str]:
        """Log lines: the included folds, then a description of the first model."""
        return [self.source, *next(iter(self.members.values())).describe()[1:]]

    def encode_image(self, *_: object, **__: object) -> NoReturn:
        """Always refused: the models of different folds have different feature spaces.

        Raises:
            BuildError: Always.
        """
        self._no_features("encode_image")

    def encode_text(self, *_: object, **__: object) -> NoReturn:
        """Always refused, like ``encode_image``.

        Raises:
            BuildError: Always.
        """
        self._no_features("encode_text")

    def similarity(self, *_: object, **__: object) -> NoReturn:
        """Always refused, like ``encode_image``.

        Raises:
            BuildError: Always.
        """
        self._no_features("similarity")

    def _no_features(self, what: str) -> NoReturn:
        raise BuildError(
            f"{what}: the models of the folds have different feature spaces, which cannot be averaged. "
            f"Use one of them: .members['{next(iter(self.members))}']"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source})"


def _split(items: Sequence[object], sizes: Sequence[int]) -> list[list[object]]:
    rest = iter(items)
    return [list(islice(rest, size)) for size in sizes]


def _count_on(progress: Callable[[int], None], before: int, done: int) -> None:
    progress(before + done)
