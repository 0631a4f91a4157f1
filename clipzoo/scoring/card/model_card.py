"""A model card: what a model is, what it is for, and what is on record about it, as Markdown with the hub's header.

A pure function of records: equal runs get equal cards. It names no case, no group, no folder, and no file but those of a work dir.

Source: Mitchell et al. 2019 (arXiv:1810.03993), "Model Cards for Model Reporting", whose sections these are; the header is the hub's
(``huggingface_hub.ModelCardData``).
"""

from __future__ import annotations

import html
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clipzoo.files import write_text
from clipzoo.models.catalogue import SEE_PAGE
from clipzoo.records.folds import PARTS, Folds
from clipzoo.records.results import Summary
from clipzoo.scoring.card.described import Described
from clipzoo.scoring.card.first_weights import towers_of, without_paths
from clipzoo.scoring.card.words import FINDINGS_METRICS, LANGUAGES, CardWords
from clipzoo.scoring.paper import CLASS_COLUMNS
from clipzoo.scoring.paper_words import METRICS
from clipzoo.text import is_chinese, visible
from clipzoo.text_tables import limits, markdown, number

CARD_FILE = "model_card.md"
_NAME = r"(?<![\w/.-]){}(?![\w/-])"
_NUMBER = r"(?<=['\"‘“(（]){0}(?=['\"’”)）,，、;])|(?<=[,，、;] ){0}(?=[,，、;)）])"  # other short numbers are counts


@dataclass(frozen=True)
class Usage:
    """How a model is used: a library, and lines of Python.

    Attributes:
        code: Lines of Python that load and use the model.
        library: The hub's name of the library.
    """

    code: str
    library: str = "clipzoo"


def write_card(work_dir: str | Path, lang: Literal["en", "zh"] = "en") -> Path:
    """Write ``model_card.md`` for the models of all folds into a work dir; return its path.

    Raises:
        CheckpointError: A record is missing or damaged.
        DataError: ``folds.json`` is missing or damaged, or the file cannot be written.
    """
    path = Path(work_dir) / CARD_FILE
    described = Described.read(work_dir)
    write_text(path, model_card(described, Usage(usage_of(described, "WORK_DIR")), lang=lang))
    return path


def usage_of(described: Described, source: str) -> str:
    """Lines of Python that load a model with clipzoo from ``source`` and use it."""
    lines = ["import clipzoo", "", f"model = clipzoo.load({source!r})"]
    lines.append("print(model.classify(['image.png']).top(3))" if described.classes else "features = model.encode_image(['image.png'])")
    if described.task.startswith("zero-shot"):
        lines.append("print(model.similarity(['image.png'], ['a sentence', 'another sentence']))")
    return "\n".join(lines)


def model_card(described: Described, usage: Usage, *, lang: Literal["en", "zh"] = "en") -> str:
    """The card as Markdown.

    Args:
        described: The model.
        usage: How it is used.
        lang: Language of the text; the header is the same.
    """
    words = LANGUAGES[lang].of_cases() if described.has_views else LANGUAGES[lang]
    parts = [f"# {_safe(described.name)}", *_read_first(described, words), *_model(described, words)]
    parts += [f"## {words.use}", words.intended, _listed([*words.limits, words.knows[described.answers], words.sure])]
    parts += [*_data(described, words), *_evaluation(described, words)]
    parts += [f"## {words.how}", f"```python\n{usage.code}\n```", *_reproduce(described, words)]
    return f"---\n{_header(described, usage)}\n---\n\n" + "\n\n".join(parts) + "\n"


