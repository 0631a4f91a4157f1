"""What several benchmarks share: drawn images, and the name of the machine."""

from __future__ import annotations

import platform
from pathlib import Path

COLOURS = {"red": (210, 60, 50), "green": (60, 170, 80), "blue": (60, 90, 210), "yellow": (220, 200, 60)}
SHAPES = ("disc", "square", "triangle")


def draw_class_folders(root: Path, num_images: int, size: int, num_classes: int = 12) -> None:
    """JPEGs of one coloured shape each on a noisy ground, ``size`` to 1.2 ``size`` wide, of up to 12 classes."""
    import numpy as np
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(0)
    classes = [(colour, shape) for shape in SHAPES for colour in COLOURS][:num_classes]
    for index in range(num_images):
        colour, shape = classes[index % len(classes)]
        width, height = (int(side) for side in rng.integers(size, int(1.2 * size) + 1, 2))
        ground = Image.fromarray(rng.integers(40, 200, (6, 6, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(ground)
        radius = int(size * rng.uniform(0.15, 0.35))
        x, y = (int(rng.integers(radius, side - radius)) for side in (width, height))
        box = (x - radius, y - radius, x + radius, y + radius)
        if shape == "disc":
            draw.ellipse(box, fill=COLOURS[colour])
        else:
            draw.regular_polygon((x, y, radius), 4 if shape == "square" else 3, fill=COLOURS[colour])
        noisy = np.asarray(ground, dtype=np.int16) + rng.integers(-12, 13, (height, width, 3))
        folder = root / f"{colour} {shape}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(folder / f"{index:05d}.jpg", quality=90)


def machine() -> str:
    """The processor's name, as people know it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        if names:
            return names[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()
