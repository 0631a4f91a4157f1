"""Would more data help? The scores at several shares of the training groups, as a record, a table and sentences.

The import loads neither numpy nor torch, so that a stored curve prints immediately.

Shapes: P shares · R draws · B resamples · N cases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.errors import shortened
from clipzoo.files import write_text
from clipzoo.records.json_records import read_record, write_record
from clipzoo.statistics.directions import greater_is_better
from clipzoo.text import csv_text
from clipzoo.text_tables import aligned, groups_text, limits

if TYPE_CHECKING:
    import numpy as np

    from clipzoo.records.tables import PredictionTable

FILE = "learning_curve.json"
TABLE_FILE = "learning_curve.csv"
FOLDER = "learning_curve"
NUM_RESAMPLES = 500

_SMALL = 0.005  # a miss of this size matters to nobody


@dataclass(frozen=True, eq=False)
class ShareResult:
    """What was learned from a share of the training groups.

    Attributes:
        share: In (0, 1].
        groups: Mean number of training groups, over folds and draws.
        cases: Mean number of training cases.
        tables: Out-of-fold predictions of the R draws, all of the same cases; a single one if all draws are equal.
        missing: Number of folds and draws whose train part misses a class, by class.
        parts: Number of folds and draws.
    """

    share: float
    groups: float
    cases: float
    tables: Sequence[PredictionTable]
    missing: dict[str, int]
    parts: int


@dataclass(frozen=True)
class LearningCurve:
    """``learning_curve.json``.

    Attributes:
        name: Name of the config.
        method: Name of the probe, or ``train``.
        metric: Metric that decides.
        level: Confidence level of the intervals.
        unit: ``groups``, or ``cases`` if every group is a single case.
        num_cases: Number of scored cases.
        num_groups: Number of groups that they belong to.
        repeats: Number of draws of each share below 1.
        folds_digest: Digest of the folds with all training groups.
        data_digest: Digest of the data's contents.
        points: One dict per share: ``share``, ``groups`` and ``cases`` (means of the train parts), ``value``, ``low``, ``high``, ``draws``
            (values of ``metric``, one per draw), and ``metrics``, each ``[value, low, high]`` by metric.
        determined: Whether the curve can be extrapolated.
        reason: Why not; empty otherwise.
        gain: Expected improvement by twice the training groups of the largest share; NaN without a fit.
        gain_low: Lower limit.
        gain_high: Upper limit.
        expected: Expected value of the metric there.
        asymptote: Of the power law of the error, asymptote + scale · groups^-exponent.
        scale: See above.
        exponent: See above.
        notes: Remarks for the reader.
    """

    name: str
    method: str
    metric: str
    level: float
    unit: str
    num_cases: int
    num_groups: int
    repeats: int
    folds_digest: str
    data_digest: str
    points: list[dict]
    determined: bool
    reason: str = ""
    gain: float = math.nan
    gain_low: float = math.nan
    gain_high: float = math.nan
    expected: float = math.nan
    asymptote: float = math.nan
    scale: float = math.nan
    exponent: float = math.nan
    notes: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write ``learning_curve.json`` and ``learning_curve.csv``."""
        rows = [["share", "train_groups", "train_cases", "metric", "value", "low", "high"]]
        for point in self.points:
            sizes = [point["share"], f"{point['groups']:g}", f"{point['cases']:g}"]
            rows += [[*sizes, metric, *map(_cell, values)] for metric, values in point["metrics"].items()]
        write_text(folder / TABLE_FILE, csv_text(rows))
        write_record(folder / FILE, asdict(self))

    @classmethod
    def read(cls, folder: str | Path) -> LearningCurve:
        """Read ``learning_curve.json``.

        Raises:
            CheckpointError: The file is missing, has another format or is damaged.
        """
        path = Path(folder) / FILE
        return read_record(cls, path, f"Delete {path}, and compute the curve again")

    @property
    def largest(self) -> float:
        """Mean number of training groups at the largest share."""
        return self.points[-1]["groups"]

    def value_at(self, size: float) -> float:
        """The metric by the power law, for a number of training groups; NaN without a fit."""
        error = self.asymptote + self.scale * size**-self.exponent
        return 1 - error if greater_is_better(self.metric) else error

    def sentence(self) -> str:
        """What twice the data would bring."""
        twice = f"twice the training {self.unit} ({self.largest:.0f} → {2 * self.largest:.0f} per fold)"
        if not self.determined:
            return f"{twice}, {self.metric}: {self.reason}"
        way = "raise" if greater_is_better(self.metric) else "lower"
        gain = f"{self.gain:.3f} {limits((self.gain_low, self.gain_high))}"
        return (
            f"{twice} would {way} {self.metric} by an expected {gain}, to {self.expected:.3f}, "
            "if the curve goes on as a power law and new data are like the old"
        )

    def text(self) -> str:
        """The table, the sentence and the notes."""
        with_draws = self.repeats > 1
        grouped = self.unit == "groups"
        sizes = ["training groups"] * grouped + ["training cases"]
        header = ["share", *sizes, self.metric, *(["draws"] if with_draws else [])]
        rows = []
        for point in self.points:
            value = f"{_number(point['value']):.4f} {limits((_number(point['low']), _number(point['high'])))}"
            draws = [f"{_number(min(d)):.3f} … {_number(max(d)):.3f}" if len(d := point["draws"]) > 1 else ""] if with_draws else []
            sizes = [f"{point['groups']:.1f}"] * grouped + [f"{point['cases']:.1f}"]
            rows.append([f"{point['share']:g}", *sizes, value, *draws])
        about = (
            f"{self.method}, always scored on the same {self.num_cases} cases of {groups_text(self.num_groups)}; "
            f"{100 * self.level:g} % intervals for new {self.unit}"
        )
        return "\n\n".join([aligned(header, rows), about, "\n".join([self.sentence(), *(f"note: {note}" for note in self.notes)])])


