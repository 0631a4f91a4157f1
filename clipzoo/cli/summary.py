"""``tools/summary.py WORK_DIR…``: print the tables of finished work dirs, without torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from clipzoo.cli import command_line
from clipzoo.commands import typed


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("summary", "Print the tables of finished work dirs.")
    parser.add_argument("work_dirs", nargs="+", type=command_line.path, metavar="WORK_DIR", help="work dir of a finished training")
    forms = parser.add_mutually_exclusive_group()
    what = "one table for a paper (a column per work dir), and a paragraph on the methods in English and Chinese"
    forms.add_argument("--latex", action="store_true", help=f"as LaTeX: {what}")
    forms.add_argument("--markdown", action="store_true", help="the same as Markdown")
    help_ = "also combine the work dirs as runs of one experiment with other seeds or folds: mean, interval, sources of variance"
    forms.add_argument("--as-repeats", action="store_true", help=help_)
    command_line.run(summarise, parser.parse_args(arguments))


def summarise(arguments: argparse.Namespace) -> None:
    """Read and print."""
    from clipzoo.errors import CheckpointError, ConfigError
    from clipzoo.records.results import SUMMARY_FILE, Summary
    from clipzoo.scoring.baselines import beside_baselines

    if arguments.as_repeats and len(arguments.work_dirs) < 2:
        raise ConfigError("--as-repeats: one work dir. Pass two or more runs of one experiment")
    for folder in arguments.work_dirs:
        if not (folder / SUMMARY_FILE).exists():
            raise CheckpointError(f"{folder}: {missing(folder)}")
    if arguments.latex or arguments.markdown:
        command_line.show(for_paper(arguments.work_dirs, as_latex=arguments.latex))
        return
    for folder in arguments.work_dirs:
        summary = Summary.read(folder)
        command_line.show(summary.tables())
        if compared := beside_baselines(folder, summary, write=False):
            command_line.show(f"\n{compared}")
        if repeats := of_repeats(folder):
            command_line.show(f"\n{repeats}")
    if arguments.as_repeats:
        command_line.show(f"\n{combined(arguments.work_dirs)}")


def of_repeats(folder: Path) -> str:
    """The text of the repeats; empty without any. A problem with them is part of the text, since it must not hide other results."""
    from clipzoo.errors import ClipzooError
    from clipzoo.scoring.repeats import Repeats

    try:
        found = Repeats.read(folder)
    except ClipzooError as error:
        return f"repeats: not shown: {error}"
    return "" if found is None else found.text()


def combined(folders: list[Path]) -> str:
    """Work dirs as runs of one experiment."""
    from clipzoo.scoring.repeats import check_same_experiment, combine
    from clipzoo.scoring.runs import FinishedRun
    from clipzoo.scoring.work_dirs import deciding_metric, names_of

    check_same_experiment(folders, names_of(folders))
    runs = [FinishedRun.read(folder, name) for folder, name in zip(folders, names_of(folders), strict=True)]
    return combine(runs, deciding_metric(folders[0], runs[0].summary)).text()


def for_paper(folders: list[Path], *, as_latex: bool) -> str:
    """The table and the paragraphs for a paper."""
    from clipzoo.scoring import paper
    from clipzoo.scoring.work_dirs import names_of

    papers = [paper.Paper.read(folder, name) for folder, name in zip(folders, names_of(folders), strict=True)]
    return paper.as_latex(papers) if as_latex else paper.as_markdown(papers)


def missing(folder: Path) -> str:
    """The reason that there is no summary, and what to do."""
    from clipzoo.records.results import RESULT_FILE

    if not (folder / "config.json").exists() and not list(folder.glob("repeat_*/config.json")):
        what = "not a work dir of clipzoo" if folder.is_dir() else "no such folder"
        return f"{what}. Pass a work dir made by {typed('train')}"
    later = sorted(path.parent.name for path in folder.glob("repeat_*/config.json"))
    if later and not (folder / "config.json").exists():
        return f"only {', '.join(later)} was trained so far. Run {typed('train')} for the first repeat"
    done = sorted(path.parent.name for path in folder.glob(f"fold_*/{RESULT_FILE}"))
    return f"not all folds are finished yet (finished: {', '.join(done) or 'none'}). Run {typed('train')} to continue"
