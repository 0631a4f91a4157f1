"""Small copies of images inside an answer."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

PIXELS = 320  # longer side


def picture_uri(image: Image.Image, pixels: int = PIXELS) -> str:
    """A copy of at most ``pixels`` as a JPEG in a data URI."""
    small = image.convert("RGB")
    small.thumbnail((pixels, pixels))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
