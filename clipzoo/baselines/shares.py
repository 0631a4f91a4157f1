"""Nested shares of the training groups of every fold, for a learning curve; val and test parts stay as they are.

Shapes: G training groups · N training cases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from clipzoo.datasets.splitters.notes import notes_on
from clipzoo.datasets.splitters.table import CaseTable
from clipzoo.errors import ConfigError, DataError
from clipzoo.records.folds import Folds, Split
from clipzoo.statistics.uncertainty.resampling import strata_of

SHARES = (0.1, 0.2, 0.4, 0.7, 1.0)

_FEWEST_GROUPS = 2  # in the train part of a fold


@dataclass(frozen=True)
class Plan:
    """The points of a learning curve.

    Attributes:
        shares: Shares of the training groups, in (0, 1] and ascending.
        repeats: Number of draws of each share below 1.
        seed: Seed of the draws, 0 or more.

    Raises:
        ConfigError: A share is not in (0, 1], is listed twice, or is the only one; or a number is too small.
    """

    shares: tuple[float, ...] = SHARES
    repeats: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = [share for share in self.shares if not 0 < share <= 1]  # NaN is wrong too
        if wrong:
            raise ConfigError(f"--shares: {wrong[0]:g} is not a share of the training groups. Shares are above 0 and at most 1")
        if len(set(self.shares)) < max(len(self.shares), 2):
            raise ConfigError(f"--shares: {' '.join(f'{s:g}' for s in self.shares) or 'none'}. List two or more different shares")
        if self.repeats < 1 or self.seed < 0:
            raise ConfigError(f"--repeats {self.repeats} --seed {self.seed}: there must be 1 or more repeats, and a seed of 0 or more")
        object.__setattr__(self, "shares", tuple(sorted(self.shares)))

    def draws(self, share: float) -> range:
        """Numbers of the draws of a share; the whole has only one."""
        return range(1 if share == 1 else self.repeats)


def reduced(folds: Folds, share: float, draw: int, seed: int) -> Folds:
    """The folds with a share of the training groups of each; a larger share of the same draw contains them.

    Every class is represented in proportion, up to rounding that is random: a class with few groups may be missing.

    Args:
        folds: The folds with all training groups.
        share: In (0, 1]; 1 returns ``folds``.
        draw: Number of the draw, 0 or more.
        seed: Seed of all draws.

    Raises:
        DataError: The share is fewer than 2 groups of a fold.
    """
    if share == 1:
        return folds
    splits = tuple(_reduced(folds, split, share, np.random.default_rng([seed, draw, k])) for k, split in enumerate(folds.splits))
    spec = {**folds.spec, "train_share": share, "draw": draw + 1, "draw_seed": seed}
    return replace(folds, splits=splits, spec=spec, notes=notes_on(CaseTable(folds.cases, folds.classes), splits, wants_val=False))


def _reduced(folds: Folds, split: Split, share: float, rng: np.random.Generator) -> Split:
    cases = {case.id: case for case in folds.cases}
    train = [cases[case_id] for case_id in split.train]
    names, groups_N = np.unique([case.group for case in train], return_inverse=True)
    labels_N = np.array([len(folds.classes) if case.label is None else case.label for case in train])
    number = math.floor(share * len(names) + 0.5)
    if number < _FEWEST_GROUPS:
        least = math.ceil(100 * (_FEWEST_GROUPS - 0.5) / len(names)) / 100
        raise DataError(
            f"{split.name}: a share of {share:g} of its {len(names)} training groups is {number}, and {_FEWEST_GROUPS} are needed. "
            + (f"Pass --shares of {least:g} or more" if least < 1 else "Use fewer folds or more data")
        )
    kept_G = np.zeros(len(names), dtype=bool)
    kept_G[in_order(strata_of(groups_N.reshape(-1), labels_N), rng)[:number]] = True
    return replace(split, train=tuple(case_id for case_id, group in zip(split.train, groups_N.reshape(-1), strict=True) if kept_G[group]))


def in_order(strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``[G]`` int64 groups in a random order, each of whose beginnings contains the strata in proportion.

    The n groups of a stratum are placed at (u + 0 … n-1) / n for one random u: systematic sampling, in which every group has the same
    chance of being among the first (Madow and Madow 1944).

    Args:
        strata: ``[G]`` int stratum of each group.
        rng: Generator of the draws.
    """
    place_G = np.empty(len(strata))
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        place_G[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(place_G, kind="stable")
