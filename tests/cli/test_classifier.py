"""A classifier's checkpoint on the command line: predict works, search and export say why not."""

import csv

import numpy as np
import pytest
from tiny import tiny_config

from clipzoo.records.tables import PredictionTable

IMAGE = {"type": "TimmBackbone", "name": "test_resnet", "image_size": 32}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, class_folders):
    """The work dir of a classifier with three finished folds; read only."""
    from rich.console import Console

    from clipzoo.config import Config
    from clipzoo.engine.cross_validation import CrossValidation

    folder = tmp_path_factory.mktemp("classifier") / "work"
    config = {**tiny_config(class_folders, train={"epochs": 1}), "model": {"type": "ImageClassifier", "image_encoder": IMAGE}}
    CrossValidation(Config.from_dict(config, "classifier"), folder, console=Console(quiet=True)).train()
    return folder


def read(path) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


@pytest.mark.slow
def test_predict_gives_a_fold_s_own_table_and_the_mean_of_all(command, classifier, class_folders, tmp_path):
    table = PredictionTable.read(classifier / "fold_2" / "predictions.csv")
    images = [class_folders / case_id for case_id in table.case_ids]
    found = []
    for source in ("fold_1", "fold_2", "fold_3", "."):
        path = tmp_path / f"{source}.csv"
        ended = command("predict", classifier / source, *images, "--csv", path, "--device", "cpu", "--batch-size", 16)
        assert ended.status == 0, ended.err
        found.append(np.array([[float(p) for p in row[2:]] for row in read(path)]))
    np.testing.assert_array_equal(found[1].astype(np.float32), table.probabilities)
    np.testing.assert_allclose(found[3], np.mean(found[:3], axis=0), atol=1e-6)
    assert "mean probability of 3 folds" in ended.err + ended.out


@pytest.mark.parametrize("option", ["--texts", "--template"])
def test_predict_takes_no_texts(command, classifier, class_folders, option):
    ended = command("predict", classifier / "fold_1", class_folders, option, "{class_name}", "b", "--device", "cpu")
    assert ended.status == 2 and "is a classifier of 3 classes without a text side. Call classify without texts" in ended.err
    assert "Traceback" not in ended.err


def test_search_and_export_say_why_not(command, classifier, class_folders, tmp_path):
    ended = command("search", classifier / "fold_1", class_folders, "a circle", "--device", "cpu")
    assert ended.status == 2 and "is a classifier without a text tower, so it cannot search for texts. Pass a CLIP" in ended.err
    assert not (class_folders / ".clipzoo-index").exists()
    ended = command("export", classifier / "fold_1", "--format", "open_clip", "--out", tmp_path / "out")
    assert ended.status == 2 and "ImageClassifier cannot be exported" in ended.err and not (tmp_path / "out").exists()


def test_num_classes_is_not_for_a_config_to_say(command, write_config, tmp_path):
    config = write_config(model={"type": "ImageClassifier", "image_encoder": IMAGE, "num_classes": 201})
    ended = command("train", config, "--work-dir", tmp_path / "work")
    assert ended.status == 2 and "num_classes" in ended.err and not (tmp_path / "work").exists()
