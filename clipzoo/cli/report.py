"""``tools/report.py WORK_DIR…``: a finished run, or several, as one page of HTML and a JSON file with every number."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.cli import command_line

if TYPE_CHECKING:
    from clipzoo.config import Config
    from clipzoo.datasets.base import Dataset

DESCRIPTION = """Write report.html and report.json of a finished run into its work dir: the answer with its uncertainty, the comparison
with its baselines, classes and subgroups, curves, calibration, learning curves, data, the worst mistakes with pictures and explanations,
and everything needed to repeat it. The page needs no network and no script, and can be sent by mail.

With several work dirs (or baselines such as WORK_DIR/baselines/linear), a comparison of them on the same cases; with the folder of a grid,
a comparison of its finished runs; with the folder of few-shot episodes (fewshot evaluate --out), their curve."""
_OUT = Path("work_dirs/comparison")
_NOT_WRITTEN = "warning: the report was not written"


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("report", DESCRIPTION)
    parser.add_argument("folders", nargs="+", type=command_line.path, metavar="WORK_DIR", help="work dir of a finished training")
    parser.add_argument("--lang", choices=["en", "zh"], default="en", help="language of the page: en (the default) or zh")
    help_ = f"folder for the report (default: the work dir; of several runs {_OUT})"
    parser.add_argument("--out", type=command_line.path, metavar="FOLDER", help=help_)
    help_ = "metric that decides a comparison (default: evaluation.select of the first run, otherwise balanced_accuracy or rsum)"
    parser.add_argument("--metric", metavar="NAME", help=help_)
    parser.add_argument("--no-pictures", action="store_true", help="show no images of cases")
    parser.add_argument("--no-models", action="store_true", help="load no model: no explanations and no features")
    help_ = "how features are drawn: pca (the default), tsne, or umap, which requires the package umap-learn"
    parser.add_argument("--embedding", choices=["pca", "tsne", "umap"], default="pca", help=help_)
    parser.add_argument("--latex", action="store_true", help="also write report.tex: a table and the methods, for a paper")
    parser.add_argument("--markdown", action="store_true", help="also write report.md with the same")
    command_line.run(report, parser.parse_args(arguments))


def report(arguments: argparse.Namespace) -> None:
    """Find out what the folders are, write, show the paths."""
    from clipzoo.report.write import Options, write_comparison, write_few_shot, write_run_report
    from clipzoo.scoring.work_dirs import names_of

    _check(arguments)
    options = Options(arguments.lang, not arguments.no_pictures, not arguments.no_models, arguments.embedding, command_line.say)
    folders = runs_in(arguments.folders)
    if folders == arguments.folders and len(folders) == 1:
        if is_few_shot(folders[0]):
            page = write_few_shot(folders[0], options, out=arguments.out)
        else:
            page = write_run_report(folders[0], options, out=arguments.out)
    else:
        out = arguments.out or (_OUT if folders == arguments.folders else arguments.folders[0])
        page = write_comparison(folders, names_of(folders), options, out=out, metric=arguments.metric)
    written = [page, page.with_suffix(".json"), *_for_paper(folders, page.parent, arguments)]
    command_line.show("\n".join(map(str, written)))


def _check(arguments: argparse.Namespace) -> None:
    """Refuse options that cannot be followed before anything is computed."""
    import importlib.util

    from clipzoo.errors import ConfigError

    if arguments.metric is not None and len(arguments.folders) == 1 and runs_in(arguments.folders) == arguments.folders:
        raise ConfigError("--metric: only for a comparison of several runs. The metric of one run is its evaluation.select")
    if arguments.latex or arguments.markdown:
        _check_for_paper(arguments.folders)
    if arguments.embedding == "umap" and importlib.util.find_spec("umap") is None:
        raise ConfigError("--embedding umap requires umap-learn. Run pip install umap-learn, or use --embedding tsne")


def _check_for_paper(folders: list[Path]) -> None:
    """Refuse ``--latex`` and ``--markdown`` for what has no table for a paper.

    Raises:
        ConfigError: There is no training run among the folders.
        DataError: One is of findings.
    """
    from clipzoo.errors import ConfigError
    from clipzoo.scoring.paper import Paper

    runs = _with_methods(runs_in(folders))
    if not runs:
        raise ConfigError("--latex, --markdown: only for a training run, which has methods to describe. Remove the option")
    for run in runs:
        Paper.read(run, run.name)


def _with_methods(folders: list[Path]) -> list[Path]:
    """The training runs: a baseline has no methods of its own."""
    from clipzoo.engine.work_dir import is_experiment

    return [folder for folder in folders if is_experiment(folder)]


def show_report(config: Config, folder: Path, data: Dataset | None = None) -> None:
    """Write the report of a run that was just finished, if its config wants one, and show its path."""
    from clipzoo.config.settings import RuntimeSettings

    language = RuntimeSettings.of(config).report
    if language is not None:
        with command_line.never_fatal(_NOT_WRITTEN):
            from clipzoo.report.write import Options, write_run_report

            command_line.show(f"report: {write_run_report(folder, Options(language, say=command_line.say), data=data)}")


def show_comparison(config: Config, folder: Path, metric: str) -> None:
    """Write the comparison of the finished runs of a grid, if the config wants reports and there are two, and show its path."""
    from clipzoo.config.settings import RuntimeSettings

    language, runs = RuntimeSettings.of(config).report, finished_runs(folder)
    if language is not None and len(runs) > 1:
        with command_line.never_fatal(_NOT_WRITTEN):
            from clipzoo.report.write import Options, write_comparison

            names = [run.name for run in runs]
            command_line.show(f"report: {write_comparison(runs, names, Options(language), out=folder, metric=metric)}")


def is_few_shot(folder: Path) -> bool:
    """Whether the folder holds the curve of ``fewshot evaluate --out``."""
    from clipzoo.records.few_shot import CURVE_FILE

    return (folder / CURVE_FILE).exists()


def runs_in(folders: list[Path]) -> list[Path]:
    """The folders, or for the folder of a grid its finished runs.

    Raises:
        CheckpointError: The grid has fewer than two finished runs.
    """
    from clipzoo.errors import CheckpointError

    if len(folders) > 1 or not (folders[0] / "leaderboard.csv").exists():
        return folders
    found = finished_runs(folders[0])
    if len(found) < 2:
        raise CheckpointError(
            f"{folders[0]}: a grid with {len(found)} finished runs. A comparison needs two; run the grid again to finish them"
        )
    return found


def finished_runs(folder: Path) -> list[Path]:
    """The work dirs in ``folder`` that have a summary, by name."""
    from clipzoo.records.results import SUMMARY_FILE

    return sorted(path.parent for path in folder.glob(f"*/{SUMMARY_FILE}"))


def _for_paper(folders: list[Path], out: Path, arguments: argparse.Namespace) -> list[Path]:
    """The table and the paragraphs for a paper, as asked for."""
    if not arguments.latex and not arguments.markdown:
        return []
    from clipzoo.cli.summary import for_paper
    from clipzoo.files import write_text

    written = []
    for wanted, name in ((arguments.latex, "report.tex"), (arguments.markdown, "report.md")):
        if wanted:
            write_text(out / name, for_paper(_with_methods(folders), as_latex=name.endswith(".tex")) + "\n")
            written.append(out / name)
    return written
