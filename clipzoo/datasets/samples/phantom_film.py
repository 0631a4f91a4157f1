"""A simulated X-ray film: shapes with attenuation, exposed to 16-bit gray with a range of about 12 bits.

Shapes are given in millimetres relative to the hip centre: x increases laterally, y increases downwards. Attenuations are
added; 1 - exp(-sum) makes metal white while bone next to it remains visible.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFilter

if TYPE_CHECKING:
    import numpy as np

Point = tuple[float, float]


class Film:
    """Accumulated attenuation, and the mapping from millimetres to pixels of this view.

    Args:
        body: Generator of the patient: side and film size.
        shot: Generator of the view: pose.
    """

    oversampling = 2  # polygons have hard edges; they are drawn larger and averaged

    def __init__(self, body: np.random.Generator, shot: np.random.Generator):
        import numpy as np

        self.side = 1 if body.random() < 0.5 else -1  # the lateral side of a left hip is on the right of the film
        self.width, self.height = int(body.choice([248, 256, 264])), int(body.choice([296, 304, 320]))
        self.stature = body.uniform(0.93, 1.07)
        scale = shot.uniform(1.2, 1.36)  # pixels per millimetre
        turn = math.radians(shot.normal(0, 4))
        stretch = shot.uniform(0.93, 1.0)  # rotation of the leg narrows its projection
        x0 = self.width / 2 + shot.normal(0, 7) - self.side * 8
        y0 = self.height * 0.36 + shot.normal(0, 8)
        cos, sin = math.cos(turn) * scale * self.stature, math.sin(turn) * scale * self.stature
        self._matrix = np.array([[cos * self.side * stretch, -sin], [sin * self.side * stretch, cos]])
        self._origin = np.array([x0, y0])
        self.scale = scale * self.stature
        self.attenuation = np.zeros((self.height, self.width), dtype=np.float32)

    def mask(self, *polygons: list[Point], soft: float = 0.0) -> np.ndarray:
        """Union of polygons as [H, W] float32 in 0 … 1, blurred over ``soft`` millimetres."""
        import numpy as np

        image = Image.new("L", (self.width * self.oversampling, self.height * self.oversampling))
        pen = ImageDraw.Draw(image)
        for polygon in polygons:
            points = (np.asarray(polygon, dtype=float) @ self._matrix.T + self._origin) * self.oversampling
            pen.polygon([tuple(p) for p in points.tolist()], fill=255)
        return self._blurred(image.reduce(self.oversampling), soft)

    def add(self, weight: float, *polygons: list[Point], soft: float = 0.4) -> np.ndarray:
        """Add shapes of even attenuation; returns their mask."""
        mask = self.mask(*polygons, soft=soft)
        self.attenuation += weight * mask
        return mask

    def add_bone(self, *polygons: list[Point], spongy: float = 0.38, cortex: float = 0.62, wall: float = 3.0) -> np.ndarray:
        """Add bone: spongy inside, with a denser wall about ``wall`` millimetres thick."""
        import numpy as np

        mask = self.mask(*polygons, soft=0.5)
        inside = self._blurred(Image.fromarray(np.rint(mask * 255).astype(np.uint8)), wall)
        self.attenuation += spongy * mask + cortex * np.clip(2 * mask * (1 - inside), 0, 1)
        return mask

    def multiply(self, factor: float, mask: np.ndarray) -> None:
        """Multiply the attenuation by ``factor`` inside a mask."""
        self.attenuation *= 1 + (factor - 1) * mask

    def _blurred(self, image: Image.Image, millimetres: float) -> np.ndarray:
        import numpy as np

        if millimetres > 0:
            image = image.filter(ImageFilter.GaussianBlur(millimetres * self.scale))
        return np.asarray(image, dtype=np.float32) / 255

    def expose(self, shot: np.random.Generator) -> Image.Image:
        """The detector image: mottle, exposure, quantum noise, collimation and side marker, as 16-bit gray."""
        import numpy as np

        size = (self.width, self.height)
        attenuation = self.attenuation * (1 + _mottle(shot, size))
        film = 1 - np.exp(-attenuation * shot.uniform(0.85, 1.15))
        film = np.clip(film, 0, 1) ** shot.uniform(0.85, 1.2)
        noise = shot.normal(0, 1, film.shape) * shot.uniform(0.006, 0.02)
        film = film + noise * np.sqrt(1.15 - film)  # the fewer quanta are absorbed, the more arrive
        film = film * _collimation(shot, size)
        film = np.maximum(film, _marker(shot, size, "L" if self.side > 0 else "R"))
        low, high = shot.uniform(20, 220), shot.uniform(2400, 4000)
        values = np.clip(low + film * (high - low), 0, 4095)
        return Image.fromarray(np.rint(values).astype(np.uint16))


def _mottle(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """[H, W] relative density of muscle, fat and trabeculae, at three scales; mean 0."""
    import numpy as np

    total = np.zeros((size[1], size[0]), dtype=np.float32)
    for cells, amount in ((5, 0.07), (18, 0.04), (90, 0.03)):
        coarse = rng.normal(0, amount, (cells * size[1] // size[0], cells)).astype(np.float32)
        total += np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    return total


def _collimation(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """[H, W] 1 inside the collimated field and almost 0 outside; half of the films are exposed to their edges."""
    import numpy as np

    width, height = size
    image = Image.new("L", size, 255)
    if rng.random() < 0.5:
        image = Image.new("L", size, 8)
        left, right = rng.uniform(0, 0.06, 2) * width
        top, bottom = rng.uniform(0, 0.05, 2) * height
        corners = [(left, top), (width - right, top), (width - right, height - bottom), (left, height - bottom)]
        turn = math.radians(rng.normal(0, 0.8))
        cos, sin = math.cos(turn), math.sin(turn)
        around = [(x - width / 2, y - height / 2) for x, y in corners]
        turned = [(width / 2 + cos * x - sin * y, height / 2 + sin * x + cos * y) for x, y in around]
        ImageDraw.Draw(image).polygon(turned, fill=255)
        image = image.filter(ImageFilter.GaussianBlur(0.8))
    return np.asarray(image, dtype=np.float32) / 255


def _marker(rng: np.random.Generator, size: tuple[int, int], letter: str) -> np.ndarray:
    """[H, W] the lead letter L or R on the outer side of the film."""
    import numpy as np

    image = Image.new("L", size)
    x = size[0] * (0.9 if letter == "L" else 0.06) + rng.normal(0, 2)
    y = size[1] * rng.uniform(0.06, 0.2)
    strokes = [[(0, 0), (0, 12), (7, 12)]] if letter == "L" else [[(0, 12), (0, 0), (6, 0), (7, 3), (6, 6), (0, 6)], [(3, 6), (7, 12)]]
    pen = ImageDraw.Draw(image)
    for stroke in strokes:
        pen.line([(x + dx, y + dy) for dx, dy in stroke], fill=235, width=2)
    return np.asarray(image, dtype=np.float32) / 255
