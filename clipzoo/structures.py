"""The data passed between datasets, models and metrics, each field documented with shape, dtype and range.

Legend of the shape suffixes used across the project:
B cases in a batch · I images in a batch · U distinct captions in a batch · L tokens · N cases of a part · C classes · D embedding width ·
M captions of one case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


MEASURE = "in_batch_"
TEXT_CHUNK = 256  # sentences encoded at a time
_PORTION = 1 << 14  # sentences looked at at a time


def is_measure(name: str) -> bool:
    """Is this entry of a model's losses only a measure of the batch, which is reported but not trained? See ``Model.forward``."""
    return name.startswith(MEASURE)


@dataclass(frozen=True)
class Preprocessing:
    """The input format of an image tower; it comes with the tower's weights, and the dataset follows it.

    Attributes:
        size: Height and width in pixels.
        mean: Per-channel mean, of images in [0, 1].
        std: Per-channel standard deviation, of images in [0, 1].
        interpolation: ``'bilinear'`` or ``'bicubic'``.
        fit: How a non-square image is made square. ``'pad'``: the whole image is centred on black. ``'crop'``: the shorter side is
            scaled to ``size`` and the centre is kept, as in OpenAI's CLIP. ``'squash'``: both sides are scaled to ``size``.
    """

    size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"
    fit: str = "pad"


@dataclass(frozen=True)
class Tokens:
    """Tokenised sentences, right-padded to the longest one.

    Attributes:
        ids: ``[N, L]`` int64; of a large table, uint16 or int32, which ``take`` makes int64.
        lengths: ``[N]`` int64 number of tokens per row, including start and end token. For a CLIP vocabulary the end-of-text token is
            at ``lengths - 1``.
    """

    ids: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Tensor) -> Tokens:
        """The given rows, trimmed to the longest one."""
        import torch

        lengths = self.lengths[rows]
        longest = int(lengths.max()) if len(lengths) else 0
        if self.ids.dtype == torch.uint16:  # which torch cannot index on every device
            return Tokens(self.ids.view(torch.int16)[rows, :longest].long() & 0xFFFF, lengths)
        return Tokens(self.ids[rows, :longest].long(), lengths)

    def distinct(self) -> Tensor:
        """``[R]`` int64 ids that occur, in ascending order; a large table is not copied as int64."""
        import torch

        parts = [self.ids[first : first + _PORTION].long().unique() for first in range(0, len(self.ids), _PORTION)]
        return torch.cat(parts).unique() if parts else self.ids.reshape(-1).long()

    def to(self, device, non_blocking: bool = False) -> Tokens:
        """The same tokens on ``device``."""
        return Tokens(self.ids.to(device, non_blocking=non_blocking), self.lengths.to(device, non_blocking=non_blocking))

    def encoded(self, encode: Callable[[Tokens], Tensor], device, chunk: int | None = None) -> Tensor:
        """Encode all sentences in chunks of similar length, which keeps padding small; ``[N, …]``.

        Args:
            encode: Function from tokens on ``device`` to one row per sentence.
            device: Device of the encoder.
            chunk: Sentences per call; ``None`` means 256.
        """
        import torch

        order_N = torch.argsort(self.lengths.cpu(), stable=True)
        parts = [encode(self.take(rows.to(self.ids.device)).to(device)) for rows in order_N.split(chunk or TEXT_CHUNK)]
        return torch.cat(parts)[torch.argsort(order_N).to(device)]

    def pin_memory(self) -> Tokens:
        """The same tokens in page-locked memory; the DataLoader calls this."""
        return Tokens(self.ids.pin_memory(), self.lengths.pin_memory())


class Tokenizer(Protocol):
    """Converts sentences to tokens; every text encoder owns one.

    Attributes:
        context_length: Maximum number of tokens per sentence.

    Optional attributes: ``languages``, those of ``'zh'`` and ``'en'`` that the vocabulary covers; ``unknown_id``, the token for characters
    outside the vocabulary; ``counts``, a method that is ``count`` of many sentences; and ``identity``, a string that changes with anything
    that changes a token, without which the tokens of large tables are not kept between starts.
    """

    context_length: int

    def __call__(self, sentences: list[str]) -> Tokens:
        """Tokenise; longer sentences are truncated to ``context_length`` and keep their end token."""

    def count(self, sentence: str) -> int:
        """The number of tokens of the whole sentence, before truncation."""


