"""Smooth random pictures, which are as different from each other as photographs, and datasets of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def picture(seed: int, size: int = 64) -> Image.Image:
    """A colour picture with shapes of all sizes."""
    rng = np.random.default_rng(seed)
    planes = [
        np.asarray(Image.fromarray(rng.normal(0, 40 / (k + 1), (n, n, 3)).sum(2).astype(np.float32)).resize((size, size), 3))
        for k, n in enumerate((3, 6, 12, 24))
    ]
    grey = 120 + sum(planes)
    return Image.fromarray(np.clip(np.stack([grey, grey * 0.9, grey * 0.8 + 20], 2), 0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def pictures() -> Callable[[int], Image.Image]:
    """``pictures(3)``: the third of endless pictures."""
    return picture


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two classes of twelve pictures each, to damage."""
    for number in range(24):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    return tmp_path / "images"


@pytest.fixture
def checked(folder):
    """``checked(splits={…})``: the report on ``folder`` in three folds."""
    from clipzoo.config import Config
    from clipzoo.doctor.check import check_data

    def run(**more):
        dataset = {"type": "ImageFolderDataset", "root": str(folder), **more.pop("dataset", {})}
        splits = more.pop("splits", {"type": "StratifiedGroupKFold", "num_folds": 3, "val_fraction": 0})
        return check_data(Config.from_dict({"data": {"dataset": dataset}, "splits": splits}, "mine"), **more)

    return run


@pytest.fixture
def names():
    """``names(report, check)``: the ids in the cases of a finding; empty without the finding."""

    def of(report, check: str) -> list[tuple[str, ...]]:
        found = [finding for finding in report.findings if finding.check == check]
        return [tuple(report.facts[row].id for row in case.rows) for finding in found for case in finding.cases]

    return of
