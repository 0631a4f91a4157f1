"""What a million image–text pairs cost: tokens per second, seconds and memory of a start, and images per second from shards and files.

    python benchmarks/pairs_at_scale.py [--pairs 1000000] [--only tokens start reading]

``benchmarks/README.md`` says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import multiprocessing
import os
import platform
import random
import resource
import statistics
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from common import machine

QUESTIONS = ("tokens", "start", "reading")
PER_IMAGE = 5  # captions of an image, as in COCO
STEPS = {"check_images": "check of the images", "rehearse": "model and tokens", "compare_data": "fingerprint"}  # methods of CrossValidation
START_PARTS = ("imports", "data and folds", *STEPS.values(), "work dir", "first batch")
KINDS = ("Latin captions", "Chinese", "mixed", "accented Latin")


class Sentences:
    """Captions drawn from CLIP's own words and from ideographs, which recur as in a language (Zipf–Mandelbrot).

    Args:
        seed: Seed of all draws.
    """

    def __init__(self, seed: int = 0):
        from clipzoo.models.layout.byte_pairs import vocabulary

        self.random = random.Random(seed)
        words = [word[:-4] for word in vocabulary() if word.endswith("</w>") and word[:-4].isalpha() and word.isascii() and len(word) > 6]
        self.words = self._weighted(words)
        self.ideographs = self._weighted([chr(code) for code in range(0x4E00, 0x9000)])

    def latin(self) -> str:
        """Seven to fourteen words."""
        return f"{self._drawn(self.words, 7, 14, ' ')}{self.random.choice(('.', '', f', {self.random.randrange(2000)}'))}"

    def chinese(self) -> str:
        """Two clauses, together 8 to 24 characters."""
        return f"{self._drawn(self.ideographs, 4, 12)}，{self._drawn(self.ideographs, 4, 12)}{self.random.choice(('。', ''))}"

    def mixed(self) -> str:
        """A few words between two clauses."""
        return f"{self._drawn(self.ideographs, 4, 8)} {self._drawn(self.words, 3, 6, ' ')} {self._drawn(self.ideographs, 4, 8)}"

    def accented(self) -> str:
        """As Latin, with an accent in every third word or so: ftfy looks at each of these sentences."""
        return "".join("é" if c == "e" and self.random.random() < 0.3 else c for c in self.latin())

    def of(self, kind: str, number: int) -> list[str]:
        """``number`` sentences of one of ``KINDS``."""
        draw = dict(zip(KINDS, (self.latin, self.chinese, self.mixed, self.accented), strict=True))[kind]
        return [draw() for _ in range(number)]

    def _weighted(self, things: list[str]) -> tuple[list[str], list[float]]:
        self.random.shuffle(things)
        return things, list(itertools.accumulate((rank + 2.7) ** -1.1 for rank in range(len(things))))

    def _drawn(self, things: tuple[list[str], list[float]], fewest: int, most: int, between: str = "") -> str:
        return between.join(self.random.choices(things[0], cum_weights=things[1], k=self.random.randint(fewest, most)))


def in_a_process(function: Callable, *arguments: object) -> object:
    """The result of ``function`` in a new process, whose memory and caches are its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(function, arguments)


# ---- tokens ----


def seconds_of_ours(sentences: list[str]) -> float:
    """Seconds of ``CLIPTokenizer`` for all sentences, with nothing remembered."""
    from clipzoo.models.text_encoders.tokenizer import CLIPTokenizer

    tokenizer = CLIPTokenizer()
    tokenizer(["warm 起"])
    started = time.perf_counter()
    for first in range(0, len(sentences), 1 << 14):  # as for a large table
        tokenizer(sentences[first : first + (1 << 14)])
    return time.perf_counter() - started


def seconds_of_open_clip(sentences: list[str]) -> float:
    """Seconds of ``open_clip.tokenize``, likewise."""
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    started = time.perf_counter()
    tokenizer(sentences)
    return time.perf_counter() - started


