"""Do the 95 % intervals of clipzoo.statistics cover, and does the comparison keep its level? Answered by simulation.

    python benchmarks/coverage.py [--quick] [--jobs 2] [--out coverage.md]

Data sets are drawn from a model whose true metrics are known; every data set gets intervals, and the share of those that contain the truth
is printed, beside that of a bootstrap that resamples patients (percentile limits) and of one that resamples images.
``benchmarks/README.md`` says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import itertools
import math
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from clipzoo.records.tables import DIRECTIONS, RetrievalTable
from clipzoo.statistics.cases import Cases, Queries
from clipzoo.statistics.paired.comparison import compare_cases
from clipzoo.statistics.retrieval_scores import RankOutcomes
from clipzoo.statistics.scores import Outcomes, weighted_scores
from clipzoo.statistics.uncertainty.intervals import classification_intervals, retrieval_intervals
from clipzoo.statistics.uncertainty.resampling import bootstrap_weights

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss", "brier", "sensitivity", "i2t_r1")
RAREST = 2  # the class whose sensitivity is shown
SHARES = {"balanced": (1 / 3, 1 / 3, 1 / 3), "16:1": (16 / 21, 4 / 21, 1 / 21)}
WITHIN = (93.0, 97.0)  # per cent
LEVEL = (3.5, 6.5)  # per cent of false findings at 5 %
WIDTH, NOISE = 32, 1.1  # of retrieval features
TRUTH_CASES = 400_000


@dataclass(frozen=True)
class Cell:
    """One kind of data set.

    Attributes:
        num_cases: About this many: patients are added until it is reached.
        several: 1 to 5 images per patient, evenly often; otherwise 1.
        shares: Key of ``SHARES``: how often each class is.
        signal: Height of the true class's logit above the others; noise has 1.2. Accuracy is 0.84 to 0.9 at 2.2, 0.98 or more at 4.
    """

    num_cases: int
    several: bool
    shares: str
    signal: float = 2.2

    @property
    def words(self) -> str:
        """For the table."""
        return f"{self.num_cases} | {'1–5' if self.several else '1'} | {self.shares} | {self.signal:g}"


def draw_groups(rng: np.random.Generator, cell: Cell) -> np.ndarray:
    """``[N]`` group of each case."""
    sizes = rng.integers(1, 6, size=cell.num_cases) if cell.several else np.ones(cell.num_cases, dtype=int)
    num_groups = int(np.searchsorted(np.cumsum(sizes), cell.num_cases) + 1)
    return np.repeat(np.arange(num_groups), sizes[:num_groups])


def draw_runs(rng: np.random.Generator, cell: Cell, num_runs: int) -> list[Cases]:
    """Models that predict the same cases equally well on average.

    Half of the noise of a logit is common to the images of a patient; with several models half of it is common to the models.
    """
    prior = np.array(SHARES[cell.shares])
    groups = draw_groups(rng, cell)
    labels = rng.choice(len(prior), size=groups[-1] + 1, p=prior)[groups]
    shape = (len(groups), len(prior))

    def noise() -> np.ndarray:
        return (rng.normal(size=(groups[-1] + 1, len(prior)))[groups] + rng.normal(size=shape)) / math.sqrt(2)

    common = noise() if num_runs > 1 else 0.0
    runs = []
    for _ in range(num_runs):
        mixed = (common + noise()) / math.sqrt(2) if num_runs > 1 else noise()
        logits = 1.2 * mixed + cell.signal * np.eye(len(prior))[labels] + 0.5 * np.log(prior)
        probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
        runs.append(Cases.from_arrays(labels, probabilities / probabilities.sum(axis=1, keepdims=True), groups))
    return runs


def draw_queries(rng: np.random.Generator, cell: Cell) -> Queries:
    """Images and their captions as random features; the images of a patient are equally hard. The gallery has all captions."""
    groups = draw_groups(rng, cell)
    hardness = NOISE * np.exp(rng.normal(scale=0.5, size=groups[-1] + 1))[groups]
    text = rng.normal(size=(len(groups), WIDTH)).astype(np.float32)
    image = text + hardness[:, None].astype(np.float32) * rng.normal(size=text.shape).astype(np.float32)
    image, text = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (image, text))
    cosines = image @ text.T
    own, num = np.diag(cosines), len(groups)
    table = RetrievalTable.from_columns(
        direction=[DIRECTIONS[0]] * num,
        query=[str(row) for row in range(num)],
        group=[str(group) for group in groups],
        fold=["fold_1"] * num,
        gallery=[num] * num,
        ahead=(cosines > own[:, None]).sum(axis=1),
        tied=[0] * num,
        positives=[1] * num,
        positive_similarity=own,
        negative_similarity=(cosines.sum(axis=1) - own) / (num - 1),
        best_match=[""] * num,
    )
    return Queries.from_table(table)


@cache
def classification_truth(cell: Cell) -> dict[str, float]:
    """Metrics of very many cases."""
    outcomes = Outcomes.of(draw_runs(np.random.default_rng(99), replace(cell, num_cases=TRUTH_CASES), 1)[0])
    return picked(weighted_scores(outcomes, np.ones((1, len(outcomes)))), lambda values: float(values[0]))


def picked(found, number: Callable) -> dict:
    """The metrics of this benchmark out of intervals or scores."""
    per_class = found.per_class["sensitivity"]
    rarest = per_class[RAREST] if isinstance(per_class, tuple) else per_class[:, RAREST]
    return {**{name: number(found.overall[name]) for name in METRICS if name in found.overall}, "sensitivity": number(rarest)}


def percentile(values: np.ndarray) -> tuple[float, float]:
    """95 % percentile limits of bootstrap values."""
    defined = values[~np.isnan(values)]
    return tuple(np.quantile(defined, (0.025, 0.975))) if len(defined) else (math.nan, math.nan)


def limits_of(cases: Cases, resamples: int, seed: int) -> dict[str, dict[str, tuple]]:
    """Limits of every metric by method, with the note of clipzoo's interval as a third entry."""
    found = {"clipzoo": picked(classification_intervals(cases), lambda i: (i.low, i.high, i.note, i.value))}
    outcomes = Outcomes.of(cases)
    for name, groups in (("patients", cases.groups), ("images", np.arange(len(cases)))):
        weights = bootstrap_weights(groups, cases.labels, num_resamples=resamples, seed=seed)
        found[name] = picked(weighted_scores(outcomes, weights), percentile)
    return found


