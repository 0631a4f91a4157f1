"""Repeats of a cross-validation: each divides the cases anew, trains with another seed, and has a work dir of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clipzoo.config.config import Config

_SEED = 42  # default of both seeds


@dataclass(frozen=True)
class Repeat:
    """One cross-validation.

    Attributes:
        number: From 1.
        config: Its config; that of the first repeat is the experiment's own.
        folder: Its work dir: that of the experiment, or ``repeat_2``, ``repeat_3`` … in it.
    """

    number: int
    config: Config
    folder: Path


def repeats_of(config: Config, folder: str | Path) -> list[Repeat]:
    """All repeats of an experiment, as ``splits.num_repeats`` says.

    Repeat n adds n - 1 to ``splits.seed`` and ``runtime.seed``. More repeats can be added to a finished experiment.

    Args:
        config: A checked config.
        folder: Work dir of the experiment.
    """
    folder, found = Path(folder), []
    seeds = {"splits.seed": config.splits.get("seed", _SEED), "runtime.seed": config.get("runtime", {}).get("seed", _SEED)}
    for number in range(1, config.splits.get("num_repeats", 1) + 1):
        if number == 1:
            found.append(Repeat(1, config, folder))
            continue
        changes = {**{path: seed + number - 1 for path, seed in seeds.items()}, "splits.num_repeats": 1}
        found.append(Repeat(number, config.with_values(changes), folder / f"repeat_{number}"))
    return found
