"""The order in which an epoch visits the training cases: a pure function of the labels of the training part, the seed and the epoch.

There is no state to save: epoch 7 is the same after a restart, in every fold alone or in sequence, and on every process of a distributed
run. How the order becomes batches is in ``loader.EpochBatches``.
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
    """What every sampler does.

    No case comes twice in a batch (of all processes together), whatever the order: where it would, the draws of the epoch are arranged
    anew (``arrange.without_repeats``). A sampler with the attribute ``distinct = "caption"`` asks for more: no *caption* comes twice in
    a batch. Its order must then hold every case once; what cannot be in the epoch's batches is left out, see DistinctCaptionSampler.
    """

    def order(self, labels: np.ndarray, epoch: int, seed: int) -> np.ndarray:
        """Positions to visit in ``epoch``.

        Args:
            labels: ``[N]`` int64 classes of the training part, and of nothing else; -1 for none.
            epoch: From 0.
            seed: Of the run.

        Returns:
            ``[N]`` int64 positions in ``labels``.
        """


@SAMPLERS.register_module()
class RandomSampler:
    """Every case exactly once, in an order that is new in every epoch."""

    def order(self, labels: np.ndarray, epoch: int, seed: int) -> np.ndarray:
        """See ``Sampler.order``."""
        return generator(seed, epoch).permutation(len(labels))


@SAMPLERS.register_module()
class WeightedSampler:
    """Rare classes are drawn more often than they occur. An epoch still has as many draws as there are training cases.

    With n_c cases of class c in the training part, C classes and the smooth factor s:

    ================  ================================  ==========================  =================================================
    method            weight of each case               share of class c            draws
    ================  ================================  ==========================  =================================================
    ``inverse_freq``  1 / (n_c + s)                     ∝ n_c / (n_c + s)           independent, with replacement
    ``inverse_sqrt``  1 / sqrt(n_c + s)                 ∝ n_c / sqrt(n_c + s)       independent, with replacement
    ``balanced``      none, s has no effect             1 / C, ± one draw           without replacement until a class is used up
    ================  ================================  ==========================  =================================================

    ``inverse_freq`` makes the classes equally frequent *on average* (exactly so with s = 0); some cases come up several times in an
    epoch and some, about 1/e in a class of average size, not at all. ``inverse_sqrt`` goes half the way: the share of a class grows with
    the square root of its size. ``balanced`` makes the classes equally frequent *in every epoch*, and repeats no case before all others
    of its class had their turn; what an epoch leaves over of a large class comes first in the next one.
    The smooth factor pulls towards the natural frequencies, most of all for classes that are small compared with s: s cases of each class
    are imagined on top of those that exist. s → ∞ draws every case equally often.

    No batch holds a case twice (see ``Sampler``), so that a case comes at most as often in an epoch as there are whole batches. A class of
    very few cases is drawn less often than the table says where the batches are few: 4 cases in an epoch of 10 batches come 40 times, even
    if a third of 300 draws is theirs by the table; the other classes fill their places.

    Do not combine it with a loss that has ``class_weights``: that corrects twice, and the run warns.

    Args:
        method: See above.
        smooth_factor: s, at least 0, in cases.

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
        """``[N]`` float64 probability of each case in one draw of the two random methods; they sum to 1."""
        import numpy as np

        weights = weight_of_a_case(np.bincount(labels), self.method, self.smooth_factor)[labels]
        return weights / weights.sum()


@SAMPLERS.register_module()
class DistinctCaptionSampler(RandomSampler):
    """No caption twice in a batch of all processes together: to the standard contrastive loss a repeated one is a false negative.

    A case counts with the one of its captions that is drawn for it in this epoch. All epochs have the same number of batches: as many as
    can be filled with the captions drawn in the first one. What does not fit is left out, above all cases whose caption is more frequent
    than the batches are: one that describes 500 cases comes 80 times in 80 batches. Cases of one caption take turns, each epoch goes on
    with those that waited longest; what is left over at the end, less than a batch, is others every time. In an epoch whose captions are
    drawn less favourably the batches are slightly smaller, not fewer. There must be as many distinct captions as a batch has cases.

    What is distinct are the captions that were drawn. Where images have several, the one drawn for another image may describe this one as
    well, which the standard loss takes for a false negative. The losses that know all positives (``MultiPositiveContrastiveLoss``) do not,
    and need this sampler less: with RandomSampler an epoch leaves no case out.
    """

    distinct = "caption"


def _balanced_order(labels: np.ndarray, epoch: int, seed: int) -> np.ndarray:
    """Every class N // C times, and N % C of them once more, these rotating from epoch to epoch.

    The cases of a class form an endless stream of permutations, of which each epoch takes the next piece.
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
    """How many of ``dealt`` cards, dealt around the table from place 0, lie at ``place``."""
    return max(0, -(-(dealt - place) // num_places))


def _stream(length: int, start: int, stop: int, seed: int, label: int) -> np.ndarray:
    """Positions ``start`` … ``stop`` of the endless sequence of permutations of ``range(length)``."""
    import numpy as np

    first, last = start // length, (stop - 1) // length
    rounds = [generator(seed, label, k).permutation(length) for k in range(first, last + 1)]
    return np.concatenate([np.zeros(0, dtype=np.int64), *rounds])[start - first * length : stop - first * length]


def generator(seed: int, *path: int) -> np.random.Generator:
    """Random numbers of their own for every path of numbers from 0.

    The length goes in as well: numpy takes [1, 2] and [1, 2, 0] for the same seed.
    """
    import numpy as np

    return np.random.default_rng([seed % 2**32, len(path), *path])
