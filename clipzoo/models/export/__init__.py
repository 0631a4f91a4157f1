"""Writing of CLIP models in the formats of other libraries."""

from clipzoo.models.export.open_clip import write_open_clip
from clipzoo.models.export.open_clip_towers import wraps_towers, write_open_clip_towers
from clipzoo.models.export.transformers import write_transformers
from clipzoo.models.layout.from_model import from_model

__all__ = ["from_model", "wraps_towers", "write_open_clip", "write_open_clip_towers", "write_transformers"]
