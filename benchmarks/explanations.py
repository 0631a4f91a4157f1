"""Do explanations point at the object that the sentence names? Checked on drawn scenes, where its place is known.

    python benchmarks/explanations.py [--folder FOLDER]

``benchmarks/README.md`` says what is measured and what is not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from common import machine

TOWERS = {
    "grad_cam": {"type": "TimmBackbone", "name": "resnet10t", "image_size": 96},
    "relevance": {"type": "CLIPVision", "image_size": 64, "patch_size": 8, "width": 128, "layers": 4, "heads": 4, "output_dim": 128},
}
TEXT = {"type": "BERT", "pretrained": False, "pooling": "mean", "hidden_size": 128, "num_layers": 2, "num_heads": 4}
RESAMPLES = 2000
NUM_CURVES = 100  # questions for which deletion and insertion are computed


@dataclass(frozen=True)
class Tests:
    """Scenes of two shapes, each once for either shape.

    Attributes:
        images: N pictures.
        named: Sentence that names one shape.
        other: Sentence that names the other.
        box: ``[N, 4]`` box of the named shape, as fractions of the side.
        other_box: ``[N, 4]`` that of the other.
    """

    images: list
    named: list[str]
    other: list[str]
    box: np.ndarray
    other_box: np.ndarray


def draw_tests(count: int, seed: int) -> Tests:
    """``count`` scenes with two shapes, 2 x ``count`` questions."""
    from clipzoo.datasets.samples.scenes import SIDE, located_scene

    images, named, other, box, other_box, number = [], [], [], [], [], 0
    while len(images) < 2 * count:
        number += 1
        scene = located_scene(seed, number)
        if len(scene.figures) == 2:
            for one in (0, 1):
                images.append(scene.image)
                named.append(scene.figures[one].chinese())
                other.append(scene.figures[1 - one].chinese())
                box.append(scene.boxes[one])
                other_box.append(scene.boxes[1 - one])
    return Tests(images, named, other, np.array(box) / SIDE, np.array(other_box) / SIDE)


def train(method: str, data: Path, folder: Path, epochs: int):
    """A CLIP trained on the scenes as ``tools/train.py`` trains it; returns its test metrics and the loaded model."""
    from rich.console import Console

    import clipzoo
    from clipzoo.config import Config
    from clipzoo.engine.cross_validation import CrossValidation

    config = Config.from_dict(
        {
            "model": {"type": "CLIP", "image_encoder": TOWERS[method], "text_encoder": TEXT, "embed_dim": 128},
            "data": {
                "dataset": {"type": "PairsDataset", "path": str(data)},
                "batch_size": 32,
                "augmentation": "minimal",
                "num_workers": 0,
            },
            "splits": {"type": "Holdout", "val_fraction": 0.0, "test_fraction": 0.1, "seed": 0},
            "optimizer": {"type": "AdamW", "lr": 1e-3},
            "schedule": {"type": "CosineSchedule", "warmup_epochs": 1},
            "train": {"epochs": epochs},
            "hooks": [],
            "runtime": {"device": "cpu", "precision": "fp32", "threads": 1},
        },
        method,
    )
    summary = CrossValidation(config, folder, console=Console(quiet=True)).train()
    return summary.pooled, clipzoo.load(folder / "fold_1", device="cpu")


def interval(values: np.ndarray) -> str:
    """The mean, with a 95 % percentile interval over scenes (both questions of a scene stay together)."""
    scenes = np.asarray(values, dtype=np.float64).reshape(-1, 2).mean(axis=1)
    drawn = np.random.default_rng(0).integers(0, len(scenes), (RESAMPLES, len(scenes)))
    low, high = np.quantile(scenes[drawn].mean(axis=1), [0.025, 0.975])
    return f"{scenes.mean():.3f} [{low:.3f}, {high:.3f}]"


def located(maps: np.ndarray, tests: Tests) -> list[str]:
    """Pointing game and mass in the box of the named shape, and mass in that of the other."""
    from clipzoo.explain.localisation import mass_inside, pointing_hits

    size = maps.shape[-1]
    hits = pointing_hits(maps, tests.box * size)
    masses = (mass_inside(maps, box * size) for box in (tests.box, tests.other_box))
    return [interval(hits), *map(interval, masses)]


def centre_map(size: int) -> np.ndarray:
    """A Gaussian in the middle of the square: what one knows without looking."""
    axis = np.arange(size) + 0.5 - size / 2
    return np.exp(-(axis[:, None] ** 2 + axis[None, :] ** 2) / (2 * (size / 5) ** 2)).astype(np.float32)


def rank_correlations(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """``[N]`` Spearman correlations of maps; 0 where one is equal everywhere."""
    from scipy.stats import rankdata

    ranks = [rankdata(given.reshape(len(given), -1), axis=1) for given in (maps, others)]
    centred = [one - one.mean(axis=1, keepdims=True) for one in ranks]
    norm = np.sqrt((centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1))
    return np.divide((centred[0] * centred[1]).sum(axis=1), norm, out=np.zeros(len(maps)), where=norm > 0)


def areas(model, tests: Tests, maps: np.ndarray, *, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Areas under the deletion and insertion curves of the similarity to the sentence."""
    import torch

    from clipzoo.explain.curves import area_under, deletion_and_insertion

    text_ND = model.encode_text([tests.named[row] for row in rows])
    images = torch.stack([model.preprocess(tests.images[row]) for row in rows])
    curves = deletion_and_insertion(lambda given: (model.image_features(given) * text_ND).sum(dim=1), images, torch.from_numpy(maps[rows]))
    return tuple(area_under(curve).numpy() for curve in curves)


