"""Reading of CLIP weights in all common formats, from files, folders and hubs. No code in a file is ever run."""

from clipzoo.models.layout.clip_weights import CLIPWeights
from clipzoo.models.weights.reader import read_clip

__all__ = ["CLIPWeights", "read_clip"]
