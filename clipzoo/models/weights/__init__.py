"""Reading weights: of whole CLIPs in every format in use, from files, folders and hubs. Nothing in a file is ever run."""

from clipzoo.models.layout.clip_weights import CLIPWeights
from clipzoo.models.weights.reader import read_clip

__all__ = ["CLIPWeights", "read_clip"]
