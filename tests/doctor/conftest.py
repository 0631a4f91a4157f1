"""Smooth random pictures, which are as different from each other as photographs, and datasets of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from smooth_pictures import picture


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
