"""Forty faults planted among photographs are found, and no other pair: the mini Tiny ImageNet in ``shared/``, and the digits."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from clipzoo.config import Config
from clipzoo.doctor.check import Report, check_data

MINI = Path(__file__).resolve().parents[3] / "shared" / "data" / "tiny-imagenet-mini"
SPLITS = {"type": "StratifiedGroupKFold", "num_folds": 5}
NUM_EXACT, NUM_ENCODED, NUM_MIRRORED, NUM_FILES = 10, 12, 8, 10

pytestmark = pytest.mark.slow
needs_mini = pytest.mark.skipif(not MINI.is_dir(), reason="no mini Tiny ImageNet")


def report_on(root: Path) -> Report:
    return check_data(
        Config.from_dict({"data": {"dataset": {"type": "ImageFolderDataset", "root": str(root)}}, "splits": SPLITS}, "planted")
    )


def cases(report: Report, *checks: str) -> set[frozenset[str]]:
    return {
        frozenset(report.facts[row].id for row in case.rows)
        for finding in report.findings
        if finding.check.startswith(checks)
        for case in finding.cases
    }


@pytest.fixture
def photographs(tmp_path) -> Path:
    """The training images in class folders."""
    root = tmp_path / "images"
    for folder in sorted((MINI / "train").iterdir()):
        shutil.copytree(folder / "images", root / folder.name)
    return root


def encoded(image: Image.Image, path: Path, number: int) -> Path:
    """A copy at another quality, another size, or both."""
    size = (64, 48, 40, 96, 128, 32)[number % 6]
    quality = (90, 75, 60, 45, 35)[number % 5]
    if number % 4 == 3:
        path = path.with_suffix(".webp")
    image.resize((size, size), Image.Resampling.BICUBIC).save(path, quality=quality)
    return path


@needs_mini
def test_forty_planted_faults(photographs):
    rng = np.random.default_rng(0)
    sources = [Path(path) for path in rng.permutation(sorted(photographs.rglob("*.JPEG")))[: NUM_EXACT + NUM_ENCODED + NUM_MIRRORED]]
    folders = sorted(photographs.iterdir())
    planted = []
    for number, source in enumerate(sources):
        target = (source.parent if number % 2 else folders[number % len(folders)]) / f"planted_{number}.JPEG"
        image = Image.open(source).convert("RGB")
        if number < NUM_EXACT:
            shutil.copy(source, target)
        elif number < NUM_EXACT + NUM_ENCODED:
            target = encoded(image, target, number)
        else:
            ImageOps.mirror(image).save(target, quality=(95, 80, 60)[number % 3])
        planted.append(frozenset(str(path.relative_to(photographs)) for path in (source, target)))
    damaged = plant_files(folders[0], folders[1])
    report = report_on(photographs)
    copies, near = cases(report, "copies_"), cases(report, "near_")
    exact, others = set(planted[:NUM_EXACT]), planted[NUM_EXACT:]
    assert copies == exact
    assert len(near & set(others[:NUM_ENCODED])) >= 0.95 * NUM_ENCODED
    assert len(near & set(others[NUM_ENCODED:])) >= 0.8 * NUM_MIRRORED
    assert not near - set(others), "a false pair"
    for check, names in damaged.items():
        assert cases(report, check) == {frozenset([f"{folders[0].name}/{name}"]) for name in names}, check


def plant_files(folder: Path, other: Path) -> dict[str, list[str]]:
    """Ten damaged or unusual files, by the check that finds them; made of images that are removed."""
    images = [Image.open(path).convert("RGB") for path in sorted(other.glob("n*.JPEG"))[:10]]
    for path in sorted(other.glob("n*.JPEG"))[:10]:
        path.unlink()
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder / "empty1.jpg").write_bytes(b"")
    (folder / "empty2.png").write_bytes(b"")
    for number in (0, 1):
        images[number].save(folder / f"cut{number}.jpg")
        content = (folder / f"cut{number}.jpg").read_bytes()
        (folder / f"cut{number}.jpg").write_bytes(content[: len(content) // 2])
        images[2 + number].convert("CMYK").save(folder / f"cmyk{number}.jpg")
        images[4 + number].save(folder / f"turned{number}.jpg", exif=exif)
    images[6].save(folder / "png.jpg", format="PNG")
    deep = np.asarray(images[7].convert("L")).astype(np.uint16) * 16
    Image.fromarray(deep).save(folder / "deep.png")
    return {
        "unreadable": ["empty1.jpg", "empty2.png", "cut0.jpg", "cut1.jpg"],
        "cmyk": ["cmyk0.jpg", "cmyk1.jpg"],
        "orientation": ["turned0.jpg", "turned1.jpg"],
        "ending": ["png.jpg"],
        "mixed_depth": ["deep.png"],
    }


@needs_mini
def test_the_mini_tiny_imagenet_has_no_pair():
    dataset = {"type": "TinyImageNetDataset", "root": str(MINI), "split": "trainval", "num_classes": 12}
    report = check_data(Config.from_dict({"data": {"dataset": dataset}, "splits": {"type": "AsGiven", "val_fraction": 0.1}}, "mini"))
    assert len(report.facts) == 900 and not cases(report, "copies_", "near_") and not [f for f in report.findings if f.level == "error"]


@pytest.mark.parametrize("kind", ["digits", "hip"])
def test_the_sample_data_have_no_pair(kind, tmp_path):
    """Digits that look alike, and drawn radiographs of one pose."""
    from clipzoo.datasets.samples.sample_data import create_sample_dataset

    root = create_sample_dataset(tmp_path / kind, kind)
    assert not cases(report_on(root / "images"), "copies_", "near_")
