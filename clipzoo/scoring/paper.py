"""For a paper: a table as journals print it, and a paragraph on the methods with the numbers on record, in English and in Chinese.

Loads neither torch nor scipy. A number that is not on record is left out.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipzoo.commands import typed
from clipzoo.errors import CheckpointError, DataError
from clipzoo.records.folds import Folds
from clipzoo.records.json_records import read_plain
from clipzoo.records.results import RESULT_FILE, FoldResult, Summary
from clipzoo.scoring.baselines import Comparison
from clipzoo.scoring.paper_words import LANGUAGES, METRICS, Words
from clipzoo.text_tables import latex, latex_text, markdown

CLASS_COLUMNS = {"recall": "sensitivity", "specificity": "specificity", "precision": "PPV", "npv": "NPV", "auroc": "AUROC"}
_DASH = "–"


@dataclass(frozen=True)
class Paper:
    """What is on record about a finished experiment.

    Attributes:
        title: Name of the experiment in the table.
        summary: Its summary.
        folds: Its folds.
        about: Content of ``config.json``: ``environment``, ``seeds`` and so on; empty values are left out.
        results: Results of the folds.
        num_baselines: Number of baselines on the same folds.
        baseline_metric: Metric that decides the comparison with them.
        num_images: Number of images, if they are joined to cases (``data.views``); 0 if every case is one.
    """

    title: str
    summary: Summary
    folds: Folds
    about: dict
    results: tuple[FoldResult, ...] = ()
    num_baselines: int = 0
    baseline_metric: str = ""
    num_images: int = 0

    @classmethod
    def read(cls, folder: Path, title: str) -> Paper:
        """Read a finished work dir.

        Raises:
            CheckpointError: A file is missing or damaged, or the folds are not those of the summary.
            DataError: ``folds.json`` is missing or damaged, or the run is of findings.
        """
        summary, folds = Summary.read(folder), Folds.read(folder / "folds.json")
        if summary.findings:
            raise DataError(f"{folder}: findings (several labels per image), for which there is no table for a paper. Remove the option")
        if summary.folds_digest != folds.digest:
            raise CheckpointError(f"{folder / 'folds.json'}: not the folds of the summary. Run {typed('train')}, which writes both")
        about = read_plain(folder / "config.json", "The work dir is damaged. Restore the file")
        done = [folder / split.name for split in folds.splits if (folder / split.name / RESULT_FILE).exists()]
        found = Comparison.read(folder)
        same = found is not None and found.record.folds_digest == folds.digest
        compared = (len(found.summaries), found.record.select) if same else (0, "")
        images = 0
        if about.get("config", {}).get("data", {}).get("views") is not None:
            images = len(read_plain(folder / "data.json", "The work dir is damaged. Restore the file")["cases"])
        return cls(title, summary, folds, about, tuple(FoldResult.read(fold) for fold in done), *compared, images)

    @property
    def grouped(self) -> bool:
        """Whether a group has several images."""
        return len({case.group for case in self.folds.cases}) < len(self.folds.cases)


def table(papers: Sequence[Paper]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: one column per experiment, one row per metric and per metric of a class, as ``value (low–high)``."""
    levels = list(dict.fromkeys(f"{100 * paper.summary.level:g}" for paper in papers if paper.summary.intervals))
    header = [f"Metric ({' or '.join(levels)} % CI)" if levels else "Metric", *(paper.title for paper in papers)]
    metrics = dict.fromkeys(metric for paper in papers for metric in paper.summary.pooled)
    rows = [[METRICS.get(metric, (metric,))[0], *(_overall(paper.summary, metric) for paper in papers)] for metric in metrics]
    of_class = [_classes(paper.summary) for paper in papers]
    for name in dict.fromkeys(name for found in of_class for name in found):
        found = [classes.get(name, {}) for classes in of_class]
        for key, metric in CLASS_COLUMNS.items():
            rows.append([f"{name}: {metric}", *(value_text(row.get(key), row.get("intervals", {}).get(key)) for row in found)])
    return header, rows


def value_text(value: float | None, interval: Sequence[float] | None) -> str:
    """``value (low–high)``, with three digits; ``to`` instead of the dash if a limit is negative.

    >>> value_text(0.8126, (0.7531, 0.86)), value_text(-0.1, (-0.2, 0.0)), value_text(2.0, None), value_text(None, None)
    ('0.813 (0.753–0.860)', '-0.100 (-0.200 to 0.000)', '2.000', '–')
    """
    if value is None or math.isnan(value):
        return _DASH
    if interval is None or math.isnan(interval[0]):
        return f"{value:.3f}"
    between = " to " if interval[0] < 0 else _DASH
    return f"{value:.3f} ({interval[0]:.3f}{between}{interval[1]:.3f})"


