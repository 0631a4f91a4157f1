"""The border probe: it finds a mark in a corner, and nothing in pictures whose border has nothing to do with the class."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from clipzoo.doctor.probe import border_mask, border_of, mean_borders, probe_border


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


def test_a_mark_in_one_of_many_classes_is_found_by_its_class():
    """It hardly changes the balanced accuracy of six classes."""
    rng = np.random.default_rng(5)
    labels = np.arange(240) % 6
    pictures = rng.integers(60, 120, (240, 64, 64)).astype(np.uint8)
    groups, fold = [f"P{row // 12}{label}" for row, label in enumerate(labels)], np.arange(240) // 12 % 4
    rounds = [(fold != k, fold == k) for k in range(4)]
    assert not probe_border(pictures, labels, groups, rounds).above_chance
    pictures[labels == 2, 1:4, 58:62] = 250
    score = probe_border(pictures, labels, groups, rounds)
    assert score.strong and [found.label for found in score.classes] == [2] and score.classes[0].auroc > 0.95


def test_images_of_one_group_count_once():
    """Forty copies of four patients prove nothing, however well the border tells them apart."""
    rng = np.random.default_rng(5)
    patients = rng.integers(60, 120, (4, 64, 64))
    pictures = np.clip(patients[np.arange(160) % 4] + rng.integers(-3, 4, (160, 64, 64)), 0, 255).astype(np.uint8)
    pictures[np.arange(160) % 2 == 1, :5] += 40
    labels, groups, fold = np.arange(160) % 2, [f"P{row % 4}" for row in range(160)], np.arange(160) % 4 // 2
    score = probe_border(pictures, labels, groups, [(fold != k, fold == k) for k in range(2)])
    assert score.value > 0.9 and not score.classes


@pytest.mark.slow
@pytest.mark.parametrize(("drawn", "level"), [(False, None), (True, "warning")])
def test_drawn_radiographs(drawn, level, tmp_path):
    """A white letter in the corner of one class is found; without it, nothing is said.

    Without the class whose long stem crosses the lower border, which the probe finds rightly.
    """
    from PIL import Image, ImageDraw

    from clipzoo.config import Config
    from clipzoo.datasets.samples.sample_data import create_sample_dataset
    from clipzoo.doctor.check import check_data

    root = create_sample_dataset(tmp_path / "hip", "hip", 160)
    shutil.rmtree(root / "images" / "加长柄翻修")
    classes = sorted((root / "images").iterdir())
    for path in classes[0].glob("*.png") if drawn else []:
        with Image.open(path) as image:
            values = np.asarray(image).copy()
        mark = Image.new("L", values.shape[::-1])
        ImageDraw.Draw(mark).text((4, 0), "L", fill=255, font_size=22, stroke_width=2)
        values[np.asarray(mark) > 128] = values.max()
        Image.fromarray(values).save(path)
    dataset = {"type": "ImageFolderDataset", "root": str(root / "images"), "group_pattern": "^(P[0-9]+)_"}
    splits = {"type": "StratifiedGroupKFold", "num_folds": 4}
    report = check_data(Config.from_dict({"data": {"dataset": dataset}, "splits": splits}, "hip"))
    found = [finding.level for finding in report.findings if finding.check == "border"]
    assert found == ([] if level is None else [level]), report.lines
