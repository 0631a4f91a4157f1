"""Where the seconds of a small training go that are not spent in steps.

    python benchmarks/overhead.py

``benchmarks/README.md`` says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

# What is timed: a function, and the cause that its seconds are counted for, without those of timed functions that it calls.
CAUSES = {
    "clipzoo.engine.loop.step": "steps",
    "clipzoo.engine.loop.evaluate": "evaluation",
    "clipzoo.engine.runner.evaluate": "evaluation",
    "clipzoo.engine.checkpoint.save_latest": "checkpoints",
    "clipzoo.engine.checkpoint.keep_best": "checkpoints",
    "clipzoo.engine.checkpoint.read": "checkpoints",
    "clipzoo.engine.state.Run.call": "hooks",
    "clipzoo.hooks.results.ResultsHook.draw_curves": "pictures",
    "clipzoo.hooks.results.draw_metrics": "pictures",
    "clipzoo.hooks.tensorboard.confusion_figure": "pictures",
    "clipzoo.engine.build.run": "building runs",
    "clipzoo.engine.cross_validation.CrossValidation.__init__": "data and folds",
    "clipzoo.engine.cross_validation.CrossValidation.summarise": "summary",
    "clipzoo.cli.train.write_model_card": "summary",
    "clipzoo.cli.report.show_report": "report",
}
BETWEEN = "between steps"  # counting, looking for signals
LOADER = "reading batches"


class Clock:
    """Seconds by cause; a cause within another stops the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.stack = ["start"]
        self.since = time.perf_counter()
        self.epochs, self.first_step = 0, 0.0

    def switch(self) -> None:
        """Count what has passed for the present cause."""
        now = time.perf_counter()
        self.seconds[self.stack[-1]] += now - self.since
        self.since = now

    def timed(self, function, cause: str):
        """``function``, counted for ``cause``."""

        @functools.wraps(function)
        def wrapped(*arguments, **keywords):
            self.switch()
            self.stack.append(cause)
            try:
                return function(*arguments, **keywords)
            finally:
                self.switch()
                self.stack.pop()

        return wrapped


class Batches:
    """A loader whose batches are counted for their own cause."""

    def __init__(self, loader, clock: Clock):
        self.loader, self.clock = loader, clock

    def __iter__(self):
        batches = iter(self.loader)
        take = self.clock.timed(lambda: next(batches, None), LOADER)
        while (batch := take()) is not None:
            yield batch


def watch(clock: Clock) -> None:
    """Wrap what is timed. Names that were imported elsewhere before are wrapped where they are used."""
    for address, cause in CAUSES.items():
        names = address.split(".")
        for end in range(len(names) - 1, 0, -1):
            with contextlib.suppress(ModuleNotFoundError):
                owner = importlib.import_module(".".join(names[:end]))
                break
        for name in names[end:-1]:
            owner = getattr(owner, name)
        setattr(owner, names[-1], clock.timed(getattr(owner, names[-1]), cause))
    from clipzoo.engine import loop

    train_epoch = clock.timed(loop.train_epoch, BETWEEN)

    def counted(run):
        clock.first_step = clock.first_step or time.time()
        clock.epochs += 1
        run.train_loader = Batches(run.train_loader, clock)
        try:
            train_epoch(run)
        finally:
            run.train_loader = run.train_loader.loader

    loop.train_epoch = counted


def config_of(args: argparse.Namespace, data: Path) -> str:
    """A config file with default settings, except for the sizes and one thread."""
    return f"""model = dict(type="CLIP", embed_dim=64,
    image_encoder=dict(type="CLIPVision", image_size={args.image_size}, patch_size=8, width=64, layers=2, heads=2, output_dim=64),
    text_encoder=dict(type="BERT", pretrained=False, pooling="mean", hidden_size=64, num_layers=1, num_heads=2))
data = dict(dataset=dict(type="ImageFolderDataset", root={str(data)!r}), batch_size=16)
splits = dict(type="StratifiedGroupKFold", num_folds={args.folds})
train = dict(epochs={args.epochs})
runtime = dict(device="cpu", threads=1)
"""


def child(config: str, folder: str, options: list[str], started: float, out: str) -> None:
    """Train, in a process of its own, and write the seconds of every cause."""
    clock = Clock()
    imported = time.time()
    watch(clock)
    from clipzoo.cli import train

    with contextlib.suppress(SystemExit):
        train.main([config, "--work-dir", folder, *(["--cfg-options", *options] if options else [])])
    clock.switch()
    clock.seconds["start"] += imported - started
    content = {"seconds": clock.seconds, "epochs": clock.epochs, "wall": time.time() - started, "first_step": clock.first_step - started}
    Path(out).write_text(json.dumps(content), encoding="utf-8")


def measure(args: argparse.Namespace, scratch: Path) -> dict:
    """One training in a new process."""
    config, out = scratch / "overhead.py", scratch / "seconds.json"
    config.write_text(config_of(args, scratch / "images"), encoding="utf-8")
    work_dir = tempfile.mkdtemp(dir=scratch)
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); import overhead, json; overhead.child(*json.loads(sys.argv[1]))"
    told = json.dumps([str(config), work_dir, args.cfg_options, time.time(), str(out)])
    environment = {**os.environ, "CLIPZOO_CACHE": str(scratch / "cache")}
    process = [sys.executable, "-c", code, str(Path(__file__).parent), told]
    done = subprocess.run(process, env=environment, capture_output=True, text=True, encoding="utf-8")
    if done.returncode or not out.exists():
        raise SystemExit(f"the training failed:\n{done.stderr[-3000:]}")
    return json.loads(out.read_text(encoding="utf-8"))


def table(found: dict) -> str:
    """The seconds by cause."""
    wall, seconds, epochs = found["wall"], found["seconds"], found["epochs"]
    lines = ["| cause | seconds | ms per epoch | % of the wall time |", "|---|---:|---:|---:|"]
    rows = sorted(seconds.items(), key=lambda row: -row[1])
    other = wall - sum(seconds.values())
    steps = seconds["steps"]
    for cause, value in (*rows, ("other", other), ("all but steps", wall - steps), ("wall time", wall)):
        lines.append(f"| {cause} | {value:.2f} | {1000 * value / epochs:.1f} | {100 * value / wall:.1f} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--cfg-options", nargs="*", default=[], help="settings of the training, as for tools/train.py")
    parser.add_argument("--smoke", action="store_true", help="two folds of two epochs: does it run?")
    args = parser.parse_args(argv)
    if args.smoke:
        args.images, args.epochs, args.folds = 48, 2, 2
    from common import draw_class_folders, machine

    with tempfile.TemporaryDirectory(prefix="overhead_", ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        draw_class_folders(scratch / "images", args.images, args.image_size)
        found = measure(args, scratch)
    packages = ", ".join(f"{package} {version(package)}" for package in ("torch", "timm", "clipzoo"))
    print(f"{machine()}; {packages}")
    sizes = f"{args.images} images, {args.image_size} px, {args.folds} folds x {args.epochs} epochs{' '.join(['', *args.cfg_options])}"
    print(f"{sizes}; first step {found['first_step']:.1f} s after the command\n\n{table(found)}")


if __name__ == "__main__":
    sys.exit(main())