@dataclass(frozen=True)
class Batch:
    """One batch of cases; each distinct caption is stored once.

    Attributes:
        images: ``[B, 3, H, W]`` float32, normalised; ``[B, 0]`` if ``features`` replace them. With ``num_images``, ``[I, 3, H, W]``: those
            of the first case, those of the second … With ``draws``, uint8 and not augmented yet.
        labels: ``[B]`` int64 class indices; -1 for cases without a class, and for all cases with findings.
        cases: ``[B]`` int64 rows in the dataset, by which results are matched to cases.
        text: The U distinct captions of the batch (or the whole caption table, if the loss needs it), trimmed; ``None`` in evaluation.
        caption: ``[B]`` int64 rows into ``text``: the caption drawn for each case; -1 for a case without findings, which has none.
        caption_ids: ``[U]`` int64 ids in the dataset's caption table; equal ids mean equal sentences, also across processes.
        caption_labels: ``[U]`` int64 class that each caption describes; -1 for none.
        positive_ids: ``[B, M]`` int64 ids of *all* captions that describe each case, padded with -1.
        features: ``[B, F]`` float32 cached outputs of a frozen image tower, before projection and normalisation.
        findings: ``[B, C]`` float32, for several labels per case: 1 present, 0 absent, -1 unknown.
        partner: ``[B]`` int64 case of the batch that each image is mixed with; ``None`` if images are not mixed.
        share: Scalar float32 in [0, 1]: the share that each mixed image keeps of its own case.
        num_images: ``[B]`` int64, at least 1, for data with several images per case (``Views``): how many each has, I in total.
        draws: ``[I, P]`` float32 random numbers of an augmentation that is still to be done; ``None`` if it is done.
    """

    images: Tensor
    labels: Tensor
    cases: Tensor
    text: Tokens | None = None
    caption: Tensor | None = None
    caption_ids: Tensor | None = None
    caption_labels: Tensor | None = None
    positive_ids: Tensor | None = None
    features: Tensor | None = None
    findings: Tensor | None = None
    partner: Tensor | None = None
    share: Tensor | None = None
    num_images: Tensor | None = None
    draws: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_count(self) -> int:
        """Number of images, I; of cases if features replace their images. Waits for the device if the batch is there."""
        return len(self.labels) if self.num_images is None else int(self.num_images.sum())

    def mixed_loss(self, loss: Callable[[Batch], Tensor]) -> Tensor:
        """``loss`` of the batch; of mixed images, the mean of that for their own cases and that for their partners, with ``share``.

        Args:
            loss: Loss of the images, given a batch whose labels and captions describe them. Only these are used.
        """
        if self.partner is None:
            return loss(self)
        per_case = ("labels", "cases", "caption", "positive_ids", "findings")
        values = {name: getattr(self, name) for name in per_case}
        partners = replace(self, **{name: value if value is None else value[self.partner] for name, value in values.items()})
        return self.share * loss(self) + (1 - self.share) * loss(partners)

    def positives(self) -> Tensor:
        """``[B, U]`` bool: whether caption u describes case b."""
        return positives(self.positive_ids, self.caption_ids)

    def to(self, device, channels_last: bool = False) -> Batch:
        """The same batch on ``device``, copied without blocking; images optionally in channels-last order."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {name: value if value is None else value.to(device, non_blocking=True) for name, value in moved.items()}
        if channels_last and self.features is None:
            import torch

            moved["images"] = moved["images"].contiguous(memory_format=torch.channels_last)
        return Batch(**moved)

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory; the DataLoader calls this."""
        pinned = {f.name: getattr(self, f.name) for f in fields(self)}
        return Batch(**{name: value if value is None else value.pin_memory() for name, value in pinned.items()})


