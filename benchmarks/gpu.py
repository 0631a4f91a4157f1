"""What a GPU does while it trains: images per second, its share of the matrix peak, waiting, folds on one device, synchronisations.

    python benchmarks/gpu.py

``benchmarks/README.md`` says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from common import draw_class_folders
from racing import TEMPLATE

REPOSITORY = Path(__file__).resolve().parents[1]
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
# Image tower, batch size, precision.
ROWS = [
    ("resnet18", 16, "bf16"),
    ("resnet18", 256, "bf16"),
    ("resnet50", 256, "bf16"),
    ("vit_base_patch16_224", 256, "bf16"),
    ("vit_base_patch16_224", 256, "fp16"),
    ("vit_base_patch16_224", 256, "fp32"),
]


@dataclass(frozen=True)
class Place:
    """Where it runs, and on what.

    Attributes:
        device: Device.
        data: Folder of class folders.
        image_size: Pixels.
        num_workers: Loader processes.
        scratch: Folder for what is written.
        compile: Mode of ``runtime.compile``; ``None`` for none.
    """

    device: str
    data: Path
    image_size: int
    num_workers: int
    scratch: Path
    compile: str | None


def config_of(place: Place, tower: str, batch_size: int, precision: str) -> dict:
    """A config with the text tower of CLIP ViT-B/32."""
    return {
        "model": {
            "type": "CLIP",
            "image_encoder": {"type": "TimmBackbone", "name": tower, "image_size": place.image_size},
            "text_encoder": "clip:ViT-B/32:scratch",
        },
        "data": {
            "dataset": {"type": "ImageFolderDataset", "root": str(place.data), "template": TEMPLATE},
            "batch_size": batch_size,
            "num_workers": place.num_workers,
        },
        "splits": {"type": "StratifiedGroupKFold", "num_folds": 5},
        "train": {"epochs": 1000},
        "hooks": [],
        "runtime": {"device": place.device, "precision": precision, "compile": place.compile, "report": None},
    }


def run_of(place: Place, tower: str, batch_size: int, precision: str):
    """A run that is trained on all images."""
    from rich.console import Console

    from clipzoo.config import Config
    from clipzoo.engine import build
    from clipzoo.records.folds import Split
    from clipzoo.records.provenance import Provenance
    from clipzoo.runtime.log import make_log

    config = Config.from_dict(config_of(place, tower, batch_size, precision), "gpu")
    data, console = build.dataset(config), Console(quiet=True)
    split = Split("fold_1", train=tuple(case.id for case in data.cases), val=(), test=())
    outputs = {"log": make_log(console, None), "console": console, "provenance": Provenance.of(config.plain(), "benchmark", "")}
    return build.run(config, data, split, place.scratch / "run", **outputs)


def wait(device: str) -> None:
    """Until the device has done everything."""
    import torch

    if device != "cpu":
        torch.cuda.synchronize()


def matrix_peak(device: str, precision: str, size: int) -> float:
    """Operations per second of products of ``size`` x ``size`` matrices: what it reaches, not what its sheet says."""
    import torch

    a, b = (torch.randn(size, size, device=device, dtype=getattr(torch, DTYPES[precision])) for _ in range(2))
    seconds = []
    for _ in range(8):
        wait(device)
        started = time.perf_counter()
        a @ b
        wait(device)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)


def step_operations(run, batch) -> int:
    """Floating-point operations of one step, counted by torch: matrix products and convolutions."""
    from torch.utils.flop_counter import FlopCounterMode

    from clipzoo.engine import loop

    with FlopCounterMode(display=False) as counter:
        loop.step(run, [batch])
    return counter.get_total_flops()


def steps_per_second(run, batches: list, device: str, count: int) -> float:
    """Steps on batches that are in the memory of this process."""
    from clipzoo.engine import loop

    for batch in batches[:2]:
        loop.step(run, [batch])
    seconds = []
    for _ in range(3):
        wait(device)
        started = time.perf_counter()
        for index in range(count):
            loop.step(run, [batches[index % len(batches)]])
        wait(device)
        seconds.append(time.perf_counter() - started)
    return count / statistics.median(seconds)


def epoch_seconds(run, device: str) -> tuple[float, float]:
    """Seconds of an epoch from files, after a first one that does not count, and those of them spent waiting for batches."""
    from clipzoo.engine import loop

    loop.train_epoch(run)
    waited, loader = 0.0, run.train_loader

    class Watched:
        def __iter__(self):
            nonlocal waited
            batches = iter(loader)
            while True:
                started = time.perf_counter()
                batch = next(batches, None)
                waited += time.perf_counter() - started
                if batch is None:
                    return
                yield batch

    run.train_loader = Watched()
    wait(device)
    started = time.perf_counter()
    loop.train_epoch(run)
    wait(device)
    run.train_loader = loader
    return time.perf_counter() - started, waited


def synchronisations(run, batch) -> int:
    """How often a step makes the processor wait for the GPU, as torch sees it."""
    import torch

    from clipzoo.engine import loop

    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loop.step(run, [batch])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in caught)


def measure(place: Place, tower: str, batch_size: int, precision: str, steps: int) -> str:
    """One row of the table."""
    run = run_of(place, tower, batch_size, precision)
    batches = [batch for batch, _ in zip(run.train_loader, range(4), strict=False)]
    run.parallel.train()
    operations = step_operations(run, batches[0])
    speed = steps_per_second(run, batches, place.device, steps)
    peak = matrix_peak(place.device, precision, 8192 if place.device != "cpu" else 512)
    waits = synchronisations(run, batches[0]) if place.device != "cpu" else 0
    seconds, waited = epoch_seconds(run, place.device)
    images = len(run.batches) * batch_size
    run.train_loader.close()
    cells = (
        f"{speed * batch_size:.0f}",
        f"{100 * speed * operations / peak:.1f}",
        f"{images / seconds:.0f}",
        f"{100 * waited / seconds:.0f}",
    )
    return f"| {tower} | {batch_size} | {precision} | {' | '.join(cells)} | {waits} |"


def folds_side_by_side(place: Place, epochs: int) -> list[str]:
    """Wall time of one fold, and of all five at once on the one device."""
    from clipzoo.config import Config

    content = config_of(place, "resnet18", 16, "bf16")
    content["train"] = {"epochs": epochs}
    path = place.scratch / "folds.py"
    path.write_text(Config.from_dict(content, "folds").dump(), encoding="utf-8")
    train = [sys.executable, str(REPOSITORY / "tools" / "train.py"), str(path), "--work-dir"]
    seconds = {}
    for name, options in (("one fold", ["--fold", "1"]), ("five folds, --jobs 5", ["--jobs", "5"])):
        started = time.perf_counter()
        subprocess.run([*train, str(place.scratch / name.replace(" ", "_")), *options], check=True, capture_output=True)
        seconds[name] = time.perf_counter() - started
    one, five = seconds.values()
    return [f"{name}: {value:.1f} s" for name, value in seconds.items()] + [f"five folds take {five / one:.2f} x the time of one"]


def two_processes(place: Place, epochs: int) -> str:
    """Wall time of a fold on one and on two GPUs, with nccl."""
    from clipzoo.config import Config

    content = config_of(place, "resnet50", 64, "bf16")
    content["train"] = {"epochs": epochs}
    path, seconds = place.scratch / "two.py", []
    path.write_text(Config.from_dict(content, "two").dump(), encoding="utf-8")
    for count in (1, 2):
        command = ["bash", str(REPOSITORY / "tools" / "dist_train.sh"), str(path), str(count)]
        started = time.perf_counter()
        subprocess.run([*command, "--work-dir", str(place.scratch / f"two_{count}"), "--fold", "1"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    return f"one process {seconds[0]:.1f} s, two with nccl {seconds[1]:.1f} s"


def main(argv: list[str] | None = None) -> None:
    """Run, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--image-size", type=int, default=224, help="pixels")
    parser.add_argument("--num-workers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=20, help="of the folds side by side")
    parser.add_argument("--compile", choices=["default", "reduce-overhead", "max-autotune"])
    parser.add_argument("--smoke", action="store_true", help="a tiny tower on the CPU: does it run?")
    args = parser.parse_args(argv)
    import torch

    rows, device = ROWS, "cuda"
    if args.smoke:
        args.images, args.image_size, args.num_workers, args.steps, args.epochs = 48, 32, 0, 1, 1
        rows, device = [("test_vit", 4, "fp32")], "cpu"
    elif not torch.cuda.is_available():
        raise SystemExit("this benchmark needs an NVIDIA GPU; --smoke runs a tiny tower on the CPU")
    name = "CPU" if device == "cpu" else f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    packages = ", ".join(f"{package} {version(package)}" for package in ("torch", "timm", "clipzoo"))
    print(f"{name}; python {platform.python_version()}, {packages}")
    print(f"x CLIP text ViT-B/32, {args.image_size} px, {args.num_workers} workers, compile {args.compile}\n")
    columns = ("images/s, in memory", "% of the matrix peak", "images/s, from files", "% waiting for batches", "waits for the GPU per step")
    print(f"| image tower | batch | precision | {' | '.join(columns)} |\n|---|---:|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(prefix="gpu_", ignore_cleanup_errors=True) as folder:
        data = Path(folder) / "images"
        draw_class_folders(data, args.images, args.image_size)
        place = Place(device, data, args.image_size, args.num_workers, Path(folder), args.compile)
        for tower, batch_size, precision in rows:
            print(measure(place, tower, batch_size, precision, args.steps), flush=True)
        if device != "cpu":
            print("\n" + "\n".join(folds_side_by_side(place, args.epochs)), flush=True)
            if torch.cuda.device_count() > 1:
                print(two_processes(place, args.epochs))


if __name__ == "__main__":
    sys.exit(main())
