"""The border probe: it finds a mark in a corner, and nothing in pictures whose border has nothing to do with the class."""

from __future__ import annotations

import numpy as np
import pytest

from clipzoo.doctor.probe import border_mask, border_of, mean_borders, probe_border

RNG = np.random.default_rng(5)


def data(num: int = 120, marked: float = 0.0):
    """Grey noise whose centre tells the class, and a bright corner in a share of class 1."""
    rng = np.random.default_rng(5)
    labels = np.arange(num) % 2
    pictures = rng.integers(60, 120, (num, 64, 64)).astype(np.uint8)
    pictures[labels == 1, 24:40, 24:40] += 100
    marks = (labels == 1) & (rng.random(num) < marked)
    pictures[marks, 1:5, 56:62] = 250
    groups = [f"P{row // 2}" for row in range(num)]
    folds = (np.arange(num) // 2) % 4
    return pictures, labels, groups, [(folds != fold, folds == fold) for fold in range(4)]


def test_a_mark_in_a_corner_is_found():
    score = probe_border(*data(marked=1.0))
    assert score.strong and score.value > 0.95 and score.chance == 0.5


def test_a_mark_in_some_images_is_above_chance_but_not_strong():
    score = probe_border(*data(num=400, marked=0.4))
    assert score.above_chance and not score.strong


def test_a_clean_border_says_nothing_although_the_centre_tells_the_class():
    score = probe_border(*data(num=400))
    assert not score.above_chance and score.low < 0.5 < score.high


def test_too_few_images_are_not_probed():
    assert probe_border(*data(num=16)) is None


def test_images_without_a_class_are_left_out():
    pictures, labels, groups, rounds = data(marked=1.0)
    labels = labels.copy()
    labels[::3] = -1
    assert probe_border(pictures, labels, groups, rounds).strong


def test_the_border_is_its_outer_eight_percent():
    mask = border_mask(64)
    assert mask[:5].all() and mask[:, -5:].all() and not mask[5:59, 5:59].any()
    assert border_of(np.full((2, 64, 64), 255, np.uint8)).shape == (2, 64 * 64 - 54 * 54)


def test_mean_borders_hide_the_centre():
    pictures, labels, *_ = data(marked=1.0)
    clean, marked, none = mean_borders(pictures, labels, 3)
    assert none is None and (marked[10:50, 10:50] == 128).all() and marked[2, 58] == 250 and clean[2, 58] < 130


@pytest.mark.parametrize(("drawn", "level"), [(False, None), (True, "warning")])
def test_drawn_radiographs(drawn, level, tmp_path):
    """A white letter in the corner of one class is found; without it, nothing is said."""
    from PIL import Image, ImageDraw

    from clipzoo.config import Config
    from clipzoo.datasets.samples.sample_data import create_sample_dataset
    from clipzoo.doctor.check import check_data

    root = create_sample_dataset(tmp_path / "hip", "hip", 72)
    classes = sorted(path for path in (root / "images").iterdir())
    for path in classes[0].glob("*.png") if drawn else []:
        with Image.open(path) as image:
            values = np.asarray(image).copy()
        mark = Image.new("L", values.shape[::-1])
        ImageDraw.Draw(mark).text((4, 2), "L", fill=255, font_size=24)
        values[np.asarray(mark) > 128] = values.max()
        Image.fromarray(values).save(path)
    dataset = {"type": "ImageFolderDataset", "root": str(root / "images"), "groups": str(root / "groups.csv")}
    splits = {"type": "StratifiedGroupKFold", "num_folds": 3}
    report = check_data(Config.from_dict({"data": {"dataset": dataset}, "splits": splits}, "hip"))
    found = [finding.level for finding in report.findings if finding.check == "border"]
    assert found == ([] if level is None else [level]), report.lines
