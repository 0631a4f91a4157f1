"""What is said of a trained model beside its baselines."""

import math
import subprocess
import sys

import pytest

from clipzoo.errors import CheckpointError
from clipzoo.records.comparison import Comparison, Record, folder_of
from clipzoo.records.results import Summary


def summary(value, metric="balanced_accuracy", digest="d", **changed):
    content = dict(
        name="run", folds=[{"fold": "fold_1", "epoch": 1, "metrics": {metric: value}}], mean={metric: value}, sd={metric: math.nan},
        pooled={metric: value, "accuracy": 0.5}, per_class=[], confusion=[], classes=[], selection="last epoch", optimistic=False,
        folds_digest=digest, notes=[], seconds=1.0,
    )  # fmt: skip
    content["mean"]["accuracy"], content["sd"]["accuracy"] = 0.5, math.nan
    return Summary(**{**content, **changed})


def comparison(values, metric="balanced_accuracy", up=True):
    record = Record("d", metric, up, "RN50, weights random", "x", {name: {"seconds": 1.0} for name in values}, ["say little"])
    return Comparison(record, {name: summary(value, metric) for name, value in values.items()})


def test_a_lost_comparison_is_said_plainly_best_first():
    lines = comparison({"majority": 0.33, "knn": 0.92, "linear": 0.94}).verdict(summary(0.91))
    assert lines == [
        "the linear probe on frozen features is better than the trained model: balanced_accuracy 0.9400 > 0.9100",
        "kNN on frozen features is better than the trained model: balanced_accuracy 0.9200 > 0.9100",
    ]


def test_a_won_comparison_names_the_best_baseline():
    lines = comparison({"majority": 0.33, "linear": 0.90}).verdict(summary(0.91))
    assert lines == [
        "the trained model is better than every baseline: balanced_accuracy 0.9100 > 0.9000 of the linear probe on frozen features, "
        "the best of them"
    ]


def test_a_metric_whose_lower_values_are_better_turns_the_verdict_round():
    found = comparison({"majority": 1.1, "linear": 0.31}, "log_loss", up=False)
    assert found.verdict(summary(0.42, "log_loss")) == [
        "the linear probe on frozen features is better than the trained model: log_loss 0.3100 < 0.4200"
    ]
    assert "better than every baseline: log_loss 0.3000 < 0.3100 of the linear probe" in found.verdict(summary(0.30, "log_loss"))[0]


def test_equal_undefined_and_optimistic_figures():
    assert comparison({"knn": 0.9}).verdict(summary(0.9)) == [
        "kNN on frozen features is as good as the trained model: balanced_accuracy 0.9000 = 0.9000"
    ]
    assert "not defined" in comparison({"knn": 0.9}).verdict(summary(math.nan))[0]
    assert "better than every baseline" in comparison({"knn": math.nan, "majority": 0.1}).verdict(summary(0.9))[0]
    assert "(whose own score is optimistic)" in comparison({"knn": 0.9}).verdict(summary(0.5, optimistic=True))[0]
    assert comparison({"mine": 0.9}).verdict(summary(0.5))[0].startswith("the baseline 'mine' is better")


def test_the_text_has_a_row_for_each_and_the_trained_model_last():
    text = comparison({"majority": 0.33, "linear": 0.94}).text(summary(0.91))
    lines = text.splitlines()
    assert lines[0] == "baselines on the same folds, frozen image tower RN50, weights random"
    starts = [line.split()[0] for line in lines if line[:1].isalpha()]
    assert starts[1:5] == ["pooled", "majority", "linear", "trained"] and text.endswith("note: say little")
    assert "± sd" not in text  # there is one fold
    alone = comparison({"majority": 0.33}).text()
    assert "trained model" not in alone and "better" not in alone


def test_several_folds_have_a_mean():
    made = comparison({"linear": 0.94})
    folds = [{"fold": f"fold_{i}", "epoch": 1, "metrics": {}} for i in (1, 2)]
    several = Comparison(
        made.record, {"linear": summary(0.94, folds=folds, mean={"balanced_accuracy": 0.93}, sd={"balanced_accuracy": 0.02})}
    )
    assert "balanced_accuracy mean ± sd" in several.text() and "0.9300 ± 0.0200" in several.text()


def test_other_folds_are_not_compared():
    text = comparison({"linear": 0.94}).text(summary(0.91, digest="other"))
    assert "their folds differ from the training's" in text and "0.94" not in text


def test_it_is_read_from_the_work_dir_in_the_order_of_the_tables(tmp_path):
    assert Comparison.read(tmp_path) is None
    made = comparison({"tip": 0.5, "another": 0.2, "linear": 0.94, "majority": 0.33})
    made.record.write(tmp_path)
    assert Comparison.read(tmp_path) is None  # nothing is done yet
    for name, found in made.summaries.items():
        found.write(folder_of(tmp_path, name))
    read = Comparison.read(tmp_path)
    assert list(read.summaries) == ["majority", "linear", "tip", "another"] and read.record == made.record
    assert read.summaries["linear"].pooled == made.summaries["linear"].pooled
    (tmp_path / "baselines" / "summary.json").write_text('{"folds": 1}')
    with pytest.raises(CheckpointError, match="summary.json: has no digest of its content.*Delete the folder .*baselines"):
        Comparison.read(tmp_path)


def test_reading_needs_no_torch():
    code = "import clipzoo.records.comparison, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
