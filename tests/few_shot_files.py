"""Few-shot tasks on disk, cut out of class folders."""

from __future__ import annotations

import shutil
from pathlib import Path


def write_tasks(root: Path, class_folders: Path, tasks: int = 2, shots: int = 3, queries: int = 2) -> Path:
    """``root/task1/{support/<class>/*, query/*}`` …: each task takes other images of the same classes."""
    for number in range(tasks):
        folder = root / f"task{number + 1}"
        for name in sorted(entry.name for entry in class_folders.iterdir()):
            images = sorted((class_folders / name).iterdir())
            images = images[number:] + images[:number]
            (folder / "support" / name).mkdir(parents=True)
            (folder / "query").mkdir(exist_ok=True)
            for image in images[:shots]:
                shutil.copy(image, folder / "support" / name)
            for image in images[shots : shots + queries]:
                shutil.copy(image, folder / "query" / f"{name}_{image.name}")
    return root
