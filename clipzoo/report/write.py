"""Writing reports: of one run into its work dir, and of several runs, a grid or few-shot episodes into a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipzoo.errors import ClipzooError
from clipzoo.files import finite, make_folder, write_json, write_text
from clipzoo.report.content.few_shot import few_shot_content
from clipzoo.report.content.records import RunRecords
from clipzoo.report.content.whole import comparison_content, run_content
from clipzoo.report.page import JSON_FILE, PAGE_FILE, comparison_page, few_shot_page, run_page
from clipzoo.report.pictures import Pictures
from clipzoo.report.words import Language, Words

if TYPE_CHECKING:
    from clipzoo.datasets.base import Dataset


@dataclass(frozen=True)
class Options:
    """What a report shows.

    Attributes:
        language: Language of the page.
        pictures: Whether images of cases are shown.
        models: Whether the models are loaded, for explanations and features.
        embedding: ``'pca'``, ``'tsne'`` or ``'umap'``.
        say: Function that receives progress lines.
    """

    language: Language = "en"
    pictures: bool = True
    models: bool = True
    embedding: str = "pca"
    say: Callable[[str], None] = lambda line: None


def write_run_report(
    folder: Path, options: Options, *, out: Path | None = None, data: Dataset | None = None, name: str | None = None
) -> Path:
    """Write ``report.json`` and ``report.html`` of a finished run.

    Args:
        folder: Work dir, or the folder of a baseline.
        options: What to show.
        out: Folder to write to; ``None`` for ``folder``.
        data: Dataset of the run, if it is at hand; otherwise it is read as the config says, if it still exists.
        name: Name in the report; ``None`` for that of the folder.

    Returns:
        Path of the page.

    Raises:
        CheckpointError: The run is not finished, or a file of it is damaged.
        DataError: The report cannot be written.
    """
    run = RunRecords.read(folder, name or folder.resolve().name)
    data, problem = (data, "") if data is not None else dataset_of(run)
    content = run_content(run, data)
    overlays = {}
    if options.models and data is not None and run.experiment is not None:
        from clipzoo.report.evidence import gather

        shown = content["cases"] if options.pictures else {}  # an explanation is a picture
        evidence = gather(run, data, shown, method=options.embedding, say=options.say)
        overlays = evidence.overlays
        content["embedding"] = {"method": options.embedding, "folds": evidence.embedding}
        content["model_notes"] = evidence.notes
    pictures = Pictures(data if options.pictures else None, problem, overlays)
    return _write(content, run_page(content, Words(options.language), pictures), out or folder)


def write_comparison(folders: Sequence[Path], names: Sequence[str], options: Options, *, out: Path, metric: str | None = None) -> Path:
    """Write ``report.json`` and ``report.html`` of several runs on the same cases.

    Args:
        folders: Work dirs or folders of baselines, two or more.
        names: Their names in the report.
        options: What to show.
        out: Folder to write to.
        metric: Metric that decides; ``None`` for that of the first run.

    Raises:
        CheckpointError: A run is not finished, or a file of it is damaged.
        DataError: The runs are not of the same cases, or of findings.
        ConfigError: A run does not have the metric.
    """
    runs = [RunRecords.read(folder, name) for folder, name in zip(folders, names, strict=True)]
    content = comparison_content(runs, metric)
    trained = next((run for run in runs if run.experiment is not None), None)
    data, problem = (None, "") if trained is None or not options.pictures else dataset_of(trained)
    return _write(content, comparison_page(content, Words(options.language), Pictures(data, problem)), out)


def write_few_shot(folder: Path, options: Options, *, out: Path | None = None) -> Path:
    """Write ``report.json`` and ``report.html`` of few-shot episodes, from the files of ``fewshot evaluate --out``.

    Raises:
        DataError: A file is damaged, or the report cannot be written.
    """
    content = few_shot_content(folder)
    return _write(content, few_shot_page(content, Words(options.language)), out or folder)


def dataset_of(run: RunRecords) -> tuple[Dataset | None, str]:
    """The dataset of a run as its config says; or ``None`` and the reason, for a baseline without one."""
    if run.experiment is None:
        return None, ""
    try:
        data = run.experiment.dataset()
    except ClipzooError as error:
        return None, str(error)
    missing = set(run.table.case_ids) - set(data.rows)
    return (None, f"the data have changed: {len(missing)} cases are missing") if missing else (data, "")


def _write(content: dict[str, Any], page: str, folder: Path) -> Path:
    make_folder(folder)
    write_json(folder / JSON_FILE, finite(content))
    write_text(folder / PAGE_FILE, page)
    return folder / PAGE_FILE
