"""Paired comparison of finished runs: the record, the sentences, and what cannot be compared."""

import math
from dataclasses import replace

import numpy as np
import pytest
from run_files import summary_of, table_of

from clipzoo.errors import ConfigError, DataError
from clipzoo.records.tables import PredictionTable
from clipzoo.scoring.runs import FinishedRun, RunComparison, compare
from clipzoo.statistics.cases import Cases
from clipzoo.statistics.directions import greater_is_better
from clipzoo.statistics.paired.comparison import compare_cases
from clipzoo.text_tables import p_text


def run_of(name: str, table: PredictionTable) -> FinishedRun:
    return FinishedRun(name, summary_of(table), table)


def test_the_record_holds_the_numbers_of_the_statistics(tmp_path):
    tables = table_of(right=0.9), table_of(right=0.7, seed=1)
    found = compare([run_of("甲", tables[0]), run_of("乙", tables[1])], [(0, 1)], "balanced_accuracy")
    expected = compare_cases(*map(Cases.from_table, tables)).overall
    (pair,) = found.pairs
    for metric, numbers in pair["metrics"].items():
        assert numbers["difference"] == pytest.approx(expected[metric].first - expected[metric].second)
        assert (numbers["low"], numbers["high"]) == (expected[metric].interval.low, expected[metric].interval.high)
        assert numbers["p_value"] == numbers["adjusted_p_value"] == expected[metric].p_value
    assert set(pair["metrics"]) == {"accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss"} and pair["mcnemar"] is not None
    assert (found.num_cases, found.num_groups) == (120, 60) and found.best() == "甲" and found.beaten_by_best() == {"乙": True}
    found.write(tmp_path)
    assert RunComparison.read(tmp_path) == found
    (verdict,) = found.verdicts()
    assert verdict.startswith("甲 is better than 乙 by 0.") and "Holm" not in verdict


def test_a_run_compared_with_itself_is_exactly_equal():
    table = table_of()
    found = compare([run_of("a", table), run_of("b", table)], [(0, 1)], "accuracy")
    assert all((m["difference"], m["low"], m["high"], m["p_value"]) == (0, 0, 0, 1) for m in found.pairs[0]["metrics"].values())
    assert found.verdicts() == ["a and b made the same predictions"]


@pytest.mark.parametrize(("rights", "word"), [((0.95, 0.6), "better"), ((0.6, 0.95), "worse")])
def test_lower_values_of_a_loss_are_better(rights, word):
    found = compare([run_of(str(i), table_of(right=right, seed=i)) for i, right in enumerate(rights)], [(0, 1)], "log_loss")
    (verdict,) = found.verdicts()
    assert verdict.startswith(f"0 is {word} than 1 by 0.") and not greater_is_better("i2t_mean_rank") and greater_is_better("i2t_mrr")
    low, high = (float(number) for number in verdict.partition("[")[2].partition("]")[0].split(", "))
    assert 0 < low < high


def test_several_pairs_are_adjusted():
    runs = [run_of(str(i), table_of(right=right, seed=i)) for i, right in enumerate((0.85, 0.8, 0.75))]
    found = compare(runs, [(0, 1), (0, 2), (1, 2)], "accuracy")
    p_values = [pair["metrics"]["accuracy"]["p_value"] for pair in found.pairs]
    adjusted = [pair["metrics"]["accuracy"]["adjusted_p_value"] for pair in found.pairs]
    order = np.argsort(p_values)
    running = np.maximum.accumulate([min(1, (3 - rank) * p_values[i]) for rank, i in enumerate(order)])
    assert [adjusted[i] for i in order] == pytest.approx(running)
    assert all("(Holm, 3 comparisons)" in line for line in found.verdicts())
    assert found.text().count("accuracy") >= 4 and "p (Holm)" in found.text()


def test_what_cannot_be_compared_is_one_clear_line():
    table = table_of()
    first = run_of("a", table)

    def refused(changed: PredictionTable, metric: str = "accuracy") -> str:
        with pytest.raises((DataError, ConfigError)) as caught:
            compare([first, run_of("b", changed)], [(0, 1)], metric)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "comparison: folds differ: case '000_0000.png' is 'fold_1' in a, 'fold_2' in b" in refused(
        replace(table, folds=tuple("fold_2" if f == "fold_1" else "fold_1" for f in table.folds))
    )
    other = table.labels.copy()
    other[7] = 1 - other[7]
    assert "labels differ: case '003_0007.png' is '骨水泥型' in a, '非骨水泥型' in b" in refused(replace(table, labels=other))
    assert "--metric: a has no 'acuracy'. Did you mean 'accuracy'?" in refused(table, "acuracy")
    assert "have different classes" in refused(replace(table, classes=("x", "y")))


def test_one_patient_is_one_observation_and_the_reader_is_told():
    tables = [replace(table_of(seed=seed), groups=("P1",) * 120) for seed in (0, 1)]
    found = compare([run_of(str(i), table) for i, table in enumerate(tables)], [(0, 1)], "accuracy")
    numbers = found.pairs[0]["metrics"]["accuracy"]
    assert numbers["low"] < -0.5 and numbers["high"] > 0.5 and numbers["note"] == "only 1 group" and numbers["p_value"] == 0.5
    assert found.num_groups == 1 and "no difference shown" in found.verdicts()[0] and "only 1 group" in found.verdicts()[0]
    assert math.isnan(found.pairs[0]["metrics"]["log_loss"]["low"]) and "of 1 group;" in found.text()


def test_p_values_in_words():
    assert [p_text(0.0004), p_text(0.0123), p_text(math.nan), p_text(0.5, bare=True)] == ["p < 0.001", "p = 0.012", "p undefined", "0.500"]


def test_undefined_numbers_survive_the_file(tmp_path):
    """One fold has no test over folds; NaN probabilities make every metric undefined."""
    one_fold = [replace(table_of(seed=seed), folds=("fold_1",) * 120) for seed in (0, 1)]
    undefined = [replace(table, probabilities=np.full_like(table.probabilities, np.nan)) for table in one_fold]
    for name, tables, says in (("one", one_fold, "0 "), ("nan", undefined, "accuracy is undefined for 0 or 1")):
        found = compare([FinishedRun(str(i), summary_of(t), t) for i, t in enumerate(tables)], [(0, 1)], "accuracy")
        found.write(tmp_path / name)
        read = RunComparison.read(tmp_path / name)
        assert read.text() == found.text() and says in read.text() and "–" in read.text()


def test_a_metric_of_a_plugin_has_values_but_no_test():
    runs = []
    for name, value in (("a", 0.9), ("b", 0.2)):
        run = run_of(name, table_of(seed=len(runs)))
        runs.append(FinishedRun(name, replace(run.summary, pooled={**run.summary.pooled, "mine": value}), run.table))
    found = compare(runs, [(0, 1)], "mine", greater_is_better=False)
    assert found.verdicts() == ["mine has no paired test: 0.9000 for a, 0.2000 for b"] and found.best() == "b"
    assert "mine" in found.text()


def test_unlabelled_cases_are_not_counted():
    table = table_of()
    some = replace(table, labels=np.where(np.arange(120) < 20, -1, table.labels))
    found = compare([run_of("a", some), run_of("b", replace(some, probabilities=some.probabilities[:, ::-1]))], [(0, 1)], "accuracy")
    assert found.num_cases == 100
