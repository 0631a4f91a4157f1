"""results/: its numbers are those of the other files, its pictures are drawn when they should be, and nothing in it ends a run."""

import json
import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from clipzoo.engine import loop
from clipzoo.errors import ConfigError
from clipzoo.hooks import ResultsHook, results
from clipzoo.hooks.pace import Pace
from clipzoo.pictures import figures
from clipzoo.records.results import FoldResult

HOOKS = ["HistoryHook", "ResultsHook"]


def content_of(folder) -> dict:
    return json.loads((folder / "fold_1" / "results" / "training_results.json").read_text(encoding="utf-8"))


def picture(folder, name: str) -> np.ndarray:
    from PIL import Image

    with Image.open(folder / "fold_1" / "results" / name) as image:
        return np.asarray(image.convert("RGB")).astype(float)


@pytest.fixture(scope="module")
def classes_run(runner_of, tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes")
    runner = runner_of(folder, HOOKS, train={"epochs": 3})
    return folder, runner, runner.train_and_test()


@pytest.fixture(scope="module")
def pairs_run(runner_of, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs run")
    sections = {"train": {"epochs": 2}, "evaluation": {"every_steps": 2}, "model": {"in_batch_measures": True}}
    runner = runner_of(folder, HOOKS, kind="pairs", **sections)
    return folder, runner, runner.train_and_test()


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("name", ["classes_run", "pairs_run"])
def test_the_numbers_are_those_of_the_other_files(name, request):
    folder, runner, result = request.getfixturevalue(name)
    content, run = content_of(folder), runner.run
    fold = folder / "fold_1"
    assert content["metrics"]["test"] == json.loads((fold / "result.json").read_text(encoding="utf-8"))["metrics"]
    assert content["history"] == json.loads((fold / "history.json").read_text(encoding="utf-8"))
    assert content["timings"]["epochs"] == json.loads((fold / "timing.json").read_text(encoding="utf-8"))
    assert content["timings"]["seconds"] == FoldResult.read(fold).seconds == result.seconds
    assert content["metrics"]["val"][run.selector.name] == run.state.best_score
    assert content["selection"] == {
        "rule": f"best {run.selector.name} on val",
        "checkpoint": "checkpoint_best.pth",
        "epoch": run.state.best_epoch,
        "step": run.state.best_step,
        "epochs_trained": run.state.epoch,
        "steps_trained": run.state.step,
    }
    assert content["config"] == run.config and content["classes"] == list(run.dataset.classes) and content["counts"] == result.counts


def test_the_val_metrics_are_of_the_best_evaluation(pairs_run):
    folder, runner, _ = pairs_run
    content = content_of(folder)
    (best,) = [row for row in content["evaluations"] if row["step"] == runner.run.state.best_step]
    assert content["metrics"]["val"] == {name.removeprefix("val_"): value for name, value in best.items() if name.startswith("val_")}
    assert [row["step"] for row in content["evaluations"]] == sorted({row["step"] for row in content["evaluations"]})


@pytest.mark.slow
def test_the_val_metrics_are_not_those_of_a_later_epoch_that_is_worse(runner_of, tmp_path, scored_as):
    scores = iter([0.5, 0.9, 0.7])
    scored_as(lambda _: next(scores))
    runner = runner_of(tmp_path, ["ResultsHook"], train={"epochs": 3})
    runner.train_and_test()
    content = content_of(tmp_path)
    expected = {name.removeprefix("val_"): value for name, value in content["history"][1].items() if name.startswith("val_")}
    assert content["metrics"]["val"] == expected and content["selection"]["epoch"] == 2


@pytest.mark.parametrize("name", ["classes_run", "pairs_run"])
def test_the_pictures_are_pictures(name, request):
    folder, _, _ = request.getfixturevalue(name)
    for file in ("training_curves.png", "model_metrics.png"):
        pixels = picture(folder, file)
        assert pixels.shape[0] > 300 and pixels.shape[1] > 600 and pixels.std() > 10, file
    assert not (folder / "log.txt").exists() or "warning" not in (folder / "log.txt").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_stopped_run_leaves_the_same_results_but_for_timings(runner_of, classes_run, tmp_path, stopped_at):
    folder, _, _ = classes_run
    with stopped_at(5):
        runner_of(tmp_path, HOOKS, train={"epochs": 3}).train_and_test()
    assert picture(tmp_path, "training_curves.png").std() > 10, "a run that was stopped is looked at too"
    runner_of(tmp_path, HOOKS, train={"epochs": 3}).train_and_test()
    whole, stopped = content_of(folder), content_of(tmp_path)
    assert whole.pop("timings") and stopped.pop("timings") and whole == stopped
    whole, stopped = ((f / "fold_1" / "checkpoint_latest.pth").read_bytes() for f in (folder, tmp_path))
    assert whole == stopped
    assert (folder / "fold_1" / "results" / "model_metrics.png").stat().st_size > 0


def test_a_picture_that_cannot_be_drawn_ends_nothing(runner_of, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("no such glyph\nand more")

    monkeypatch.setattr(figures, "save", broken)
    monkeypatch.setattr(results, "write_json", broken)
    result = runner_of(tmp_path, [{"type": "ResultsHook", "seconds": 0}], train={"epochs": 1}).train_and_test()
    log = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert FoldResult.read(tmp_path / "fold_1") == result
    for name in ("training_curves.png", "model_metrics.png", "training_results.json"):
        assert f"{name} was not written: no such glyph\n" in log, name


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "drawn"), [(60.0, 1), (0.0, 3)])
def test_curves_are_drawn_when_due_and_at_the_end_once(runner_of, tmp_path, monkeypatch, seconds, drawn):
    calls = []
    monkeypatch.setattr(figures, "save", lambda figure, path: calls.append(path.name))
    runner_of(tmp_path, [{"type": "ResultsHook", "seconds": seconds}], train={"epochs": 3}).fit()
    assert 1 <= len(calls) <= drawn and set(calls) == {"training_curves.png"}


def test_drawing_takes_a_small_share_of_the_time(monkeypatch):
    """At most every second, and as ``Pace`` says; another epoch waits."""
    hook, now = ResultsHook(seconds=1), [100.0]
    drawn = []
    monkeypatch.setattr(hook, "draw_curves", drawn.append)
    monkeypatch.setattr(results, "epoch_record", lambda run: {})
    run = SimpleNamespace(is_main=True, evaluation=SimpleNamespace(every_steps=None))
    monkeypatch.setattr(results, "Pace", partial(Pace, clock=lambda: now[0]))
    hook.before_fit(run)
    for seconds, count in ((0.9, 0), (0.2, 1)):
        now[0] += seconds
        hook.after_epoch(run)
        assert len(drawn) == count


def test_other_processes_draw_nothing(runner_of, tmp_path):
    runner = runner_of(tmp_path, [{"type": "ResultsHook", "seconds": 0}], train={"epochs": 1})
    runner.run.is_main = False
    loop.fit(runner.run)
    assert not (tmp_path / "fold_1" / "results").exists()


@pytest.mark.slow
def test_without_a_val_part_the_last_epoch_is_told(runner_of, tmp_path):
    runner_of(tmp_path, ["ResultsHook"], val=False, train={"epochs": 1}).train_and_test()
    content = content_of(tmp_path)
    assert set(content["metrics"]) == {"test"} and content["selection"]["rule"] == "last epoch" and content["selection"]["step"] == 3
    assert content["timings"]["epochs"] == [], "HistoryHook is not there"


# --- what is drawn


def fake_run(classes=("a", "b"), selector="balanced_accuracy", watched="val", task=None):
    data = SimpleNamespace(classes=classes, task=task or ("classification" if classes else "retrieval"))
    return SimpleNamespace(watched=watched, selector=SimpleNamespace(name=selector), dataset=data)


def drawn(run, rows, x="epoch", best=2) -> dict:
    """Curves by panel and label, and what is marked."""
    panels = results.panels_of(run, rows, x, best)
    return {panel.title: ({c.label: (list(c.x), list(c.y)) for c in panel.curves if len(c.x)}, panel.best) for panel in panels}


def test_panels_of_classes():
    rows = [
        {"epoch": 1, "step": 5, "lr": 0.1, "loss": 3.0, "val_accuracy": 0.5, "val_balanced_accuracy": None, "val_log_loss": 1.0},
        {"epoch": 2, "step": 10, "lr": 0.2, "loss": 2.0, "val_accuracy": 0.6, "val_balanced_accuracy": 0.7, "val_log_loss": 0.9},
        {"epoch": 3, "step": 15, "lr": 0.1, "loss": 1.0},
    ]
    found = drawn(fake_run(), rows)
    assert found["loss"][0] == {"training": ([1, 2, 3], [3.0, 2.0, 1.0]), "val, log loss of the classes": ([1, 2], [1.0, 0.9])}
    curves, best = found["accuracy"]
    assert curves["val, accuracy"] == ([1, 2], [0.5, 0.6]), "an epoch without evaluation is no gap"
    assert math.isnan(curves["val, balanced accuracy"][1][0]) and best == {"val, balanced accuracy": 0.7}
    assert found["learning rate"][0]["the largest of the groups"] == ([1, 2, 3], [0.1, 0.2, 0.1]) and len(found) == 3


def test_panels_of_retrieval_and_of_a_selecting_metric_on_its_own_scale():
    losses = {"loss": 3.0, "first": 1.0, "second": 2.0, "in_batch_accuracy": 0.9, "in_batch_similarity": 0.8}
    rows = [{"epoch": 1, "step": 7, "lr": 0.1, **losses, "val_i2t_r1": 0.1, "val_t2i_r1": 0.2, "val_rsum": 77.0}]
    found = drawn(fake_run(classes=(), selector="rsum"), rows, x="step", best=7)
    assert set(found["loss"][0]) == {"training", "training, first", "training, second"}
    (curves, best) = found["accuracy: R@1 and within the batch"]
    assert set(curves) == {"val, R@1 image to text", "val, R@1 text to image", "training, within the batch"} and best == {}
    assert found["selecting metric"] == ({"val, rsum": ([7], [77.0])}, {"val, rsum": 77.0})
    assert "selecting metric" in drawn(fake_run(selector="log_loss"), rows) and len(drawn(fake_run(watched=None), rows)) == 3
    assert "selecting metric" not in drawn(fake_run(classes=(), selector="t2i_r5"), rows)


def test_bars_and_chance_of_a_retrieval_run(pairs_run):
    folder, runner, result = pairs_run
    run = runner.run
    seen = {}
    evaluation, _ = runner.test()
    bars = results.recalls(run, evaluation)
    for bar, short in zip(bars, ("i2t", "t2i"), strict=True):
        assert list(bar.depths) == [1, 5, 10] and list(bar.values) == [result.metrics[f"{short}_r{k}"] for k in (1, 5, 10)]
        seen[short] = bar.chance
    rows = [run.dataset.rows[case_id] for case_id in run.split.test]
    own = [len(set(run.dataset.captions_of(row))) for row in rows]
    captions = {i for row in rows for i in run.dataset.captions_of(row)}
    assert seen["i2t"][0] == pytest.approx(sum(own) / len(own) / len(captions))
    assert seen["t2i"][0] == pytest.approx(sum(own) / len(captions) / len(rows))
    histograms = results.similarities(evaluation)
    assert histograms.positive.sum() == sum(own) and histograms.means[0] == result.metrics["positive_similarity"]


def test_ranks_in_words():
    metrics = {"rsum": 300.0, "i2t_mean_rank": 2.5, "t2i_mean_rank": math.nan, "i2t_mrr": 0.5}
    assert results.describe_ranks(metrics) == "RSum 300 of 600   mean rank 2.5 | undefined   (image to text | text to image)"


@pytest.mark.slow
def test_an_experiment_whose_name_no_font_has_is_drawn(runner_of, tmp_path):
    folder = tmp_path / "髋\u2603\U0001f9ff"
    runner_of(folder, ["ResultsHook"], train={"epochs": 1}).train_and_test()
    assert picture(folder, "training_curves.png").std() > 10 and "warning" not in (folder / "log.txt").read_text(encoding="utf-8")


def test_negative_seconds_are_refused():
    with pytest.raises(ConfigError, match="ResultsHook.seconds: -1 is not a number of 0 or more"):
        ResultsHook(seconds=-1)


def test_panels_of_findings():
    names = ("mean_auroc", "mean_average_precision", "micro_f1", "binary_log_loss")
    rows = [{"epoch": e, "loss": 1 / e, "lr": 1e-3, **{f"val_{name}": 0.1 * e for name in names}} for e in (1, 2)]
    found = results.panels_of(fake_run(selector="mean_auroc", task="findings"), rows, "epoch", 2)
    assert [panel.title for panel in found] == ["loss", "areas and F1 of the findings", "learning rate"]
    labels = [curve.label for curve in found[1].curves if curve.x]
    assert labels == ["val, mean auroc", "val, mean average precision", "val, micro f1"] and found[1].best == {"val, mean auroc": 0.2}
    assert "val, log loss of the findings" in [curve.label for curve in found[0].curves if curve.x]
