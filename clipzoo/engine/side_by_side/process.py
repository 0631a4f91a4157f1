"""Runs of a cross-validation in a process beside others. What must be checked once for all of them, the parent has checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipzoo.runtime.jobs.reporting import Parent, to_the_parent

if TYPE_CHECKING:
    import logging

    from clipzoo.engine.cross_validation import CrossValidation


@dataclass(frozen=True)
class FoldOrder:
    """What a process needs to train any run.

    Attributes:
        config: The config, as plain values.
        name: Its name.
        folder: The work dir, which the parent has made.
        folds: Digest of the folds, which this process makes again.
        introduces: Whether this process logs the description of the model.
        has_bars: Whether the parent shows bars.
        commands: ``sys.argv[0]`` of the parent, by which messages know how commands are typed.
    """

    config: dict
    name: str
    folder: str
    folds: str
    introduces: bool
    has_bars: bool
    commands: str


def main() -> None:
    """Train the folds that the parent names."""
    with to_the_parent() as parent:
        train(parent.order, parent)


def train(order: FoldOrder, parent: Parent) -> None:
    """Build the data again, and train one run after the other.

    Raises:
        DataError: The data are not those of the parent.
        Stopped: A signal ended the training, which has written its checkpoint.
    """
    import sys

    from clipzoo.config import Config
    from clipzoo.engine.cross_validation import CrossValidation
    from clipzoo.engine.side_by_side.measured import watch_memory
    from clipzoo.engine.waiting import Interrupted
    from clipzoo.errors import DataError
    from clipzoo.runtime.log import close_log, make_log
    from clipzoo.signals import Stopped

    sys.argv[0], parent.console.has_bars = order.commands, order.has_bars
    validation = CrossValidation(Config.from_dict(order.config, order.name), order.folder, console=parent.console)
    if validation.folds.digest != order.folds:
        raise DataError(f"{order.folder}: the data changed while the training started. Start again")
    validation.introduced = not order.introduces
    validation.began = lambda runner: watch_memory(runner, parent.tell_memory)
    log = make_log(parent.console, None)
    try:
        for name in parent.tasks():
            train_run(validation, name, log)
    except Interrupted as stop:
        raise Stopped(stop.signal) from stop
    finally:
        close_log(log)


def train_run(validation: CrossValidation, name: str, log: logging.Logger) -> None:
    """Train the fold or the inner split of this name, unless it is done."""
    for split in validation.folds.splits:
        if split.name == name:
            validation.train_fold(split, log)
        for part in validation.inner.get(split.name, ()):
            if part.name == name:
                validation.train_inner(part, split, log)
