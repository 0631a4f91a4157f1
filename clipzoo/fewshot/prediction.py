"""Few-shot prediction: one classifier per task, learned from its support images, on features computed in one pass.

Legend: N images · D width of the features · C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clipzoo.datasets.files.class_texts import default_template, read_class_texts, texts_from_templates
from clipzoo.errors import BuildError, ConfigError, did_you_mean, shortened
from clipzoo.inference.clip import LoadedCLIP
from clipzoo.inference.files import encode_files
from clipzoo.probes import Examples, Probe
from clipzoo.probes.base import methods, normalised
from clipzoo.text import csv_bytes, is_formula

if TYPE_CHECKING:
    from clipzoo.features.store import FeatureStore
    from clipzoo.fewshot.tasks import Task
    from clipzoo.inference.files import EncodedFiles
    from clipzoo.inference.model import LoadedModel


def probe_of(method: str, temperature: float | None = None) -> Probe:
    """The probe of a method.

    Args:
        method: Name of the method.
        temperature: Temperature of ``prototype``; not for other methods.

    Raises:
        ConfigError: The method does not exist or has no temperature.
    """
    known = methods()
    if method not in known:
        raise ConfigError(f"--method: unknown method '{method}'.{did_you_mean(method, known)} Methods: {', '.join(sorted(known))}")
    if temperature is None:
        return known[method]()
    if method != "prototype":
        raise ConfigError(f"--temperature: only for the method prototype, not for {method}. Remove it")
    return known[method](temperature=temperature)


def class_sentences(classes: Sequence[str], file: str | None, templates: Sequence[str] | None) -> list[list[str]] | None:
    """The sentences for each of ``classes``; ``None`` if none are given, see ``default_sentences``.

    Args:
        classes: Class names.
        file: JSON file ``{class: sentence or sentences}`` for exactly these classes.
        templates: Templates with ``{class_name}``, as alternative to ``file``.

    Raises:
        ConfigError: Both are given, or a template is invalid.
        DataError: The file is unreadable, or describes other classes.
    """
    if file is not None and templates is not None:
        raise ConfigError("--class-texts: cannot be combined with --template. Remove one of them")
    if file is not None:
        return read_class_texts(file, list(classes))
    return texts_from_templates(templates, list(classes), "--template") if templates else None


def default_sentences(loaded: LoadedCLIP, classes: Sequence[str]) -> list[list[str]]:
    """One sentence for each of ``classes`` in the language of the model's text tower, as in training."""
    template, _ = default_template(classes, getattr(loaded.tokenizer, "languages", ()))
    return texts_from_templates([template], list(classes), "--template")


def check_texts_are_read(probes: Sequence[Probe], file: str | None, templates: Sequence[str] | None) -> None:
    """Refuse class texts that no method uses.

    Raises:
        ConfigError: Class texts are given, but no method uses them.
    """
    given = [option for option, value in (("--class-texts", file), ("--template", templates)) if value is not None]
    if given and not any(probe.needs_text for probe in probes):
        names = ", ".join(probe.name for probe in probes)
        raise ConfigError(f"{given[0]}: only for methods that use class texts; {names} do{'es' * (len(probes) == 1)} not. Remove it")


def has_text_side(loaded: LoadedModel) -> bool:
    """Can the model encode class texts?"""
    return isinstance(loaded, LoadedCLIP)


def require_text_side(loaded: LoadedModel, probes: Sequence[Probe]) -> None:
    """Refuse methods that require texts if the model has no text tower.

    Raises:
        BuildError: The model has no text tower.
    """
    needing = [probe.name for probe in probes if probe.needs_text]
    if needing and not has_text_side(loaded):
        without = ", ".join(sorted(name for name, kind in methods().items() if not kind.needs_text))
        raise BuildError(f"{loaded.source}: has no text tower, which the method {needing[0]} requires. Methods that do not: {without}")


def text_features(loaded: LoadedCLIP, sentences: Sequence[Sequence[str]]) -> np.ndarray:
    """``[C, D]`` float32 of unit length: the mean of the features of each class's sentences."""
    flat = [sentence for of_class in sentences for sentence in of_class]
    features = loaded.encode_text(flat).numpy()
    ends = np.cumsum([len(of_class) for of_class in sentences])
    return normalised(np.stack([part.mean(axis=0) for part in np.split(features, ends[:-1])]))


def logit_scale_of(loaded: LoadedModel) -> float:
    """1 / temperature of the model; 100, as in CLIP, for a model without one."""
    return 1.0 / loaded.temperature if isinstance(loaded, LoadedCLIP) and loaded.model.log_temperature is not None else 100.0


