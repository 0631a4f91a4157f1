"""WiSE-FT: the scored weights are a weighted mean of those before training and the chosen ones, in the proportion that is best on val.

Fine-tuning gains on the data that it sees, and loses some of what a published model knew about others; weights in between often keep both.
Only sensible where the starting weights can already do the task, such as those of a CLIP whose towers share a space.

Source: Wortsman et al. 2022 (arXiv:2109.01903), section 3. There alpha is fixed or chosen on data like the test set; here on the val part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from clipzoo.engine import checkpoint
from clipzoo.engine.epochs.best import replaces
from clipzoo.engine.evaluation import evaluate
from clipzoo.engine.state import Run
from clipzoo.records.results import FoldResult
from clipzoo.runtime import distributed

ALPHAS = tuple(tenth / 10 for tenth in range(11))


def interpolate(run: Run, path: Path) -> dict:
    """Replace the weights of the best checkpoint by the mean that is best on val; once, also after a restart.

    Of equally good means, that with the largest share of the chosen weights is taken.

    Args:
        run: A finished training.
        path: The best checkpoint.

    Returns:
        ``alpha``, the share of the chosen weights; by each tried ``alphas`` the ``scores`` of the selecting metric on val; and ``metrics``,
        all metrics of the chosen mean on val.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    advice = checkpoint.how_to_retrain(run.folder)
    content = checkpoint.read(path, kind="best", advice=advice)
    run.provenance.check(content["provenance"], path, advice)
    if content.get("interpolation"):
        return content["interpolation"]
    start = checkpoint.read(run.folder / checkpoint.START, kind="start", advice=advice)
    run.provenance.check(start["provenance"], run.folder / checkpoint.START, advice)
    scores: list[float] = []
    best, chosen, metrics = math.nan, 1.0, {}
    for alpha in ALPHAS:
        checkpoint.load_weights(run.scored, between(start["model"], content["model"], alpha), path)
        found = evaluate(run, "val").metrics
        scores.append(found[run.selector.name])
        if replaces(scores[-1], best, run.selector.greater_is_better):
            best, chosen, metrics = scores[-1], alpha, found
    record = {"alpha": chosen, "alphas": list(ALPHAS), "scores": scores, "metrics": metrics}
    weights = between(start["model"], content["model"], chosen)
    distributed.from_main(lambda: checkpoint.write(path, {**content, "model": weights, "interpolation": record}))
    return record


def chosen_shares(results: Sequence[FoldResult]) -> list[str]:
    """The note of a summary on the chosen proportions; nothing without WiSE-FT."""
    shares = [f"{result.interpolation['alpha']:g}" for result in results if result.interpolation]
    return [f"WiSE-FT: share of the trained weights, the rest are those before training: {', '.join(shares)}"] if shares else []


def between(start: Mapping[str, Tensor], end: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """``(1 - alpha) start + alpha end`` of all weights and floating-point statistics; counters are those of ``end``."""
    return {name: torch.lerp(start[name], value, alpha) if value.is_floating_point() else value for name, value in end.items()}
