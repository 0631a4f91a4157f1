"""Tiny class folders, and a config that trains on them in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def write_class_folders(root: Path, classes=("方块", "圆", "条纹"), per_class: int = 12, size: int = 16, seed: int = 0) -> Path:
    """Class folders of tiny pictures that a small network tells apart: squares, discs, stripes."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    for label, name in enumerate(classes):
        folder = root / name
        folder.mkdir(parents=True)
        for index in range(per_class):
            centre = size / 2 + rng.integers(-2, 3, size=2)
            distance = np.stack([rows - centre[0], columns - centre[1]])
            shapes = [np.abs(distance).max(0) < size / 4, (distance**2).sum(0) < (size / 4) ** 2, (rows + rng.integers(4)) % 4 < 2]
            picture = 200 * shapes[label % 3] + rng.normal(20, 10, (size, size))
            Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / f"{index:03d}.png")
    return root


def write_pairs(root: Path, num_images: int = 24, size: int = 16, seed: int = 0) -> Path:
    """A JSON list of tiny pictures, each with one or two captions; some captions belong to several pictures."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    pairs = []
    for index in range(num_images):
        row, column, red = rng.integers(0, 2), rng.integers(0, 2), rng.integers(0, 2)
        picture = rng.integers(0, 40, (size, size, 3)).astype(np.uint8)
        half = size // 2
        picture[row * half : (row + 1) * half, column * half : (column + 1) * half, 0 if red else 2] = 220
        Image.fromarray(picture).save(root / "images" / f"{index:03d}.png")
        where = f"{'上下'[row]}面{'左右'[column]}边"
        captions = [f"{where}有一个{'红' if red else '蓝'}色方块"] + ([f"{where}有东西"] if index % 3 == 0 else [])
        pairs.append({"image_path": f"images/{index:03d}.png", "caption": captions})
    (root / "data.json").write_text(json.dumps(pairs, ensure_ascii=False), encoding="utf-8")
    return root


def tiny_config(root: Path, **sections) -> dict:
    """A config that trains three folds in seconds: timm's smallest ResNet at 32 px and a one-layer BERT."""
    config = {
        "model": {
            "type": "CLIP",
            "image_encoder": {"type": "TimmBackbone", "name": "test_resnet", "image_size": 32},
            "text_encoder": {"type": "BERT", "pretrained": False, "pooling": "mean", "hidden_size": 32, "num_layers": 1, "num_heads": 2},
            "embed_dim": 32,
        },
        "data": {
            "dataset": {"type": "ImageFolderDataset", "root": str(root)},
            "batch_size": 8,
            "augmentation": "minimal",
            "num_workers": 0,
        },
        "splits": {"type": "StratifiedGroupKFold", "num_folds": 3, "seed": 0, "val_fraction": 0.2},
        "optimizer": {"type": "AdamW", "lr": 3e-3},
        "train": {"epochs": 2},
        "hooks": [{"type": "HistoryHook"}],
        "runtime": {"device": "cpu", "threads": 1, "report": None},
    }
    for section, values in sections.items():
        config[section] = {**config.get(section, {}), **values} if isinstance(values, dict) else values
    return config


def data_of(captions, labels=None):
    """A dataset without images, with these caption ids per row."""
    from clipzoo.datasets.base import Dataset
    from clipzoo.datasets.captions import Captions
    from clipzoo.records.folds import Case

    table = Captions()
    for i in range(1 + max(map(max, captions))):
        table.add(f"caption {i}")
    ids = [f"{i:06d}" for i in range(len(captions))]
    labels = [0] * len(captions) if labels is None else labels
    cases = [Case(id=i, label=int(label), group=i) for i, label in zip(ids, labels, strict=True)]
    return Dataset(cases, ["a", "b", "c"], captions=table, captions_of_case=dict(zip(ids, captions, strict=True)))
