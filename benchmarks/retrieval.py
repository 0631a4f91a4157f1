"""Seconds and memory of scoring retrieval: clipzoo in blocks, open_clip's own function on the full matrix, and the products alone.

    python benchmarks/retrieval.py [--num 10000]

N random unit features on both sides, the i-th caption being the i-th image's.
``benchmarks/README.md`` says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING

from common import machine

if TYPE_CHECKING:
    from torch import Tensor

Scored = dict[str, float]


def make_features(num: int, width: int) -> tuple[Tensor, Tensor]:
    """Twice ``[num, width]`` float32, rows of unit length; captions lie near enough to their images for a recall between 0 and 1."""
    import torch

    generator = torch.Generator().manual_seed(0)
    image = torch.empty(num, width).normal_(generator=generator)
    text = torch.empty(num, width).normal_(generator=generator).mul_(0.3 * width**0.5).add_(image)
    for features in (image, text):
        for chunk in features.split(1024):  # in place: what is allocated here would count as peak memory
            chunk.div_(chunk.norm(dim=1, keepdim=True))
    return image, text


def clipzoo_blocks(image: Tensor, text: Tensor) -> Scored:
    """``clipzoo.metrics``: ranks with ties and histograms, the table, and every default metric."""
    from clipzoo.metrics import RETRIEVAL_DEFAULTS, rank, retrieval_table
    from clipzoo.records.folds import Case
    from clipzoo.registries import METRICS

    names = [f"{row:06}" for row in range(len(image))]
    ranks = rank(image, text, [[row] for row in range(len(image))])
    table = retrieval_table(ranks, cases=[Case(name, None, name) for name in names], captions=names, fold="fold_1")
    return {metric.name: metric.compute(table) for metric in map(METRICS.build, RETRIEVAL_DEFAULTS)}


def open_clip_matrix(image: Tensor, text: Tensor) -> Scored:
    """``open_clip_train.train.get_clip_metrics``: the full matrix, and ``argsort`` of it and of its transpose."""
    from open_clip_train.train import get_clip_metrics

    found = get_clip_metrics(image, text, 1.0)
    return {
        f"{short}_r{k}": float(found[f"{name}_R@{k}"])
        for short, name in (("i2t", "image_to_text"), ("t2i", "text_to_image"))
        for k in (1, 5, 10)
    }


def products_alone(image: Tensor, text: Tensor) -> Scored:
    """The matrix product, in the blocks that clipzoo uses: nothing that looks at every pair can be faster."""
    import torch

    tile = torch.empty(1024, 1024)
    for rows in image.split(1024):
        for columns in text.split(1024):
            torch.mm(rows, columns.T, out=tile[: len(rows), : len(columns)])
    return {}


CONTENDERS: dict[str, Callable[[Tensor, Tensor], Scored]] = {
    "clipzoo": clipzoo_blocks,
    "open_clip_train": open_clip_matrix,
    "products alone": products_alone,
}


def serve(name: str, num: int, width: int, threads: int, connection) -> None:
    """The life of a contender's process: score whenever it is told to, and answer with seconds, mebibytes and scores."""
    import torch

    torch.set_num_threads(threads)
    contender = CONTENDERS[name]
    contender(*make_features(64, width))  # imports, and the first calls of everything
    features = make_features(num, width)
    before = peak_mebibytes()
    while connection.recv() is not None:
        started = time.perf_counter()
        scored = contender(*features)
        connection.send((time.perf_counter() - started, peak_mebibytes() - before, scored))


def peak_mebibytes() -> float:
    """The most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


class Contender:
    """One way to score in a process of its own: the peak of its memory is that of its process."""

    def __init__(self, name: str, args: argparse.Namespace):
        context = multiprocessing.get_context("spawn")
        self.name = name
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(name, args.num, args.width, args.threads, other))
        self.process.start()
        other.close()
        self.seconds: list[float] = []
        self.mebibytes = 0.0
        self.scored: Scored = {}

    def score(self) -> None:
        """Once more."""
        self.connection.send("score")
        try:
            seconds, self.mebibytes, self.scored = self.connection.recv()
        except EOFError as error:
            raise SystemExit(f"{self.name}: its process ended while it scored; out of memory? Lower --num") from error
        self.seconds.append(seconds)

    def close(self) -> None:
        """End the process."""
        if self.process.is_alive():
            self.connection.send(None)
        self.process.join()


def report(contenders: list[Contender]) -> Iterator[str]:
    """The lines of the markdown table: medians over the rounds, their range, and how often as fast as open_clip's function."""
    median = {c.name: statistics.median(c.seconds) for c in contenders}
    yield "| scored by | seconds (median) | min ... max | x open_clip | MiB above the features | R@1 image to text | R@10 text to image |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for c in contenders:
        speed = f"{median['open_clip_train'] / median[c.name]:.2f}" if "open_clip_train" in median else ""
        recalls = [f"{c.scored[name]:.4f}" if name in c.scored else "" for name in ("i2t_r1", "t2i_r10")]
        spread = f"{min(c.seconds):.2f} ... {max(c.seconds):.2f}"
        yield f"| {' | '.join((c.name, f'{median[c.name]:.2f}', spread, speed, f'{c.mebibytes:.0f}', *recalls))} |"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=10_000, help="images, and as many captions")
    parser.add_argument("--width", type=int, default=512, help="of the features")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each, in turns")
    parser.add_argument("--only", choices=CONTENDERS, help="one of them, where the full matrix does not fit")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    parser.add_argument("--smoke", action="store_true", help="one round of a few hundred: does it run?")
    args = parser.parse_args(argv)
    if args.smoke:
        args.num, args.width, args.rounds, args.threads = 300, 32, 1, 1
    return args


def main(argv: list[str] | None = None) -> None:
    """Run, and print the table."""
    args = arguments(argv)
    contenders = [Contender(name, args) for name in CONTENDERS if args.only in (None, name)]
    try:
        for _ in range(args.rounds):
            for contender in contenders:
                contender.score()
    finally:
        for contender in contenders:
            contender.close()
    packages = ("torch", "open_clip_torch", "clipzoo")
    print(f"{machine()}, {args.threads} threads; python {platform.python_version()}, " + ", ".join(f"{p} {version(p)}" for p in packages))
    print(f"{args.num} images x {args.num} captions, width {args.width}, {args.rounds} rounds\n")
    print("\n".join(report(contenders)))
    named = [c.scored for c in contenders if c.scored]
    for name in set.intersection(*map(set, named)) if named else ():
        values = [scored[name] for scored in named]
        if max(values) - min(values) > 1e-3:
            raise SystemExit(f"they disagree on {name}: {values}")


if __name__ == "__main__":
    sys.exit(main())
