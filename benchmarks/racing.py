"""Trainers that take turns: each lives in a process of its own, and sleeps while it is the others' turn. For benchmarks of this folder."""

from __future__ import annotations

import argparse
import csv
import logging
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from common import draw_class_folders, machine

TEMPLATE = "a photo of a {class_name}"
LEARNING_RATE, WEIGHT_DECAY, LARGEST_GRADIENT = 1e-4, 0.01, 1.0
PRECISIONS = ("fp32", "bf16")
WIDTH = 512  # of the joint space


@dataclass(frozen=True)
class Task:
    """What every contender trains on, and how.

    Attributes:
        data: Folder of class folders.
        case_ids: The images of one pass, ``steps`` batches; a multiple of ``batch_size``.
        table: The same images with their captions as CSV, for open_clip.
        scratch: Folder for what a trainer insists on writing.
    """

    data: str
    case_ids: tuple[str, ...]
    table: str
    scratch: str
    batch_size: int
    image_size: int
    num_workers: int
    threads: int


Pass = Callable[[], None]


def run_of(task: Task, precision: str, image_encoder: dict, text_encoder: dict):
    """A run of these towers as ``tools/train.py`` builds it, without folds, hooks and evaluation."""
    from rich.console import Console

    from clipzoo.config import Config
    from clipzoo.engine import build
    from clipzoo.records.folds import Split
    from clipzoo.records.provenance import Provenance
    from clipzoo.runtime.log import make_log

    config = Config.from_dict(
        {
            "model": {
                "type": "CLIP",
                "image_encoder": {"type": "TimmBackbone", "image_size": task.image_size, **image_encoder},
                "text_encoder": text_encoder,
                "embed_dim": WIDTH,
            },
            "data": {
                "dataset": {"type": "ImageFolderDataset", "root": task.data, "template": TEMPLATE},
                "batch_size": task.batch_size,
                "num_workers": task.num_workers,
            },
            "splits": {"type": "Holdout"},
            "optimizer": {"type": "AdamW", "lr": LEARNING_RATE, "weight_decay": WEIGHT_DECAY},
            "train": {"epochs": 1000, "clip_grad": LARGEST_GRADIENT},
            "hooks": [],
            "runtime": {"device": "cpu", "precision": precision, "threads": task.threads, "image_cache": f"{task.scratch}/decoded"},
        },
        "benchmark",
    )
    console = Console(quiet=True)
    log = make_log(console, None)
    split = Split(name="fold_1", train=task.case_ids, val=(), test=())
    provenance = Provenance.of(config.plain(), "benchmark", "")
    return build.run(config, build.dataset(config), split, Path(task.scratch), log=log, console=console, provenance=provenance)


def alone(tower, batches: list, precision: str) -> Pass:
    """Forward, backward and AdamW of an image tower on batches that are in memory: no files, no text, no contrastive loss."""
    import torch

    tower.train()
    optimizer = torch.optim.AdamW(tower.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)

    def one_pass() -> None:
        for images in batches:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                features = tower(images)
            features.float().square().mean().backward()
            optimizer.step()

    return one_pass


def serve(make: Callable[[Task, str], Pass], task: Task, connection) -> None:
    """The life of a contender's process: build what is asked for, time a pass when told to, sleep while it is the others' turn."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # open_clip: every layer of the model, and that its weights are random
    import torch

    torch.set_num_threads(task.threads)
    passes: dict[str, Pass] = {}
    while (order := connection.recv()) is not None:
        verb, precision = order
        if verb == "build":
            torch.manual_seed(0)
            passes[precision] = make(task, precision)
            connection.send(0.0)
        elif verb == "forget":
            connection.send(float(passes.pop(precision) is None))
        else:
            started = time.perf_counter()
            passes[precision]()
            connection.send(time.perf_counter() - started)


class Contender:
    """One trainer in a process of its own: allocator settings and thread pools are those of its process."""

    def __init__(self, name: str, make: Callable[[Task, str], Pass], task: Task):
        context = multiprocessing.get_context("spawn")
        self.name = name
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(make, task, other), daemon=False)  # a daemon may have no loader processes
        self.process.start()
        other.close()
        self.precision = ""
        self.trial: dict[str, float] = {}
        self.seconds: list[float] = []

    def ask(self, verb: str, precision: str) -> float:
        """Do it, and wait for it."""
        self.connection.send((verb, precision))
        try:
            return self.connection.recv()
        except EOFError as error:
            raise SystemExit(f"{self.name}: its process ended while it had to {verb} {precision}; the error is above") from error

    def choose_precision(self, precisions: Sequence[str]) -> None:
        """Time one pass at each precision, after a first one that does not count, and keep the faster."""
        for precision in precisions:
            self.ask("build", precision)
            self.ask("train", precision)
            self.trial[precision] = self.ask("train", precision)
        self.precision = min(self.trial, key=self.trial.get)
        for precision in set(precisions) - {self.precision}:
            self.ask("forget", precision)

    def close(self) -> None:
        """End the process."""
        if self.process.is_alive():
            self.connection.send(None)
        self.process.join()


def raced(makers: dict[str, Callable[[Task, str], Pass]], task: Task, precisions: Sequence[str], rounds: int) -> list[Contender]:
    """Every contender, after ``rounds`` timed passes in turns at the one of ``precisions`` that suits it."""
    contenders = [Contender(name, make, task) for name, make in makers.items()]
    try:
        for contender in contenders:
            contender.choose_precision(precisions)
        for _ in range(rounds):
            for contender in contenders:
                contender.seconds.append(contender.ask("train", contender.precision))
    finally:
        for contender in contenders:
            contender.close()
    return contenders


def choose_images(data: Path, table: Path, num_images: int) -> tuple[str, ...]:
    """Ids of ``num_images`` images, taken from all classes; also written with their captions as open_clip's CSV."""
    import numpy as np

    from clipzoo.datasets import ImageFolderDataset

    dataset = ImageFolderDataset(str(data), template=TEMPLATE)
    if len(dataset) < num_images:
        raise SystemExit(f"--data {data}: {len(dataset)} images are too few for {num_images} (--steps x --batch-size)")
    rows = np.sort(np.random.default_rng(0).permutation(len(dataset))[:num_images])
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["filepath", "title"])
        writer.writerows([dataset.path_of(row), dataset.captions.sentences[dataset.captions_of(row)[0]]] for row in rows)
    return tuple(dataset.cases[row].id for row in rows)


