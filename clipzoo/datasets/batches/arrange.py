"""Which draws of an epoch share a batch, so that no batch holds a case, or a caption, twice.

A *draw* is a place in the order of an epoch; its *key* is what no batch may hold twice. Everything here is a pure function of the order
and of the generator that is handed in, and counts in batches of all processes together.
"""

from __future__ import annotations

import numpy as np

# A sweep halves what the dealing left of its own pattern. After ten, the captions of 200 classes meet each other in the batches as often,
# and as unevenly, as at random: their correlation began at 1, and chance alone leaves about 1 / sqrt(number of batches).
_SWEEPS = 10


def cut(num_draws: int, batch_size: int) -> np.ndarray:
    """Sizes of the batches of ``num_draws``: as many whole ones as there are, then the rest."""
    whole, rest = divmod(num_draws, batch_size)
    return np.array([batch_size] * whole + [rest] * (rest > 0), dtype=np.int64)


def share_out(num_draws: int, num_batches: int) -> np.ndarray:
    """Sizes of ``num_batches`` batches of all ``num_draws``, as equal as they can be."""
    share, rest = divmod(num_draws, num_batches)
    return np.array([share + 1] * rest + [share] * (num_batches - rest), dtype=np.int64)


def most_batches(keys: np.ndarray, batch_size: int) -> int:
    """The largest n for which n whole batches without a repeated key can be made: Σ_k min(count_k, n) ≥ n · batch_size.

    The left side is concave in n and begins at 0, so that it holds for every smaller n as well. 0 where there are fewer distinct keys than
    ``batch_size``.
    """
    counts = np.unique(keys, return_counts=True)[1]
    possible, impossible = 0, len(keys) // batch_size + 1
    while impossible - possible > 1:
        middle = (possible + impossible) // 2
        if np.minimum(counts, middle).sum() >= middle * batch_size:
            possible = middle
        else:
            impossible = middle
    return possible


def fitting(keys: np.ndarray, ranks: np.ndarray, num_batches: int, batch_size: int, epoch: int) -> np.ndarray:
    """Places that get into ``num_batches`` batches, ascending: of every key at most so many, and of all of these the first that fit.

    Which draws of a frequent key get in goes round with the epochs, in order of their ranks: each waits equally long for its turn.

    Args:
        keys: ``[N]`` integers.
        ranks: ``[N]`` distinct numbers, which belong to the cases and are the same in every epoch.
        num_batches: Of the epoch.
        batch_size: At most, of all processes together.
        epoch: From 0.
    """
    by_key = np.lexsort((ranks, keys))
    counts = np.unique(keys, return_counts=True)[1]
    count = np.repeat(counts, counts)
    place_in_key = np.arange(len(keys)) - np.repeat(np.cumsum(counts) - counts, counts)
    turn = (place_in_key - epoch * num_batches) % count
    return np.sort(by_key[turn < num_batches])[: num_batches * batch_size]


