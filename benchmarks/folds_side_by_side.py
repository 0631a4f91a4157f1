"""Seconds of a whole cross-validation: folds in sequence, and folds side by side with ``--jobs``.

    python benchmarks/folds_side_by_side.py [--config CONFIG] [--epochs N] [--jobs N]

Each contender is ``tools/train.py`` from the command to the summary, in a new process and a new work dir, on the same data.
``benchmarks/README.md`` says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from common import machine

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "configs" / "clip" / "r18_bertzh_digits_5fold.py"


@dataclass
class Contender:
    """One way to train all folds.

    Attributes:
        name: Its name in the table.
        options: Arguments of ``tools/train.py``.
        threads: Threads of each process.
        seconds: Wall time of each round.
        digest: Digest of the out-of-fold table.
    """

    name: str
    options: list[str]
    threads: int
    seconds: list[float] = field(default_factory=list)
    digest: str = ""

    def run(self, command: list[str], settings: list[str], folder: Path, place: Path) -> None:
        """Train all folds once."""
        options = [*self.options, "--work-dir", str(folder), "--cfg-options", *settings, f"runtime.threads={self.threads}"]
        started = time.perf_counter()
        done = subprocess.run([*command, *options], cwd=place, env=surroundings(), capture_output=True, text=True, check=False)
        self.seconds.append(time.perf_counter() - started)
        if done.returncode:
            raise SystemExit(f"{self.name}: {done.stderr[-2000:]}")
        self.digest = hashlib.sha256((folder / "oof_predictions.csv").read_bytes()).hexdigest()[:12]


def surroundings() -> dict[str, str]:
    """The environment of every contender: this checkout, and no number of threads but the contender's own."""
    environment = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "CLIPZOO_JOBS")}
    return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))}


def contenders(jobs: int, cores: int) -> list[Contender]:
    """Sequential with all cores, sequential with the threads that a process beside others has, and side by side with these."""
    share = max(1, cores // jobs)
    return [
        Contender("in sequence, all cores", [], cores),
        Contender(f"in sequence, {share} thread{'s' * (share > 1)}", [], share),
        Contender(f"--jobs {jobs}", ["--jobs", str(jobs)], share),
    ]


def report(found: list[Contender]) -> Iterator[str]:
    """The lines of the markdown table: medians over the rounds."""
    best = min(statistics.median(one.seconds) for one in found[:-1])
    yield "| folds | threads of each | seconds (median) | min ... max | x the better sequence | out-of-fold table |"
    yield "|---|---:|---:|---:|---:|---|"
    for one in found:
        median = statistics.median(one.seconds)
        spread = f"{min(one.seconds):.1f} ... {max(one.seconds):.1f}"
        cells = (one.name, str(one.threads), f"{median:.1f}", spread, f"{best / median:.2f}", one.digest)
        yield f"| {' | '.join(cells)} |"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=DEMO, help="default: the demo, on digits that are written to a temporary folder")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each, in turns")
    parser.add_argument("--smoke", action="store_true", help="two folds, one epoch, a small network: does it run?")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run, and print the table."""
    args = arguments(argv)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    epochs, rounds = (1, 1) if args.smoke else (args.epochs, args.rounds)
    found = contenders(args.jobs, cores)
    with tempfile.TemporaryDirectory(prefix="folds_side_by_side_", ignore_cleanup_errors=True) as scratch:
        place = Path(scratch) if args.config == DEMO else Path.cwd()  # paths in a config are relative to the current folder
        if args.config == DEMO:
            making = [sys.executable, str(ROOT / "tools" / "make_sample_data.py"), "digits", "--out", str(place / "data" / "digits")]
            subprocess.run(making, env=surroundings(), capture_output=True, check=True)
        settings = [f"train.epochs={epochs}", "runtime.report=None"]
        if args.smoke:
            settings += ["splits.num_folds=2", "model.image_encoder={'type': 'TimmBackbone', 'name': 'test_resnet', 'image_size': 32}"]
        command = [sys.executable, str(ROOT / "tools" / "train.py"), str(args.config.absolute())]
        for number in range(rounds):
            for index, one in enumerate(found):
                one.run(command, settings, Path(scratch) / f"{index}_{number}", place)
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "clipzoo"))
    print(f"{machine()}, {cores} cores; python {platform.python_version()}, {packages}")
    print(f"{args.config.stem}, {epochs} epoch{'s' * (epochs > 1)}, {rounds} round{'s' * (rounds > 1)}")
    print()
    print("\n".join(report(found)))


if __name__ == "__main__":
    main()