def retrieval_limits_of(queries: Queries, resamples: int, seed: int) -> dict[str, dict[str, tuple]]:
    """The same for R@1."""
    interval = retrieval_intervals(queries).overall["i2t_r1"]
    found = {"clipzoo": {"i2t_r1": (interval.low, interval.high, interval.note, interval.value)}}
    hits = RankOutcomes.of(queries).means["r1"]
    for name, groups in (("patients", queries.groups), ("images", np.arange(len(queries)))):
        weights = bootstrap_weights(groups, num_resamples=resamples, seed=seed)
        found[name] = {"i2t_r1": percentile(weights @ hits / weights.sum(axis=1))}
    return found


def simulate(cell: Cell, seed: int, num: int, resamples: int) -> list[dict]:
    """``num`` data sets of a cell: limits by method and metric, and the number of patients of the rarest class."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(num):
        cases, queries = draw_runs(rng, cell, 1)[0], draw_queries(rng, cell)
        limits = limits_of(cases, resamples, seed + number)
        for method, of_metric in retrieval_limits_of(queries, resamples, seed + number).items():
            limits[method] |= of_metric
        rarest = min(len(np.unique(cases.groups[cases.labels == c])) for c in range(len(cases.classes)))
        found.append({"limits": limits, "rarest": rarest})
    return found


def simulate_null(cell: Cell, seed: int, num: int, permutations: int) -> list[dict]:
    """``num`` comparisons of two models that are equally good: p-values, whether the interval excludes 0, and a test over images."""
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(seed)
    found = []
    for number in range(num):
        first, second = draw_runs(rng, cell, 2)
        compared = compare_cases(first, second, num_permutations=permutations, seed=seed + number)
        losses = [Outcomes.of(cases).losses[:, 0] for cases in (first, second)]
        rejected = {("McNemar over images", "accuracy"): compared.mcnemar.p_value <= 0.05}
        rejected["t over images", "log_loss"] = ttest_rel(*losses).pvalue <= 0.05
        for name in METRICS[:6]:
            difference = compared.overall[name]
            rejected["swapping patients", name] = difference.p_value <= 0.05
            rejected["interval excludes 0", name] = not difference.interval.low <= 0 <= difference.interval.high
        found.append(rejected)
    return found


def in_chunks(task: Callable, cell: Cell, num: int, jobs: int) -> list[dict]:
    """Results of ``num`` data sets in the same chunks for any number of processes; progress on stderr."""
    sizes = [min(50, num - first) for first in range(0, num, 50)]
    arguments = ([cell] * len(sizes), [1000 * chunk for chunk in range(len(sizes))], sizes)
    found: list[dict] = []
    with ProcessPoolExecutor(jobs) if jobs > 1 else _OneProcess() as pool:
        for part in pool.map(task, *arguments):
            found += part
            print(f"\r{cell.words.replace(' | ', ' ')}: {len(found)} of {num}   ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


class _OneProcess:
    """Stands in for a pool."""

    map = staticmethod(map)

    def __enter__(self) -> _OneProcess:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def coverage_rows(
    cells: list[Cell], args: argparse.Namespace
) -> Iterator[tuple[Cell, float, dict[str, dict[str, float]], dict[str, float]]]:
    """Per cell: mean patients of the rarest class, coverage by method and metric in per cent, share of intervals with a note."""
    for cell in cells:
        results = in_chunks(partial(simulate, resamples=args.resamples), cell, args.num, args.jobs)
        truth = dict(classification_truth(cell))
        truth["i2t_r1"] = float(np.mean([r["limits"]["clipzoo"]["i2t_r1"][3] for r in results]))
        covered: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
        noted: dict[str, list[bool]] = defaultdict(list)
        for result in results:
            for method, of_metric in result["limits"].items():
                for name, (low, high, *_) in of_metric.items():
                    if not math.isnan(low):
                        covered[method][name].append(low - 1e-12 <= truth[name] <= high + 1e-12)
            for name, (_, _, note, _) in result["limits"]["clipzoo"].items():
                noted[name].append(bool(note))
        rates = {method: {name: 100 * float(np.mean(hits)) for name, hits in found.items()} for method, found in covered.items()}
        yield cell, float(np.mean([r["rarest"] for r in results])), rates, {name: float(np.mean(hits)) for name, hits in noted.items()}


def coverage_table(cells: list[Cell], args: argparse.Namespace) -> Iterator[str]:
    """Markdown lines. Bold: outside 93 to 97 %. Star: the interval has a note in most data sets."""
    yield f"| images | per patient | classes | signal | patients of the rarest class | method | {' | '.join(METRICS)} |"
    yield "|" + "---:|" * (6 + len(METRICS))
    outside, silent = [], []
    for cell, rarest, rates, noted in coverage_rows(cells, args):
        for method, of_metric in rates.items():
            numbers = []
            for name in METRICS:
                rate = of_metric.get(name, math.nan)
                off = not WITHIN[0] <= rate <= WITHIN[1]
                mark = "*" if method == "clipzoo" and noted[name] > 0.5 else ""
                numbers.append(f"**{rate:.1f}**{mark}" if off and method == "clipzoo" else f"{rate:.1f}{mark}")
                if off and method == "clipzoo":
                    (outside if mark else silent).append(f"{name} at {cell.words.replace(' | ', ', ')}: {rate:.1f} %")
            yield f"| {cell.words} | {rarest:.1f} | {method} | {' | '.join(numbers)} |"
    yield ""
    yield f"Outside {WITHIN[0]:g} to {WITHIN[1]:g} % with a note in most data sets: {'; '.join(outside) or 'none'}."
    yield f"Outside without one: {'; '.join(silent) or 'none'}."


def null_table(cells: list[Cell], args: argparse.Namespace) -> Iterator[str]:
    """Markdown lines: how often each test finds a difference between two models that are equally good, in per cent."""
    yield f"| images | per patient | classes | signal | test at 5 % | {' | '.join(METRICS[:6])} |"
    yield "|" + "---:|" * 11
    for cell in cells:
        results = in_chunks(partial(simulate_null, permutations=args.permutations), cell, args.nulls, args.jobs)
        for test in ("swapping patients", "interval excludes 0", "McNemar over images", "t over images"):
            rates = [100 * float(np.mean([r[test, name] for r in results])) if (test, name) in results[0] else None for name in METRICS[:6]]
            yield f"| {cell.words} | {test} | {' | '.join('' if rate is None else f'{rate:.1f}' for rate in rates)} |"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=1000, help="data sets per cell")
    parser.add_argument("--nulls", type=int, default=2000, help="comparisons of equally good models per cell")
    parser.add_argument("--resamples", type=int, default=200, help="of the bootstraps shown beside")
    parser.add_argument("--permutations", type=int, default=199, help="of the comparison")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, help="file for the same lines")
    parser.add_argument("--quick", action="store_true", help="100 data sets per cell, without those of 1 000 images")
    parser.add_argument("--smoke", action="store_true", help="a few data sets of two cells: does it run?")
    args = parser.parse_args(argv)
    if args.quick or args.smoke:
        args.num, args.nulls = (100, 200) if args.quick else (6, 6)
    return args


def main(argv: list[str] | None = None) -> None:
    """Run, and print the tables."""
    args = arguments(argv)
    started = time.monotonic()
    sizes = (60,) if args.smoke else (60, 300) if args.quick else (60, 300, 1000)
    cells = [Cell(*values) for values in itertools.product(sizes, (False, True), SHARES)]
    cells += [Cell(300, several, shares, signal=4.0) for several in (False, True) for shares in SHARES]
    nulls = [Cell(size, True, shares) for size in sizes[:2] for shares in SHARES]
    if args.smoke:
        cells, nulls = cells[1:3], nulls[:1]
    lines = [f"python {platform.python_version()}, numpy {version('numpy')}, scipy {version('scipy')}", ""]
    print("\n".join(lines))
    for title, table in (
        (f"Coverage of 95 % intervals in per cent, {args.num} data sets per row", coverage_table(cells, args)),
        (f"Differences found between equally good models in per cent, {args.nulls} comparisons per row", null_table(nulls, args)),
    ):
        for line in itertools.chain((title, ""), table, ("",)):
            print(line, flush=True)
            lines.append(line)
    lines.append(f"{(time.monotonic() - started) / 60:.1f} minutes, {args.jobs} process(es)")
    print(lines[-1])
    if args.out:
        args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