def deal(keys: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Places of all draws, batch after batch, in random order and with no key twice in a batch.

    The draws are laid side by side, those of one key together, and dealt to the batches in turn, as cards are: each key goes to as many
    neighbours as it has draws (the wrap-around rule: McNaughton, Scheduling with Deadlines and Loss Functions, Management Science 6,
    1959). What that leaves in order is then mixed by trades.

    Args:
        keys: ``[N]`` integers. None is more frequent than there are batches; where batches differ in size by more than one, none is more
            frequent than there are large batches.
        sizes: Of the batches, from large to small, of at most two kinds; they sum to N.
        rng: Random numbers.

    Returns:
        ``[N]`` int64 permutation of the places in ``keys``.
    """
    distinct, key = np.unique(keys, return_inverse=True)
    batch = np.empty(len(keys), dtype=np.min_scalar_type(len(sizes)))
    batch[_ascending(rng.permutation(len(distinct))[key], rng)] = _turns(sizes)
    if len(distinct) < len(keys):  # otherwise the dealing was a permutation at random
        by_key = np.argsort(key, kind="stable")  # the order of equal ones would else depend on the processor
        for _ in range(_SWEEPS):
            _trade(batch, key, by_key, len(sizes), rng)
    return _ascending(batch, rng)


def _ascending(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Places in order of ``values``, equal ones at random. In time linear in their number, where they are 16-bit integers."""
    shuffled = rng.permutation(len(values))
    return shuffled[np.argsort(values[shuffled], kind="stable")]


def _turns(sizes: np.ndarray) -> np.ndarray:
    """The batch that gets a card, for every card: all in turn until the smallest is full, then the others."""
    batches = np.arange(len(sizes))
    small, large = (sizes.min(), sizes.max()) if len(sizes) else (0, 0)
    return np.concatenate([np.tile(batches, small), np.tile(batches[sizes > small], large - small)])


def _trade(batch: np.ndarray, key: np.ndarray, by_key: np.ndarray, num_batches: int, rng: np.random.Generator) -> None:
    """Pair the batches at random; each pair shuffles, between the two, all draws whose key only one of them has. Sizes stay.

    Repeated, it makes every arrangement without repeats equally probable (Strona et al., A fast and unbiased procedure to randomize
    ecological binary matrices with fixed row and column totals, Nature Communications 5, 2014).

    Args:
        batch: ``[N]`` batch of every draw, changed in place.
        key: ``[N]`` key of every draw.
        by_key: ``[N]`` draws in order of their keys.
        num_batches: How many there are.
        rng: Random numbers.
    """
    pair_of_batch = np.empty(num_batches, dtype=np.min_scalar_type(num_batches))
    pair_of_batch[rng.permutation(num_batches)] = np.arange(num_batches) // 2
    pair = pair_of_batch[batch]
    draws = by_key[np.argsort(pair[by_key], kind="stable")]  # pair after pair, and in each by key
    in_both = np.flatnonzero((np.diff(key[draws]) == 0) & (np.diff(pair[draws]) == 0))
    free = np.ones(len(draws), dtype=bool)
    free[in_both] = free[in_both + 1] = False
    draws = draws[free]
    batch[draws] = batch[draws[_ascending(pair[draws], rng)]]


def without_repeats(order: np.ndarray, batch_size: int, num_cases: int, rng: np.random.Generator) -> np.ndarray:
    """``order`` with no case twice in a batch, as long as before. An order that is so already is returned as it is.

    Copies of a case go to different batches. Where a case was drawn more often than there are whole batches, others are drawn in its
    place, with the frequencies of ``order`` itself.

    Args:
        order: ``[num_cases]`` positions, drawn with replacement.
        batch_size: Of all processes together; the last batch may be smaller.
        num_cases: Positions are below it.
        rng: Random numbers.
    """
    counts = np.bincount(order, minlength=num_cases)
    if not len(order) or counts.max() == 1:
        return order
    in_batch = np.sort(np.arange(len(order)) // batch_size * num_cases + order)
    if (np.diff(in_batch) > 0).all():
        return order
    drawn = np.repeat(np.arange(num_cases), _at_most(max(1, len(order) // batch_size), counts, rng))
    return drawn[deal(drawn, cut(len(order), batch_size), rng)]


def _at_most(most: int, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How often each case is drawn, when none may be more often than ``most``: the surplus goes to others, in proportion to ``counts``.

    There is room for it: the draws are as many as the cases, and each case has room for at least one.
    """
    weights, counts = counts, np.minimum(counts, most)
    while missing := weights.sum() - counts.sum():
        open_weights = np.where(counts < most, weights, 0)
        if not open_weights.any():
            open_weights = counts < most  # only cases that were never drawn are left
        more = rng.choice(len(counts), size=missing, p=open_weights / open_weights.sum())
        counts = np.minimum(counts + np.bincount(more, minlength=len(counts)), most)
    return counts