def make_curve(results: Sequence[ShareResult], metric: str, *, level: float = 0.95, seed: int = 0, **about: object) -> LearningCurve:
    """The curve with its intervals, and the extrapolation.

    The interval of a share is that of its predictions over groups (see ``statistics.uncertainty.intervals``), averaged over the draws and
    widened by the spread of the draws: squared distances add up, as in MOVER (Zou and Donner 2008).

    Args:
        results: Results by rising share.
        metric: Metric that decides, of ``statistics.scores.OVERALL``.
        level: Confidence level.
        seed: Seed of the resamples.
        about: Other attributes of ``LearningCurve``.
    """
    from clipzoo.statistics.cases import Cases

    cases = [[Cases.from_table(table) for table in result.tables] for result in results]
    points = [_point(result, found, metric, level) for result, found in zip(results, cases, strict=True)]
    notes = [note for result in results if (note := _missing_note(result))]
    first = cases[0][0]
    return LearningCurve(
        metric=metric,
        level=level,
        unit="cases" if first.num_groups == len(first) else "groups",
        num_cases=len(first),
        num_groups=first.num_groups,
        points=points,
        notes=[*about.pop("notes", ()), *notes],
        **_extrapolated(points, cases, metric, level, seed),
        **about,
    )


def _point(result: ShareResult, draws: Sequence, metric: str, level: float) -> dict:
    import numpy as np

    from clipzoo.statistics.scores import OVERALL
    from clipzoo.statistics.uncertainty.intervals import classification_intervals

    found = [classification_intervals(cases, level=level).overall for cases in draws]
    metrics = {}
    for name in OVERALL:
        values, lows, highs = (np.array([getattr(of[name], key) for of in found]) for key in ("value", "low", "high"))
        value, below, above = float(values.mean()), float(values.mean() - lows.mean()), float(highs.mean() - values.mean())
        spread = _spread(values, (below + above) / 2, draws[0].num_groups, level)
        least, most = (0.0, math.inf if name == "log_loss" else 2.0 if name == "brier" else 1.0)
        metrics[name] = [value, max(value - math.hypot(below, spread), least), min(value + math.hypot(above, spread), most)]
    value, low, high = metrics[metric]
    sizes = {"share": result.share, "groups": float(result.groups), "cases": float(result.cases)}
    return {**sizes, "value": value, "low": low, "high": high, "draws": [float(of[metric].value) for of in found], "metrics": metrics}


def _spread(values: np.ndarray, half: float, num_groups: int, level: float) -> float:
    """Half the width of the interval of a mean over draws, of their spread alone; 0 for a single draw.

    The quantile is that of t with the degrees of freedom of both variances together (Satterthwaite 1946), as two draws alone have one.

    Args:
        values: ``[R]``.
        half: Half the width over test groups, mean over draws.
        num_groups: Number of test groups.
        level: Confidence level.
    """
    from scipy.stats import norm, t

    if len(values) < 2 or not math.isfinite(half):
        return 0.0
    of_draws, of_groups = float(values.var(ddof=1)) / len(values), (half / norm.isf((1 - level) / 2)) ** 2
    if not of_draws > 0:
        return 0.0
    degrees = (of_draws + of_groups) ** 2 / (of_draws**2 / (len(values) - 1) + of_groups**2 / max(num_groups - 1, 1))
    return float(t.isf((1 - level) / 2, degrees)) * math.sqrt(of_draws)


