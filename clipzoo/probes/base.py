"""What every probe is: it learns from features of labelled images in milliseconds, and gives class probabilities for others.

Shapes: N examples · M images · D width of the features · C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from clipzoo.errors import BuildError, DataError, shortened
from clipzoo.registries import PROBES

_ROWS = 1024  # images scored together, so that similarities to many examples fit into memory


@dataclass(frozen=True)
class Examples:
    """What a probe learns from.

    Attributes:
        features: ``[N, D]`` float32, rows of length 1.
        labels: ``[N]`` int64 in 0 … C-1.
        num_classes: C; classes without an example count.
        groups: ``[N]`` int64 or str. Examples of one group (a patient, copies of a file) stay together where hyper-parameters are chosen.
            ``None``: each stands alone.
        text: ``[C, D]`` float32 of length 1, what the texts of the classes are in the same space. ``None``: there are none.
        logit_scale: What the model multiplies cosine similarities with: 1 / its temperature.
        classes: C names, for messages; ``None``: they speak of numbers.

    Raises:
        DataError: The shapes do not go together, a label is out of range, or a feature is not finite.
    """

    features: np.ndarray
    labels: np.ndarray
    num_classes: int
    groups: np.ndarray | None = None
    text: np.ndarray | None = None
    logit_scale: float = 100.0
    classes: Sequence[str] | None = None

    def __post_init__(self):
        if self.features.ndim != 2 or self.labels.shape != self.features.shape[:1]:
            raise DataError(f"examples: features {list(self.features.shape)} and labels {list(self.labels.shape)} must be [N, D] and [N]")
        if self.groups is not None and self.groups.shape != self.labels.shape:
            raise DataError(f"examples: groups are {list(self.groups.shape)}, one for each of the {len(self)} examples is needed")
        if self.text is not None and self.text.shape != (self.num_classes, self.features.shape[1]):
            wanted = [self.num_classes, self.features.shape[1]]
            raise DataError(f"examples: text is {list(self.text.shape)}, a row for each class, {wanted}, is needed")
        if len(self) and not 0 <= self.labels.min() <= self.labels.max() < self.num_classes:
            raise DataError(f"examples: labels are {self.labels.min()} … {self.labels.max()}, but there are {self.num_classes} classes")
        if not np.isfinite(self.features).all() or (self.text is not None and not np.isfinite(self.text).all()):
            raise DataError("examples: a feature is not a finite number. Leave out images that could not be encoded")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def counts(self) -> np.ndarray:
        """``[C]`` int64: examples of each class."""
        return np.bincount(self.labels, minlength=self.num_classes)

    @property
    def one_hot(self) -> np.ndarray:
        """``[N, C]`` float32: 1 where the example is of the class."""
        return np.eye(self.num_classes, dtype=np.float32)[self.labels]


class FittedProbe:
    """A probe that has learnt.

    Args:
        probabilities: Features ``[M, D]`` float32 to probabilities ``[M, C]``; every image for itself.
        chosen: See ``chosen``.
        notes: See ``notes``.

    Attributes:
        chosen: The hyper-parameters in use, given or chosen.
        notes: What a user should know, one sentence each.
    """

    def __init__(
        self,
        probabilities: Callable[[np.ndarray], np.ndarray],
        chosen: Mapping[str, float] | None = None,
        notes: tuple[str, ...] = (),
    ):
        self._probabilities = probabilities
        self.chosen = dict(chosen or {})
        self.notes = tuple(notes)

    def predict(self, features_MD: np.ndarray) -> np.ndarray:
        """``[M, C]`` float32 probabilities of features ``[M, D]`` of length 1; rows sum to 1."""
        starts = range(0, max(len(features_MD), 1), _ROWS)
        return np.concatenate([self._probabilities(features_MD[start : start + _ROWS]) for start in starts]).astype(np.float32)


class Probe:
    """Base of all probes; a subclass sets ``name`` and writes ``learn``.

    Attributes:
        name: Of the method, in tables and on the command line.
        needs_text: Whether it uses ``Examples.text``.
        needs_examples: Whether it learns from images at all.
    """

    name: ClassVar[str]
    needs_text: ClassVar[bool] = False
    needs_examples: ClassVar[bool] = True

    def fit(self, examples: Examples) -> FittedProbe:
        """Learn from ``examples``, and from nothing else. The same examples give the same result.

        Raises:
            BuildError: The method needs class texts, and there are none.
            DataError: There is no example.
        """
        if self.needs_text and examples.text is None:
            raise BuildError(f"{type(self).__name__}: needs texts of the classes. Give a CLIP with a text side, and class texts")
        if self.needs_examples and not len(examples):
            raise DataError(f"{type(self).__name__}: there is no example to learn from")
        fitted = self.learn(examples)
        absent = np.flatnonzero(examples.counts == 0)
        if self.needs_examples and len(absent):
            what = "known by the text alone" if self.needs_text else "never predicted"
            which = absent if examples.classes is None else [f"'{examples.classes[label]}'" for label in absent]
            fitted.notes += (f"without an example, and so {what}: class {shortened(which)}",)
        return fitted

    def learn(self, examples: Examples) -> FittedProbe:
        """The same as ``fit``, of at least one example, with texts where they are needed."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'learn'")


def methods() -> dict[str, type[Probe]]:
    """The registered probes by the names of their methods, sorted by the names of their classes."""
    return {PROBES.get(name).name: PROBES.get(name) for name in sorted(PROBES)}


def normalised(rows: np.ndarray) -> np.ndarray:
    """The same rows with length 1, in float32; a row of zeros stays one."""
    length = np.linalg.norm(rows.astype(np.float64), axis=-1, keepdims=True)
    return (rows / np.maximum(length, 1e-12)).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis, in float64; -inf becomes exactly 0."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
