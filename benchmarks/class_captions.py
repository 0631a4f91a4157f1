"""Images per second of CLIP training on class folders: clipzoo, open_clip's own trainer, and the image tower alone.

    python benchmarks/class_captions.py [--data FOLDER_OF_CLASS_FOLDERS]

ResNet-18 x the 12-layer text model of CLIP ViT-B/32, from scratch, AdamW, gradients clipped at norm 1, the same images in every pass.
``benchmarks/README.md`` says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

IMAGE_TOWER = "resnet18"
TEXT = dict(context_length=77, vocab_size=49408, width=512, heads=8, layers=12)  # of CLIP ViT-B/32
TEMPLATE = "a photo of a {class_name}"
LEARNING_RATE, WEIGHT_DECAY, LARGEST_GRADIENT = 1e-4, 0.01, 1.0
PRECISIONS = ("fp32", "bf16")
COLOURS = {"red": (210, 60, 50), "green": (60, 170, 80), "blue": (60, 90, 210), "yellow": (220, 200, 60)}
SHAPES = ("disc", "square", "triangle")


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
                "embed_dim": TEXT["width"],
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


def clipzoo_run(task: Task, precision: str, *, freeze_text: bool = False):
    """``run_of`` the towers of this benchmark."""
    return run_of(
        task, precision, {"name": IMAGE_TOWER}, {"type": "CLIPText", "variant": "ViT-B/32", "freeze": "all" if freeze_text else "none"}
    )


def clipzoo_loop(task: Task, precision: str) -> Pass:
    """``clipzoo.engine.loop.train_epoch``: files, loader, augmentation 'standard', step."""
    from clipzoo.engine import loop

    run = clipzoo_run(task, precision)
    return lambda: loop.train_epoch(run)


class _Built(Exception):
    """Carries what open_clip's ``main`` built out of it."""


def open_clip_trainer(task: Task, precision: str) -> Pass:
    """``open_clip_train.train.train_one_epoch`` with the arguments that ``open_clip_train.main.main`` itself gives it."""
    from unittest import mock

    import open_clip
    from open_clip_train import main as trainer

    model = f"{IMAGE_TOWER}_{task.image_size}"
    vision = dict(timm_model_name=IMAGE_TOWER, timm_model_pretrained=False, timm_pool="avg", timm_proj="linear", image_size=task.image_size)
    folder = Path(tempfile.mkdtemp(dir=task.scratch))
    (folder / f"{model}.json").write_text(json.dumps(dict(embed_dim=TEXT["width"], vision_cfg=vision, text_cfg=TEXT)), encoding="utf-8")
    open_clip.add_model_config(folder / f"{model}.json")
    options = {
        "model": model,
        "train-data": task.table,
        "dataset-type": "csv",
        "csv-separator": ",",
        "csv-img-key": "filepath",
        "csv-caption-key": "title",
        "precision": {"fp32": "fp32", "bf16": "amp_bf16"}[precision],
        "batch-size": task.batch_size,
        "workers": task.num_workers,
        "epochs": 1000,
        "lr": LEARNING_RATE,
        "wd": WEIGHT_DECAY,
        "grad-clip-norm": LARGEST_GRADIENT,
        "lr-scheduler": "const",
        "warmup": 0,
        "device": "cpu",
        "logs": folder,
        "name": "run",
    }

    def stop(*arguments, **keywords):
        raise _Built(arguments, keywords)

    try:
        with mock.patch.object(trainer, "train_one_epoch", stop):
            trainer.main([f"--{name}={value}" for name, value in options.items()])
    except _Built as built:
        arguments, keywords = built.args
        return lambda: trainer.train_one_epoch(*arguments, **keywords)
    raise RuntimeError("open_clip_train.main returned before it trained; is this open_clip_torch 3?")


def image_tower(task: Task, precision: str) -> Pass:
    """``alone`` of ResNet-18, on images in the memory order of convolutions."""
    import timm
    import torch

    run = clipzoo_run(task, "fp32")  # its images, and its memory allocator
    batches = [batch.images.contiguous(memory_format=torch.channels_last) for batch in run.train_loader]
    return alone(timm.create_model(IMAGE_TOWER, num_classes=0), batches, precision)


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


def clipzoo_frozen(task: Task, precision: str) -> Pass:
    """The same with a frozen text tower, which is encoded once."""
    from clipzoo.engine import loop

    run = clipzoo_run(task, precision, freeze_text=True)
    return lambda: loop.train_epoch(run)


