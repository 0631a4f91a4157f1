"""A table of tiny pictures with findings, each a mark in its own quarter; and a config that trains on them in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny import tiny_config

FINDINGS = ("积液", "骨折", "结节")


def write_findings(root: Path, num_cases: int = 48, size: int = 16, seed: int = 0, unknown: float = 0.1) -> Path:
    """``标注.csv`` with a column for each finding, of patients with two pictures each; some cells are empty."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    half, lines = size // 2, [",".join(["路径", "患者编号", *FINDINGS])]
    for index in range(num_cases):
        present = rng.random(len(FINDINGS)) < (0.5, 0.4, 0.35)
        picture = rng.normal(60, 15, (size, size))
        for finding, (row, column) in enumerate(((0, 0), (0, half), (half, 0))):
            if present[finding]:
                picture[row + 1 : row + half - 1, column + 1 : column + half - 1] += 150
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(root / "images" / f"{index:03d}.png")
        cells = ["" if rng.random() < unknown else str(int(value)) for value in present]
        lines.append(",".join([f"images/{index:03d}.png", f"P{index // 2:03d}", *cells]))
    (root / "标注.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root / "标注.csv"


def findings_config(table: Path, model: dict | None = None, **sections) -> dict:
    """Three folds of a classifier with one logit per finding."""
    config = tiny_config(table.parent, **sections)
    config["data"]["dataset"] = {"type": "TableDataset", "path": str(table), "findings": list(FINDINGS)}
    classifier = {"type": "ImageClassifier", "image_encoder": config["model"]["image_encoder"]}
    config["model"] = {**classifier, "loss": {"type": "BinaryCrossEntropyLoss", "pos_weight": "balanced"}} if model is None else model
    return config
