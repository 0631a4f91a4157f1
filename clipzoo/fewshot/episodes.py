"""Episodic evaluation: many small tasks drawn from labelled images, and the mean accuracy over them.

Legend: N images · D width of the features · W classes of an episode · E episodes.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from clipzoo.errors import ConfigError, DataError, shortened
from clipzoo.probes import Examples, Probe
from clipzoo.records.few_shot import CURVE_COLUMNS, EPISODES_COLUMNS
from clipzoo.text import csv_bytes

_TRIES = 100  # attempts to draw an episode whose groups span classes


@dataclass(frozen=True)
class Plan:
    """Parameters of the episodes.

    Attributes:
        way: Number of classes per episode.
        shots: Numbers of support images per class; every episode is evaluated with each of them.
        query: Number of query images per class.
        episodes: Number of episodes.
        seed: Seed; equal seeds draw equal episodes.

    Raises:
        ConfigError: A number is too small.
    """

    way: int = 5
    shots: tuple[int, ...] = (1, 5)
    query: int = 15
    episodes: int = 600
    seed: int = 0

    def __post_init__(self):
        for name, value, least in (("way", self.way, 2), ("query", self.query, 1), ("episodes", self.episodes, 2), ("seed", self.seed, 0)):
            if value < least:
                raise ConfigError(f"--{name}: {value} must be {least} or more")
        if not self.shots or min(self.shots) < 1 or len(set(self.shots)) < len(self.shots):
            raise ConfigError(f"--shot: {' '.join(map(str, self.shots)) or 'none'} must be different numbers of 1 or more")


@dataclass(frozen=True)
class Episode:
    """One task.

    Attributes:
        classes: ``[W]`` labels.
        support: ``[W, S]`` rows for the largest shot S. A smaller shot takes the first columns.
        query: ``[W, Q]`` rows; no group is in both ``support`` and ``query``.
    """

    classes: np.ndarray
    support: np.ndarray
    query: np.ndarray


class EpisodePool:
    """The images that episodes are drawn from. At most one image per group is drawn for a class of an episode.

    Args:
        labels: ``[N]`` int64.
        groups: ``[N]`` groups; images of one group (a patient, copies) are never in both support and query.
        classes: Class names.
        plan: Parameters of the episodes. Classes with fewer groups than required by the largest shot and the query are excluded for all
            shots, so that shots are compared on the same classes.

    Attributes:
        labels: Labels as given.
        groups: Group numbers, equal for equal given groups.
        usable: Labels of the classes that episodes are drawn from.
        notes: Remarks for the user, one sentence each.

    Raises:
        DataError: Fewer classes remain than an episode needs.
    """

    def __init__(self, labels: np.ndarray, groups: Sequence[object], classes: Sequence[str], plan: Plan):
        self.labels, self.plan = labels, plan
        self.groups = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
        needed = max(plan.shots) + plan.query
        rows_of = [np.flatnonzero(labels == label) for label in range(len(classes))]
        counts = [len(np.unique(self.groups[rows])) for rows in rows_of]
        self.usable = np.array([label for label, count in enumerate(counts) if count >= needed], dtype=np.int64)
        small = [f"{classes[label]} ({count})" for label, count in enumerate(counts) if count < needed]
        what = f"{max(plan.shots)} support and {plan.query} query images from {needed} different groups"
        if len(self.usable) < plan.way:
            too_few = f"Too few groups: {shortened(small)}. " if small else ""
            raise DataError(
                f"{plan.way}-way episodes need {plan.way} classes with {what}, but there are {len(self.usable)}. "
                f"{too_few}Lower --way, --shot or --query"
            )
        self.notes = (f"{len(small)} classes left out, which have no {what}: {shortened(small)}",) if small else ()
        # rows of each group of each class, so that drawing an episode does not scan all images
        self._groups_of = {label: np.unique(self.groups[rows_of[label]]) for label in self.usable.tolist()}
        self._rows_of = {
            (label, group): rows_of[label][self.groups[rows_of[label]] == group]
            for label, found in self._groups_of.items()
            for group in found.tolist()
        }

    def draw(self, number: int) -> Episode:
        """Episode ``number``: a pure function of the pool, the seed and the number.

        Raises:
            DataError: Groups span classes such that support and query cannot be kept apart.
        """
        rng = np.random.default_rng([self.plan.seed, number])
        for _ in range(_TRIES):
            episode = self._try(rng)
            if episode is not None:
                return episode
        raise DataError("groups span so many classes that support and query cannot be kept apart. Lower --way, --shot or --query")

    def _try(self, rng: np.random.Generator) -> Episode | None:
        classes = rng.choice(self.usable, self.plan.way, replace=False)
        shuffled = [rng.permutation(self._groups_of[label]) for label in classes.tolist()]
        query = [order[: self.plan.query] for order in shuffled]
        asked = set(np.concatenate(query).tolist())
        support = [[group for group in order[self.plan.query :].tolist() if group not in asked] for order in shuffled]
        S = max(self.plan.shots)
        if min(map(len, support)) < S:
            return None
        pick = self._one_of_each
        return Episode(
            classes,
            np.array([pick(rng, label, found[:S]) for label, found in zip(classes.tolist(), support, strict=True)]),
            np.array([pick(rng, label, found.tolist()) for label, found in zip(classes.tolist(), query, strict=True)]),
        )

    def _one_of_each(self, rng: np.random.Generator, label: int, groups: list[int]) -> list[int]:
        """A random image of the class from each group."""
        return [int(rng.choice(self._rows_of[label, group])) for group in groups]


@dataclass(frozen=True)
class Point:
    """The result of a method with one number of shots.

    Attributes:
        method: Name of the method.
        shot: Support images per class.
        accuracies: ``[E]`` accuracies, one per episode, in order.
        notes: What the method remarked, with the number of episodes in which it did.
    """

    method: str
    shot: int
    accuracies: np.ndarray
    notes: Mapping[str, int] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean over the episodes."""
        return float(self.accuracies.mean())

    @property
    def sd(self) -> float:
        """Standard deviation over the episodes, with E - 1."""
        return float(self.accuracies.std(ddof=1))

    @property
    def interval(self) -> tuple[float, float]:
        """See ``interval``."""
        return interval(self.accuracies)


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Student's confidence interval for the mean of ``values``: mean ± t · sd / √E.

    It covers the random choice of episodes from the available images. It does not cover other images, about which episodes say nothing,
    as they reuse the same images.
    """
    from scipy.special import stdtrit

    half = float(stdtrit(len(values) - 1, (1 + level) / 2) * values.std(ddof=1) / math.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def evaluate(
    features: np.ndarray,
    pool: EpisodePool,
    probes: Sequence[Probe],
    *,
    text: np.ndarray | None = None,
    logit_scale: float = 100.0,
    progress: Callable[[int], object] | None = None,
) -> list[Point]:
    """Evaluate every method on every episode with every shot.

    Args:
        features: ``[N, D]`` float32 features of unit length.
        pool: Pool of the episodes, which depend neither on the methods nor on their order.
        probes: Methods. Hyper-parameters are chosen within each episode's support set.
        text: ``[C, D]`` text features of all classes, for methods that need them.
        logit_scale: Logit scale of the model.
        progress: Function called with the number of finished episodes.

    Returns:
        Points method by method, shots in the given order.
    """
    plan = pool.plan
    accuracy = np.empty((len(probes), len(plan.shots), plan.episodes))
    notes: dict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    wanted = np.repeat(np.arange(plan.way), plan.query)
    for number in range(plan.episodes):
        episode = pool.draw(number)
        of_class = None if text is None else text[episode.classes]
        queries = features[episode.query.reshape(-1)]
        for column, shot in enumerate(plan.shots):
            rows = episode.support[:, :shot].reshape(-1)
            labels = np.repeat(np.arange(plan.way), shot)
            examples = Examples(features[rows], labels, plan.way, pool.groups[rows], of_class, logit_scale)
            for line, probe in enumerate(probes):
                fitted = probe.fit(examples)
                found = fitted.predict(queries).argmax(axis=1)
                accuracy[line, column, number] = (found == wanted).mean()
                notes[line, column].update(fitted.notes)
        if progress is not None:
            progress(number + 1)
    return [
        Point(probe.name, shot, accuracy[line, column], dict(notes[line, column]))
        for line, probe in enumerate(probes)
        for column, shot in enumerate(plan.shots)
    ]


def remarks(points: Sequence[Point]) -> list[str]:
    """What the methods remarked, with method and shot, and the number of episodes unless it is all."""
    found = []
    for point in points:
        for note, count in point.notes.items():
            episodes = "" if count == len(point.accuracies) else f", in {count} of {len(point.accuracies)} episodes"
            found.append(f"{point.method}, {point.shot} per class{episodes}: {note}")
    return found


def curve_csv(points: Sequence[Point], plan: Plan) -> bytes:
    """``method,shot,way,episodes,mean,ci95_low,ci95_high,sd``."""
    rows = [[p.method, p.shot, plan.way, plan.episodes, *(f"{v:.6f}" for v in (p.mean, *p.interval, p.sd))] for p in points]
    return csv_bytes([CURVE_COLUMNS, *rows])


def episodes_csv(points: Sequence[Point], pool: EpisodePool, classes: Sequence[str]) -> bytes:
    """``episode,classes,method,shot,accuracy``; the class names of an episode are separated by |."""
    names = ["|".join(classes[label] for label in pool.draw(number).classes) for number in range(pool.plan.episodes)]
    rows = [[n, names[n], p.method, p.shot, f"{p.accuracies[n]:.6f}"] for n in range(pool.plan.episodes) for p in points]
    return csv_bytes([EPISODES_COLUMNS, *rows])
