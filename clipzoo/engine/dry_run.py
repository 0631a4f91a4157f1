"""A dry run: everything that a training checks, and one step in memory; nothing is written."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING

from clipzoo.engine import build, loop, work_dir
from clipzoo.engine.checks.images import check_images
from clipzoo.engine.epochs import inner
from clipzoo.engine.fingerprint import recorded
from clipzoo.engine.runner import Runner
from clipzoo.records.folds import Split
from clipzoo.runtime import distributed
from clipzoo.runtime.log import close_log, make_log

if TYPE_CHECKING:
    from clipzoo.engine.cross_validation import CrossValidation


def dry_run(validation: CrossValidation, fold: int | None = None, *, accept_changed_data: bool = False) -> list[str]:
    """Check what a training would, build a fold, and train one step in memory.

    Args:
        validation: A cross-validation that has not been started; made with ``is_dry``, it also leaves the cache folder as it is.
        fold: Number of the fold, counted from 1; ``None`` for the first one that is not done.
        accept_changed_data: See ``CrossValidation.train``.

    Returns:
        The lines that a training would log at its start, and the losses of the step.

    Raises:
        ClipzooError: The training would be refused: by its work dir, its data, or what it is to build.
    """
    log = make_log(validation.console, None)
    try:
        splits = validation.chosen(fold)
        warnings = _check(validation, log, accept_changed_data)
        split = next((s for s in splits if not work_dir.is_done(validation.folder / s.name)), splits[0])
        notes = [f"warning: {line}" for line in warnings] + [f"note: {line}" for line in inner.cost(validation.config)]
        return [*notes, *_step(validation, split, log), "dry run: nothing was written"]
    finally:
        close_log(log)


def _check(validation: CrossValidation, log: logging.Logger, accept_changed_data: bool) -> list[str]:
    """The checks of ``CrossValidation.opened``, without what they write; returns the warnings about images."""
    folder, config, data = validation.folder, validation.config, validation.dataset
    distributed.from_main(lambda: work_dir.check_ours(folder, config, validation.folds))
    distributed.from_main(lambda: work_dir.check_possible(folder))
    warnings = check_images(data, config, log=log, console=validation.console, is_dry=True)
    if distributed.from_main(lambda: recorded(folder) is not None):
        validation.fingerprint = validation.compare_data(accept_changes=accept_changed_data)
        distributed.from_main(validation.check_done)
    return warnings


def _step(validation: CrossValidation, split: Split, log: logging.Logger) -> list[str]:
    """Build the runner of a fold and train one step; returns the lines about both."""
    outputs = {"log": log, "console": validation.console, "provenance": validation.provenance(split)}
    runner = Runner(validation.config, validation.dataset, split, validation.folder / split.name, **outputs, is_dry=True)
    run = runner.run
    lines = [*validation.dataset.describe(), *run.model.describe(), *build.describe(run)]
    with closing(runner), loop.memory_advice(run):
        batch = next(iter(run.train_loader))
        run.parallel.train()
        loop.set_learning_rate(run)
        loop.step(run, [batch])
    losses = "  ".join(f"{name} {value:.4f}" for name, value in run.meter.means().items())
    return [*lines, f"one step of {len(batch)} cases: {losses}"]