def _overall(summary: Summary, metric: str) -> str:
    interval = summary.intervals.get(metric)
    return value_text(summary.pooled.get(metric), None if interval is None else (interval["low"], interval["high"]))


def _classes(summary: Summary) -> dict[str, dict]:
    """The class table by class; PPV is undefined, rather than 0, for a class that is never predicted."""
    rows = {row["class"]: dict(row) for row in summary.per_class}
    for index, name in enumerate(summary.classes):
        if not any(counts[index] for counts in summary.confusion):
            rows[name]["precision"] = None
    return rows


def as_markdown(papers: Sequence[Paper]) -> str:
    """The table, the doubts about its intervals, and a paragraph per experiment and language; equal ones appear once."""
    return _document(papers, markdown(*table(papers)), "## {}", str)


def as_latex(papers: Sequence[Paper]) -> str:
    """The same as LaTeX, to be put into a document with the package booktabs; Chinese text also needs ctex."""
    start = "% Requires \\usepackage{booktabs}; Chinese text also requires \\usepackage{ctex} and XeLaTeX.\n"
    return start + _document(papers, latex(*table(papers)), "\\paragraph{{{}}}", latex_text)


def _document(papers: Sequence[Paper], shown: str, heading: str, escape: Callable[[str], str]) -> str:
    parts = [shown]
    for paper in papers:
        of = f" ({paper.title})" if len(papers) > 1 else ""
        parts += [escape(f"Note{of}: {doubt}.") for doubt in paper.summary.doubts()]
    for words in LANGUAGES.values():
        titles: dict[str, list[str]] = {}
        for paper in papers:
            titles.setdefault(paragraph(paper, words), []).append(paper.title)
        for text, names in titles.items():
            of = words.colon + words.comma.join(names) if len(titles) > 1 else ""
            parts.append(f"{heading.format(escape(words.heading + of))}\n\n{escape(text)}")
    return "\n\n".join(parts)


def paragraph(paper: Paper, words: Words) -> str:
    """The methods of an experiment in one paragraph."""
    parts = (_data, _views, _splits, _parts, _selection, _test_views, _scored, _intervals, _comparison, _software, _training)
    words = words.of_cases() if paper.num_images else words
    return words.join(sentence for part in parts if (sentence := part(paper, words)))


def _data(paper: Paper, words: Words) -> str:
    cases, classes = paper.folds.cases, paper.folds.classes
    groups = len({case.group for case in cases})
    sentence = words.grouped_data if paper.grouped else words.data
    count = Counter(case.label for case in cases)
    groups_of = [len({case.group for case in cases if case.label == label}) for label in range(len(classes))]
    of_class = words.of_class_in_groups if paper.grouped else words.of_class
    named = [of_class.format(name=name, count=count[label], groups=groups_of[label]) for label, name in enumerate(classes)]
    listed = words.classes.format(count=len(classes), listed=words.semicolon.join(named)) if classes else ""
    unlabelled = words.unlabelled.format(count=count[None]) if classes and count[None] else ""
    return sentence.format(images=len(cases), groups=groups, classes=listed, unlabelled=unlabelled)


def _views(paper: Paper, words: Words) -> str:
    """Which images are one case; nothing if every image is."""
    if not paper.num_images:
        return ""
    by = paper.about["config"]["data"]["views"]
    return (words.joined_groups if by == "group" else words.joined_values).format(by=by, images=paper.num_images)


def _test_views(paper: Paper, words: Words) -> str:
    kinds = paper.about.get("config", {}).get("evaluation", {}).get("tta")
    return words.tta.format(kinds=words.comma.join(words.test_views[kind] for kind in kinds)) if kinds else ""


def _splits(paper: Paper, words: Words) -> str:
    spec, number = paper.folds.spec, len(paper.folds.splits)
    kind = "FromFileOnce" if spec.get("type") == "FromFile" and number == 1 else spec.get("type")
    sentence = words.splits.get(kind) or (words.other_splits if number > 1 else words.other_split)
    whole = words.whole_groups if paper.grouped else ""
    return sentence.format(folds=number, whole_groups=whole, stratified=words.stratified if paper.folds.classes else "")


def _parts(paper: Paper, words: Words) -> str:
    """Sizes of the parts; a range if the folds differ."""
    sizes = {part: [len(getattr(split, part)) for split in paper.folds.splits] for part in ("train", "val", "test")}
    shown = {part: words.between(min(found), max(found)) for part, found in sizes.items()}
    return (words.parts if any(sizes["val"]) else words.parts_without_val).format(**shown, per=words.per_fold[len(paper.folds.splits) == 1])