def _extrapolated(points: Sequence[dict], cases: Sequence[Sequence], metric: str, level: float, seed: int) -> dict:
    """The attributes of the extrapolation."""
    import numpy as np

    from clipzoo.statistics.learning_curve import extrapolate

    lower = not greater_is_better(metric)
    values_P = np.array([point["value"] for point in points])
    if not np.isfinite(values_P).all():
        return {"determined": False, "reason": "cannot be extrapolated: it is undefined at a share"}
    replicates_BP = _replicates(cases, metric, seed)
    errors = (values_P, replicates_BP) if lower else (1 - values_P, 1 - replicates_BP)
    sizes_P = np.array([point["groups"] for point in points])
    found = extrapolate(sizes_P, *errors, level=level)
    if found.curve is None:
        return {"determined": False, "reason": found.reason}
    missed = _missed(sizes_P, *errors)
    share = "" if missed is None else f"{points[missed]['share']:g}"
    misfit = f"cannot be extrapolated: no power law goes through its points (it misses the one at share {share})" if share else ""
    return {
        "determined": found.determined and not misfit,
        "reason": misfit or found.reason,
        "gain": found.gain,
        "gain_low": found.low,
        "gain_high": found.high,
        "expected": found.error if lower else 1 - found.error,
        **asdict(found.curve),
    }


def _missed(sizes: np.ndarray, errors: np.ndarray, replicates: np.ndarray) -> int | None:
    """The point that the power law misses most clearly, if any: its residual is beyond what resamples explain.

    Errors that fall ever faster, as when classes are still being found, are no power law, and the narrow interval of a bad fit would be
    believed. A residual is compared with its own standard error over the resamples, at 5 % for all points together (Bonferroni).

    Args:
        sizes: ``[P]`` training groups.
        errors: ``[P]``.
        replicates: ``[B, P]``.
    """
    import numpy as np
    from scipy.stats import norm

    from clipzoo.statistics.learning_curve import fit_power_law

    spread_P = np.maximum(replicates.std(axis=0, ddof=1), 1e-9)
    weights = np.maximum(spread_P, spread_P.max() / 10)
    residuals = [row - fit_power_law(sizes, row, weights).error(sizes) for row in (errors, *replicates)]
    scores_P = np.abs(residuals[0]) / np.maximum(np.std(residuals[1:], axis=0, ddof=1), 1e-9)
    worst = int(scores_P.argmax())
    clear = scores_P[worst] > norm.isf(0.025 / len(sizes)) and abs(residuals[0][worst]) > _SMALL
    return worst if clear else None


def _replicates(cases: Sequence[Sequence], metric: str, seed: int) -> np.ndarray:
    """``[B, P]`` values in resamples of the test groups and of the draws, both the same for all shares."""
    import numpy as np

    from clipzoo.statistics.scores import Outcomes, weighted_scores
    from clipzoo.statistics.uncertainty.resampling import bootstrap_weights

    first = cases[0][0]
    weights_BN = bootstrap_weights(first.groups, first.labels, num_resamples=NUM_RESAMPLES, seed=seed)
    repeats = max(map(len, cases))
    shares_BR = np.random.default_rng([seed, 1]).multinomial(repeats, np.full(repeats, 1 / repeats), size=NUM_RESAMPLES) / repeats
    columns = []
    for draws in cases:
        values_BR = np.stack([weighted_scores(Outcomes.of(draw), weights_BN).overall[metric] for draw in draws], axis=1)
        columns.append((values_BR * shares_BR).sum(axis=1) if len(draws) == repeats else values_BR[:, 0])
    return np.stack(columns, axis=1)


def _missing_note(result: ShareResult) -> str:
    """Which classes are missing from train parts at a share."""
    often = sorted(result.missing.items(), key=lambda item: -item[1])
    named = [f"'{name}' from {number}" for name, number in often if number]
    if not named:
        return ""
    missing = f"of {result.parts} train parts, missing are {shortened(named, 4)}"
    return f"share {result.share:g}: {missing}; what is tested of them there was never learned"


def _number(value: float | None) -> float:
    """A number of a record, where NaN is ``null``."""
    return math.nan if value is None else value


def _cell(value: float | None) -> str:
    return "" if math.isnan(_number(value)) else f"{value:.6g}"
