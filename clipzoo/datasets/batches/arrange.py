"""Arrangement of an epoch's draws in batches, such that no batch contains a case, or a caption, twice.

A *draw* is a position in the order of an epoch; its *key* must be unique in a batch. All functions are pure functions of the order and
of the given generator, and refer to joint batches of all processes.
"""

from __future__ import annotations

import numpy as np

# Each sweep halves what remains of the pattern of the dealing. After ten, the captions of 200 classes co-occur in batches as often, and
# as unevenly, as by chance: their correlation started at 1, and chance alone leaves about 1 / sqrt(number of batches).
_SWEEPS = 10


def cut(num_draws: int, batch_size: int) -> np.ndarray:
    """Batch sizes for ``num_draws``: as many full batches as possible, then the remainder."""
    whole, rest = divmod(num_draws, batch_size)
    return np.array([batch_size] * whole + [rest] * (rest > 0), dtype=np.int64)


def share_out(num_draws: int, num_batches: int) -> np.ndarray:
    """Sizes of ``num_batches`` batches that together hold all ``num_draws``, as equal as possible."""
    share, rest = divmod(num_draws, num_batches)
    return np.array([share + 1] * rest + [share] * (num_batches - rest), dtype=np.int64)


def most_batches(keys: np.ndarray, batch_size: int) -> int:
    """The largest n such that n full batches without a repeated key exist: Σ_k min(count_k, n) ≥ n · batch_size.

    The left side is concave in n and starts at 0, so that the condition also holds for every smaller n. 0 if there are fewer distinct keys
    than ``batch_size``.
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
    """Positions included in ``num_batches`` batches, ascending: at most that many per key, and of these the first that fit.

    The draws of a frequent key take turns over the epochs, in order of their ranks, so that each waits equally long.

    Args:
        keys: ``[N]`` integer keys.
        ranks: ``[N]`` distinct numbers, which belong to the cases and are the same in every epoch.
        num_batches: Number of batches in the epoch.
        batch_size: Maximum size of a joint batch.
        epoch: Epoch, counted from 0.
    """
    by_key = np.lexsort((ranks, keys))
    counts = np.unique(keys, return_counts=True)[1]
    count = np.repeat(counts, counts)
    place_in_key = np.arange(len(keys)) - np.repeat(np.cumsum(counts) - counts, counts)
    turn = (place_in_key - epoch * num_batches) % count
    return np.sort(by_key[turn < num_batches])[: num_batches * batch_size]


def deal(keys: np.ndarray, sizes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions of all draws, batch by batch, in random order and without a repeated key in a batch.

    Draws are laid out in a row, those of one key together, and dealt to the batches in turn, like cards: each key goes to as many
    neighbouring batches as it has draws (the wrap-around rule: McNaughton, Scheduling with Deadlines and Loss Functions, Management
    Science 6, 1959). The remaining order is then mixed by trades.

    Args:
        keys: ``[N]`` integer keys. No key may be more frequent than the number of batches; if batch sizes differ by more than one, than
            the number of large batches.
        sizes: Batch sizes in descending order, with at most two distinct values; they sum to N.
        rng: Random number generator.

    Returns:
        ``[N]`` int64 permutation of the positions in ``keys``.
    """
    distinct, key = np.unique(keys, return_inverse=True)
    batch = np.empty(len(keys), dtype=np.min_scalar_type(len(sizes)))
    batch[_ascending(rng.permutation(len(distinct))[key], rng)] = _turns(sizes)
    if len(distinct) < len(keys):  # otherwise the dealing was already a random permutation
        by_key = np.argsort(key, kind="stable")  # unstable sorting would depend on the processor
        for _ in range(_SWEEPS):
            _trade(batch, key, by_key, len(sizes), rng)
    return _ascending(batch, rng)


def _ascending(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions in order of ``values``, ties in random order. Linear time for 16-bit integers."""
    shuffled = rng.permutation(len(values))
    return shuffled[np.argsort(values[shuffled], kind="stable")]


def _turns(sizes: np.ndarray) -> np.ndarray:
    """The batch that receives each card: all batches in turn until the smallest is full, then the others."""
    batches = np.arange(len(sizes))
    small, large = (sizes.min(), sizes.max()) if len(sizes) else (0, 0)
    return np.concatenate([np.tile(batches, small), np.tile(batches[sizes > small], large - small)])


def _trade(batch: np.ndarray, key: np.ndarray, by_key: np.ndarray, num_batches: int, rng: np.random.Generator) -> None:
    """Pair the batches at random; each pair shuffles those draws whose key only one of the two has. Sizes do not change.

    Repeated trades make every arrangement without repeats equally probable (Strona et al., A fast and unbiased procedure to randomize
    ecological binary matrices with fixed row and column totals, Nature Communications 5, 2014).

    Args:
        batch: ``[N]`` batch of every draw, modified in place.
        key: ``[N]`` key of every draw.
        by_key: ``[N]`` draws sorted by key.
        num_batches: Number of batches.
        rng: Random number generator.
    """
    pair_of_batch = np.empty(num_batches, dtype=np.min_scalar_type(num_batches))
    pair_of_batch[rng.permutation(num_batches)] = np.arange(num_batches) // 2
    pair = pair_of_batch[batch]
    draws = by_key[np.argsort(pair[by_key], kind="stable")]  # pair by pair, sorted by key in each
    in_both = np.flatnonzero((np.diff(key[draws]) == 0) & (np.diff(pair[draws]) == 0))
    free = np.ones(len(draws), dtype=bool)
    free[in_both] = free[in_both + 1] = False
    draws = draws[free]
    batch[draws] = batch[draws[_ascending(pair[draws], rng)]]


def without_repeats(order: np.ndarray, batch_size: int, num_cases: int, rng: np.random.Generator) -> np.ndarray:
    """``order`` without a repeated case in any batch, with unchanged length. An order without repeats is returned unchanged.

    Copies of a case go to different batches. If a case was drawn more often than there are full batches, other cases replace the surplus,
    with the frequencies of ``order`` itself.

    Args:
        order: ``[num_cases]`` positions, drawn with replacement.
        batch_size: Size of the joint batch of all processes; the last batch may be smaller.
        num_cases: Upper bound of the positions.
        rng: Random number generator.
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
    """Draws per case, limited to ``most``: the surplus goes to other cases, in proportion to ``counts``.

    This always fits: there are as many draws as cases, and each case may be drawn at least once.
    """
    weights, counts = counts, np.minimum(counts, most)
    while missing := weights.sum() - counts.sum():
        open_weights = np.where(counts < most, weights, 0)
        if not open_weights.any():
            open_weights = counts < most  # only cases that were never drawn are left
        more = rng.choice(len(counts), size=missing, p=open_weights / open_weights.sum())
        counts = np.minimum(counts + np.bincount(more, minlength=len(counts)), most)
    return counts
