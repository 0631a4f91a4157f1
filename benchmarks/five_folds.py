"""Seconds from the command to the summary of five folds: clipzoo, and a plain PyTorch script.

    python benchmarks/five_folds.py

``benchmarks/README.md`` says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from class_captions import TEXT
from common import draw_class_folders, machine

PLAIN = "plain PyTorch"
REPOSITORY = Path(__file__).resolve().parents[1]


def config_of(args: argparse.Namespace, data: Path) -> str:
    """The same task as a config; what is not set here has its default."""
    return f"""model = dict(type="CLIP", embed_dim={TEXT["width"]},
    image_encoder=dict(type="ResNet", depth=18, image_size={args.image_size}), text_encoder="clip:ViT-B/32:scratch")
data = dict(dataset=dict(type="ImageFolderDataset", root={str(data)!r}, template="a photo of a {{class_name}}"),
    batch_size={args.batch_size}, num_workers={args.num_workers})
splits = dict(type="StratifiedGroupKFold", num_folds={args.folds})
optimizer = dict(type="AdamW", lr=1e-4, weight_decay=0.01)
train = dict(epochs={args.epochs})
runtime = dict(device="cpu"{"" if args.jobs else f", threads={args.threads}"})
"""


def commands(args: argparse.Namespace, scratch: Path, data: Path) -> dict[str, list[str]]:
    """What is run, by name."""
    config = scratch / "five_folds_config.py"
    config.write_text(config_of(args, data), encoding="utf-8")
    task = {"data": str(data), "out": str(scratch), "width": TEXT["width"], "text": TEXT, **{k: getattr(args, k) for k in KEYS}}
    train = [sys.executable, str(REPOSITORY / "tools" / "train.py"), str(config), "--work-dir", "{new}"]
    named = {"clipzoo": train, PLAIN: [sys.executable, str(Path(__file__).with_name("plain_five_folds.py")), json.dumps(task)]}
    return {"clipzoo --jobs": [*train, "--jobs", str(args.jobs)], **named} if args.jobs else named


KEYS = ("folds", "image_size", "batch_size", "num_workers", "epochs", "threads")


def seconds_of(command: list[str], scratch: Path) -> float:
    """Run it to the end; caches start empty."""
    new = tempfile.mkdtemp(dir=scratch)
    environment = {**os.environ, "CLIPZOO_CACHE": str(Path(new) / "cache")}
    started = time.perf_counter()
    done = subprocess.run([part.replace("{new}", f"{new}/run") for part in command], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[1]} failed:\n{done.stderr[-3000:]}")
    return time.perf_counter() - started


def main(argv: list[str] | None = None) -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=168)
    parser.add_argument("--classes", type=int, default=12)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--num-workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--jobs", type=int, default=0, help="also with so many folds side by side")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="one epoch on tiny images: does it run?")
    args = parser.parse_args(argv)
    if args.smoke:
        args.images, args.classes, args.image_size, args.batch_size = 48, 3, 32, 12
        args.folds, args.epochs, args.rounds, args.threads = 2, 1, 1, 1
    if math.ceil(args.images * (1 - 1 / args.folds) * 0.1) < args.classes:  # the script's split refuses it
        raise SystemExit(f"--images: {args.images} are too few for {args.classes} classes. {14 * args.classes} will do")
    with tempfile.TemporaryDirectory(prefix="five_folds_", ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        draw_class_folders(scratch / "images", args.images, args.image_size, args.classes)
        todo = commands(args, scratch, scratch / "images")
        seconds = {who: [] for who in todo}
        for _ in range(args.rounds):
            for who, command in todo.items():
                seconds[who].append(seconds_of(command, scratch))
    packages = ("torch", "timm", "open_clip_torch", "scikit-learn", "clipzoo")
    print(f"{machine()}, {args.threads} threads; python {platform.python_version()}, " + ", ".join(f"{p} {version(p)}" for p in packages))
    images = f"{args.images} images of {args.classes} classes, {args.image_size} px"
    sizes = f"{images}, {args.folds} folds x {args.epochs} epochs, {args.rounds} rounds"
    print(f"ResNet-18 x CLIP text ViT-B/32, {sizes}\n")
    print(f"| contender | seconds (median) | min ... max | x {PLAIN} |\n|---|---:|---:|---:|")
    peer = statistics.median(seconds[PLAIN])
    for who, found in seconds.items():
        median = statistics.median(found)
        print(f"| {who} | {median:.1f} | {min(found):.1f} ... {max(found):.1f} | {peer / median:.2f} |")


if __name__ == "__main__":
    sys.exit(main())
