"""Images per second from files to batches: torchvision's and timm's loaders, and clipzoo with and without its image cache.

    python benchmarks/input_pipeline.py

Drawn photographs of a megapixel as JPEG, 8-bit PNG and 16-bit grey PNG, scaled to 224 px and augmented, one epoch at a time in turns.
``benchmarks/README.md`` says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from common import machine

KINDS = ("jpeg", "png", "png16")
AUGMENTATION = "standard"
REFERENCE = "torchvision"


@dataclass(frozen=True)
class Task:
    """What every contender reads.

    Attributes:
        root: Folder of class folders.
        scratch: Folder for caches.
    """

    root: Path
    scratch: Path
    batch_size: int
    image_size: int
    num_workers: int


Epoch = Callable[[], int]  # reads all images once, and returns their number


def torchvision_loader(task: Task) -> Epoch:
    """``ImageFolder`` in a ``DataLoader``, with torchvision's transforms that correspond to ``StandardAugmentation``."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    transform = transforms.Compose(
        [
            transforms.Resize((task.image_size, task.image_size), transforms.InterpolationMode.BICUBIC),
            transforms.ColorJitter(0.2, 0.2),
            transforms.RandomAffine(10, (0.05, 0.05), (0.9, 1.1), interpolation=transforms.InterpolationMode.BILINEAR),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    data = datasets.ImageFolder(str(task.root), transform)
    loader = DataLoader(data, task.batch_size, shuffle=True, num_workers=task.num_workers, persistent_workers=task.num_workers > 0)
    return lambda: sum(len(images) for images, _ in loader)


def timm_loader(task: Task) -> Epoch:
    """``create_loader`` with timm's default augmentation: random resized crop, mirroring, colour."""
    from timm.data import create_dataset, create_loader

    loader = create_loader(
        create_dataset("", root=str(task.root)),
        input_size=(3, task.image_size, task.image_size),
        batch_size=task.batch_size,
        is_training=True,
        use_prefetcher=False,
        interpolation="bicubic",
        num_workers=task.num_workers,
        persistent_workers=task.num_workers > 0,
    )
    return lambda: sum(len(images) for images, _ in loader)


class Clipzoo:
    """The loader of a training, or with ``augmentation=None`` of an evaluation.

    Args:
        task: The task.
        augmentation: As in a config.
        cached: Whether to use an image cache, which is new.
        one_by_one: Whether to augment image by image, as with an augmentation without batched form.
    """

    def __init__(self, task: Task, augmentation: str | None = AUGMENTATION, *, cached: bool = False, one_by_one: bool = False):
        import numpy as np

        from clipzoo.datasets import ImageFolderDataset
        from clipzoo.datasets.augmentations import augmentation_of
        from clipzoo.datasets.augmentations.batched import training_transform
        from clipzoo.datasets.batches.epochs import EpochBatches
        from clipzoo.datasets.batches.loader import eval_loader, train_loader
        from clipzoo.datasets.batches.samplers import RandomSampler
        from clipzoo.datasets.image_cache.cache import ImageCache
        from clipzoo.datasets.transforms import evaluation_transform
        from clipzoo.structures import Preprocessing

        data, preprocessing = ImageFolderDataset(str(task.root)), Preprocessing(size=task.image_size)
        for row in range(len(data)):
            data.encoded_digest(row)  # a training knows them from the fingerprint of its data
        cache = ImageCache.of(tempfile.mkdtemp(dir=task.scratch), 4.0) if cached else None
        common = {"num_workers": task.num_workers, "pin_memory": False, "cache": cache}
        self.batches, self.epoch = None, 0
        if augmentation is None:
            transform = evaluation_transform(preprocessing)
            self.loader = eval_loader(data, np.arange(len(data)), transform, batch_size=task.batch_size, **common)
            return
        self.batches = EpochBatches(data, np.arange(len(data)), RandomSampler(), batch_size=task.batch_size, seed=0)
        made = augmentation_of(augmentation)
        transform, augment = (made.build(preprocessing), None) if one_by_one else training_transform(made, preprocessing)
        self.loader = train_loader(data, self.batches, transform, None, all_captions=False, augment=augment, **common)

    def __call__(self) -> int:
        """An epoch."""
        if self.batches is not None:
            self.batches.set_epoch(self.epoch)
            self.epoch += 1
        return sum(len(batch) for batch in self.loader)

    def close(self) -> None:
        """End the workers."""
        self.loader.close()


class FirstEpoch:
    """The first epoch of a training with an empty cache, every time anew."""

    def __init__(self, task: Task):
        self.task = task
        self.prepared = Clipzoo(task, cached=True)

    def __call__(self) -> int:
        """An epoch."""
        return self.prepared()

    def renew(self) -> None:
        """Begin again, outside the timed part."""
        self.prepared.close()
        self.prepared = Clipzoo(self.task, cached=True)

    def close(self) -> None:
        """End the workers."""
        self.prepared.close()


CONTENDERS: dict[str, Callable[[Task], Epoch]] = {
    REFERENCE: torchvision_loader,
    "timm": timm_loader,
    "clipzoo without cache": Clipzoo,
    "clipzoo, first epoch": FirstEpoch,
    "clipzoo, later epochs": lambda task: Clipzoo(task, cached=True),
    "clipzoo, later epochs, one by one": lambda task: Clipzoo(task, cached=True, one_by_one=True),
    "evaluation without cache": lambda task: Clipzoo(task, None),
    "evaluation, later passes": lambda task: Clipzoo(task, None, cached=True),
}


def draw_images(root: Path, kind: str, num_images: int, side: int) -> None:
    """Smooth shapes with the noise of a camera, ``side`` pixels wide and high, in two class folders."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(num_images):
        coarse = rng.integers(20, 236, (max(side // 32, 2), max(side // 32, 2), 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC), dtype=np.int32)
        folder = root / f"class {index % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        if kind == "png16":
            values = 200 * smooth[..., 0] + rng.integers(0, 400, (side, side))
            Image.fromarray(values.astype(np.uint16)).save(folder / f"{index:04d}.png")
            continue
        pixels = np.clip(smooth + rng.integers(-4, 5, smooth.shape), 0, 255).astype(np.uint8)
        path = folder / f"{index:04d}.{'jpg' if kind == 'jpeg' else 'png'}"
        Image.fromarray(pixels).save(path, **({"quality": 90} if kind == "jpeg" else {}))
    time.sleep(2.1)  # until their times prove them unchanged


def measured(task: Task, rounds: int) -> dict[str, list[float]]:
    """Images per second of every round, after one that does not count, in turns."""
    epochs = {name: make(task) for name, make in CONTENDERS.items()}
    speed: dict[str, list[float]] = {name: [] for name in epochs}
    try:
        for number in range(rounds + 1):
            for name, epoch in epochs.items():
                if isinstance(epoch, FirstEpoch):
                    epoch.renew()
                started = time.perf_counter()
                images = epoch()
                if number:
                    speed[name].append(images / (time.perf_counter() - started))
    finally:
        for epoch in epochs.values():
            if hasattr(epoch, "close"):
                epoch.close()
    return speed


def report(kind: str, speed: dict[str, list[float]]) -> Iterator[str]:
    """The rows of the markdown table: medians over the rounds, their range, and two ratios."""
    medians = {name: statistics.median(values) for name, values in speed.items()}
    for name, values in speed.items():
        own = "evaluation without cache" if name.startswith("evaluation") else "clipzoo without cache"
        ratio = "" if name.startswith("evaluation") else f"{medians[name] / medians[REFERENCE]:.2f}"
        cells = (
            kind,
            name,
            f"{medians[name]:.1f}",
            f"{min(values):.1f} ... {max(values):.1f}",
            ratio,
            f"{medians[name] / medians[own]:.2f}",
        )
        yield f"| {' | '.join(cells)} |"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-images", type=int, default=48, help="of each kind; a multiple of --batch-size, as timm drops the rest")
    parser.add_argument("--side", type=int, default=1024, help="pixels of the drawn images")
    parser.add_argument("--image-size", type=int, default=224, help="pixels of the batches")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--num-workers", type=int, default=0, help="loader processes of all contenders")
    parser.add_argument("--rounds", type=int, default=5, help="timed epochs of each, in turns")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--smoke", action="store_true", help="a few small images: does it run?")
    args = parser.parse_args(argv)
    if args.smoke:
        args.num_images, args.side, args.image_size, args.batch_size, args.rounds = 8, 80, 32, 4, 1
    return args


def main(argv: list[str] | None = None) -> None:
    """Run, and print the table."""
    args = arguments(argv)
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    names = ("torch", "torchvision", "timm", "pillow", "clipzoo")
    print(f"{machine()}, {os.cpu_count()} cores; python {platform.python_version()}, {', '.join(f'{n} {version(n)}' for n in names)}")
    print(
        f"{args.num_images} images of {args.side} x {args.side} to {args.image_size} px, batch {args.batch_size}, "
        f"{args.num_workers} workers, 1 thread, augmentation '{AUGMENTATION}', {args.rounds} rounds\n"
    )
    print("| files | loader | images/s (median) | min ... max | x torchvision | x without cache |\n|---|---|---:|---:|---:|---:|")
    for kind in args.kinds:
        with tempfile.TemporaryDirectory() as folder:
            task = Task(Path(folder) / "images", Path(folder), args.batch_size, args.image_size, args.num_workers)
            draw_images(task.root, kind, args.num_images, args.side)
            for line in report(kind, measured(task, args.rounds)):
                print(line, flush=True)


if __name__ == "__main__":
    main()
