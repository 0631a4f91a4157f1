"""Does a map point at the object? For images on which the place of the object is known.

Shapes: N images · H, W rows and columns of the maps. Boxes are ``[N, 4]``: left, top, right and bottom in pixels of the maps.
"""

from __future__ import annotations

import numpy as np


def pointing_hits(maps: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """``[N]`` in [0, 1]: whether the highest point lies in the box; of several equally high ones, the share that does.

    A map without any positive value points nowhere and is a miss.

    Source: the pointing game of Zhang et al. 2016 (arXiv:1608.00507), section 4.1, without their tolerance of 15 pixels.
    """
    inside = _inside(maps.shape, boxes)
    highest = maps == maps.max(axis=(1, 2), keepdims=True)
    shares = (highest & inside).sum(axis=(1, 2)) / highest.sum(axis=(1, 2))
    return np.where(maps.max(axis=(1, 2)) > 0, shares, 0.0)


def mass_inside(maps: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """``[N]`` in [0, 1]: the share of a map's sum that lies in the box; 0 for a map without any positive value.

    A map that is equal everywhere has the share of the box's area, see ``area_of``.
    """
    total = maps.sum(axis=(1, 2), dtype=np.float64)
    within = (maps * _inside(maps.shape, boxes)).sum(axis=(1, 2), dtype=np.float64)
    return np.divide(within, total, out=np.zeros_like(total), where=total > 0)


def area_of(shape: tuple[int, int, int], boxes: np.ndarray) -> np.ndarray:
    """``[N]``: the share of the pixels that lie in the box: what a point or a map by chance reaches."""
    return _inside(shape, boxes).mean(axis=(1, 2))


def _inside(shape: tuple[int, int, int], boxes: np.ndarray) -> np.ndarray:
    """``[N, H, W]``: whether the centre of a pixel lies in the box."""
    _, height, width = shape
    left, top, right, bottom = (np.asarray(boxes, dtype=np.float64)[:, edge, None] for edge in range(4))
    rows, columns = np.arange(height) + 0.5, np.arange(width) + 0.5
    return ((rows >= top) & (rows < bottom))[:, :, None] & ((columns >= left) & (columns < right))[:, None, :]