def tokens(arguments: argparse.Namespace) -> Iterator[str]:
    """Lines of the first table. open_clip gets a tenth of the sentences, as it takes so long."""
    yield "| sentences | clipzoo: sentences/s | open_clip: sentences/s | ratio |"
    yield "|---|---:|---:|---:|"
    for kind in KINDS:
        sentences = Sentences().of(kind, arguments.sentences)
        speeds: list[list[float]] = [[], []]
        for _ in range(arguments.rounds):  # alternately
            speeds[0].append(len(sentences) / in_a_process(seconds_of_ours, sentences))
            some = sentences[: max(len(sentences) // 10, 1)]
            speeds[1].append(len(some) / in_a_process(seconds_of_open_clip, some))
        ours, theirs = map(statistics.median, speeds)
        yield f"| {kind} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.1f} |"


# ---- start ----


def draw_pairs(root: Path, num_pairs: int) -> Path:
    """A CSV of pairs and an image of 8 x 8 pixels for every five of them, a thousand to a folder."""
    sentences = Sentences()
    path = root / "pairs.csv"
    with path.open("w", encoding="utf-8") as table:
        table.write("filepath,title\n")
        for number in range(0, num_pairs, PER_IMAGE):
            name = f"images/{number // 5000:05d}/{number:09d}.png"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(_png(number))
            for caption in range(number, min(number + PER_IMAGE, num_pairs)):
                table.write(f'{name},"{sentences.latin()} {caption}"\n')
    return path


def _png(number: int) -> bytes:
    """A small image of its own for every number."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    row = b"\0" + number.to_bytes(8, "big")
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 8)) + chunk(b"IEND", b"")


def started(table: str, work_dir: str, cache: str) -> dict[str, float]:
    """Seconds from the first import to the first batch, by part; and the peak of the memory in MiB."""
    os.environ["CLIPZOO_CACHE"] = cache
    times = [("", time.perf_counter())]

    def mark(name: str) -> None:
        times.append((name, time.perf_counter()))

    from clipzoo.config import Config
    from clipzoo.engine.cross_validation import CrossValidation

    mark("imports")
    towers = {
        "image_encoder": {"type": "TimmBackbone", "name": "resnet18", "image_size": 32, "pretrained": False},
        "text_encoder": {"type": "CLIPText", "width": 32, "layers": 1, "heads": 2, "output_dim": 16},
    }
    config = Config.from_dict(
        {
            "model": {"type": "CLIP", "embed_dim": 16, **towers},
            "data": {"dataset": {"type": "PairsDataset", "path": table}, "batch_size": 64, "num_workers": 0},
            "splits": {"type": "Holdout", "test_fraction": 0.01, "val_fraction": 0.01},
            "hooks": [],
            "runtime": {"device": "cpu"},
        },
        "start",
    )
    from rich.console import Console

    validation = CrossValidation(config, work_dir, console=Console(quiet=True))
    mark("data and folds")
    for name in STEPS:
        _timed(validation, name, mark)
    split = validation.folds.splits[0]
    with validation.opened(split) as log:
        mark("work dir")
        next(iter(validation.runner(split, log).run.train_loader))
        mark("first batch")
    found = {name: second - first for (_, first), (name, second) in itertools.pairwise(times)}
    scale = 1 if sys.platform == "darwin" else 1024
    return {**found, "total": times[-1][1] - times[0][1], "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**20}


def _timed(validation: object, name: str, mark: Callable[[str], None]) -> None:
    function, label = getattr(validation, name), STEPS[name]

    def call(*arguments: object) -> object:
        result = function(*arguments)
        mark(label)
        return result

    setattr(validation, name, call)


def start(arguments: argparse.Namespace) -> Iterator[str]:
    """Lines of the second table."""
    yield "| start | " + " | ".join(("total s", *START_PARTS, "peak MiB")) + " |"
    yield "|---|" + "---:|" * (len(START_PARTS) + 2)
    with tempfile.TemporaryDirectory() as scratch:
        table = draw_pairs(Path(scratch), arguments.pairs)
        for name in ("first", "second"):  # of two experiments on the same data: the cache is filled, the work dir is new
            found = in_a_process(started, str(table), f"{scratch}/work_{name}", f"{scratch}/cache")
            yield (
                f"| {name} | {found['total']:.1f} | "
                + " | ".join(f"{found[part]:.1f}" for part in START_PARTS)
                + f" | {found['MiB']:.0f} |"
            )


# ---- reading ----


def draw_images(root: Path, number: int, side: int) -> None:
    """Class folders of JPEGs with noise, so that they are as large as photographs."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(number):
        path = root / f"class_{index % 10}" / f"{index:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((side, side)).save(buffer, "JPEG", quality=90)
        path.write_bytes(buffer.getvalue())


def read(kind: str, source: str, decoded: bool) -> float:
    """Images per second in random order, decoded or only their bytes."""
    from clipzoo.datasets import PairsDataset, ShardPairs

    data = ShardPairs(source) if kind == "shards" else PairsDataset(source)
    rows = list(range(len(data)))
    random.Random(0).shuffle(rows)
    one = data.read_image if decoded else data.encoded_image if kind == "shards" else lambda row: data.path_of(row).read_bytes()
    one(0)
    began = time.perf_counter()
    for row in rows:
        one(row)
    return len(rows) / (time.perf_counter() - began)


def reading(arguments: argparse.Namespace) -> Iterator[str]:
    """Lines of the third table."""
    from clipzoo.datasets.make_pairs import make_pairs

    yield "| images | bytes: images/s | decoded: images/s |"
    yield "|---|---:|---:|"
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["CLIPZOO_CACHE"] = f"{scratch}/cache"
        images, table, shards = (Path(scratch, name) for name in ("images", "pairs.csv", "shards"))
        draw_images(images, arguments.images, arguments.side)
        make_pairs(images, table)
        make_pairs(images, shards, shard_size=max(arguments.images // 8, 1))
        sources = {"shards": str(shards), "files": str(table)}
        speeds: dict[tuple[str, bool], list[float]] = {(kind, decoded): [] for kind in sources for decoded in (False, True)}
        for _ in range(arguments.rounds):  # alternately
            for kind, decoded in speeds:
                speeds[kind, decoded].append(in_a_process(read, kind, sources[kind], decoded))
        for kind in sources:
            yield f"| {kind} | {statistics.median(speeds[kind, False]):,.0f} | {statistics.median(speeds[kind, True]):,.0f} |"


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=QUESTIONS, default=QUESTIONS, help="questions (default: all)")
    parser.add_argument("--pairs", type=int, default=1_000_000, metavar="N", help="pairs of the start (default: %(default)s)")
    parser.add_argument("--sentences", type=int, default=200_000, metavar="N", help="sentences of each kind (default: %(default)s)")
    parser.add_argument("--images", type=int, default=4000, metavar="N", help="images to read (default: %(default)s)")
    parser.add_argument("--side", type=int, default=256, metavar="PIXELS", help="their side (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns, of which the median is shown (default: %(default)s)")
    parser.add_argument("--smoke", action="store_true", help="does it run? The numbers mean nothing")
    arguments = parser.parse_args(argv)
    if arguments.smoke:
        arguments.pairs, arguments.sentences, arguments.images, arguments.side, arguments.rounds = 200, 200, 20, 32, 1
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "open_clip_torch", "tokenizers", "ftfy", "clipzoo"))
    print(f"{machine()}, {os.cpu_count()} threads; python {platform.python_version()}, {packages}")
    print(json.dumps({name: getattr(arguments, name) for name in ("sentences", "pairs", "images", "side", "rounds")}))
    for question in arguments.only:
        print()
        for line in {"tokens": tokens, "start": start, "reading": reading}[question](arguments):
            print(line, flush=True)


if __name__ == "__main__":
    main()
