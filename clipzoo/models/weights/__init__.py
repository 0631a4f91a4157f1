"""Weights of whole CLIPs, in every format in use: in and out."""

from clipzoo.models.weights.base import CLIPWeights
from clipzoo.models.weights.open_clip_writer import write_open_clip
from clipzoo.models.weights.reader import read_clip
from clipzoo.models.weights.towers import from_model
from clipzoo.models.weights.transformers_writer import write_transformers

__all__ = ["CLIPWeights", "from_model", "read_clip", "write_open_clip", "write_transformers"]
