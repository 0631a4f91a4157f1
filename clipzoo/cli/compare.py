"""``tools/compare.py A B [C …]``: paired comparison of finished runs on the same cases."""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.cli import command_line

if TYPE_CHECKING:
    from clipzoo.scoring.runs import RunComparison

LARGE = 2000  # cases
DESCRIPTION = """Compare finished runs on the same cases, labels, groups and folds: every metric with its interval over groups, and
the difference of every pair with its interval, a p-value from swapping the two runs group by group (with Holm's correction for several
pairs), Nadeau and Bengio's t-test over the folds, and the smallest difference that these cases could have shown.

A run is a work dir, or a baseline in it: WORK_DIR/baselines/linear. Runs of other cases are refused with the first difference.
Writes comparison.json, comparison.md and comparison.tex."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("compare", DESCRIPTION)
    parser.add_argument(
        "runs", nargs="+", type=command_line.path, metavar="RUN", help="work dirs, or baselines such as WORK_DIR/baselines/knn"
    )
    help_ = "metric that decides (default: evaluation.select of the first run, otherwise balanced_accuracy or rsum)"
    parser.add_argument("--metric", metavar="NAME", help=help_)
    parser.add_argument("--baselines", action="store_true", help="also compare with the baselines of the first work dir")
    parser.add_argument("--level", type=float, default=0.95, metavar="L", help="confidence level of the intervals (default: 0.95)")
    help_ = "folder for the result (default: work_dirs/comparison)"
    parser.add_argument("--out", type=command_line.path, default=Path("work_dirs/comparison"), metavar="FOLDER", help=help_)
    command_line.run(compare, parser.parse_args(arguments))


def compare(arguments: argparse.Namespace) -> None:
    """Read, compare, show, write."""
    from clipzoo.errors import ConfigError
    from clipzoo.scoring import runs as module
    from clipzoo.scoring.work_dirs import deciding_metric, names_of
    from clipzoo.text_tables import latex, markdown

    if not 0 < arguments.level < 1:
        raise ConfigError(f"--level: {arguments.level:g} is not a confidence level. It must be between 0 and 1, such as 0.95")
    folders = [*arguments.runs, *(baselines_of(arguments.runs[0]) if arguments.baselines else ())]
    if len(folders) < 2:
        raise ConfigError("compare: there is only one run. Pass two or more, or --baselines")
    runs = [module.FinishedRun.read(folder, name) for folder, name in zip(folders, names_of(folders), strict=True)]
    metric = arguments.metric or deciding_metric(arguments.runs[0], runs[0].summary)
    pairs = list(combinations(range(len(runs)), 2))
    large = len(runs[0].table.case_ids) >= LARGE  # a second or more for each pair
    found = module.compare(runs, pairs, metric, level=arguments.level, progress=command_line.say if large else None)
    found.write(arguments.out)
    metrics = list(found.runs[0]["values"])
    for name, table in (("comparison.md", markdown), ("comparison.tex", latex)):
        write(arguments.out / name, found, table, metrics)
    command_line.show(f"{found.text()}\n\nresults: {arguments.out}")


def baselines_of(work_dir: Path) -> list[Path]:
    """Folders of all finished baselines of a work dir.

    Raises:
        CheckpointError: The work dir has no baselines.
    """
    from clipzoo.commands import typed
    from clipzoo.errors import CheckpointError
    from clipzoo.scoring.baselines import Comparison, folder_of

    found = Comparison.read(work_dir)
    if found is None:
        raise CheckpointError(f"{work_dir}: has no baselines. Compute them with: {typed('baselines CONFIG')}")
    return [folder_of(work_dir, method) for method in found.summaries]


def write(path: Path, found: RunComparison, table, metrics: list[str]) -> None:
    """Both tables and the verdicts as markdown or LaTeX."""
    from clipzoo.files import write_text
    from clipzoo.text_tables import latex_text

    plain = latex_text if path.suffix == ".tex" else str
    item = "% {}" if path.suffix == ".tex" else "* {}"
    lines = [table(*found.value_rows()), table(*found.pair_rows(metrics)), *(plain(line) for line in found.explanation())]
    verdicts = "\n".join(item.format(plain(line)) for line in found.verdicts())
    write_text(path, "\n\n".join([*lines, verdicts]) + "\n")
