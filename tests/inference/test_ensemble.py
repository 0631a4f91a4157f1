"""``clipzoo.load`` of a work dir: all finished folds answer together."""

import numpy as np
import pytest

import clipzoo
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.errors import BuildError, CheckpointError
from clipzoo.inference.ensemble import FoldEnsemble


@pytest.fixture(scope="module")
def finished(class_folders, tmp_path_factory):
    """Three folds of one epoch."""
    from rich.console import Console
    from tiny import tiny_config

    from clipzoo.config import Config

    folder = tmp_path_factory.mktemp("finished")
    CrossValidation(Config.from_dict(tiny_config(class_folders, train={"epochs": 1}), "tiny"), folder, console=Console(quiet=True)).train()
    return folder


def test_it_is_the_mean_of_the_folds(finished, class_folders):
    images = sorted(class_folders.rglob("*.png"))[:5]
    ensemble, counts = clipzoo.load(finished), []
    assert isinstance(ensemble, FoldEnsemble) and list(ensemble.members) == ["fold_1", "fold_2", "fold_3"]
    found = ensemble.classify(images, batch_size=2, progress=counts.append)
    alone = [clipzoo.load(finished / fold).classify(images, batch_size=2) for fold in ensemble.members]
    np.testing.assert_allclose(found.probabilities, np.mean([one.probabilities.double().numpy() for one in alone], axis=0), atol=1e-7)
    assert not np.allclose(alone[0].probabilities, alone[1].probabilities)
    assert found.classes == ensemble.classes == alone[0].classes and counts == sorted(counts) and counts[-1] == 3 * len(images)
    np.testing.assert_allclose(ensemble.classify(images, ["甲", "乙"], "一个{class_name}").probabilities.sum(dim=1), 1, atol=1e-6)


def test_features_of_different_folds_are_not_averaged(finished):
    ensemble = clipzoo.load(finished)
    for method in (ensemble.encode_image, ensemble.encode_text, ensemble.similarity):
        with pytest.raises(BuildError, match=r"different feature spaces.*\.members\['fold_1'\]"):
            method("x")


def test_unfinished_folds_take_no_part(finished, tmp_path):
    import shutil

    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "fold_2" / "result.json").unlink()
    ensemble = clipzoo.load(tmp_path / "run")
    assert list(ensemble.members) == ["fold_1", "fold_3"] and "mean probability of 2 folds: fold_1, fold_3; not done yet: fold_2" in repr(
        ensemble
    )
    for fold in (1, 3):
        (tmp_path / "run" / f"fold_{fold}" / "result.json").unlink()
    with pytest.raises(CheckpointError, match="no fold is done yet. Finish the training"):
        clipzoo.load(tmp_path / "run")
