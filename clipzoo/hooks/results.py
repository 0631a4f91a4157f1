"""``results/``: pictures of a run, and its results in one file."""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from clipzoo.config.arguments import NotNegative
from clipzoo.errors import first_line
from clipzoo.files import finite, read_json, write_json
from clipzoo.hooks.base import Hook
from clipzoo.hooks.pace import Pace
from clipzoo.hooks.row_file import Intervals, epoch_number, epoch_record, learning_rate, watched_metrics
from clipzoo.metrics.findings import auroc_per_finding, average_precision_per_finding
from clipzoo.pictures import figures, finding_bars
from clipzoo.pictures.fonts import drawing
from clipzoo.records.tables import DIRECTIONS, FindingsTable, PredictionTable
from clipzoo.registries import HOOKS
from clipzoo.structures import MEASURE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clipzoo.engine.evaluation import Evaluation
    from clipzoo.engine.state import Run
    from clipzoo.pictures.fonts import Lettering
    from clipzoo.records.results import FoldResult

FOLDER, CURVES_FILE, METRICS_FILE, RESULTS_FILE = "results", "training_curves.png", "model_metrics.png", "training_results.json"
# Metrics that are shares or areas, which can be drawn together on an axis from 0 to 1.
_SHARES = re.compile(r"accuracy|balanced_accuracy|auroc|macro_(f1|precision|recall)|(i2t|t2i)_(r\d+|mrr)|.*_accuracy|mean_a.*|micro_f1.*")
# What the second panel shows, by kind of data.
_SHOWN = {
    "classification": ("accuracy", "balanced_accuracy", "macro_f1"),
    "retrieval": ("i2t_r1", "t2i_r1"),
    "findings": ("mean_auroc", "mean_average_precision", "micro_f1"),
}
_TITLES = {"classification": "accuracy", "retrieval": "accuracy: R@1 and within the batch", "findings": "areas and F1 of the findings"}


