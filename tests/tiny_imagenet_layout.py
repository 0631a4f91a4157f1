"""A collection in the layout of Tiny ImageNet, made in code."""

import numpy as np
from PIL import Image

NAMES = {
    "n05": ["Egyptian cat"],
    "n02": ["crane", "Grus"],
    "n09": ["crane", "lifting device"],
    "n01": ["slug"],
    "n07": ["dam", "dike", "dyke"],
    "n03": ["torch", "slug of light"],
}


def write_tiny_imagenet(root, train=4, val=2, test=5, names=NAMES):
    """Images of noise, 8 x 6; so many per class, and test images in all. Two of ``NAMES`` share their first name. Returns ``root``."""
    annotations = []
    for k, wnid in enumerate(names):
        for i in range(train):
            _save(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", 100 * k + i)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("x")
        for i in range(val):
            _save(root / "val" / "images" / f"val_{len(names) * i + k}.JPEG", 100 * k + 50 + i)
            annotations.append(f"val_{len(names) * i + k}.JPEG\t{wnid}\t0\t0\t7\t5\n")
    for i in range(test):
        _save(root / "test" / "images" / f"test_{i}.JPEG", 1000 + i)
    (root / "val" / "val_annotations.txt").write_text("".join(annotations))
    (root / "wnids.txt").write_text("\n".join(names))
    others = {"n00": ["entity"], **names, "n99": ["slug"]}
    (root / "words.txt").write_text("".join(f"{wnid}\t{', '.join(words)}\n" for wnid, words in sorted(others.items())))
    return root


def _save(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "JPEG", quality=95)
