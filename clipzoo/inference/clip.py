"""Using a trained or published CLIP: features of images and texts, similarities, and classification by texts."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clipzoo.commands import typed
from clipzoo.datasets.batches.image_list import ImageLike, ImageReader, listed, listed_cases
from clipzoo.datasets.captions import Captions, clean
from clipzoo.datasets.files.class_texts import default_template, texts_from_template
from clipzoo.errors import BuildError, DataError
from clipzoo.inference.model import Classification, LoadedModel
from clipzoo.inference.restore import Restored
from clipzoo.structures import ClassCaptions, Tokenizer

if TYPE_CHECKING:
    from clipzoo.datasets.transforms import Transform

Texts = Sequence[str] | Mapping[str, str | Sequence[str]]


def has_text_side(restored: Restored) -> bool:
    """Whether the model can encode texts and compare them with images."""
    return not restored.model.lacks("encode_image", "encode_captions") and restored.model.tokenizer is not None


class LoadedCLIP(LoadedModel):
    """A CLIP with its own preprocessing and tokenizer. Features are fp32, of length 1, and on the CPU. See ``LoadedModel``.

    Raises:
        BuildError: The model has no text side.
    """

    reads_texts = True

    def __init__(self, restored: Restored, *, precision: str = "fp32"):
        if not has_text_side(restored):
            raise BuildError(
                f"{restored.source}: {type(restored.model).__name__} has no text side, so images cannot be compared with texts. "
                f"Score it with: {typed('test')}"
            )
        super().__init__(restored, precision=precision)

    @property
    def tokenizer(self) -> Tokenizer:
        """The text tower's tokenizer, which converts sentences to tokens."""
        return self.model.tokenizer

    @property
    def temperature(self) -> float:
        """The temperature by which similarities are divided before the softmax.

        Raises:
            BuildError: The model has no ``logit_scale``.
        """
        if self.model.log_temperature is None:
            raise BuildError(f"{self.source}: {type(self.model).__name__} has no temperature (no logit_scale)")
        return float(torch.exp(self.model.log_temperature.double()))

    def encode_text(self, sentences: str | Sequence[str], *, allow_overlong: bool = True) -> Tensor:
        """``[N, D]`` features of sentences, which are cleaned as in training.

        Args:
            sentences: One sentence or several.
            allow_overlong: Truncate sentences longer than the text tower's context, with a warning, instead of refusing them.

        Raises:
            DataError: A sentence is empty, or too long without ``allow_overlong``.
        """
        cleaned = _cleaned(sentences)
        distinct = {sentence: row for row, sentence in enumerate(dict.fromkeys(cleaned))}
        self._check_lengths(list(distinct), allow_overlong)
        tokens = self.tokenizer(list(distinct))
        with self._evaluating():
            features = self.model.encode_captions(tokens).float().cpu()
        return features[torch.tensor([distinct[sentence] for sentence in cleaned])].clone()

    def similarity(self, images: ImageLike | Sequence[ImageLike], texts: str | Sequence[str], **options: object) -> Tensor:
        """``[N, M]`` cosine similarities of N images and M sentences; ``options`` are those of ``encode_image``."""
        items = listed(images)
        text_MD = self.encode_text(texts)
        return self.encode_image(items, **options) @ text_MD.T

    def classify(
        self,
        images: ImageLike | Sequence[ImageLike] | Sequence[Sequence[ImageLike]],
        texts: Texts | None = None,
        templates: str | Sequence[str] | None = None,
        *,
        allow_overlong: bool = True,
        batch_size: int = 64,
        num_workers: int = 0,
        transform: Transform | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Classification:
        """The probability of each class: softmax over the similarities to the texts of the classes, with the model's temperature.

        A model that was trained on findings (several labels per image) gives the probability of each text on its own: the sigmoid.

        A calibration (``evaluation.calibrate``) was fitted for the classes and sentences of the training, and is applied to them only: with
        ``texts`` or ``templates`` the probabilities are not calibrated.

        Args:
            images: N images; see ``encode_image``. Or N lists of images, each the views of one case: their features are averaged, as in
                training with ``data.views``.
            texts: Names or sentences, one per class; or ``{class: sentence or sentences}``, whose features are averaged. ``None``: the
                classes and sentences that the model was trained with.
            templates: Sentence or sentences with ``{class_name}``, which is replaced by every text (by every class name if ``texts`` is
                ``None``); their features are averaged. ``'auto'`` is the default template of training in the text tower's language.
            allow_overlong: Truncate texts longer than the text tower's context, with a warning, instead of refusing them.
            batch_size: Images per batch.
            num_workers: Worker processes that read images; 0 reads in this process.
            transform: Replacement for ``preprocess``; see ``encode_image``.
            progress: Function called with the number of images done, after each batch.

        Raises:
            DataError: An image is missing or cannot be decoded, there is only one class, two classes have the same text, a text is too
                long, or ``texts`` is ``None`` and the model has no classes of its own.
        """
        items, sizes = listed_cases(images)
        reader = ImageReader(items, transform or self.preprocess)
        names, encoded = self.encode_classes(texts, templates, allow_overlong=allow_overlong)
        own = texts is None and templates is None
        return self._predicted(reader, sizes, encoded, names, batch_size, num_workers, progress, calibrated=own)

    def encode_classes(
        self, texts: Texts | None = None, templates: str | Sequence[str] | None = None, *, allow_overlong: bool = True
    ) -> tuple[list[str], Tensor]:
        """Names of the C classes, and their prototypes ``[C, D]``, on the model's device; see ``classify`` for arguments and errors."""
        names, captions = self._described(texts, templates)
        classes = self._tokenised(names, captions, allow_overlong).to(self.device)
        with self._evaluating():
            return names, self.model.encode_classes(classes)

    def represent_classes(self) -> object | None:
        """See ``LoadedModel.represent_classes``.

        Raises:
            DataError: The model has no classes of its own.
        """
        names, captions = self._described(None, None)
        classes = self._tokenised(names, captions, allow_overlong=True).to(self.device)
        with self.differentiating(), torch.no_grad():
            return self.model.encode_classes(classes)

    def _described(self, texts: Texts | None, templates: str | Sequence[str] | None) -> tuple[list[str], list[list[str]]]:
        """Class names, and the sentences of each class."""
        if texts is None:
            if not self.classes:
                raise DataError(f"{self.source}: has no classes of its own. Pass texts, one for each class")
            names = list(self.classes)
            captions = [[name] for name in names] if templates is not None else [list(found) for found in self.class_captions]
        elif isinstance(texts, str):
            raise DataError(f"texts: a single text ({texts!r}) would always have probability 1. Pass two or more, or use similarity()")
        elif isinstance(texts, Mapping):
            names = [str(name) for name in texts]
            captions = [_cleaned(found, f"texts: class '{name}'") for name, found in texts.items()]
        else:
            names = _cleaned(texts, "texts")
            captions = [[name] for name in names]
        if len(names) == 1:
            raise DataError(f"texts: a single class ('{names[0]}') would always have probability 1. Pass two or more, or use similarity()")
        if templates is None:
            return names, captions
        patterns = [templates] if isinstance(templates, str) else list(templates)
        if patterns == ["auto"]:
            patterns = [default_template(names, getattr(self.tokenizer, "languages", ()))[0]]
        if not patterns:
            raise DataError("templates: the list is empty. Omit it, or pass sentences that contain {class_name}")
        return names, [[text for p in patterns for (text,) in texts_from_template(p, found, "templates")] for found in captions]

    def _tokenised(self, names: Sequence[str], captions: Sequence[Sequence[str]], allow_overlong: bool) -> ClassCaptions:
        table, ids = Captions.of_classes(captions)
        self._check_lengths(table.sentences, allow_overlong)
        return ClassCaptions.of(table.tokenise(self.tokenizer, "texts", classes=names), ids)

    def _check_lengths(self, sentences: Sequence[str], allow_overlong: bool) -> None:
        """Warn of sentences that will be truncated, or refuse them."""
        longest = self.tokenizer.context_length
        counts = [(self.tokenizer.count(sentence), sentence) for sentence in sentences]
        overlong = [(count, sentence) for count, sentence in counts if count > longest]
        if not overlong:
            return
        count, sentence = overlong[0]
        others = f" (and {len(overlong) - 1} more)" if len(overlong) > 1 else ""
        what = f"texts: '{sentence[:40]}{'…' * (len(sentence) > 40)}' has {count} tokens, but only {longest} fit{others}"
        if not allow_overlong:
            raise DataError(f"{what}. Shorten it, or pass allow_overlong=True to truncate it")
        warnings.warn(f"{what}; the rest is ignored", stacklevel=3)


def _cleaned(sentences: str | Sequence[str], where: str = "texts") -> list[str]:
    """One sentence or several, cleaned as in training.

    Raises:
        DataError: There is no sentence, or one is empty or not a string.
    """
    if not isinstance(sentences, Iterable):
        raise DataError(f"{where}: {sentences!r} is not a text")
    given = [sentences] if isinstance(sentences, str) else list(sentences)
    if not given:
        raise DataError(f"{where}: there is no text. Pass one or more sentences")
    others = [item for item in given if not isinstance(item, str)]
    if others:
        raise DataError(f"{where}: {others[0]!r} is not a text")
    cleaned = [clean(sentence) for sentence in given]
    if not all(cleaned):
        raise DataError(f"{where}: the text at position {cleaned.index('')} is empty. Every text needs a word or a sentence")
    return cleaned
