"""Weights of whole CLIPs, in every format in use: in and out."""

from clipzoo.models.weights.base import CLIPWeights
from clipzoo.models.weights.reader import read_clip

__all__ = ["CLIPWeights", "read_clip"]
