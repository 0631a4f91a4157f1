"""Records of a run written by hooks: one dict per epoch, and one per row between two evaluations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.files import finite, read_json

if TYPE_CHECKING:
    from clipzoo.engine.state import Run


def learning_rate(run: Run) -> float:
    """Learning rate of the last step: the largest of the optimizer's groups."""
    return max(group["lr"] for group in run.optimizer.param_groups)


def temperature(run: Run) -> float | None:
    """The temperature that divides cosine similarities; ``None`` for a model without one. Synchronises the device."""
    scale = run.model.log_temperature
    return None if scale is None else float(scale.exp())


def numbers_of_epoch(run: Run) -> dict[str, float]:
    """Losses, learning rate and temperature of the epoch that just ended, as ``train/<name>``; synchronises the device."""
    now = temperature(run)
    values = {**run.epoch_losses, "lr": learning_rate(run), **({} if now is None else {"temperature": now})}
    return {f"train/{name}": value for name, value in values.items()}


def place(run: Run) -> int:
    """The position of this moment on a horizontal axis of epochs, or of optimizer steps if evaluation counts in steps."""
    return run.state.step if run.evaluation.every_steps else run.state.epoch


def epoch_number(run: Run) -> int:
    """The epoch that a moment belongs to, from 1: the current one, or the one that just ended."""
    return run.state.epoch + (run.state.batch > 0)


def watched_metrics(run: Run) -> dict[str, float]:
    """Metrics of the last evaluation in this epoch, prefixed by part: ``val_accuracy``, or ``test_accuracy`` with ``select_on_test``."""
    return {f"{run.watched}_{name}": value for name, value in run.epoch_metrics.items()}


def epoch_record(run: Run) -> dict:
    """An epoch in ``history.json``: its mean losses, and the metrics of its last evaluation; ``None`` for undefined values."""
    return finite(
        {
            "epoch": run.state.epoch,
            "step": run.state.step,
            "lr": learning_rate(run),
            **run.epoch_losses,
            **watched_metrics(run),
        }
    )


def numbers_of_history(fold: Path, every_steps: int | None) -> Iterator[tuple[str, dict[str, float], int]]:
    """Kind (a part, or ``'train'``), numbers and ``place`` of what the ``history.json`` of a fold holds, in order; none without the file.

    Args:
        fold: Folder of the fold.
        every_steps: The setting ``evaluation.every_steps``.
    """
    path = fold / "history.json"
    history = read_json(path) if path.is_file() else []
    for number, record in enumerate(history, 1):
        at = record["step" if every_steps else "epoch"]
        evaluated = at - at % every_steps if every_steps and number < len(history) else at  # the last epoch is evaluated at its end
        for part in ("val", "test"):
            values = {f"{part}/{name.removeprefix(f'{part}_')}": v for name, v in record.items() if name.startswith(f"{part}_")}
            if values:
                yield part, values, evaluated
        trained = {f"train/{n}": v for n, v in record.items() if n not in ("epoch", "step") and not n.startswith(("val_", "test_"))}
        yield "train", trained, at


class Intervals:
    """Mean training losses over exactly the cases since the last call; reset at the start of an epoch."""

    def __init__(self) -> None:
        self.epoch = 0
        self.totals: dict | None = None

    def take(self, run: Run) -> dict[str, float]:
        """The total as ``loss``, its terms if there are several, and the in-batch measures, over all processes.

        Every process must call this; it synchronises the device.
        """
        epoch = epoch_number(run)
        means, self.totals = run.joint_means(self.totals if epoch == self.epoch else None)
        self.epoch = epoch
        return means

    def state_dict(self) -> dict:
        """The start of the next interval."""
        return {"epoch": self.epoch, "totals": self.totals}

    def load_state_dict(self, state: dict) -> None:
        """Restore ``state_dict``."""
        self.epoch, self.totals = state["epoch"], state["totals"]
