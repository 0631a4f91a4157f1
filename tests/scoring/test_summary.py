"""The summary: its intervals are those of the statistics, over groups, and what is doubtful is said."""

import math
from dataclasses import replace

import numpy as np
import pytest
from run_files import summary_of, table_of

from clipzoo.records.results import Summary
from clipzoo.records.tables import PredictionTable
from clipzoo.statistics.cases import Cases
from clipzoo.statistics.uncertainty.intervals import classification_intervals


def test_intervals_are_those_of_the_statistics(tmp_path):
    table = table_of()
    summary = summary_of(table)
    found = classification_intervals(Cases.from_table(table))
    assert summary.num_groups == 60 and summary.level == 0.95 and summary.intervals.keys() == summary.pooled.keys()
    for metric, interval in summary.intervals.items():
        assert (interval["low"], interval["high"]) == (found.overall[metric].low, found.overall[metric].high)
        assert interval["low"] < summary.pooled[metric] < interval["high"]
        assert summary.pooled[metric] == pytest.approx(found.overall[metric].value)
    for row, named in enumerate(summary.per_class):
        assert named["groups"] == 30 and named["cases"] == 60
        assert named["intervals"]["recall"] == [found.per_class["sensitivity"][row].low, found.per_class["sensitivity"][row].high]
        assert named["specificity"] == summary.per_class[1 - row]["recall"]  # of two classes
    summary.write(tmp_path)
    assert Summary.read(tmp_path) == summary


def test_images_of_one_patient_count_together():
    """Eight equal images per patient: the interval is that of the patients, not that of as many independent images."""
    table = table_of(per_group=8)
    alone = PredictionTable(table.classes, table.case_ids, table.case_ids, table.folds, table.labels, table.probabilities)
    same = PredictionTable(
        table.classes, table.case_ids, table.groups, table.folds, table.labels, np.repeat(table.probabilities[::8], 8, axis=0)
    )

    def width(of: PredictionTable) -> float:
        interval = summary_of(of).intervals["accuracy"]
        return interval["high"] - interval["low"]

    assert width(same) > 2 * width(alone)


def test_the_tables_show_values_with_intervals_and_say_what_they_mean():
    text = summary_of(table_of()).tables()
    assert "95 % interval" in text and "over 60 groups, whose cases count together" in text
    row = next(line for line in text.splitlines() if line.startswith("非骨水泥型  "))
    assert row.split()[1:3] == ["60", "30"] and row.count("[") == 4
    few = summary_of(table_of(num_groups=10)).tables()
    assert "note: interval of all metrics: only 10 groups; it may be too narrow" in few or "has only 5 groups" in few
    assert "may be too narrow" not in text


def test_a_summary_of_an_earlier_version_is_still_shown():
    summary = replace(summary_of(table_of()), intervals={}, num_groups=0)
    for row in summary.per_class:
        del row["intervals"], row["groups"]
    assert "interval" not in summary.tables() and "非骨水泥型" in summary.tables()


def test_undefined_metrics_have_no_interval():
    table = table_of()
    table.probabilities[3] = np.nan
    summary = summary_of(table)
    assert all(math.isnan(value) for value in summary.pooled.values()) and "may be too narrow" not in summary.tables()


@pytest.mark.parametrize("change", ["one class", "nan", "unlabelled", "one group"])
def test_undefined_numbers_survive_the_file(tmp_path, change):
    table = table_of()
    changed = {
        "one class": replace(table, labels=np.zeros_like(table.labels)),
        "nan": replace(table, probabilities=np.full_like(table.probabilities, np.nan)),
        "unlabelled": replace(table, labels=np.full_like(table.labels, -1)),
        "one group": replace(table, groups=("P",) * 120),
    }[change]
    summary = summary_of(changed)
    summary.write(tmp_path)
    assert Summary.read(tmp_path).tables() == summary.tables()


def test_the_groups_of_a_class_are_shown_if_any_has_several_cases():
    summary = summary_of(table_of())
    summary.per_class[1].update(cases=4, groups=4)
    assert "groups" in summary.class_tables()[0].splitlines()[0]
