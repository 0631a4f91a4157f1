"""Does the border alone tell the class? Burned-in text, laterality marks and collimation often do, and a model learns them first.

Shapes: N images · B border pixels · C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from clipzoo.probes.base import Examples
from clipzoo.probes.linear import LinearProbe
from clipzoo.statistics.cases import Cases, group_codes
from clipzoo.statistics.uncertainty.intervals import classification_intervals

SHARE = 0.08  # of the height and width
LEVEL = 0.99  # one look at every data set: 1 in 200 clean ones is above its chance by accident
TELLING = 0.9  # AUROC of a class against the others
FEWEST = 20  # images
_MOST = 4000  # images that a fold learns from, and that it tests
_STRENGTH = 10.0  # see LinearProbe: with a strong penalty, a mark of a few pixels is not learned
_SEED = 0


@dataclass(frozen=True)
class ClassScore:
    """A class that the border tells from all others.

    Attributes:
        label: The class.
        auroc: AUROC over its groups and those of the other classes.
        p: One-sided p-value, times the number of classes (Bonferroni).
    """

    label: int
    auroc: float
    p: float


@dataclass(frozen=True)
class BorderScore:
    """How well the border predicts the class.

    Attributes:
        value: Balanced accuracy on the test parts of all folds.
        low: Lower limit of its interval.
        high: Upper limit.
        chance: Balanced accuracy of guessing.
        classes: Classes that it tells from the others, with p below 0.01: a mark in one of many classes hardly changes the mean.
    """

    value: float
    low: float
    high: float
    chance: float
    classes: tuple[ClassScore, ...] = ()

    @property
    def above_chance(self) -> bool:
        """Whether the whole interval is above chance, or a class is told from the others."""
        return self.low > self.chance or bool(self.classes)

    @property
    def strong(self) -> bool:
        """Whether the border tells at least half of what there is to tell, or almost all of a class."""
        half = self.low > self.chance and self.value - self.chance >= (1 - self.chance) / 2
        return half or any(found.auroc >= TELLING for found in self.classes)


def border_of(pictures: np.ndarray) -> np.ndarray:
    """``[N, B]`` float32 in [0, 1]: the outer 8 % of grey pictures ``[N, S, S]`` uint8."""
    return pictures[:, border_mask(pictures.shape[-1])].astype(np.float32) / 255


def border_mask(side: int) -> np.ndarray:
    """``[side, side]`` bool: the pixels of the border."""
    width = max(1, round(SHARE * side))
    mask = np.ones((side, side), dtype=bool)
    mask[width:-width, width:-width] = False
    return mask


def probe_border(
    pictures: np.ndarray, labels: np.ndarray, groups: Sequence[str], rounds: Iterable[tuple[np.ndarray, np.ndarray]]
) -> BorderScore | None:
    """Learn the class from the border on the training parts of the config's folds, and score it on their test parts.

    Args:
        pictures: ``[N, S, S]`` uint8 grey.
        labels: ``[N]`` int64 classes, 0 … C-1; -1 for images to leave out.
        groups: N groups, which the interval takes into account.
        rounds: For every fold, ``[N]`` bool masks of what is learned from, and of what is tested.

    Returns:
        ``None`` if there are fewer than 20 tested images, or fewer than two classes among them.

    Source of the test: Mann and Whitney 1947; its statistic over the number of pairs is the AUROC.
    """
    features_NB = border_of(pictures)
    num_classes = int(labels.max(initial=-1)) + 1
    probabilities_NC = np.full((len(labels), num_classes), np.nan)
    rng = np.random.default_rng(_SEED)
    for learned, tested in rounds:
        rows = np.flatnonzero(learned & (labels >= 0))
        tests = np.flatnonzero(tested & (labels >= 0))
        rows, tests = _some(rows, rng), _some(tests, rng)
        if not len(tests) or len(np.unique(labels[rows])) < 2:
            continue
        fitted = LinearProbe(c=_STRENGTH).fit(Examples(features_NB[rows], labels[rows], num_classes, balanced=True))
        probabilities_NC[tests] = fitted.predict(features_NB[tests])
    done = np.flatnonzero(np.isfinite(probabilities_NC).all(axis=1)) if num_classes else np.array([], dtype=np.int64)
    present = len(np.unique(labels[done]))
    if len(done) < FEWEST or present < 2:
        return None
    codes = group_codes([groups[row] for row in done])
    cases = Cases.from_arrays(labels[done], probabilities_NC[done], codes)
    found = classification_intervals(cases, level=LEVEL).overall["balanced_accuracy"]
    classes = _told(labels[done], probabilities_NC[done], codes)
    return BorderScore(found.value, found.low, found.high, 1 / present, classes)


def _told(labels: np.ndarray, probabilities_NC: np.ndarray, groups: np.ndarray) -> tuple[ClassScore, ...]:
    """Classes whose groups have higher scores than those of other classes: rank-sum test over groups, whose images are not independent."""
    from scipy.stats import mannwhitneyu

    units, unit_N = np.unique(np.stack([labels, groups]), axis=1, return_inverse=True)
    unit_N, label_U = unit_N.reshape(-1), units[0]
    sizes_U = np.bincount(unit_N)
    present = np.unique(labels)
    found = []
    for label in present:
        mean_U = np.bincount(unit_N, weights=probabilities_NC[:, label]) / sizes_U
        own, others = mean_U[label_U == label], mean_U[label_U != label]
        test = mannwhitneyu(own, others, alternative="greater")
        p = min(1.0, float(test.pvalue) * (len(present) if len(present) > 2 else 1))  # two classes are one question
        if p < 1 - LEVEL:
            found.append(ClassScore(int(label), float(test.statistic) / (len(own) * len(others)), p))
    return tuple(sorted(found, key=lambda score: -score.auroc))


def _some(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= _MOST else np.sort(rng.choice(rows, _MOST, replace=False))


def mean_borders(pictures: np.ndarray, labels: np.ndarray, num_classes: int) -> list[np.ndarray | None]:
    """For every class, ``[S, S]`` uint8: the mean picture with the part that was not used in mid-grey; ``None`` without images."""
    hidden = ~border_mask(pictures.shape[-1])
    found: list[np.ndarray | None] = []
    for label in range(num_classes):
        own = pictures[labels == label]
        picture = own.mean(axis=0).astype(np.uint8) if len(own) else None
        if picture is not None:
            picture[hidden] = 128
        found.append(picture)
    return found
