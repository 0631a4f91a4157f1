"""A map drawn over its picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

COLOURS = "inferno"  # perceptually uniform: equal steps of the map look equally large, also in grey and to the colour-blind
STRONGEST = 0.75  # opacity at the map's maximum
_GREY = 0.6  # how far the picture loses its own colours, so that those of the map are not confused with them


def overlay(image: Image.Image, heat: np.ndarray) -> Image.Image:
    """The picture with a map over it: the colour shows the value as a share of the map's maximum, and so does the opacity.

    A map without any positive value leaves the paled picture alone. Nothing is written into it.

    Args:
        image: RGB picture.
        heat: ``[height, width]`` of the picture's size, at least 0.

    Returns:
        RGB picture of the same size.
    """
    from matplotlib import colormaps

    highest = float(heat.max())
    share = np.asarray(heat, dtype=np.float32) / highest if highest > 0 else np.zeros(heat.shape, dtype=np.float32)
    colours = colormaps[COLOURS](share)[..., :3].astype(np.float32)
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    grey = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    paled = (1 - _GREY) * pixels + _GREY * grey[..., None]
    opacity = STRONGEST * share[..., None]
    return Image.fromarray(np.rint(255 * ((1 - opacity) * paled + opacity * colours)).astype(np.uint8))
