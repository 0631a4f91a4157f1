"""The bars of findings have the lengths of their areas, say what is undefined, and show the worst of very many."""

import numpy as np
import pytest

from clipzoo.pictures.finding_bars import findings_figure
from clipzoo.pictures.fonts import drawing


def figure_of(names, areas, shares):
    with drawing(["title", *names]) as letters:
        return findings_figure("title", "below", names, areas, shares, letters)


def test_bars_have_the_lengths_of_the_areas_and_marks_the_chance():
    names, auroc, precision, shares = (
        ["a", "b", "c"],
        np.array([0.9, np.nan, 0.4]),
        np.array([0.7, np.nan, 0.2]),
        np.array([0.3, 0.0, 0.15]),
    )
    (axes,) = figure_of(names, (auroc, precision), shares).axes
    lengths = [patch.get_width() for patch in axes.patches]
    assert lengths == [0.9, 0.0, 0.4, 0.7, 0.0, 0.2]
    assert [text.get_text() for text in axes.texts] == ["0.90", "undefined", "0.40", "0.70", "undefined", "0.20"]
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    marks = [segment[0][0] for segment in axes.collections[0].get_segments()]
    assert marks == pytest.approx([0.3, 0.0, 0.15]) and axes.get_title(loc="left") == "per finding"


def test_of_very_many_findings_those_of_the_lowest_auroc_are_shown():
    auroc = np.linspace(1, 0.5, 60)
    auroc[59] = np.nan
    (axes,) = figure_of([f"f{i}" for i in range(60)], (auroc, auroc), np.full(60, 0.1)).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "f58" and len(labels) == 40 and "f59" not in labels and axes.get_title(loc="left") == "lowest 40 of 60 findings"