def report(contenders: list[Contender], num_images: int, batch_size: int, peer: str, limit: str) -> Iterator[str]:
    """The lines of the markdown table: medians over the rounds, their range, how often as fast as the peer, and the share of the limit."""
    speed = {c.name: [num_images / s for s in c.seconds] for c in contenders}
    reference, most = (statistics.median(speed[name]) for name in (peer, limit))
    columns = ("images/s (median)", "min ... max", "ms per step", f"x {peer}", "of the limit", "fp32 / bf16 images/s in the trial")
    yield f"| trainer | precision | {' | '.join(columns)} |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for c in contenders:
        median = statistics.median(speed[c.name])
        trial = " / ".join(f"{num_images / c.trial[p]:.1f}" if p in c.trial else "none" for p in PRECISIONS)
        spread = f"{min(speed[c.name]):.1f} ... {max(speed[c.name]):.1f}"
        step, ratio, share = f"{1000 * batch_size / median:.0f}", f"{median / reference:.2f}", f"{median / most:.2f}"
        cells = (c.name, c.precision, f"{median:.1f}", spread, step, ratio, share, trial)
        yield f"| {' | '.join(cells)} |"


def arguments(argv: list[str] | None, description: str, smoke_size: int) -> argparse.Namespace:
    """The command line of a race; ``smoke_size`` is the image size of ``--smoke``."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of class folders; default: draws JPEGs of 12 classes into a temporary folder")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=224, help="pixels")
    parser.add_argument("--steps", type=int, default=8, help="batches of one pass")
    parser.add_argument("--rounds", type=int, default=5, help="timed passes of each, in turns")
    parser.add_argument("--num-workers", type=int, default=0, help="loader processes of the trainers")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    parser.add_argument("--smoke", action="store_true", help="two steps on tiny images: does it run?")
    args = parser.parse_args(argv)
    if args.smoke:
        args.batch_size, args.image_size, args.steps, args.rounds, args.threads = 4, smoke_size, 2, 1, 1
    return args


def precisions() -> Sequence[str]:
    """What the processor computes with: without instructions for bf16 it is emulated, and a pass takes minutes."""
    import torch

    return PRECISIONS if torch.ops.mkldnn._is_mkldnn_bf16_supported() else PRECISIONS[:1]


def race(args: argparse.Namespace, makers: dict[str, Callable[[Task, str], Pass]], towers: str, packages: str, peer: str) -> None:
    """Let the contenders of a benchmark take turns, and print the table.

    Args:
        args: Result of ``arguments``.
        makers: Contenders by name; the last is the limit.
        towers: What is trained, in words.
        packages: Names of packages whose versions are printed, with blanks between.
        peer: Name of the contender that the others are compared with.
    """
    num_images = args.steps * args.batch_size
    with tempfile.TemporaryDirectory(prefix="race_", ignore_cleanup_errors=True) as scratch:
        data = args.data or Path(scratch) / "images"
        if args.data is None:
            draw_class_folders(data, num_images, args.image_size)
        table = Path(scratch) / "captions.csv"
        ids = choose_images(data, table, num_images)
        task = Task(str(data), ids, str(table), scratch, args.batch_size, args.image_size, args.num_workers, args.threads)
        contenders = raced(makers, task, precisions(), args.rounds)
    versions = ", ".join(f"{name} {version(name)}" for name in packages.split())
    print(f"{machine()}, {args.threads} threads; python {platform.python_version()}, {versions}")
    print(f"{towers}, batch {args.batch_size}, {args.image_size} px, {args.rounds} x {args.steps} steps\n")
    print("\n".join(report(contenders, num_images, args.batch_size, peer, list(makers)[-1])))
