"""Drawn scenes with composed captions: one or two coloured shapes with a size and a place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

if TYPE_CHECKING:
    import numpy as np

SIDE = 160  # pixels
_OVERSAMPLING = 2  # Pillow's shapes have hard edges; they are drawn larger and scaled down

COLOURS = {  # English: Chinese, red, green, blue
    "red": ("红色", 214, 40, 40),
    "orange": ("橙色", 245, 140, 25),
    "yellow": ("黄色", 245, 215, 60),
    "green": ("绿色", 45, 160, 70),
    "blue": ("蓝色", 40, 90, 210),
    "purple": ("紫色", 130, 60, 170),
}
SHAPES = {"circle": "圆形", "square": "正方形", "triangle": "三角形", "star": "五角星", "ring": "圆环", "cross": "十字"}
SIZES = {"large": ("大", 0.17), "small": ("小", 0.085)}  # radius as a fraction of the side
PLACES = {  # English: Chinese, centre as fractions of the side
    "in the upper left": ("左上方", 0.27, 0.27),
    "in the upper right": ("右上方", 0.73, 0.27),
    "in the middle": ("中间", 0.5, 0.5),
    "in the lower left": ("左下方", 0.27, 0.73),
    "in the lower right": ("右下方", 0.73, 0.73),
}


@dataclass(frozen=True)
class Figure:
    """One shape of a scene; every field is a key of the corresponding table."""

    size: str
    colour: str
    shape: str
    place: str

    def chinese(self) -> str:
        """``左上方有一个大的红色圆形``"""
        return f"{PLACES[self.place][0]}有一个{SIZES[self.size][0]}的{COLOURS[self.colour][0]}{SHAPES[self.shape]}"

    def english(self) -> str:
        """``a large red circle in the upper left``"""
        article = "an" if self.size[0] in "aeiou" else "a"
        return f"{article} {self.size} {self.colour} {self.shape} {self.place}"


@dataclass(frozen=True)
class Scene:
    """A drawn scene, and what is where in it.

    Attributes:
        image: RGB picture of ``SIDE x SIDE`` pixels.
        figures: Its one or two shapes.
        boxes: Left, top, right and bottom of a square around each shape, in pixels; it is close to the shape, not tight.
    """

    image: Image.Image
    figures: tuple[Figure, ...]
    boxes: tuple[tuple[float, float, float, float], ...]


def draw_scene(seed: int, number: int) -> tuple[Image.Image, str, str]:
    """Scene ``number`` of the set ``seed``: image, Chinese caption and English caption. A third of the scenes have two shapes."""
    scene = located_scene(seed, number)
    return scene.image, "，".join(f.chinese() for f in scene.figures), " and ".join(f.english() for f in scene.figures)


def located_scene(seed: int, number: int) -> Scene:
    """The same scene with its shapes and their boxes."""
    import numpy as np

    rng = np.random.default_rng([seed % 2**32, number])
    places = rng.permutation(list(PLACES))[: 2 if rng.random() < 1 / 3 else 1]
    figures = [Figure(_one(rng, SIZES), _one(rng, COLOURS), _one(rng, SHAPES), str(place)) for place in places]
    image = _background(rng)
    pen = ImageDraw.Draw(image)
    boxes = tuple(_draw(pen, figure, rng) for figure in figures)
    return Scene(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS), tuple(figures), boxes)


def _one(rng: np.random.Generator, table: dict) -> str:
    return str(rng.choice(list(table)))


def _background(rng: np.random.Generator) -> Image.Image:
    """Pale paper with soft stains, so that no single pixel value identifies the scene."""
    import numpy as np

    paper = rng.uniform(205, 245, size=3)
    stains = np.clip(paper + rng.normal(0, 7, size=(6, 6, 1)), 0, 255).astype(np.uint8)
    side = SIDE * _OVERSAMPLING
    return Image.fromarray(stains).resize((side, side), Image.Resampling.BICUBIC)


def _draw(pen: ImageDraw.ImageDraw, figure: Figure, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Draw a shape; the box around it in pixels of the finished image."""
    side = SIDE * _OVERSAMPLING
    x, y = (side * (fraction + rng.uniform(-0.04, 0.04)) for fraction in PLACES[figure.place][1:])
    radius = side * SIZES[figure.size][1] * rng.uniform(0.9, 1.1)
    colour = tuple(int(min(255, max(0, c + rng.uniform(-15, 15)))) for c in COLOURS[figure.colour][1:])
    turn = rng.uniform(-0.2, 0.2)  # radians

    def ring(distances: list[float], start: float) -> list[tuple[float, float]]:
        step = 2 * math.pi / len(distances)
        angles = [start + turn + step * i for i in range(len(distances))]
        return [(x + radius * d * math.sin(a), y - radius * d * math.cos(a)) for d, a in zip(distances, angles, strict=True)]

    box = (x - radius, y - radius, x + radius, y + radius)
    reach = radius * 1.15  # of the corners
    if figure.shape == "circle":
        pen.ellipse(box, fill=colour)
    elif figure.shape == "ring":
        pen.ellipse(box, outline=colour, width=round(radius * 0.38))
    elif figure.shape == "cross":
        for start in (0.0, math.pi / 2):
            pen.line(ring([1.0, 1.0], start), fill=colour, width=round(radius * 0.6))
    else:
        distances = {"square": [1.15] * 4, "triangle": [1.15] * 3, "star": [1.15, 0.48] * 5}[figure.shape]
        pen.polygon(ring(distances, math.pi / 4 if figure.shape == "square" else 0.0), fill=colour)
    return tuple(edge / _OVERSAMPLING for edge in (x - reach, y - reach, x + reach, y + reach))
