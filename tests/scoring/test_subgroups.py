"""Metrics for each value of an attribute, and whether values differ."""

import math
from dataclasses import replace

import numpy as np
import pytest
from run_files import METRICS, folds_of, table_of

from clipzoo.records.results import FoldResult
from clipzoo.records.tables import PredictionTable, RetrievalTable
from clipzoo.scoring.intervals import intervals_of
from clipzoo.scoring.subgroups import subgroup_rows
from clipzoo.scoring.summary import make_summary


def part_of(table: PredictionTable, rows: np.ndarray) -> PredictionTable:
    columns = {name: tuple(np.array(getattr(table, name), dtype=object)[rows]) for name in ("case_ids", "groups", "folds")}
    return replace(table, **columns, labels=table.labels[rows], probabilities=table.probabilities[rows])


def attribute_of(table: PredictionTable, value_of_group) -> dict[str, str]:
    return {i: value_of_group(int(g[1:])) for i, g in zip(table.case_ids, table.groups, strict=True)}


def test_each_value_is_scored_as_if_it_were_alone():
    table = table_of(num_groups=90)
    scanner = attribute_of(table, lambda g: "" if g >= 80 else "丙" if g >= 75 else "甲" if g % 3 else "乙")
    rows, differences = subgroup_rows(table, {"设备": scanner}, ["balanced_accuracy", "accuracy"])
    assert [(row["value"], row["groups"], row["cases"], row["too_few"]) for row in rows] == [
        ("甲", 50, 100, False),
        ("乙", 25, 50, False),
        ("丙", 5, 10, True),
        ("", 10, 20, True),
    ]
    own = np.array([scanner[i] == "甲" for i in table.case_ids])
    expected = intervals_of(part_of(table, own)).overall["accuracy"]
    assert rows[0]["values"]["accuracy"] == [expected.value, expected.low, expected.high] and rows[2]["values"] == {}
    (pair,) = differences
    assert (pair["first"], pair["second"], pair["metric"], pair["shared_groups"]) == ("甲", "乙", "balanced_accuracy", 0)
    values = [row["values"]["balanced_accuracy"][0] for row in rows[:2]]
    assert pair["difference"] == pytest.approx(values[0] - values[1]) and pair["low"] < pair["difference"] < pair["high"]
    assert 0 < pair["p_value"] == pair["adjusted_p_value"] < 1


def test_p_values_and_intervals_agree():
    """An interval excludes 0 exactly if p < 0.05."""
    for seed in range(20):
        table = table_of(num_groups=80, seed=seed, right=0.8)
        _, ((pair),) = subgroup_rows(table, {"a": attribute_of(table, lambda g: str(g // 2 % 2))}, ["accuracy"])
        assert (pair["low"] > 0 or pair["high"] < 0) == (pair["p_value"] < 0.05)


@pytest.mark.slow
def test_equal_subgroups_rarely_differ_and_unequal_ones_do():
    """Among 60 data sets without a difference, 5 % of false findings; a difference of 0.3 is found in nearly all."""
    found = {"equal": 0, "unequal": 0}
    for seed in range(60):
        tables = {"equal": table_of(num_groups=80, seed=seed)}
        worse = table_of(num_groups=80, right=0.5, seed=seed + 1000)
        half = np.array([int(g[1:]) // 2 % 2 == 1 for g in worse.groups])
        mixed = np.where(half[:, None], worse.probabilities, tables["equal"].probabilities)
        tables["unequal"] = replace(tables["equal"], probabilities=mixed)
        for name, table in tables.items():
            _, ((pair),) = subgroup_rows(table, {"a": attribute_of(table, lambda g: str(g // 2 % 2))}, ["accuracy"])
            found[name] += pair["p_value"] < 0.05
    assert found["equal"] <= 9 and found["unequal"] >= 50  # binomial(60, 0.05): more than 9 in 1 of 1000


def test_three_values_are_adjusted_and_views_of_a_patient_are_counted_in_both():
    table = table_of(num_groups=60, per_group=3)
    view = {case_id: "ap lat oblique".split()[index % 3] for index, case_id in enumerate(table.case_ids)}
    _, differences = subgroup_rows(table, {"view": view}, ["accuracy"])
    assert len(differences) == 3 and all(pair["shared_groups"] == 60 for pair in differences)
    p_values = sorted(pair["p_value"] for pair in differences)
    assert min(pair["adjusted_p_value"] for pair in differences) == pytest.approx(min(1, 3 * p_values[0]))


def test_image_queries_have_subgroups():
    queries = [f"{i:02}.png" for i in range(40)]
    table = RetrievalTable.from_columns(
        direction=["image_to_text"] * 40 + ["text_to_image"],
        query=[*queries, "a caption"],
        group=[f"P{i}" for i in range(40)] + [""],
        fold=["fold_1"] * 41,
        gallery=[10] * 41,
        ahead=[i % 4 for i in range(40)] + [0],
        tied=[0] * 41,
        positives=[1] * 41,
        positive_similarity=[0.5] * 41,
        negative_similarity=[0.1] * 41,
        best_match=["x"] * 41,
    )
    rows, differences = subgroup_rows(table, {"sex": {i: "fm"[n % 2] for n, i in enumerate(queries)}}, ["rsum", "i2t_r1"])
    assert {row["value"]: row["values"]["i2t_r1"][0] for row in rows} == {"f": 0.5, "m": 0.0}
    assert differences[0]["metric"] == "i2t_r1" and differences[0]["p_value"] < 0.01


def test_the_summary_shows_them(tmp_path):
    table = table_of(num_groups=60)
    folds = folds_of(table)
    end = ({"test": 1}, {}, 1.0, "cpu", "fp32", 1)
    results = [FoldResult(s.name, "last epoch", "x", 3, 3, {m.name: 0.5 for m in METRICS}, *end) for s in folds.splits]
    attributes = {"sex": attribute_of(table, lambda g: "女" if g < 30 else "男" if g < 55 else "")}
    summary = make_summary("x", METRICS, folds, results, table, attributes=attributes, select="balanced_accuracy")
    text = summary.tables()
    assert "sex: no difference shown, 女 − 男: " in text and "p = " in text and "unknown" in text
    summary.write(tmp_path)
    assert type(summary).read(tmp_path).subgroups == summary.subgroups
    assert not make_summary("x", METRICS, folds, results, table).subgroups and math.isfinite(summary.subgroups[0]["values"]["auroc"][0])


def test_averages_over_other_classes_are_not_compared():
    table = table_of(num_groups=60)
    ward = attribute_of(table, lambda g: "one class" if g % 2 and g < 30 else "both")
    for metric, pairs in (("balanced_accuracy", 0), ("accuracy", 1)):
        assert len(subgroup_rows(table, {"ward": ward}, [metric])[1]) == pairs


def test_doubtful_intervals_and_many_pairs_are_said_in_a_line():
    from run_files import summary_of

    table = table_of(num_groups=130)
    rows, differences = subgroup_rows(table, {"site": attribute_of(table, lambda g: f"s{g // 2 % 5}")}, ["accuracy", "auroc"])
    text = replace(summary_of(table), subgroups=rows, subgroup_differences=differences).tables()
    assert len(differences) == 10 and "site: no difference shown in any of 10 pairs" in text and " − " not in text
    assert "note: intervals of site s0, s1, s2, s3, s4: few groups" in text
