"""Smooth random pictures, which are as different from each other as photographs."""

from __future__ import annotations

import numpy as np
from PIL import Image


def picture(seed: int, size: int = 64) -> Image.Image:
    """A colour picture with shapes of all sizes."""
    rng = np.random.default_rng(seed)
    planes = [
        np.asarray(Image.fromarray(rng.normal(0, 40 / (k + 1), (n, n, 3)).sum(2).astype(np.float32)).resize((size, size), 3))
        for k, n in enumerate((3, 6, 12, 24))
    ]
    grey = 120 + sum(planes)
    return Image.fromarray(np.clip(np.stack([grey, grey * 0.9, grey * 0.8 + 20], 2), 0, 255).astype(np.uint8))
