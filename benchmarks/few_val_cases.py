"""Which rule chooses the epoch best when the val part is tiny? Loss of balanced accuracy on other cases, against the best epoch.

    python benchmarks/few_val_cases.py [--subsets 20] [--curves curves.json]

Every subset is the part of 100 cases that one of five folds learns from (80 cases). It is trained with a val part as
``val_fraction=0.1`` takes it, with and without ``min_val_per_class``, in three inner folds, and whole. All curves are kept, and every rule
is applied to them.
``benchmarks/README.md`` says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from common import machine

DATA = ("digits", "radiographs")
CASES, TEST_CASES, INNER_FOLDS = 80, 150, 3
RADIOGRAPHS = 480  # drawn once; every subset takes some of the patients

Epoch = dict[str, float]  # val_score, val_loss, test_score, test_loss
Curve = list[Epoch]


@dataclass(frozen=True)
class Task:
    """What is trained.

    Attributes:
        root: Folder with a folder of class folders per data set.
        subsets: Number of random subsets of each data set.
        epochs: Length of the training, and of its schedule.
        image_size: Pixels.
        batch_size: Cases per step.
        scratch: Folder for what a run insists on writing.
    """

    root: Path
    subsets: int
    epochs: int
    image_size: int
    batch_size: int
    scratch: Path


def draw_data(root: Path, image_size: int, radiographs: int) -> None:
    """The digits of scikit-learn, and drawn radiographs in twice the image size, whose full resolution would only cost time."""
    from PIL import Image

    from clipzoo.datasets.samples.sample_data import create_sample_dataset

    create_sample_dataset(root / "digits", kind="digits")
    create_sample_dataset(root / "radiographs", kind="hip", num_samples=radiographs)
    for path in (root / "radiographs" / "images").rglob("*.png"):
        with Image.open(path) as image:
            small = image.convert("I").resize((2 * image_size,) * 2, Image.Resampling.BOX)
        small.convert("I;16").save(path)


def config_of(task: Task, name: str):
    """A small ResNet from scratch, as somebody with a few images would start."""
    from clipzoo.config import Config

    root = task.root / name
    groups = {"groups": str(root / "groups.csv")} if name == "radiographs" else {}
    return Config.from_dict(
        {
            "model": {
                "type": "ImageClassifier",
                "image_encoder": {"type": "TimmBackbone", "name": "test_resnet", "pretrained": False, "image_size": task.image_size},
                "head": "LinearHead",
            },
            "data": {
                "dataset": {"type": "ImageFolderDataset", "root": str(root / "images"), **groups},
                "batch_size": task.batch_size,
                "eval_batch_size": 128,
                "augmentation": "none",
                "num_workers": 0,
            },
            "splits": {"type": "StratifiedGroupKFold"},
            "optimizer": {"type": "AdamW", "lr": 3e-3},
            "schedule": {"type": "CosineSchedule", "warmup_epochs": 1},
            "train": {"epochs": task.epochs},
            "evaluation": {"metrics": ["BalancedAccuracy", "LogLoss"]},
            "hooks": [],
            "runtime": {"device": "cpu", "precision": "fp32", "threads": 1, "save_every": 1000},
        },
        name,
    )


def choose_cases(data, seed: int) -> tuple[list, tuple[str, ...]]:
    """About ``CASES`` cases to learn from, and ids of about ``TEST_CASES`` others: whole groups, and two groups or more of every class."""
    import numpy as np

    rng = np.random.default_rng([seed, 7])
    members: dict[str, list] = {}
    for case in data.cases:
        members.setdefault(case.group, []).append(case)
    groups = [members[name] for name in rng.permutation(sorted(members))]
    learned: list[list] = []
    for label in range(len(data.classes)):
        learned += [group for group in groups if group[0].label == label][:2]
    taken = {id(group) for group in learned}
    tested: list[str] = []
    for group in groups:
        if id(group) in taken:
            continue
        if sum(map(len, learned)) < CASES:
            learned.append(group)
        elif len(tested) < TEST_CASES:
            tested += [case.id for case in group]
    return [case for group in learned for case in group], tuple(tested)


def splits_of(data, seed: int) -> dict:
    """All trainings of one subset by name: with a val part, with a larger one, in inner folds, and without."""
    import numpy as np

    from clipzoo.datasets.splitters import StratifiedGroupKFold
    from clipzoo.datasets.splitters.base import carve_val
    from clipzoo.datasets.splitters.table import CaseTable
    from clipzoo.records.folds import Split

    cases, test = choose_cases(data, seed)
    table, found = CaseTable(cases, data.classes), {}
    for name, at_least in (("few", 0), ("two", 2)):
        val_G = carve_val(table.counts_GC, 0.1, np.random.RandomState(seed), num_classes=len(data.classes), at_least=at_least)
        found[name] = Split(name, table.ids_of(~val_G), table.ids_of(val_G), test)
    for split in StratifiedGroupKFold(INNER_FOLDS, seed=seed, val_fraction=0.0).split(cases, data.classes).splits:
        found[f"inner_{split.name[-1]}"] = Split(f"inner_{split.name[-1]}", split.train, split.test, ())
    found["all"] = Split("all", table.ids_of(np.ones(len(table.groups), dtype=bool)), (), test)
    return found


def train(config, data, split, folder: Path) -> Curve:
    """Train on one split, and score its val and its test part after every epoch."""
    from rich.console import Console

    from clipzoo.engine.evaluation import evaluate
    from clipzoo.engine.runner import Runner
    from clipzoo.hooks.base import Hook

    curve: Curve = []

    class Curves(Hook):
        """Both parts after every epoch."""

        def after_epoch(self, run) -> None:
            point = {}
            for part in ("val", "test"):
                if getattr(split, part):
                    metrics = evaluate(run, part).metrics
                    point |= {f"{part}_score": metrics["balanced_accuracy"], f"{part}_loss": metrics["log_loss"]}
            curve.append(point)

    runner = Runner(config, data, split, folder, log=logging.Logger("quiet"), console=Console(quiet=True))
    runner.run.hooks = [Curves()]
    runner.run.watched = None  # the rules choose afterwards
    runner.run.eval_loaders = {part: list(loader) for part, loader in runner.run.eval_loaders.items()}  # read each image once
    runner.fit()
    runner.close()
    return curve


def measure(task: Task, found: dict[str, list[dict]]) -> Iterator[None]:
    """Complete ``found``: data set -> per subset the curves and the sizes of the parts by training; yields after every subset."""
    from clipzoo.engine import build

    started, total = time.perf_counter(), len(DATA) * task.subsets
    configs = {name: config_of(task, name) for name in DATA}
    data = {name: build.dataset(config) for name, config in configs.items()}
    for cases in data.values():
        cases.read_image = functools.cache(cases.read_image)  # decoding would take more time than this network
    for seed in range(task.subsets):
        for name in DATA:
            if seed < len(found.setdefault(name, [])):
                continue
            curves, sizes = {}, {}
            for kind, split in splits_of(data[name], seed).items():
                with tempfile.TemporaryDirectory(dir=task.scratch) as folder:
                    curves[kind] = train(configs[name], data[name], split, Path(folder))
                sizes[kind] = [len(split.train), len(split.val), len(split.test)]
            found[name].append({"curves": curves, "sizes": sizes})
            done, seconds = sum(map(len, found.values())), time.perf_counter() - started
            print(f"\r{done}/{total} subsets, {seconds:.0f} s ", end="", file=sys.stderr, flush=True)
            yield
    print(file=sys.stderr)


# ---------------------------------------------------------------- rules: positions in a curve


def best(scores: Sequence[float], ties: Callable[[int], tuple]) -> int:
    """The position of the highest score; among equal ones, that with the largest ``ties(position)``."""
    return max(range(len(scores)), key=lambda i: (scores[i], *ties(i)))


def first_best(curve: Curve) -> int:
    """The first epoch with the best balanced accuracy."""
    return best([e["val_score"] for e in curve], lambda i: (-i,))


def ties_by_log_loss(curve: Curve) -> int:
    """Of the epochs with the best balanced accuracy, that with the lowest log loss, else the last."""
    return best([e["val_score"] for e in curve], lambda i: (-curve[i]["val_loss"], i))


def ties_to_the_last(curve: Curve) -> int:
    """The last epoch with the best balanced accuracy."""
    return best([e["val_score"] for e in curve], lambda i: (i,))


def lowest_log_loss(curve: Curve) -> int:
    """The epoch with the lowest log loss."""
    return best([-e["val_loss"] for e in curve], lambda i: (i,))


def smoothed(size: int) -> Callable[[Curve], int]:
    """Balanced accuracy averaged over the last ``size`` epochs; ties go to the lower averaged log loss."""

    def rule(curve: Curve) -> int:
        score, loss = (means([e[key] for e in curve], size) for key in ("val_score", "val_loss"))
        return best(score, lambda i: (-loss[i], i))

    return rule


def means(values: Sequence[float], size: int) -> list[float]:
    """The mean of every value and the ``size - 1`` before it, of fewer at the start; rounded, as equal means differ in the last digit."""
    return [round(statistics.fmean(values[max(0, i + 1 - size) : i + 1]), 12) for i in range(len(values))]


def last(curve: Curve) -> int:
    """The last epoch."""
    return len(curve) - 1


RULES: dict[str, Callable[[Curve], int]] = {
    "best, ties to the first": first_best,
    "best, ties by log loss": ties_by_log_loss,
    "best, ties to the last": ties_to_the_last,
    "lowest log loss": lowest_log_loss,
    "best of means over 3": smoothed(3),
    "best of means over 5": smoothed(5),
    "last epoch": last,
}


def inner_curve(curves: dict[str, Curve]) -> Curve:
    """The mean of the inner curves, epoch by epoch."""
    inner = [curve for name, curve in curves.items() if name.startswith("inner_")]
    return [{key: statistics.fmean(e[key] for e in epochs) for key in epochs[0]} for epochs in zip(*inner, strict=True)]


def losses(subset: dict) -> Iterator[tuple[str, float, float, int]]:
    """Rule, loss of balanced accuracy against the best epoch of the usual training, log loss on the test part, chosen epoch."""
    curves = subset["curves"]
    oracle = max(e["test_score"] for e in curves["few"])
    for kind, words in (("few", "val as it is"), ("two", "val with 2 of a class")):
        for name, rule in RULES.items():
            i = rule(curves[kind])
            yield f"{words}: {name}", oracle - curves[kind][i]["test_score"], curves[kind][i]["test_loss"], i + 1
    for name, i in (
        (f"{INNER_FOLDS} inner folds", ties_to_the_last(inner_curve(curves))),
        ("no val part: last epoch", last(curves["all"])),
    ):
        yield name, oracle - curves["all"][i]["test_score"], curves["all"][i]["test_loss"], i + 1


def report(found: dict[str, list[dict]]) -> Iterator[str]:
    """The lines of the markdown tables."""
    for name, subsets in found.items():
        oracle = statistics.fmean(max(e["test_score"] for e in s["curves"]["few"]) for s in subsets)
        sizes = {kind: [statistics.fmean(s["sizes"][kind][part] for s in subsets) for part in range(3)] for kind in ("few", "two", "all")}
        parts = "; ".join(f"{a:.0f} train, {b:.0f} val" for a, b, _ in sizes.values())
        yield f"**{name}**: {len(subsets)} subsets ({parts}; {sizes['few'][2]:.0f} test), best epoch {oracle:.4f}"
        yield ""
        yield "| rule | loss of balanced accuracy | ± s.e. | test log loss | epoch (mean) |"
        yield "|---|---:|---:|---:|---:|"
        rows: dict[str, list[tuple[float, float, int]]] = {}
        for subset in subsets:
            for rule, *values in losses(subset):
                rows.setdefault(rule, []).append(tuple(values))
        for rule, values in rows.items():
            lost, log_loss, epoch = zip(*values, strict=True)
            error = statistics.stdev(lost) / math.sqrt(len(lost)) if len(lost) > 1 else math.nan
            numbers = (
                f"{statistics.fmean(lost):+.4f}",
                f"{error:.4f}",
                f"{statistics.fmean(log_loss):.3f}",
                f"{statistics.fmean(epoch):.1f}",
            )
            yield f"| {' | '.join((rule, *numbers))} |"
        yield ""


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subsets", type=int, default=20, help="random subsets of each data set")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=8, help="8 makes ten steps an epoch; with fewer, running statistics lag behind")
    parser.add_argument("--image-size", type=int, default=32, help="pixels")
    parser.add_argument("--radiographs", type=int, default=RADIOGRAPHS, help="number of drawn images, from which the subsets are taken")
    parser.add_argument("--curves", type=Path, help="file for all curves; what it holds already is not trained again")
    parser.add_argument("--smoke", action="store_true", help="a subset, two epochs: does it run?")
    args = parser.parse_args(argv)
    if args.smoke:
        args.subsets, args.epochs, args.radiographs = 1, 2, 120
    return args


def main(argv: list[str] | None = None) -> None:
    """Run, and print the tables."""
    args = arguments(argv)
    setting = {"epochs": args.epochs, "image_size": args.image_size, "batch_size": args.batch_size, "radiographs": args.radiographs}
    found: dict[str, list[dict]] = {}
    if args.curves is not None and args.curves.exists():
        kept = json.loads(args.curves.read_text(encoding="utf-8"))
        if kept["setting"] != setting:
            raise SystemExit(f"{args.curves}: of another setting, {kept['setting']}. Choose another file with --curves")
        found = kept["found"]
    if len(found) < len(DATA) or any(len(subsets) < args.subsets for subsets in found.values()):
        with tempfile.TemporaryDirectory(prefix="few_val_cases_", ignore_cleanup_errors=True) as scratch:
            root = Path(scratch) / "data"
            draw_data(root, args.image_size, args.radiographs)
            for _ in measure(Task(root, args.subsets, args.epochs, args.image_size, args.batch_size, Path(scratch)), found):
                if args.curves is not None:
                    args.curves.write_text(json.dumps({"setting": setting, "found": found}), encoding="utf-8")
    packages = ("torch", "timm", "clipzoo")
    print(f"{machine()}, 1 thread; python {platform.python_version()}, " + ", ".join(f"{p} {version(p)}" for p in packages))
    print(f"test_resnet from scratch, {args.image_size} px, {args.epochs} epochs, batch {args.batch_size}\n")
    print("\n".join(report(found)))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
