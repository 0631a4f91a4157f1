"""What the server answers: probabilities of images, explanations and the nearest training cases, whatever the transport."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from clipzoo.datasets.files.images import decode, num_pixels
from clipzoo.errors import BuildError, DataError
from clipzoo.explain import explain, explain_classes
from clipzoo.inference.ensemble import FoldEnsemble
from clipzoo.pictures.data_uri import thumbnail_uri

if TYPE_CHECKING:
    from PIL import Image

    from clipzoo.inference.classifier import LoadedClassifier
    from clipzoo.inference.clip import LoadedCLIP
    from clipzoo.serving.neighbours import Neighbours

PIXELS = 320  # longer side of the pictures that are sent back
_TOP = 10  # classes of an image


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Attributes:
        body_bytes: Size of the whole request.
        images: Number of images.
        pixels: Pixels of all images together, as a file of a few kilobytes may hold millions.
        texts: Number of texts.
        characters: Length of a text.
    """

    body_bytes: int = 32_000_000
    images: int = 16
    pixels: int = 100_000_000
    texts: int = 64
    characters: int = 2000


@dataclass(frozen=True)
class Question:
    """A request.

    Attributes:
        images: Names and contents of image files.
        texts: Texts, one per class; empty for the classes of the training.
        explains: Whether to explain the most probable class of every image.
    """

    images: Sequence[tuple[str, bytes]]
    texts: Sequence[str] = ()
    explains: bool = True


class Service:
    """Answers questions with a loaded model, one at a time.

    Args:
        model: Result of ``clipzoo.load``.
        neighbours: Training cases to look for similar ones among; ``None`` for none.
        limits: Limits of a question.
    """

    def __init__(
        self, model: LoadedCLIP | LoadedClassifier | FoldEnsemble, neighbours: Neighbours | None = None, limits: Limits | None = None
    ):
        self.model, self.neighbours, self.limits = model, neighbours, limits or Limits()
        self._lock = Lock()  # one computation at a time: several would only share the same processor

    def describe(self) -> dict[str, Any]:
        """The model, its classes, and the limits."""
        return {
            "model": self.model.describe(),
            "classes": list(self.model.classes),
            "reads_texts": self.model.reads_texts,
            "neighbours": 0 if self.neighbours is None else len(self.neighbours.case_ids),
            "limits": vars(self.limits),
        }

    def answer(self, question: Question) -> dict[str, Any]:
        """Probabilities of every image, best first, with a picture, its explanation and similar training cases.

        Raises:
            DataError: There is no image or text, too many of them, or an image cannot be decoded; the message names it.
            BuildError: The model reads no texts.
        """
        texts = self._texts(question.texts)
        with self._lock:
            images = self._images(question.images)
            found = self.model.classify(images, texts or None)
            best = [row[0][0] for row in found.top(1)]
            overlays = self._explained(images, best, texts) if question.explains else {"pictures": [None] * len(images), "note": ""}
            similar = [[] for _ in images] if self.neighbours is None else self.neighbours.of(images)
        results = [
            {
                "name": name,
                "predictions": [{"class": label, "p": p} for label, p in row],
                "picture": thumbnail_uri(image, PIXELS),
                "explanation": overlay,
                "neighbours": near,
            }
            for (name, _), row, image, overlay, near in zip(
                question.images, found.top(_TOP), images, overlays["pictures"], similar, strict=True
            )
        ]
        return {
            "classes": list(found.classes),
            "multi_label": found.multi_label,
            "results": results,
            "note": " ".join(filter(None, [self._single(), overlays["note"]])),
        }

    def _single(self) -> str:
        """What to say if the model was trained on several images per case."""
        member = next(iter(self.model.members.values())) if isinstance(self.model, FoldEnsemble) else self.model
        return "The model was trained on several images per case (data.views); here each image is one." if member.several_images else ""

    def _images(self, given: Sequence[tuple[str, bytes]]) -> list[Image.Image]:
        if not given:
            raise DataError("images: there is none. Choose one or more image files")
        if len(given) > self.limits.images:
            raise DataError(f"images: {len(given)} files, but at most {self.limits.images} at a time")
        pixels = sum(num_pixels(content) for _, content in given)
        if pixels > self.limits.pixels:
            raise DataError(
                f"images: {pixels / 1e6:.0f} million pixels, but at most {self.limits.pixels / 1e6:g} at a time. Downscale them"
            )
        images = []
        for name, content in given:
            try:
                images.append(decode(content))
            except DataError as error:
                raise DataError(f"{name}: {error}") from error
        return images

    def _texts(self, given: Sequence[str]) -> list[str]:
        texts = [text.strip() for text in given if text.strip()]
        if not texts:
            if not self.model.classes:
                raise DataError("texts: the model has no classes of its own. Write two or more sentences, one per line")
            return []
        if not self.model.reads_texts:
            raise BuildError("texts: the model is a classifier without a text tower. Leave the texts empty")
        if len(texts) > self.limits.texts:
            raise DataError(f"texts: {len(texts)} lines, but at most {self.limits.texts} at a time")
        long = max(map(len, texts))
        if long > self.limits.characters:
            raise DataError(f"texts: a text of {long} characters, but at most {self.limits.characters} are allowed")
        return list(dict.fromkeys(texts))

    def _explained(self, images: Sequence[Image.Image], best: Sequence[str], texts: Sequence[str]) -> dict[str, Any]:
        """Overlays as data URIs, or a note if the model cannot be explained."""
        try:
            found = explain(self.model, images, best) if texts else explain_classes(self.model, images, best)
        except BuildError as error:
            return {"pictures": [None] * len(images), "note": str(error)}
        return {"pictures": [thumbnail_uri(found.on(i, image, longest=PIXELS), PIXELS) for i, image in enumerate(images)], "note": ""}
