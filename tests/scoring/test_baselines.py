"""What is said of a trained model beside its baselines."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from run_files import table_of, write_run

from clipzoo.errors import CheckpointError
from clipzoo.records.results import Summary
from clipzoo.scoring.baselines import Comparison, Record, beside_baselines, compare_with_trained, folder_of


def summary(value, metric="balanced_accuracy", digest="d", **changed):
    content = dict(
        name="run", folds=[{"fold": "fold_1", "epoch": 1, "metrics": {metric: value}}], mean={metric: value}, sd={metric: math.nan},
        pooled={metric: value, "accuracy": 0.5}, per_class=[], confusion=[], classes=[], selection="last epoch", optimistic=False,
        folds_digest=digest, notes=[], seconds=1.0,
    )  # fmt: skip
    content["mean"]["accuracy"], content["sd"]["accuracy"] = 0.5, math.nan
    return Summary(**{**content, **changed})


def comparison(values, metric="balanced_accuracy", up=True):
    record = Record(
        "d", metric, up, "RN50, weights random", "x", {name: {"seconds": 1.0, "chosen_by": metric} for name in values}, ["say little"]
    )
    return Comparison(record, {name: summary(value, metric) for name, value in values.items()})


@pytest.fixture
def work_dir(tmp_path):
    """A trained model that is right in nine of ten cases, and baselines that are right in five and in nine."""
    table = table_of(num_groups=120, right=0.9)
    trained = write_run(tmp_path, table)
    record = Record(trained.folds_digest, "balanced_accuracy", True, "RN50", "x", {"majority": {}, "linear": {}})
    record.write(tmp_path)
    rng = np.random.default_rng(6)
    for method, right in (("majority", 0.5), ("linear", 0.9)):
        other = table_of(num_groups=120, right=right, seed=rng.integers(1000))
        write_run(folder_of(tmp_path, method), other)
    return tmp_path


def test_a_verdict_is_a_paired_comparison(work_dir):
    found, trained = Comparison.read(work_dir), Summary.read(work_dir)
    compared = compare_with_trained(work_dir, write=False)
    verdicts = compared.verdicts()
    assert verdicts[0].startswith("the trained model is better than always predicting the most frequent class by 0.")
    assert "balanced_accuracy, p < 0.001 (Holm, 2 comparisons)" in verdicts[0] and "[" in verdicts[0]
    assert verdicts[1].startswith("no difference shown between the trained model and the linear probe on frozen features: ")
    assert "80 % power for a difference of 0." in verdicts[1]
    text = found.text(trained, compared)
    assert all(line in text for line in verdicts) and " > " not in text and "balanced_accuracy 95 %" in text


def test_a_comparison_is_stored_and_never_out_of_date(work_dir, monkeypatch):
    first = compare_with_trained(work_dir, write=False)
    assert not (work_dir / "baselines/comparison.json").exists()
    assert compare_with_trained(work_dir, write=True) == first
    from clipzoo.scoring import baselines as module

    monkeypatch.setattr(module, "compare", lambda *given: pytest.fail("computed again"))
    assert compare_with_trained(work_dir, write=True) == first
    monkeypatch.undo()
    write_run(folder_of(work_dir, "linear"), table_of(num_groups=120, right=0.6, seed=9))
    again = compare_with_trained(work_dir, write=True)
    assert again != first and "better than the linear probe" in again.verdicts()[1]
    stored = work_dir / "baselines/comparison.json"
    stored.write_text(stored.read_text().replace("0.", "1.", 1))
    with pytest.raises(CheckpointError, match="comparison.json: .*Delete"):
        compare_with_trained(work_dir, write=True)


def test_a_stored_comparison_is_shown_without_numpy_or_torch(work_dir):
    compare_with_trained(work_dir, write=True)
    code = f"""
import sys
from clipzoo.records.results import Summary
from clipzoo.scoring.baselines import Comparison, compare_with_trained
print(Comparison.read({str(work_dir)!r}).text(Summary.read({str(work_dir)!r}), compare_with_trained({str(work_dir)!r}, write=False)))
sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and "the trained model is better" in ended.stdout, ended.stderr


def test_an_optimistic_score_is_called_so(work_dir):
    trained = replace(Summary.read(work_dir), optimistic=True)
    text = Comparison.read(work_dir).text(trained, compare_with_trained(work_dir, write=False))
    assert "the trained model's own score is optimistic" in text


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


def test_other_folds_are_not_compared(work_dir):
    text = comparison({"linear": 0.94}).text(summary(0.91, digest="other"))
    assert "their folds differ from the training's" in text and "0.94" not in text
    replace(Record.read(work_dir), folds_digest="other").write(work_dir)
    assert compare_with_trained(work_dir, write=True) is None


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


def test_a_broken_baseline_does_not_hide_the_training(work_dir):
    (folder_of(work_dir, "linear") / "oof_predictions.csv").unlink()
    text = beside_baselines(work_dir, Summary.read(work_dir), write=True)
    assert text.startswith("baselines: not compared: ") and "linear and run clipzoo baselines" in text


def test_a_baseline_of_an_earlier_version_is_called_so(work_dir):
    assert "majority, linear: fitted by an earlier version" in beside_baselines(work_dir, Summary.read(work_dir), write=False)
    methods = {name: {"chosen_by": "balanced_accuracy", "balanced": False} for name in ("majority", "linear")}
    replace(Record.read(work_dir), methods=methods).write(work_dir)
    assert "earlier version" not in beside_baselines(work_dir, Summary.read(work_dir), write=False)