def _header(described: Described, usage: Usage) -> str:
    """The hub's YAML: library, task, language, starting weights and metrics. Its owner chooses a licence, which is not in it."""
    from huggingface_hub import EvalResult, ModelCardData

    towers, name = towers_of(described.config), visible(described.name)
    known = [tower.published for tower in towers if tower.published is not None]
    texts = [*described.classes, *(text for each in described.captions for text in each)]
    scores = _scores(described)
    results = [
        EvalResult(described.task, "private", name, metric, value, metric_name=_metric(metric, LANGUAGES["en"]))
        for metric, value in scores.items()
    ]
    data = ModelCardData(
        language="zh" if any(map(is_chinese, texts)) else "en",
        library_name=usage.library,
        pipeline_tag=described.task,
        tags=["clipzoo", "image-text" if described.task.startswith("zero-shot") else "image-classification"],
        base_model=list(dict.fromkeys(published.repository for published in known)) or None,
        metrics=list(scores) or None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml(line_break="\n").strip()


def _scores(described: Described) -> dict[str, float]:
    """The defined scores: pooled over all folds, or else those of the fold."""
    found = described.summary.pooled if described.summary is not None else {} if described.result is None else described.result.metrics
    return {metric: value for metric, value in found.items() if value is not None and not math.isnan(value)}


def _read_first(described: Described, words: CardWords) -> list[str]:
    """Warnings and notes, before everything else."""
    summary, result, notes = described.summary, described.result, []
    if summary is not None:
        notes += [words.optimistic] if summary.optimistic else []
        notes += [_note(text, described.folds) for text in (*summary.notes, *summary.doubts())]
    elif described.folds is not None:
        notes.append(words.unfinished)
        notes += [_note(text, described.folds) for text in (*described.folds.notes, *(() if result is None else result.notes))]
    if described.num_repeats > 1:
        notes.append(words.repeated.format(number=described.num_repeats))
    if described.fold:
        notes.append(words.one_fold.format(fold=described.fold))
    return [f"## {words.read_first}", _listed(notes)] if notes else []


def _model(described: Described, words: CardWords) -> list[str]:
    kind = words.kinds.get(described.kind, words.kinds[""]).format(kind=_safe(described.kind))
    titles = {"image_encoder": words.image_tower, "text_encoder": words.text_tower}
    lines = []
    for tower in towers_of(described.config):
        line = words.weights.format(tower=f"{titles[tower.key]} {_safe(tower.name)}", origin=_safe(tower.origin) or words.random)
        if tower.origin:
            line += f" ({words.licence.format(licence=SEE_PAGE if tower.published is None else tower.published.licence)})"
        lines.append(line)
    shown = described.preprocessing
    if shown:
        mean, std = (", ".join(f"{value:.4g}" for value in shown[key]) for key in ("mean", "std"))
        lines.append(f"{words.preprocessing}{words.colon}" + words.preprocessed.format(**{**shown, "mean": mean, "std": std}))
    if described.classes:
        title = f"{words.titles[described.answers][0]} ({len(described.classes)})"
        lines.append(f"{title}{words.colon}{', '.join(map(_safe, described.classes))}")
    if described.calibration != 1:
        lines.append(words.calibrated.format(temperature=f"{described.calibration:.4g}"))
    parts = [f"## {words.model}", kind, _listed(lines), words.no_licence]
    if any(described.captions):
        rows = [[_safe(name), "; ".join(map(_safe, texts))] for name, texts in zip(described.classes, described.captions, strict=True)]
        parts.append(markdown([words.titles[described.answers][1], words.captions], rows))
    return parts


def _data(described: Described, words: CardWords) -> list[str]:
    folds = described.folds
    if folds is None:
        return []
    parts = [f"## {words.data}", words.counts.format(images=len(folds.cases), groups=len({case.group for case in folds.cases}))]
    split = next((split for split in folds.splits if split.name == described.fold), None)
    if split is not None:
        sizes = {part: len(getattr(split, part)) for part in PARTS}
        parts.append(words.counts_of_fold.format(fold=split.name, **sizes))
    if folds.classes:
        cases = Counter(label for case in folds.cases for label in case.classes)
        groups = {label: len({case.group for case in folds.cases if label in case.classes}) for label in cases}
        rows = [[_safe(name), str(cases[label]), str(groups.get(label, 0))] for label, name in enumerate(folds.classes)]
        parts.append(markdown([words.titles[described.answers][1], words.images, words.groups], rows))
    return parts


def _evaluation(described: Described, words: CardWords) -> list[str]:
    summary, result = described.summary, described.result
    parts = [f"## {words.evaluation}"]
    if summary is None and result is None:
        return [*parts, words.no_scores]
    if summary is None:
        rows = [[_metric(name, words), number(value)] for name, value in result.metrics.items()]
        cases = result.counts.get("test", 0)
        text = words.of_fold.format(fold=result.fold, cases=cases, selection=result.selection)
        text += words.per_group if described.unit == "group" else ""
        return [*parts, text, markdown([words.metric, words.value], rows)]
    cases = sum(fold["counts"].get("test", 0) for fold in summary.folds)
    text = words.pooled.format(models=len(summary.folds), cases=cases, groups=summary.num_groups, selection=summary.selection)
    text += words.joined[summary.join] if summary.unit == "group" else ""
    rows = [[_metric(name, words), number(value), summary.interval_text(name)] for name, value in summary.pooled.items()]
    parts += [text, markdown([words.metric, words.value, words.interval.format(level=f"{100 * summary.level:g}")], rows)]
    parts += _classes(summary, words)
    if result is not None:
        named = ", ".join(f"{_metric(name, words)} {number(value)}" for name, value in result.metrics.items())
        parts.append(words.never_seen.format(fold=result.fold, metrics=named))
    return [*parts, words.conditional] if summary.intervals else parts


def _classes(summary: Summary, words: CardWords) -> list[str]:
    """The table of the classes, or of the findings, with intervals."""
    if summary.per_class:
        title, columns, rows = words.titles["classes"][1], CLASS_COLUMNS, [(row["class"], row) for row in summary.per_class]
    else:
        title, columns, rows = words.titles["findings"][1], words.of_findings, [(row["finding"], row) for row in summary.findings]
    if not rows:
        return []
    cells = [[_safe(name), str(row["cases"]), *(_with_interval(row, key) for key in columns)] for name, row in rows]
    return [markdown([title, words.groups if summary.unit == "group" else words.images, *columns.values()], cells)]


def _metric(name: str, words: CardWords) -> str:
    return (FINDINGS_METRICS | METRICS).get(name, (name,) * 3)[words.metric_column].strip()


def _with_interval(row: dict, key: str) -> str:
    interval = row.get("intervals", {}).get(key)
    return number(row.get(key)) + ("" if interval is None else f" {limits(interval)}")


def _reproduce(described: Described, words: CardWords) -> list[str]:
    environment, seeds = described.about.get("environment") or {}, described.about.get("seeds") or {}
    packages = [f"{name} {version}" for name, version in (environment.get("packages") or {}).items() if version != "not installed"]
    own = [f"{name} {environment[name]}" for name in ("clipzoo", "python", "cuda") if environment.get(name)]
    commit = [f"commit {environment['git_commit'][:10]}"] if environment.get("git_commit") else []
    lines = [f"{words.versions}{words.colon}{', '.join([*own, *commit, *packages])}"] if packages else []
    numbers = ", ".join(f"{name} {seed}" for name, seed in seeds.items() if seed is not None)
    digests = ", ".join(f"{name} `{digest}`" for name, digest in described.digests.items())
    lines += [f"{title}{words.colon}{found}" for title, found in ((words.seeds, numbers), (words.digests, digests)) if found]
    parts = [f"## {words.reproduce}", _listed(lines)] if lines else []
    if described.config:
        shown = html.escape(visible(json.dumps(without_paths(described.config), ensure_ascii=False, indent=2), keep="\n"), quote=False)
        parts.append(f"<details>\n<summary>{words.config}</summary>\n\n<pre>\n{shown}\n</pre>\n\n</details>")
    return parts


def _note(text: str, folds: Folds | None) -> str:
    """A note without the names of cases and groups, as they are and as a terminal shows them."""
    names = set() if folds is None else {name for case in folds.cases for name in (case.id, case.group) if name}
    names = {shown for name in names for shown in (name, visible(name)) if shown in text}
    for name in sorted(names, key=len, reverse=True):
        text = re.sub((_NUMBER if name.isdigit() and len(name) <= 3 else _NAME).format(re.escape(name)), "…", text)
    return _safe(text)


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _safe(text: str) -> str:
    """Untrusted text on one line, without effect in Markdown or HTML."""
    return re.sub(r"([\\`*_\[\]])", r"\\\1", html.escape(visible(str(text)), quote=False))
