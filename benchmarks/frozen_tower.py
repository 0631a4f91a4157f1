"""Seconds of a cross-validated head on a frozen tower: with the feature cache, without it, and as a plain PyTorch script would do it.

    python benchmarks/frozen_tower.py [--images 240] [--folds 5] [--epochs 5]

``benchmarks/README.md`` says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from common import draw_class_folders, machine

TOWER = "resnet18"
LEARNING_RATE = 1e-2


@dataclass(frozen=True)
class Task:
    """What all contenders do: ``folds`` heads on one frozen tower, ``epochs`` passes each, every test part scored once."""

    data: str
    weights: str
    scratch: str
    image_size: int
    folds: int
    epochs: int
    batch_size: int
    threads: int


def clipzoo_run(task: Task, cache: str | None) -> float:
    """``CrossValidation`` as ``tools/train.py`` runs it; returns the pooled accuracy."""
    from rich.console import Console

    from clipzoo.config import Config
    from clipzoo.engine.cross_validation import CrossValidation

    tower = {"type": "TimmBackbone", "name": TOWER, "pretrained": task.weights, "image_size": task.image_size, "freeze": "all"}
    config = Config.from_dict(
        {
            "model": {"type": "ImageClassifier", "image_encoder": tower, "head": "LinearHead"},
            "data": {
                "dataset": {"type": "ImageFolderDataset", "root": task.data},
                "batch_size": task.batch_size,
                "augmentation": "none",
                "num_workers": 0,
            },
            "splits": {"type": "StratifiedGroupKFold", "num_folds": task.folds, "seed": 0, "val_fraction": 0.0},
            "optimizer": {"type": "AdamW", "lr": LEARNING_RATE},
            "train": {"epochs": task.epochs},
            "hooks": [],
            "runtime": {"device": "cpu", "precision": "fp32", "threads": task.threads, "feature_cache": cache},
        },
        "frozen_tower",
    )
    with tempfile.TemporaryDirectory(dir=task.scratch) as folder:
        return CrossValidation(config, Path(folder) / "run", console=Console(quiet=True)).train().pooled["accuracy"]


def with_cache(task: Task) -> float:
    """The features of no image are known yet."""
    with tempfile.TemporaryDirectory(dir=task.scratch) as cache:
        return clipzoo_run(task, cache)


def cache_is_warm(task: Task) -> float:
    """Another run on the same images: all features are known."""
    return clipzoo_run(task, str(Path(task.scratch) / "warm"))


def without_cache(task: Task) -> float:
    """Every epoch of every fold runs the tower."""
    return clipzoo_run(task, None)


def plain_pytorch(task: Task) -> float:
    """torchvision's ImageFolder, a DataLoader, a frozen timm tower under ``no_grad`` and a linear layer, fold by fold."""
    import numpy as np
    import timm
    import torch
    from sklearn.model_selection import StratifiedKFold
    from torch.utils.data import DataLoader, Subset
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    size = task.image_size
    prepare = v2.Compose([v2.Resize((size, size)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)])
    data = ImageFolder(task.data, prepare)
    right = 0
    for train, test in StratifiedKFold(task.folds, shuffle=True, random_state=0).split(np.zeros(len(data)), data.targets):
        tower = timm.create_model(TOWER, num_classes=0)
        tower.load_state_dict(torch.load(task.weights, weights_only=True))
        tower.eval()
        head = torch.nn.Linear(tower.num_features, len(data.classes))
        optimizer = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE)
        for _ in range(task.epochs):
            for images, labels in DataLoader(Subset(data, train), task.batch_size, shuffle=True):
                with torch.no_grad():
                    features = tower(images)
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(head(features), labels).backward()
                optimizer.step()
        with torch.no_grad():
            for images, labels in DataLoader(Subset(data, test), task.batch_size):
                right += int((head(tower(images)).argmax(dim=1) == labels).sum())
    return right / len(data)


CONTENDERS: dict[str, Callable[[Task], float]] = {
    "clipzoo": with_cache,
    "clipzoo, features known": cache_is_warm,
    "clipzoo without cache": without_cache,
    "plain PyTorch": plain_pytorch,
}


def serve(task: Task, connection) -> None:
    """The life of the working process: run the contender it is told to, and answer with seconds and accuracy."""
    import torch

    torch.set_num_threads(task.threads)
    while (name := connection.recv()) is not None:
        started = time.perf_counter()
        accuracy = CONTENDERS[name](task)
        connection.send((time.perf_counter() - started, accuracy))


def measured(task: Task, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds and accuracy of every round, the contenders in turns; a first round is not counted."""
    context = multiprocessing.get_context("spawn")
    connection, other = context.Pipe()
    process = context.Process(target=serve, args=(task, other))
    process.start()
    other.close()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTENDERS}
    try:
        for round_ in range(rounds + 1):
            for name in CONTENDERS:
                connection.send(name)
                result = connection.recv()
                if round_:
                    found[name].append(result)
        connection.send(None)
    except EOFError as error:
        raise SystemExit("the working process ended; the error is above") from error
    finally:
        process.join()
    return found


def report(found: dict[str, list[tuple[float, float]]]) -> Iterator[str]:
    """The lines of the markdown table: medians over the rounds, their range, and how often as fast as the plain script."""
    median = {name: statistics.median(seconds for seconds, _ in results) for name, results in found.items()}
    yield "| contender | seconds (median) | min ... max | x plain PyTorch | accuracy |"
    yield "|---|---:|---:|---:|---:|"
    for name, results in found.items():
        seconds = [s for s, _ in results]
        cells = (name, f"{median[name]:.1f}", f"{min(seconds):.1f} ... {max(seconds):.1f}", f"{median['plain PyTorch'] / median[name]:.2f}")
        yield f"| {' | '.join((*cells, f'{results[-1][1]:.3f}'))} |"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=240, help="JPEGs of 12 classes, drawn into a temporary folder")
    parser.add_argument("--image-size", type=int, default=128, help="pixels")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2, help="timed runs of each, in turns")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    parser.add_argument("--smoke", action="store_true", help="a few tiny images: does it run?")
    args = parser.parse_args(argv)
    if args.smoke:
        args.images, args.image_size, args.folds, args.epochs, args.batch_size, args.rounds, args.threads = 48, 32, 2, 1, 8, 1, 1
    return args


def main(argv: list[str] | None = None) -> None:
    """Run, and print the table."""
    import timm
    import torch

    args = arguments(argv)
    with tempfile.TemporaryDirectory(prefix="frozen_tower_", ignore_cleanup_errors=True) as scratch:
        draw_class_folders(Path(scratch) / "images", args.images, args.image_size)
        weights = Path(scratch) / "tower.pth"
        torch.manual_seed(0)
        torch.save(timm.create_model(TOWER, num_classes=0).state_dict(), weights)
        sizes = {"image_size": args.image_size, "folds": args.folds, "epochs": args.epochs, "batch_size": args.batch_size}
        task = Task(data=str(Path(scratch) / "images"), weights=str(weights), scratch=scratch, threads=args.threads, **sizes)
        found = measured(task, args.rounds)
    packages = ("torch", "torchvision", "timm", "clipzoo")
    print(f"{machine()}, {args.threads} threads; python {platform.python_version()}, " + ", ".join(f"{p} {version(p)}" for p in packages))
    print(f"{TOWER}, {args.images} images, {args.image_size} px, {args.folds} folds x {args.epochs} epochs, {args.rounds} rounds\n")
    print("\n".join(report(found)))


if __name__ == "__main__":
    sys.exit(main())