def _selection(paper: Paper, words: Words) -> str:
    """How the scored epoch was chosen; nothing if the folds differ in it."""
    chosen = paper.summary.selection
    if chosen == "last epoch":
        return words.last_epoch
    inner = re.fullmatch(r"best (\w+) over (\d+) inner folds", chosen)
    if inner:
        return words.inner_folds.format(metric=words.metric_inside(inner[1]), number=inner[2])
    metric, on, part = chosen.removeprefix("best ").partition(" on ")
    if not chosen.startswith("best ") or not on or ";" in chosen:
        return ""
    sentence = words.best_epoch if part.startswith("val") else words.best_epoch_on_test
    averaged = words.wise_ft.format(metric=words.metric_inside(metric)) if "WiSE-FT" in part else ""
    return sentence.format(metric=words.metric_inside(metric)) + averaged


def _scored(paper: Paper, words: Words) -> str:
    tested = sum(len(split.test) for split in paper.folds.splits)
    whole = paper.folds.exhaustive and tested == len(paper.folds.cases) and len(paper.folds.splits) > 1
    sentence = words.out_of_fold if whole else words.tested
    seen = words.not_trained_on if paper.summary.optimistic else words.never_seen
    joined = words.joined[paper.summary.join] if paper.summary.unit == "group" else ""
    return sentence.format(tested=tested, seen=seen.format(unit=words.group_or_image(paper.grouped))) + joined


def _intervals(paper: Paper, words: Words) -> str:
    """The methods of the intervals in the table, and what they are conditional on; empty without intervals."""
    summary = paper.summary
    used = dict.fromkeys(interval["method"] for interval in summary.intervals.values() if not math.isnan(interval["low"]))
    if not used:
        return ""
    metrics_of = {
        method: words.comma.join(words.metric(metric) for metric, found in summary.intervals.items() if found["method"] == method)
        for method in used
    }
    listed = words.semicolon.join(words.methods[method].format(metrics=metrics) for method, metrics in metrics_of.items())
    number, grouped = len(paper.folds.splits), paper.grouped
    models = words.models.format(count=number) if number > 1 else words.one_model
    unit, units = words.group_or_image(grouped), words.groups_or_images(grouped)
    return words.intervals.format(level=f"{100 * summary.level:g}", listed=listed, models=models, unit=unit, units=units)


def _comparison(paper: Paper, words: Words) -> str:
    if not paper.num_baselines:
        return ""
    holm = words.holm.format(count=paper.num_baselines) if paper.num_baselines > 1 else ""
    unit = words.group_or_image(paper.grouped)
    count = words.baselines(paper.num_baselines)
    metric = words.metric_inside(paper.baseline_metric)
    return words.comparison.format(baselines=count, metric=metric, unit=unit, holm=holm)


def _software(paper: Paper, words: Words) -> str:
    """Versions in the record of the training."""
    environment = paper.about.get("environment") or {}
    packages = environment.get("packages") or {}
    versions = [f"{name} {version}" for name, version in packages.items() if version and version != "not installed"]
    if environment.get("python"):
        versions.insert(0, f"Python {environment['python']}")
    if environment.get("cuda"):
        versions.append(f"CUDA {environment['cuda']}")
    commit = environment.get("git_commit")
    toolbox = f"clipzoo {environment['clipzoo']}" if environment.get("clipzoo") else "clipzoo"
    if commit:
        toolbox += words.commit.format(commit=commit[:10] + "+changes" * commit.endswith("+changes"))
    return words.software.format(toolbox=toolbox, versions=words.comma.join(versions)) if versions else ""


def _training(paper: Paper, words: Words) -> str:
    """Seeds, and the device, precision and number of processes of the training."""
    seeds = {name: seed for name, seed in (paper.about.get("seeds") or {}).items() if seed is not None}
    parts = [words.seeds[name].format(seed=seed) for name, seed in seeds.items() if name in words.seeds]
    devices = list(dict.fromkeys(result.device for result in paper.results))
    if devices:
        hardware = (paper.about.get("environment") or {}).get("devices") or []
        on_gpu = any(device.startswith("cuda") for device in devices)
        names = (
            list(dict.fromkeys(hardware)) if on_gpu and hardware else [device.upper() if device == "cpu" else device for device in devices]
        )
        precisions = list(dict.fromkeys(result.precision for result in paper.results))
        parts.append(words.device.format(device=words.comma.join(names), precision=words.comma.join(precisions)))
        processes = max(result.processes for result in paper.results)
        parts[-1] += words.processes.format(count=processes) if processes > 1 else ""
    return words.sentence(parts)
