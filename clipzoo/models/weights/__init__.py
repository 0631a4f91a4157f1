"""Weights of whole CLIPs, in every format in use: in and out."""

from clipzoo.models.export.from_model import from_model
from clipzoo.models.export.open_clip import write_open_clip
from clipzoo.models.export.transformers import write_transformers
from clipzoo.models.weights.base import CLIPWeights
from clipzoo.models.weights.reader import read_clip

__all__ = ["CLIPWeights", "from_model", "read_clip", "write_open_clip", "write_transformers"]
