"""``learning_curve``: probes and trained models on shares of the training groups, and bad input."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import write_pairs

from clipzoo.baselines.curve_picture import draw
from clipzoo.records.folds import Folds
from clipzoo.records.results import Summary
from clipzoo.scoring.learning_curve import LearningCurve

FAST = ("--work-dir", "run", "--method", "prototype", "--repeats", 2)


@pytest.mark.slow
def test_a_probe(command, write_config, snapshot):
    config = write_config()
    ended = command("learning_curve", config, *FAST)
    assert ended.status == 0 and ended.out.endswith("results: run/learning_curve/prototype\n")
    place = Path("run/learning_curve/prototype")
    assert sorted(path.name for path in place.iterdir()) == [f"learning_curve.{kind}" for kind in ("csv", "json", "png")]
    curve = LearningCurve.read(place)
    assert [point["share"] for point in curve.points] == [0.1, 0.2, 0.4, 0.7, 1.0] and curve.metric == "balanced_accuracy"
    assert [len(point["draws"]) for point in curve.points] == [2, 2, 2, 2, 1] and curve.folds_digest == Folds.read("run/folds.json").digest
    assert curve.num_cases == 36 and curve.unit == "cases" and any(note.startswith("share 0.1: of 6 train parts") for note in curve.notes)
    assert command("baselines", config, "--work-dir", "run", "--only", "prototype").status == 0, "the work dir is one of the training"
    pooled = Summary.read("run/baselines/prototype").pooled
    assert {name: curve.points[-1]["metrics"][name][0] for name in pooled} == pytest.approx(pooled), "all groups: the baseline itself"
    assert all(point["metrics"]["log_loss"][0] != curve.points[-1]["metrics"]["log_loss"][0] for point in curve.points[:-1])
    before = snapshot(place)
    assert command("learning_curve", config, *FAST).out == ended.out and snapshot(place) == before


@pytest.mark.slow
def test_the_trained_model(command, write_config, snapshot, monkeypatch):
    """Every share is a work dir of its own, and the whole is the config's; what is done is not done again."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    config = write_config(train={"epochs": 1}, splits={"num_folds": 2}, hooks=["HistoryHook", "WandbHook"])
    arguments = ("learning_curve", config, "--work-dir", "run", "--method", "train", "--shares", 0.4, 1, "--metric", "accuracy")
    ended = command(*arguments)
    assert ended.status == 0 and "training 2 of 2: 0.4 of the training groups, draw 1" in ended.err, ended.err
    small, whole = (Folds.read(folder / "folds.json") for folder in (Path("run/learning_curve/train/share_0.4_draw_1"), Path("run")))
    for less, more in zip(small.splits, whole.splits, strict=True):
        assert set(less.train) < set(more.train) and (less.val, less.test) == (more.val, more.test)
    configs = [Path(folder, "config.py").read_text(encoding="utf-8") for folder in ("run/learning_curve/train/share_0.4_draw_1", "run")]
    assert ["WandbHook" in text for text in configs] == [False, True], "draws are not sent to trackers"
    curve = LearningCurve.read("run/learning_curve/train")
    found = [Summary.read(folder).pooled["accuracy"] for folder in (Path("run/learning_curve/train/share_0.4_draw_1"), Path("run"))]
    assert [point["value"] for point in curve.points] == pytest.approx(found) and curve.repeats == 1
    kept = (".pth", "result.json", "summary.json", ".csv")  # data.json may be read again within two seconds
    checkpoints = {path: digest for path, digest in snapshot(Path("run")).items() if path.endswith(kept)}
    again = command(*arguments)
    assert again.out == ended.out and again.err.count("already done, skipped") == 4
    assert {path: digest for path, digest in snapshot(Path("run")).items() if path in checkpoints} == checkpoints


def test_what_is_wrong_is_one_line_and_nothing_is_written(command, write_config, tmp_path):
    config = write_config()
    pairs = write_config(name="pairs.py", data={"dataset": {"type": "PairsDataset", "path": str(write_pairs(tmp_path / "pairs"))}})
    inner = write_config(name="inner.py", splits={"inner_folds": 2})
    for arguments, says in (
        ((inner, "--method", "train"), "splits.inner_folds: must be 0 for a learning curve of the trained model"),
        ((pairs,), "PairsDataset has captions but no classes. A learning curve requires class labels"),
        ((config, "--shares", 0, 1), "--shares: 0 is not a share of the training groups"),
        ((config, "--shares", 0.5, "half"), "--shares: invalid float value: 'half'"),
        (
            (config, "--shares", 0.01, 1),
            "fold_1: a share of 0.01 of its 19 training groups is 0, and 2 are needed. Pass --shares of 0.08 or",
        ),
        ((config, "--method", "liner"), "--method: liner: no such method. Did you mean 'linear'? Allowed: train, knn, "),
        ((config, "--method", "zero_shot"), "--method: zero_shot: learns from no images. Allowed: train"),
        ((config, "--metric", "acuracy"), "--metric: 'acuracy' is not among the metrics of learning curves. Did you mean 'accuracy'?"),
        ((config, "--repeats", 0), "--repeats: '0' is not a whole number of 1 or more"),
        ((config, "--method", "train", "--image-encoder", "RN50"), "--image-encoder: --method train trains the towers of the config"),
    ):
        ended = command("learning_curve", *arguments, "--work-dir", "run")
        assert ended.status == 2 and says in ended.err and ended.err.count("\n") == 1, ended.err
    assert not Path("run").exists()


@pytest.mark.slow
def test_the_picture_of_any_curve(tmp_path):
    """With a Chinese name, an extrapolation, a share without a score; equal curves give equal files."""
    values = [0.5, 0.6, 0.7, 0.75, None]
    points = [
        {"share": s, "groups": 100 * s, "cases": 200 * s, "value": v, "low": v and v - 0.1, "high": v and v + 0.1, "draws": [v, v]}
        for s, v in zip((0.1, 0.2, 0.4, 0.7, 1.0), values, strict=True)
    ]
    about = {"level": 0.95, "unit": "groups", "num_cases": 90, "num_groups": 40, "repeats": 2, "folds_digest": "f", "data_digest": "d"}
    law = {"gain": 0.03, "gain_low": 0.01, "gain_high": 0.05, "expected": 0.8, "asymptote": 0.1, "scale": 1.0, "exponent": 0.5}
    curve = LearningCurve("髋关节", "linear", "accuracy", points=points, determined=True, **about, **law)
    for name in ("a.png", "b.png"):
        draw(curve, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    from PIL import Image

    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).reshape(-1, 3)
    assert (pixels == (230, 159, 0)).all(axis=1).any(), "the extrapolation is orange"
    json.dumps(curve.sentence())
