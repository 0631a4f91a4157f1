"""Base class of all probes, which learn from features of labelled images in milliseconds and predict class probabilities.

Shapes: N examples · M images · D width of the features · C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from clipzoo.errors import BuildError, DataError, shortened
from clipzoo.registries import PROBES

_ROWS = 1024  # images scored at once, to limit the memory for similarities


@dataclass(frozen=True)
class Examples:
    """The training data of a probe.

    Attributes:
        features: ``[N, D]`` float32, rows of unit length.
        labels: ``[N]`` int64 in 0 … C-1.
        num_classes: Number of classes, C, including classes without examples.
        groups: ``[N]`` int64 or str. Examples of one group (a patient, copies of a file) stay together when hyper-parameters are chosen.
            ``None``: every example is its own group.
        text: ``[C, D]`` float32 text features of the classes in the same space, of unit length. ``None`` without texts.
        logit_scale: The model's factor of cosine similarities: 1 / temperature.
        classes: Class names for messages; ``None`` uses class numbers.
        balanced: Whether all classes count equally, however many examples they have: in the fit and in the choice of hyper-parameters.
        criterion: Function from labels ``[N]`` and probabilities ``[N, C]`` to the cost that chooses hyper-parameters, lower is better; the
            log loss decides between equal costs. ``None`` for the log loss alone.

    Raises:
        DataError: The shapes are inconsistent, a label is out of range, or a feature is not finite.
    """

    features: np.ndarray
    labels: np.ndarray
    num_classes: int
    groups: np.ndarray | None = None
    text: np.ndarray | None = None
    logit_scale: float = 100.0
    classes: Sequence[str] | None = None
    balanced: bool = False
    criterion: Callable[[np.ndarray, np.ndarray], float] | None = None

    def __post_init__(self):
        if self.features.ndim != 2 or self.labels.shape != self.features.shape[:1]:
            raise DataError(f"examples: features {list(self.features.shape)} and labels {list(self.labels.shape)} must be [N, D] and [N]")
        if self.groups is not None and self.groups.shape != self.labels.shape:
            raise DataError(f"examples: groups have shape {list(self.groups.shape)}, expected one for each of the {len(self)} examples")
        if self.text is not None and self.text.shape != (self.num_classes, self.features.shape[1]):
            wanted = [self.num_classes, self.features.shape[1]]
            raise DataError(f"examples: text has shape {list(self.text.shape)}, expected one row per class, {wanted}")
        if len(self) and not 0 <= self.labels.min() <= self.labels.max() < self.num_classes:
            raise DataError(f"examples: labels are {self.labels.min()} … {self.labels.max()}, but there are {self.num_classes} classes")
        if not np.isfinite(self.features).all() or (self.text is not None and not np.isfinite(self.text).all()):
            raise DataError("examples: a feature is not finite. Remove images that could not be encoded")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def counts(self) -> np.ndarray:
        """``[C]`` int64 number of examples per class."""
        return np.bincount(self.labels, minlength=self.num_classes)

    @property
    def weights(self) -> np.ndarray | None:
        """``[N]`` float64 weights of the examples with mean 1, equal in sum for all classes that have examples; ``None`` if all are 1."""
        counts = self.counts
        present = counts[counts > 0]
        if not self.balanced or not len(present) or (present == present[0]).all():
            return None
        return (len(self) / (len(present) * np.maximum(counts, 1)))[self.labels]

    @property
    def one_hot(self) -> np.ndarray:
        """``[N, C]`` float32: 1 for the class of the example."""
        return np.eye(self.num_classes, dtype=np.float32)[self.labels]


class FittedProbe:
    """A trained probe.

    Args:
        probabilities: Function from features ``[M, D]`` float32 to probabilities ``[M, C]``, independently for every image.
        chosen: See ``chosen``.
        notes: See ``notes``.

    Attributes:
        chosen: The hyper-parameters in use, given or chosen.
        notes: Remarks for the user, one sentence each.
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
        """``[M, C]`` float32 probabilities for features ``[M, D]`` of unit length; rows sum to 1."""
        starts = range(0, max(len(features_MD), 1), _ROWS)
        return np.concatenate([self._probabilities(features_MD[start : start + _ROWS]) for start in starts]).astype(np.float32)


class Probe:
    """Base class of all probes; subclasses set ``name`` and implement ``learn``.

    Attributes:
        name: Name of the method, in tables and on the command line.
        needs_text: Whether it uses ``Examples.text``.
        needs_examples: Whether it learns from images.
        copies: Bytes that it takes while it learns, at most, for each byte of features; measured for 5 000 to 60 000 examples.
    """

    name: ClassVar[str]
    needs_text: ClassVar[bool] = False
    needs_examples: ClassVar[bool] = True
    copies: ClassVar[int] = 15

    def fit(self, examples: Examples) -> FittedProbe:
        """Learn from ``examples`` only. The same examples give the same result.

        Raises:
            BuildError: The method requires class texts, and none exist.
            DataError: There are no examples.
        """
        if self.needs_text and examples.text is None:
            raise BuildError(f"{type(self).__name__}: requires class texts. Use a CLIP with a text tower, and class texts")
        if self.needs_examples and not len(examples):
            raise DataError(f"{type(self).__name__}: there are no examples to learn from")
        fitted = self.learn(examples)
        absent = np.flatnonzero(examples.counts == 0)
        if self.needs_examples and len(absent):
            what = "known by the text alone" if self.needs_text else "never predicted"
            which = absent if examples.classes is None else [f"'{examples.classes[label]}'" for label in absent]
            fitted.notes += (f"without an example, and so {what}: class {shortened(which)}",)
        return fitted

    def refit(self, examples: Examples, chosen: Mapping[str, float]) -> FittedProbe:
        """Learn from examples like those of an earlier fit, for estimates of variance.

        Args:
            examples: The examples.
            chosen: Hyper-parameters of the earlier fit. A method that cannot be made from them chooses again.
        """
        try:
            again = type(self)(**chosen)
        except TypeError:
            again = self
        return again.fit(examples)

    def learn(self, examples: Examples) -> FittedProbe:
        """Like ``fit``, with at least one example, and with texts if required."""
        raise NotImplementedError(f"{type(self).__name__} has no method 'learn'")


def methods() -> dict[str, type[Probe]]:
    """The registered probes by method name, sorted by class name."""
    return {PROBES.get(name).name: PROBES.get(name) for name in sorted(PROBES)}


def normalised(rows: np.ndarray) -> np.ndarray:
    """The rows normalised to unit length, in float32; zero rows stay zero."""
    length = np.linalg.norm(rows.astype(np.float64), axis=-1, keepdims=True)
    return (rows / np.maximum(length, 1e-12)).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis, in float64; -inf becomes exactly 0."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
