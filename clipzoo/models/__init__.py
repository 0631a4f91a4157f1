"""Models: towers, heads, losses, and the classes that combine them. Importing this package fills MODELS."""

from clipzoo.models.base import Model
from clipzoo.models.clip import CLIP
from clipzoo.models.image_classifier import ImageClassifier
from clipzoo.models.tower import Tower

__all__ = ["CLIP", "ImageClassifier", "Model", "Tower"]
