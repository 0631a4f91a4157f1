"""Share of planted label errors that are found among the most suspicious tenth, for every ranking of ``clipzoo.statistics.label_quality``.

    python benchmarks/label_errors.py [--seeds 10]

5 % of the labels of scikit-learn's digits are replaced, and a logistic regression is cross-validated on all of them, errors included. A
random ranking would find 10 %. Without cleanlab, its rows are left out.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from clipzoo.statistics.label_quality import Method, rank_labels

if TYPE_CHECKING:
    import numpy as np

ERRORS, TOP = 0.05, 0.1
FOLDS = 5
IMBALANCED = {3: 160, 8: 40, 5: 30, 9: 20, 2: 15}  # cases per digit: 60 % in one of five classes that look alike


@dataclass(frozen=True)
class Found:
    """What one ranking found.

    Attributes:
        recall: Share of the planted errors among the most suspicious tenth.
        flagged: Share of all cases that are counted as wrong.
        precision: Share of planted errors among those; NaN if there are none.
    """

    recall: float
    flagged: float
    precision: float


Data = tuple["np.ndarray", "np.ndarray", "np.ndarray"]  # images, labels with errors, which are errors


def digits(generator: np.random.Generator) -> Data:
    """All ten digits; an error is any other digit."""
    images, labels = _load()
    return images, *_replaced(labels, generator)


def noisy_digits(generator: np.random.Generator) -> Data:
    """The same under strong pixel noise: a third of the predictions is wrong, and errors hide among hard cases."""
    images, labels = _load()
    return images + 8 * generator.standard_normal(images.shape), *_replaced(labels, generator)


def imbalanced_digits(generator: np.random.Generator) -> Data:
    """265 noisy images of five digits that look alike, 60 % of one; an error is another class in proportion to its size."""
    import numpy as np

    images, labels = _load()
    rows = np.concatenate([generator.permutation(np.flatnonzero(labels == digit))[:num] for digit, num in IMBALANCED.items()])
    classes = np.repeat(np.arange(len(IMBALANCED)), list(IMBALANCED.values()))
    noisy = images[rows] + 4 * generator.standard_normal((len(rows), images.shape[1]))
    return noisy, *_replaced(classes, generator, weights=np.bincount(classes))


DATA: dict[str, Callable[[np.random.Generator], Data]] = {
    "digits": digits,
    "noisy digits": noisy_digits,
    "imbalanced digits": imbalanced_digits,
}


def _load() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


def _replaced(labels: np.ndarray, generator: np.random.Generator, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which 5 % are another class, and which they are."""
    import numpy as np

    num_classes = int(labels.max()) + 1
    chance_C = np.ones(num_classes) if weights is None else weights.astype(float)
    wrong = np.zeros(len(labels), dtype=bool)
    wrong[generator.permutation(len(labels))[: round(ERRORS * len(labels))]] = True
    given = labels.copy()
    for row in np.flatnonzero(wrong):
        others = np.where(np.arange(num_classes) == labels[row], 0, chance_C)
        given[row] = generator.choice(num_classes, p=others / others.sum())
    return given, wrong


def out_of_fold(images: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """``[N, C]`` probabilities of a logistic regression that did not see the case."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer cases than folds
        return cross_val_predict(model, images, labels, cv=folds, method="predict_proba")


def measured(name: str, seed: int, methods: tuple[Method, ...]) -> dict[Method, Found]:
    """All rankings of one data set with its planted errors."""
    import numpy as np

    images, labels, wrong = DATA[name](np.random.default_rng(seed))
    probabilities = out_of_fold(images, labels, seed)
    found = {}
    for method in methods:
        ranking = rank_labels(labels, probabilities, method=method)
        first, flagged = ranking.rows[: round(TOP * len(labels))], ranking.rows[ranking.is_issue]
        precision = float(wrong[flagged].mean()) if len(flagged) else float("nan")
        found[method] = Found(float(wrong[first].sum() / wrong.sum()), len(flagged) / len(labels), precision)
    return found


def report(methods: tuple[Method, ...], names: tuple[str, ...], seeds: int) -> Iterator[str]:
    """The lines of the markdown table: means over the seeds, and the range of the recall."""
    yield "| data | ranked by | recall in the first 10 % | min ... max | counted as wrong | of these are |"
    yield "|---|---|---:|---:|---:|---:|"
    for name in names:
        runs = [measured(name, seed, methods) for seed in range(seeds)]
        for method in methods:
            recalls = [run[method].recall for run in runs]
            flagged, precision = (statistics.fmean(getattr(run[method], key) for run in runs) for key in ("flagged", "precision"))
            cells = (name, method, f"{statistics.fmean(recalls):.3f}", f"{min(recalls):.3f} ... {max(recalls):.3f}")
            yield f"| {' | '.join((*cells, f'{100 * flagged:.1f} %', f'{100 * precision:.0f} %'))} |"


def installed_methods() -> tuple[tuple[Method, ...], str]:
    """The rankings that can run here, and the version of cleanlab."""
    try:
        return ("self_confidence", "normalised_margin", "cleanlab"), f"cleanlab {version('cleanlab')}"
    except PackageNotFoundError:
        return ("self_confidence", "normalised_margin"), "cleanlab is not installed"


def main(argv: list[str] | None = None) -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="data sets with other planted errors, 1 or more")
    parser.add_argument("--smoke", action="store_true", help="one seed of the smallest data set: does it run?")
    args = parser.parse_args(argv)
    if args.seeds < 1:
        parser.error(f"--seeds is {args.seeds}; at least 1 is needed")
    methods, cleanlab = installed_methods()
    names, seeds = (("imbalanced digits",), 1) if args.smoke else (tuple(DATA), args.seeds)
    python = ".".join(map(str, sys.version_info[:3]))
    print(f"python {python}, scikit-learn {version('scikit-learn')}, {cleanlab}, clipzoo {version('clipzoo')}")
    print(f"{100 * ERRORS:.0f} % planted errors, logistic regression, {FOLDS} folds, seeds: {seeds}", end="\n\n")
    for line in report(methods, names, seeds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
