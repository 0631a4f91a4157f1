"""Where the pixels of an image lie on the square that a tower sees, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

from clipzoo.errors import ConfigError


@dataclass(frozen=True)
class Placement:
    """A scaled image on the square of a tower.

    Attributes:
        width: Width of the scaled image in pixels.
        height: Its height.
        left: Column of its left edge on the square; negative if it is cropped.
        top: Row of its upper edge.
    """

    width: int
    height: int
    left: int
    top: int


def placement(fit: str, size: int, width: int, height: int) -> Placement:
    """Where ``fit`` puts an image of ``width x height`` on a square of ``size``; see ``Preprocessing.fit``.

    Raises:
        ConfigError: ``fit`` is unknown.
    """
    if fit == "pad":
        scale = size / max(width, height)
        scaled = max(1, round(width * scale)), max(1, round(height * scale))
        return Placement(*scaled, (size - scaled[0]) // 2, (size - scaled[1]) // 2)
    if fit == "crop":
        scaled = size * width // min(width, height), size * height // min(width, height)
        return Placement(*scaled, -round((scaled[0] - size) / 2), -round((scaled[1] - size) / 2))
    if fit == "squash":
        return Placement(size, size, 0, 0)
    raise ConfigError(f"preprocessing: unknown fit {fit!r}. Known: pad, crop, squash")