@HOOKS.register_module()
class ResultsHook(Hook):
    """Writes ``results/`` with two pictures and ``training_results.json``.

    ``training_curves.png``: losses, accuracy, learning rate and the selecting metric, with the best epoch marked; over steps if
    training or evaluation counts in steps. ``model_metrics.png``, written after the test part is scored: recall, precision and confusion
    matrix of the classes, or areas under the curves of the findings, or retrieval recalls compared with chance, and the similarities of
    pairs. ``training_results.json``: metrics of
    the test part and, at the scored checkpoint, of the val part; selection; config; history; and under ``timings`` everything that differs
    between equal runs. A picture or file that cannot be created is logged as a warning and does not end the run.

    Args:
        seconds: Minimum time between two drawings of the curves during training. They are drawn less often if drawing would take
            more than 2 % of the time, and always at the end.
    """

    def __init__(self, seconds: NotNegative = 60.0):
        self.seconds = seconds
        self.history: list[dict] = []  # as in history.json
        self.evaluations: list[dict] = []  # with evaluation.every_steps: one per evaluation and per end of an epoch
        self.best: dict[str, float] = {}
        self.intervals = Intervals()

    def before_fit(self, run: Run) -> None:
        """Start the clock."""
        self.pace, self.is_drawn = Pace(self.seconds), False

    def after_eval(self, run: Run) -> None:
        """Record the metrics of the best weights, and those between epochs."""
        if run.state.best_step == run.state.step:
            self.best = dict(run.epoch_metrics)
        if run.evaluation.every_steps:
            self.record(run, watched_metrics(run))

    def after_epoch(self, run: Run) -> None:
        """Record the epoch, and draw the curves if due."""
        self.history.append(epoch_record(run))
        if run.evaluation.every_steps:
            self.record(run, {})
        self.is_drawn = False
        if run.is_main and self.pace.is_due():
            self.draw_curves(run)

    def record(self, run: Run, metrics: dict[str, float]) -> None:
        """Record one point of the curves; an evaluation at the end of an epoch is the same point as the end."""
        if self.evaluations and self.evaluations[-1]["step"] == run.state.step:
            return
        row = {"epoch": epoch_number(run), "step": run.state.step, "lr": learning_rate(run), **self.intervals.take(run), **metrics}
        self.evaluations.append(finite(row))
        self.is_drawn = False

    def after_fit(self, run: Run, error: BaseException | None) -> None:
        """Draw the curves, also for a run that was stopped or failed."""
        if run.is_main and (self.history or self.evaluations) and not self.is_drawn:
            self.draw_curves(run)

    def after_test(self, run: Run, evaluation: Evaluation, result: FoldResult) -> None:
        """Draw the performance of the model, and write the results."""
        if not run.is_main:
            return
        with never_fatal(run, METRICS_FILE):
            draw_metrics(run, evaluation, result)
        with never_fatal(run, RESULTS_FILE):
            write_json(run.folder / FOLDER / RESULTS_FILE, self.content(run, evaluation, result))

    def draw_curves(self, run: Run) -> None:
        """Draw the curves."""
        with self.pace.working(), never_fatal(run, CURVES_FILE):
            title, subtitle = heading(run), describe_best(run)
            with drawing([title]) as letters:
                title = title if letters.draws(title) else run.split.name
                in_steps = bool(run.evaluation.every_steps or run.train.steps)
                best_x = (run.state.best_step if in_steps else run.state.best_epoch) or None
                panels = panels_of(run, self.evaluations or self.history, "step" if in_steps else "epoch", best_x)
                figure = figures.curves_figure(title, subtitle, "optimizer step" if in_steps else "epoch", panels, best_x)
                figures.save(figure, run.folder / FOLDER / CURVES_FILE)
        self.is_drawn = True

    def content(self, run: Run, evaluation: Evaluation, result: FoldResult) -> dict:
        """The content of ``training_results.json``."""
        metrics = {"test": evaluation.metrics}
        if run.watched == "val":
            metrics["val"] = result.interpolation.get("metrics", self.best)
        timing = run.folder / "timing.json"  # where HistoryHook writes it
        return {
            "fold": result.fold,
            "metrics": metrics,
            "selection": {
                "rule": result.selection,
                "checkpoint": result.checkpoint,
                "epoch": result.epoch,
                "step": result.step,
                "epochs_trained": result.epochs_trained,
                "steps_trained": run.state.step,
            },
            "classes": list(run.dataset.classes),
            "counts": result.counts,
            "folds_digest": result.folds_digest,
            "precision": result.precision,
            "processes": result.processes,
            "config": run.config,
            "history": self.history,
            **({"evaluations": self.evaluations} if run.evaluation.every_steps else {}),
            "timings": {"device": result.device, "seconds": result.seconds, "epochs": read_json(timing) if timing.exists() else []},
        }

    def state_dict(self) -> dict:
        """The curves so far."""
        return {"history": self.history, "evaluations": self.evaluations, "best": self.best, "intervals": self.intervals.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Restore the curves so far."""
        self.history, self.evaluations, self.best = list(state["history"]), list(state["evaluations"]), dict(state["best"])
        self.intervals.load_state_dict(state["intervals"])


@contextlib.contextmanager
def never_fatal(run: Run, what: str) -> Iterator[None]:
    """Turn any error inside the block into a warning, as a picture must not end a long training."""
    try:
        yield
    except Exception as error:  # drawing depends on fonts, styles and disks
        run.log.warning(f"warning: {run.folder / FOLDER / what} was not written: {first_line(error)}")


def heading(run: Run) -> str:
    """Title of a picture: the experiment, by its folder's name, and the fold."""
    return f"{run.folder.absolute().parent.name} / {run.split.name}"


def describe_best(run: Run) -> str:
    """Description of the best epoch so far, for the picture of a run that may continue."""
    state = run.state
    if run.choice is not None:
        return f"epoch {run.choice.epoch} of {run.train.epochs}: {run.choice}"
    if run.watched is None:
        return "no part chooses the epoch"
    if not state.best_epoch:
        return f"{run.selector.name} on {run.watched} was not defined so far"
    step = f", step {state.best_step}" if run.evaluation.every_steps else ""
    warning = " (optimistic: the reported cases choose the epoch)" if run.watched == "test" else ""
    return f"best {run.selector.name} on {run.watched}: {state.best_score:.4g} in epoch {state.best_epoch}{step}{warning}"


def panels_of(run: Run, rows: list[dict], x: str, best_x: float | None) -> list[figures.Panel]:
    """Loss, accuracy, learning rate, and the selecting metric if it has another scale."""
    part, selecting = run.watched, run.selector.name
    keys = list(dict.fromkeys(key for row in rows for key in row))
    own = [k for k in keys if k not in ("epoch", "step", "lr") and not k.startswith((MEASURE, f"{part}_"))]
    losses = [curve(rows, x, key, "training" if key == "loss" else f"training, {key}") for key in own]
    losses.append(curve(rows, x, f"{part}_log_loss", f"{part}, log loss of the classes"))
    if run.dataset.task == "findings":
        losses[-1] = curve(rows, x, f"{part}_binary_log_loss", f"{part}, log loss of the findings")
    names = list(_SHOWN[run.dataset.task])
    if selecting not in names and _SHARES.fullmatch(selecting):
        names.append(selecting)
    labels = {"i2t_r1": "R@1 image to text", "t2i_r1": "R@1 text to image"}
    labels = {name: f"{part}, {labels.get(name, name.replace('_', ' '))}" for name in names}
    accuracies = [curve(rows, x, f"{part}_{name}", labels[name]) for name in names]
    accuracies.append(curve(rows, x, f"{MEASURE}accuracy", "training, within the batch"))
    best = {labels[name]: value_at(rows, x, f"{part}_{name}", best_x) for name in names if name == selecting}
    title = _TITLES[run.dataset.task]
    rates = [curve(rows, x, "lr", "the largest of the groups")]
    panels = [
        figures.Panel("loss", "loss", losses),
        figures.Panel(title, "share", accuracies, shares=True, best=best),
        figures.Panel("learning rate", "learning rate", rates, from_zero=True),
    ]
    if part is not None and selecting not in names:
        label = f"{part}, {selecting.replace('_', ' ')}"
        unit = "sum of six recalls, in percent" if selecting == "rsum" else selecting.replace("_", " ")
        marked = {label: value_at(rows, x, f"{part}_{selecting}", best_x)}
        panels.append(figures.Panel("selecting metric", unit, [curve(rows, x, f"{part}_{selecting}", label)], best=marked))
    return panels


def curve(rows: list[dict], x: str, key: str, label: str) -> figures.Curve:
    """The rows that contain ``key``; ``None`` in a row is a gap."""
    held = [row for row in rows if key in row]
    return figures.Curve(label, [row[x] for row in held], [math.nan if row[key] is None else row[key] for row in held])


def value_at(rows: list[dict], x: str, key: str, place: float | None) -> float:
    """The value of ``key`` at ``place``; NaN if none exists."""
    values = [row[key] for row in rows if row[x] == place and row.get(key) is not None]
    return values[-1] if values else math.nan


def draw_metrics(run: Run, evaluation: Evaluation, result: FoldResult) -> None:
    """Draw the performance of the scored checkpoint."""
    title = heading(run)
    of = f"test part, {result.counts['test']} cases; epoch {result.epoch}, {result.selection}"
    with drawing([title, *run.dataset.classes]) as letters:
        title = title if letters.draws(title) else run.split.name
        if isinstance(evaluation.table, PredictionTable):
            subtitle = "\n".join([of, numbers(evaluation.metrics)])
            figure = figures.class_figure(title, subtitle, figures.confusion_matrix(evaluation.table), run.dataset.classes, letters)
        elif isinstance(evaluation.table, FindingsTable):
            figure = draw_findings(title, "\n".join([of, numbers(evaluation.metrics)]), evaluation.table, letters)
        else:
            subtitle = "\n".join([of, describe_ranks(evaluation.metrics)])
            figure = figures.retrieval_figure(title, subtitle, recalls(run, evaluation), similarities(evaluation))
        figures.save(figure, run.folder / FOLDER / METRICS_FILE)


def draw_findings(title: str, subtitle: str, table: FindingsTable, letters: Lettering) -> Figure:
    """Bars of every finding."""
    found = (table.findings, table.probabilities.astype(np.float64))
    finite = bool(np.isfinite(found[1][found[0] >= 0]).all())
    undefined = np.full(len(table.classes), math.nan)
    areas = (auroc_per_finding(*found), average_precision_per_finding(*found)) if finite else (undefined, undefined)
    known = (table.findings >= 0).sum(axis=0)
    shares = np.divide((table.findings == 1).sum(axis=0), known, out=undefined.copy(), where=known > 0)
    return finding_bars.findings_figure(title, subtitle, table.classes, areas, shares, letters)


def numbers(metrics: dict[str, float]) -> str:
    """Metrics in one line."""
    return "   ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in metrics.items())


def number(value: float) -> str:
    """A number with four digits."""
    return "undefined" if math.isnan(value) else f"{value:.4g}"


def describe_ranks(metrics: dict[str, float]) -> str:
    """Retrieval metrics without a bar, in one line, for both directions."""
    parts = [f"RSum {number(metrics['rsum'])} of 600"] if "rsum" in metrics else []
    for name, words in (("mean_rank", "mean rank"), ("median_rank", "median rank"), ("mrr", "MRR")):
        if {f"i2t_{name}", f"t2i_{name}"} <= metrics.keys():
            parts.append(f"{words} {number(metrics[f'i2t_{name}'])} | {number(metrics[f't2i_{name}'])}")
    return "   ".join([*parts, "(image to text | text to image)"] if len(parts) > 1 else parts)


def recalls(run: Run, evaluation: Evaluation) -> list[figures.Recalls]:
    """R@K of both directions as measured, with chance level computed from the numbers of captions per image and vice versa."""
    captions_of = [set(run.dataset.captions_of(run.dataset.rows[case_id])) for case_id in evaluation.table.case_ids]
    images_of = Counter(i for found in captions_of for i in found)
    sides = (
        ("i2t", "captions of an image", [len(found) for found in captions_of], len(images_of)),
        ("t2i", "images of a caption", list(images_of.values()), len(captions_of)),
    )
    bars = []
    for (short, label, positives, gallery), direction in zip(sides, DIRECTIONS, strict=True):
        measured = ((re.fullmatch(rf"{short}_r(\d+)", name), value) for name, value in evaluation.metrics.items())
        found = {int(match[1]): value for match, value in measured if match}
        levels = [figures.chance(positives, gallery, depth) for depth in found]
        label = f"{direction.replace('_', ' ')}: {label}, among {gallery}"
        bars.append(figures.Recalls(label, list(found), list(found.values()), levels))
    return bars


def similarities(evaluation: Evaluation) -> figures.Histograms | None:
    """Histograms of the evaluation, with the measured means."""
    found = evaluation.similarities
    if found is None:
        return None
    means = tuple(evaluation.metrics.get(f"{kind}_similarity", math.nan) for kind in ("positive", "negative"))
    return figures.Histograms(found.positive_histogram, found.negative_histogram, found.edges, means)
