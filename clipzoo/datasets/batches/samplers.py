"""Samplers: the order in which an epoch visits the training cases, a pure function of their labels, the seed and the epoch.

There is no state to save: epoch 7 is the same after a restart, in any fold, and on every process of a distributed run. For how the order
becomes batches, see ``epochs.EpochBatches``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from clipzoo.balance import Method, weight_of_a_case
from clipzoo.config.arguments import NotNegative
from clipzoo.errors import DataError
from clipzoo.registries import SAMPLERS

if TYPE_CHECKING:
    import numpy as np


class Sampler(Protocol):
    """Interface of all samplers.

    No case is repeated in a joint batch, whatever the order: if necessary, the draws of the epoch are rearranged
    (``arrange.without_repeats``). A sampler with the attribute ``distinct = "caption"`` requires more: no *caption* is repeated in a
    batch. Its order must then contain every case once; cases that do not fit are dropped, see DistinctCaptionSampler.
    """

    def order(self, labels: np.ndarray, epoch: int, seed: int) -> np.ndarray:
        """Positions to visit in ``epoch``. It may be called before the epoch begins, so that worker processes can read ahead.

        Args:
            labels: ``[N]`` int64 classes of the training part only; -1 for none.
            epoch: Epoch, counted from 0.
            seed: Seed of the run.

        Returns:
            ``[N]`` int64 positions in ``labels``.
        """


@SAMPLERS.register_module()
class RandomSampler:
    """Every case exactly once, in a new random order each epoch."""

    def order(self, labels: np.ndarray, epoch: int, seed: int) -> np.ndarray:
        """See ``Sampler.order``."""
        return generator(seed, epoch).permutation(len(labels))


@SAMPLERS.register_module()
class WeightedSampler:
    """Draws rare classes more often than they occur. An epoch still has as many draws as there are training cases.

    With n_c cases of class c in the training part, C classes and the smooth factor s:

    ================  ================================  ==========================  =================================================
    method            weight of each case               share of class c            draws
    ================  ================================  ==========================  =================================================
    ``inverse_freq``  1 / (n_c + s)                     ∝ n_c / (n_c + s)           independent, with replacement
    ``inverse_sqrt``  1 / sqrt(n_c + s)                 ∝ n_c / sqrt(n_c + s)       independent, with replacement
    ``balanced``      none, s has no effect             1 / C, ± one draw           without replacement until a class is used up
    ================  ================================  ==========================  =================================================

    ``inverse_freq`` makes the classes equally frequent *on average* (exactly so with s = 0); some cases are drawn several times in an
    epoch and some, about 1/e in a class of average size, not at all. ``inverse_sqrt`` is a compromise: the share of a class grows with
    the square root of its size. ``balanced`` makes the classes equally frequent *in every epoch*, and repeats no case before all others
    of its class have been drawn; the undrawn cases of a large class come first in the next epoch.
    The smooth factor pulls towards the natural frequencies, most of all for classes that are small compared with s: it acts as if every
    class had s additional cases. s → ∞ draws every case equally often.

    No batch contains a case twice (see ``Sampler``), so that a case is drawn at most as often in an epoch as there are full batches. If
    there are few batches, a very small class is drawn less often than the table says: 4 cases in an epoch of 10 batches are drawn 40
    times, even if the table gives them a third of 300 draws; other classes fill their places.

    Do not combine with a loss that has ``class_weights``: that corrects twice, and the run warns about it.

    Args:
        method: Weighting method, see the table.
        smooth_factor: The term s, in cases; 0 or more.

    Raises:
        ConfigError: The method is unknown, or the smooth factor negative.
    """

    balances: ClassVar[bool] = True

    def __init__(self, method: Method = "inverse_freq", smooth_factor: NotNegative = 1.0):
        self.method = method
        self.smooth_factor = smooth_factor

    def order(self, labels: np.ndarray, epoch: int, seed: int) -> np.ndarray:
        """See ``Sampler.order``.

        Raises:
            DataError: A case has no class.
        """
        import numpy as np

        labels = np.asarray(labels)
        if len(labels) and labels.min() < 0:
            raise DataError("WeightedSampler: the dataset has cases without a class. Use RandomSampler")
        if self.method == "balanced":
            return _balanced_order(labels, epoch, seed)
        weights = self.weights(labels)
        return generator(seed, epoch).choice(len(labels), size=len(labels), replace=True, p=weights)

    def weights(self, labels: np.ndarray) -> np.ndarray:
        """``[N]`` float64 probability of each case per draw, for the two random methods; they sum to 1."""
        import numpy as np

        weights = weight_of_a_case(np.bincount(labels), self.method, self.smooth_factor)[labels]
        return weights / weights.sum()


@SAMPLERS.register_module()
class DistinctCaptionSampler(RandomSampler):
    """No repeated caption in a joint batch: for the standard contrastive loss, a repeated caption is a false negative.

    A case counts with the caption drawn for it in the current epoch. All epochs have the same number of batches: as many as can be filled
    with the captions drawn in the first epoch. The rest is dropped, above all cases whose caption is more frequent than there are batches:
    a caption of 500 cases is used 80 times in 80 batches. Cases that share a caption take turns, those that waited longest first; the
    remainder at the end, less than a batch, differs every time. If an epoch's captions are drawn less favourably, its batches are slightly
    smaller, not fewer. There must be at least as many distinct captions as a batch has cases.

    Only the drawn captions are distinct. If images have several captions, the one drawn for another image may also describe this one,
    which the standard loss treats as a false negative. Losses that know all positives (``MultiPositiveContrastiveLoss``) do not, and
    need this sampler less: with RandomSampler no case is dropped.
    """

    distinct = "caption"


def _balanced_order(labels: np.ndarray, epoch: int, seed: int) -> np.ndarray:
    """Every class N // C times, and N % C of the classes once more, rotating from epoch to epoch.

    The cases of a class form an infinite stream of permutations, of which each epoch takes the next segment.
    """
    import numpy as np

    classes = np.unique(labels)
    share, rest = divmod(len(labels), max(len(classes), 1))
    pieces = []
    for place, label in enumerate(classes):
        cases = np.flatnonzero(labels == label)
        start, stop = (e * share + _extra_turns(e * rest, place, len(classes)) for e in (epoch, epoch + 1))
        pieces.append(cases[_stream(len(cases), start, stop, seed, int(label))])
    drawn = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)
    return generator(seed, epoch).permutation(drawn)


def _extra_turns(dealt: int, place: int, num_places: int) -> int:
    """How many of ``dealt`` cards, dealt around the table from place 0, end up at ``place``."""
    return max(0, -(-(dealt - place) // num_places))


def _stream(length: int, start: int, stop: int, seed: int, label: int) -> np.ndarray:
    """Positions ``start`` … ``stop`` of the infinite sequence of permutations of ``range(length)``."""
    import numpy as np

    first, last = start // length, (stop - 1) // length
    rounds = [generator(seed, label, k).permutation(length) for k in range(first, last + 1)]
    return np.concatenate([np.zeros(0, dtype=np.int64), *rounds])[start - first * length : stop - first * length]


def generator(seed: int, *path: int) -> np.random.Generator:
    """An independent random number generator for every path of non-negative integers.

    The length of the path is included: numpy treats [1, 2] and [1, 2, 0] as the same seed.
    """
    import numpy as np

    return np.random.default_rng([seed % 2**32, len(path), *path])