CONTENDERS: dict[str, Callable[[Task, str], Pass]] = {
    "clipzoo": clipzoo_loop,
    "clipzoo, text frozen": clipzoo_frozen,
    "open_clip_train": open_clip_trainer,
    "image tower alone": image_tower,
}


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
        self.precision = PRECISIONS[0]
        self.trial: dict[str, float] = {}
        self.seconds: list[float] = []

    def ask(self, verb: str, precision: str) -> float:
        """Do it, and wait for it."""
        self.connection.send((verb, precision))
        try:
            return self.connection.recv()
        except EOFError as error:
            raise SystemExit(f"{self.name}: its process ended while it had to {verb} {precision}; the error is above") from error

    def choose_precision(self) -> None:
        """Time one pass at each precision, after a first one that does not count, and keep the faster."""
        for precision in PRECISIONS:
            self.ask("build", precision)
            self.ask("train", precision)
            self.trial[precision] = self.ask("train", precision)
        self.precision = min(self.trial, key=self.trial.get)
        for precision in set(PRECISIONS) - {self.precision}:
            self.ask("forget", precision)

    def close(self) -> None:
        """End the process."""
        if self.process.is_alive():
            self.connection.send(None)
        self.process.join()


def raced(makers: dict[str, Callable[[Task, str], Pass]], task: Task, rounds: int) -> list[Contender]:
    """Every contender, after ``rounds`` timed passes in turns at the precision that suits it."""
    contenders = [Contender(name, make, task) for name, make in makers.items()]
    try:
        for contender in contenders:
            contender.choose_precision()
        for _ in range(rounds):
            for contender in contenders:
                contender.seconds.append(contender.ask("train", contender.precision))
    finally:
        for contender in contenders:
            contender.close()
    return contenders


def draw_class_folders(root: Path, num_images: int, size: int) -> None:
    """JPEGs of one coloured shape each on a noisy ground, ``size`` to 1.2 ``size`` wide: 12 classes."""
    import numpy as np
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(0)
    classes = [(colour, shape) for shape in SHAPES for colour in COLOURS]
    for index in range(num_images):
        colour, shape = classes[index % len(classes)]
        width, height = (int(side) for side in rng.integers(size, int(1.2 * size) + 1, 2))
        ground = Image.fromarray(rng.integers(40, 200, (6, 6, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(ground)
        radius = int(size * rng.uniform(0.15, 0.35))
        x, y = (int(rng.integers(radius, side - radius)) for side in (width, height))
        box = (x - radius, y - radius, x + radius, y + radius)
        if shape == "disc":
            draw.ellipse(box, fill=COLOURS[colour])
        else:
            draw.regular_polygon((x, y, radius), 4 if shape == "square" else 3, fill=COLOURS[colour])
        noisy = np.asarray(ground, dtype=np.int16) + rng.integers(-12, 13, (height, width, 3))
        folder = root / f"{colour} {shape}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(folder / f"{index:05d}.jpg", quality=90)


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
        trial = " / ".join(f"{num_images / c.trial[p]:.1f}" for p in PRECISIONS)
        spread = f"{min(speed[c.name]):.1f} ... {max(speed[c.name]):.1f}"
        step, ratio, share = f"{1000 * batch_size / median:.0f}", f"{median / reference:.2f}", f"{median / most:.2f}"
        cells = (c.name, c.precision, f"{median:.1f}", spread, step, ratio, share, trial)
        yield f"| {' | '.join(cells)} |"


def machine() -> str:
    """The processor's name, as people know it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        if names:
            return names[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()


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
        contenders = raced(makers, task, args.rounds)
    versions = ", ".join(f"{name} {version(name)}" for name in packages.split())
    print(f"{machine()}, {args.threads} threads; python {platform.python_version()}, {versions}")
    print(f"{towers}, batch {args.batch_size}, {args.image_size} px, {args.rounds} x {args.steps} steps\n")
    print("\n".join(report(contenders, num_images, args.batch_size, peer, list(makers)[-1])))


def main(argv: list[str] | None = None) -> None:
    """Run, and print the table."""
    towers, packages = f"{IMAGE_TOWER} x CLIP text ViT-B/32", "torch open_clip_torch timm clipzoo"
    race(arguments(argv, __doc__, 64), CONTENDERS, towers, packages, "open_clip_train")


if __name__ == "__main__":
    sys.exit(main())
