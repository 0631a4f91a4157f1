"""Pictures inside a page, which then needs no other file."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

_QUALITY = 82


def thumbnail_uri(image: Image.Image, pixels: int) -> str:
    """A copy whose longer side is at most ``pixels``, as a JPEG in a data URI."""
    small = image.convert("RGB")
    small.thumbnail((pixels, pixels))
    return _uri(small, "JPEG", quality=_QUALITY)


def exact_uri(image: Image.Image) -> str:
    """The image itself, as a PNG in a data URI."""
    return _uri(image, "PNG")


def _uri(image: Image.Image, kind: str, **options: int) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"
