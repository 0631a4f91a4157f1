"""Random labels must give chance, although the val part chooses the epoch."""

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binom
from tiny import tiny_config

from clipzoo.config import Config
from clipzoo.engine.cross_validation import CrossValidation


def random_folders(root, num_cases: int, seed: int):
    """Noise in two classes: nothing can be learned that holds for a case not seen."""
    rng = np.random.default_rng(seed)
    for index in range(num_cases):
        folder = root / ("甲" if index % 2 else "乙")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(folder / f"{index:03d}.png")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_random_labels_give_chance(tmp_path, quiet, seed):
    cases = 200
    root = random_folders(tmp_path / "images", cases, seed)
    sections = {
        "train": {"epochs": 8},
        "splits": {"num_folds": 5, "val_fraction": 0.2, "seed": seed},
        "data": {"batch_size": 16},
        "runtime": {"device": "cpu", "threads": 1, "seed": seed},
    }
    config = Config.from_dict(tiny_config(root, **sections))
    summary = CrossValidation(config, tmp_path / "run", console=quiet).train()
    correct = round(summary.pooled["accuracy"] * cases)
    low, high = binom.interval(0.99, cases, 0.5)
    assert low <= correct <= high, (correct, low, high)
    assert "val" in summary.selection and not summary.optimistic
