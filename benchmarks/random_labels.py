"""How often do intervals of cross-validated baselines exclude chance, if the labels are random?

    python benchmarks/random_labels.py [--seeds 200] [--groups 60] [--per-group 2]

An interval that takes the K models as given takes the cases as independent. They are not: the same accident of the sample makes a case
right and the cases near it, which were trained on it (Bates et al. 2021). Baselines are therefore learned again without blocks of groups
(``clipzoo.statistics.uncertainty.retraining``). The figures are those of both intervals; ``docs/statistics.md`` repeats them.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from clipzoo.probes import Examples, KNearest, LinearProbe, Prototype
from clipzoo.probes.base import normalised
from clipzoo.statistics.cases import Cases
from clipzoo.statistics.uncertainty.intervals import classification_intervals
from clipzoo.statistics.uncertainty.retraining import widening, without_blocks
from clipzoo.text_tables import markdown

CLASSES, WIDTH = 3, 16
CHANCE = {"balanced_accuracy": 1 / CLASSES, "auroc": 0.5}
PROBES = (LinearProbe(c=1.0), KNearest(k=5), Prototype(temperature=0.1))


def main() -> None:
    """Draw, cross-validate, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--groups", type=int, default=60)
    parser.add_argument("--per-group", type=int, default=2)
    arguments = parser.parse_args()
    counts: dict[tuple[str, str, str], np.ndarray] = {}
    for seed in range(arguments.seeds):
        for key, sides in excluded(seed, arguments.groups, arguments.per_group).items():
            counts[key] = counts.get(key, np.zeros(2)) + sides
    share = 100 / arguments.seeds
    rows = [[*key, *(f"{share * n:.1f}" for n in (*sides, sides.sum()))] for key, sides in counts.items()]
    what = f"{arguments.groups} groups of {arguments.per_group} images, {CLASSES} classes, {arguments.seeds} seeds"
    print(f"{what}; per cent of the 95 % intervals\n")
    print(markdown(["baseline", "metric", "interval", "above chance", "below chance", "excludes chance"], rows))


def excluded(seed: int, num_groups: int, per_group: int) -> dict[tuple[str, str, str], np.ndarray]:
    """Whether the interval lies above and below chance, by baseline, metric and kind of interval."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(num_groups), per_group)
    features = normalised(rng.normal(size=(num_groups, WIDTH))[groups] + 0.5 * rng.normal(size=(len(groups), WIDTH)))
    labels = rng.permutation(np.arange(num_groups) % CLASSES)[groups]
    folds = np.zeros(len(groups), dtype=int)
    for fold, (_, test) in enumerate(StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(features, labels, groups)):
        folds[test] = fold
    found = {}
    for probe in PROBES:

        def validated(kept: np.ndarray, probe=probe) -> Cases:
            probabilities = np.zeros((len(groups), CLASSES), dtype=np.float32)
            for fold in range(5):
                train, test = kept & (folds != fold), kept & (folds == fold)
                examples = Examples(features[train], labels[train], CLASSES, groups=groups[train])
                probabilities[test] = probe.fit(examples).predict(features[test])
            return Cases.from_arrays(labels[kept], probabilities[kept], groups[kept])

        cases = validated(np.ones(len(groups), dtype=bool))
        left_out = [validated(kept) for kept in without_blocks(cases)]
        for kind, factors in (("models as trained", None), ("with training", widening(cases, left_out))):
            intervals = classification_intervals(cases, widening=factors).overall
            for metric, chance in CHANCE.items():
                found[probe.name, metric, kind] = np.array([intervals[metric].low > chance, intervals[metric].high < chance])
    return found


if __name__ == "__main__":
    main()