@dataclass(frozen=True)
class TaskResult:
    """Predictions for one task.

    Attributes:
        task: Name of the task.
        rows: ``(image, label, score)`` for every readable query image, in order.
        chosen: Hyper-parameters in use.
        notes: Remarks for the user, one sentence each.
    """

    task: str
    rows: tuple[tuple[str, str, float], ...]
    chosen: Mapping[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Predicted:
    """Predictions for all tasks.

    Attributes:
        results: Results, one per task, in order.
        failed: Problems of unreadable query images, one line each.
        num_cached: Number of images that were not encoded, because they were cached or duplicates.
    """

    results: tuple[TaskResult, ...]
    failed: tuple[str, ...]
    num_cached: int

    def csv_content(self) -> bytes:
        """``task,image,label,score`` in UTF-8; scores have nine significant digits, enough for a float32."""
        rows = ((result.task, image, label, f"{score:.9g}") for result in self.results for image, label, score in result.rows)
        return csv_bytes([("task", "image", "label", "score"), *rows])

    def chosen(self) -> list[str]:
        """The hyper-parameters in use, with the number of tasks if they differ."""
        shown = Counter(", ".join(f"{name}={value:g}" for name, value in result.chosen.items()) for result in self.results)
        shown.pop("", None)
        return [text if count == len(self.results) else f"{text} ({_tasks(count)})" for text, count in shown.most_common()]

    def notes(self) -> list[str]:
        """Every note once, with its tasks."""
        tasks: dict[str, list[str]] = {}
        for result in self.results:
            for note in result.notes:
                tasks.setdefault(note, []).append(result.task)
        cells = {cell for result in self.results for row in result.rows for cell in (result.task, *row[:2])}
        formulas = sorted(filter(is_formula, cells))
        guarded = [f"{shortened(formulas, 3)}: a spreadsheet would run this as a formula, so a ' stands before it"] if formulas else []
        return [*guarded, *(f"{shortened(names, 3)}: {note}" for note, names in tasks.items())]


def predict(
    loaded: LoadedModel,
    tasks: Sequence[Task],
    probe: Probe,
    store: FeatureStore,
    *,
    sentences: Mapping[str, Sequence[str]] | None = None,
    batch_size: int = 64,
    num_workers: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Predicted:
    """Encode the images of all tasks in one pass, each distinct content once, then learn and predict each task independently.

    Args:
        loaded: Result of ``clipzoo.load``.
        tasks: Result of ``read_tasks``.
        probe: Method. Hyper-parameters are chosen within each task's support set.
        store: Feature cache.
        sentences: Sentences for every class of every task, for a method that needs them; ``None`` for ``default_sentences``.
        batch_size: Number of images encoded at once.
        num_workers: Number of processes that read images.
        progress: Function called with the number of finished images after each batch.
    """
    paths = [image.path for task in tasks for image in (*task.support, *task.query)]
    encoded = encode_files(loaded, paths, store, batch_size=batch_size, num_workers=num_workers, progress=progress)
    text_of: dict[str, np.ndarray] = {}
    if probe.needs_text:
        names = list(dict.fromkeys(name for task in tasks for name in task.classes))
        found = default_sentences(loaded, names) if sentences is None else [sentences[name] for name in names]
        text_of = dict(zip(names, text_features(loaded, found), strict=True))
    results, start = [], 0
    for task in tasks:
        text = np.stack([text_of[name] for name in task.classes]) if probe.needs_text else None
        results.append(_task_result(task, encoded, start, probe, text, logit_scale_of(loaded)))
        start += len(task.support) + len(task.query)
    return Predicted(tuple(results), tuple(encoded.failed[row] for row in sorted(encoded.failed)), encoded.num_cached)


def _task_result(task: Task, encoded: EncodedFiles, start: int, probe: Probe, text: np.ndarray | None, scale: float) -> TaskResult:
    """Learn from the support set and predict the query set of the task whose images start at row ``start``."""
    middle = start + len(task.support)
    examples = Examples(
        features=encoded.features[start:middle],
        labels=np.array([image.label for image in task.support], dtype=np.int64),
        num_classes=len(task.classes),
        groups=np.array([image.digest.hex() for image in task.support]),  # copies stay together
        text=text,
        logit_scale=scale,
        balanced=True,  # how many images of a class were given says nothing about the query images
    )
    fitted = probe.fit(examples)
    read = [row for row in range(middle, middle + len(task.query)) if row not in encoded.failed]
    probabilities = fitted.predict(encoded.features[read])
    rows = [
        (task.query[row - middle].name, task.classes[best], float(found[best]))
        for row, found, best in zip(read, probabilities, probabilities.argmax(axis=1), strict=True)
    ]
    return TaskResult(task.name, tuple(rows), fitted.chosen, (*task.notes, *fitted.notes))


def _tasks(count: int) -> str:
    return f"{count} task{'s' * (count != 1)}"
