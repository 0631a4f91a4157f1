"""Models: towers, heads, losses, and the classes that compose them. Importing this package fills MODELS."""

from clipzoo.models.base import Model, Tower
from clipzoo.models.clip import CLIP

__all__ = ["CLIP", "Model", "Tower"]