def measure(method: str, model, tests: Tests, num_curves: int) -> list[list[str]]:
    """The rows of one method."""
    from clipzoo.explain import explain
    from clipzoo.explain.randomised import randomised

    control = randomised(model)
    maps = explain(model, tests.images, tests.named).maps
    size = maps.shape[-1]
    noise = np.random.default_rng(0).random(maps.shape, dtype=np.float32)
    rows = range(num_curves)
    ways = {
        "the sentence": (maps, model),
        "the sentence minus the other one": (explain(model, tests.images, tests.named, tests.other).maps, model),
        "the other sentence": (explain(model, tests.images, tests.other).maps, model),
        "random weights": (explain(control, tests.images, tests.named).maps, None),
        "last block random": (explain(randomised(model, 1), tests.images, tests.named).maps, None),
        "always the centre": (np.broadcast_to(centre_map(size), maps.shape), model),
        "random map": (noise, model),
    }
    table = []
    for name, (found, scored) in ways.items():
        correlation = interval(rank_correlations(maps, found)) if scored is None else ""
        curves = ["", ""] if scored is None else [interval(area) for area in areas(scored, tests, np.ascontiguousarray(found), rows=rows)]
        table.append([method, name, *located(found, tests), correlation, *curves])
    return table


def compare(folder: Path, arguments: argparse.Namespace, tests: Tests) -> tuple[list[str], list[list[str]]]:
    """Train both towers on the same scenes; what they learned in words, and the rows of the table."""
    from clipzoo.datasets.samples.sample_data import create_sample_dataset

    if not (folder / "scenes").exists():
        create_sample_dataset(folder / "scenes", "pairs", arguments.scenes, seed=0)
    learned, rows = [], []
    for (method, tower), epochs in zip(TOWERS.items(), arguments.epochs, strict=True):
        pooled, model = train(method, folder / "scenes", folder / method, epochs)
        recalls = ", ".join(f"{name} {value:.3f}" for name, value in pooled.items() if name.endswith("_r1"))
        learned.append(f"{method}: {tower.get('name', tower['type'])}, {tower['image_size']} px, {epochs} epochs, {recalls}")
        print(learned[-1], file=sys.stderr, flush=True)
        rows += measure(method, model, tests, min(NUM_CURVES, len(tests.images)))
    return learned, rows


def main() -> None:
    """Draw, train, explain, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=1200, help="scenes to train on")
    parser.add_argument("--tests", type=int, default=150, help="scenes of two shapes to explain")
    parser.add_argument("--epochs", type=int, nargs=2, default=[14, 40], help="of the convolutional tower and of the transformer")
    parser.add_argument("--folder", type=Path, help="folder that keeps scenes and models, to go on after a stop (default: none)")
    parser.add_argument("--smoke", action="store_true", help="does it run? The numbers mean nothing")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.scenes, arguments.tests, arguments.epochs = 40, 4, [1, 1]
    names = ("torch", "timm", "open_clip_torch", "clipzoo")
    print(f"{machine()}; " + ", ".join(f"{name} {version(name)}" for name in names))
    tests = draw_tests(arguments.tests, seed=1)
    area = ((tests.box[:, 2] - tests.box[:, 0]) * (tests.box[:, 3] - tests.box[:, 1])).mean()
    with tempfile.TemporaryDirectory() as temporary:
        learned, rows = compare(arguments.folder or Path(temporary), arguments, tests)
    given = f"{arguments.scenes} scenes to train on, {arguments.tests} scenes of two shapes to explain, mean area of a box {area:.3f}"
    print("; ".join([given, *learned]) + "\n")
    header = ["method", "map of", "pointing game", "mass in the box", "mass in the other box", "correlation", "deletion", "insertion"]
    for cells in [header, ["---"] * 2 + ["---:"] * 6, *rows]:
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
