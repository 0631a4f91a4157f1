"""``tools/make_sample_data.py KIND --out FOLDER``: small data sets to try clipzoo with."""

from __future__ import annotations

import argparse
from pathlib import Path

from clipzoo.cli import command_line

DESCRIPTION = """Write a small data set:
  digits   the 1797 handwritten digits of scikit-learn as class folders with Chinese names and descriptions (real images)
  hip      drawn phantom radiographs of hip prostheses: several 16-bit views per patient, Chinese classes (no real patients)
  pairs    drawn scenes with captions, for image-text retrieval"""


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("make_sample_data", DESCRIPTION)
    parser.add_argument("kind", choices=["digits", "hip", "pairs"])
    parser.add_argument("--out", type=command_line.path, help="new folder (default: data/<kind>)")
    parser.add_argument("--num-samples", type=int, help="number of images (default: all digits, 240 radiographs, 400 scenes)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the drawn images")
    command_line.run(make, parser.parse_args(arguments))


def make(arguments: argparse.Namespace) -> None:
    """Write the data, and show where."""
    from clipzoo.datasets.samples.sample_data import create_sample_dataset

    root = arguments.out or Path("data") / arguments.kind
    out = create_sample_dataset(root, kind=arguments.kind, num_samples=arguments.num_samples, seed=arguments.seed)
    command_line.show(f"written: {out}")