def joined(batches: Sequence[Batch]) -> tuple[Batch, Tensor]:
    """Several training batches merged into one, without images.

    Returns:
        The joint batch, with ``images`` of shape ``[B, 0]`` and ``text`` ``None``; and ``[U]`` int64 first row of each distinct caption
        in the concatenated captions of the batches.
    """
    import torch

    ids = torch.cat([batch.caption_ids for batch in batches])
    caption_ids, place = ids.unique(return_inverse=True)
    rows = torch.full_like(caption_ids, len(ids)).scatter_reduce_(0, place, torch.arange(len(ids), device=ids.device), "amin")
    offsets = [0]
    for batch in batches:
        offsets.append(offsets[-1] + len(batch.caption_ids))
    widest = max(batch.positive_ids.shape[1] for batch in batches)
    pad = torch.nn.functional.pad
    joint = Batch(
        images=torch.empty(sum(map(len, batches)), 0),
        labels=torch.cat([batch.labels for batch in batches]),
        cases=torch.cat([batch.cases for batch in batches]),
        caption=torch.cat([place[batch.caption + offset] for batch, offset in zip(batches, offsets, strict=False)]),
        caption_ids=caption_ids,
        caption_labels=torch.cat([batch.caption_labels for batch in batches])[rows],
        positive_ids=torch.cat([pad(batch.positive_ids, (0, widest - batch.positive_ids.shape[1]), value=-1) for batch in batches]),
    )
    return joint, rows


def positives(positive_ids: Tensor, caption_ids: Tensor) -> Tensor:
    """``[B, U]`` bool from ``positive_ids [B, M]`` (padded with -1) and ``caption_ids [U]``."""
    return (positive_ids[:, :, None] == caption_ids[None, None, :]).any(dim=1)


@dataclass(frozen=True)
class ClassCaptions:
    """The captions that represent the classes in evaluation.

    Attributes:
        tokens: All class captions, S of them.
        labels: ``[S]`` int64 class of each caption; every class has at least one.
        caption_ids: ``[S]`` int64 ids in the dataset's caption table.
        num_classes: Number of classes, C.
    """

    tokens: Tokens
    labels: Tensor
    caption_ids: Tensor
    num_classes: int

    @classmethod
    def of(cls, tokens: Tokens, ids_of_class: Sequence[Sequence[int]]) -> ClassCaptions:
        """Select the given rows of a tokenised table, at least one per class."""
        import torch

        labels = torch.tensor([label for label, ids in enumerate(ids_of_class) for _ in ids])
        caption_ids = torch.tensor([i for ids in ids_of_class for i in ids])
        return cls(tokens.take(caption_ids), labels, caption_ids, len(ids_of_class))

    def to(self, device) -> ClassCaptions:
        """The same captions on ``device``."""
        return replace(self, tokens=self.tokens.to(device), labels=self.labels.to(device), caption_ids=self.caption_ids.to(device))


@dataclass(frozen=True)
class Predictions:
    """A model's outputs for a set of cases.

    Attributes:
        cases: ``[N]`` int64 rows in the dataset.
        labels: ``[N]`` int64 true classes; -1 where unknown.
        logits: ``[N, C]`` float32, before the softmax and with the temperature applied.
    """

    cases: np.ndarray
    labels: np.ndarray
    logits: np.ndarray

    @property
    def probabilities(self) -> np.ndarray:
        """``[N, C]`` float32 softmax of the logits, each row summing to 1."""
        import numpy as np

        shifted = np.exp(self.logits.astype(np.float64) - self.logits.max(axis=1, keepdims=True))
        return (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)

    @property
    def finding_probabilities(self) -> np.ndarray:
        """``[N, C]`` float32 sigmoid of the logits: the probability of each finding on its own; NaN where a logit is not finite."""
        import numpy as np

        logits = np.where(np.isfinite(self.logits), self.logits, np.nan).astype(np.float64)
        smaller = np.exp(-np.abs(logits))  # never overflows
        return (np.where(logits >= 0, 1.0, smaller) / (1 + smaller)).astype(np.float32)

    def ordered(self) -> Predictions:
        """The same predictions in the order of ``cases``."""
        import numpy as np

        order = np.argsort(self.cases, kind="stable")
        return replace(self, cases=self.cases[order], labels=self.labels[order], logits=self.logits[order])
