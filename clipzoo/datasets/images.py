"""Reading images: every mode that Pillow knows becomes upright 8-bit RGB, without clipping and without guessing.

What is decided here, and why:

* Gray of more than 8 bits (Pillow's modes ``I;16*``, ``I``, ``F``) is rescaled linearly from the image's own minimum and maximum to
  0 … 255. ``convert('RGB')`` would clip everything above 255 to white, and dividing by 65 535 would leave a 12-bit radiograph almost black.
  The absolute exposure is lost; a constant image becomes black.
* Alpha is composited on black, the background of a radiograph; the colour stored under transparent pixels never shows.
* EXIF orientation is applied; the image is as the viewer shows it.
* Of several pages or frames the first is read.
* 16-bit *colour* is cut to its upper 8 bits by Pillow while decoding; that is a full-range linear rescaling.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm")

_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
# what Pillow's decoders raise on damaged content
_DAMAGE = (OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error, zlib.error)
_WIDE_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_TIFF_PHOTOMETRIC = 262  # tag; value 0 = WhiteIsZero, DICOM's MONOCHROME1


def looks_like_an_image(head: bytes) -> bool:
    """Do the first 16 bytes of a file belong to a format of ``EXTENSIONS``, whatever the file is called?

    >>> looks_like_an_image(b'\\x89PNG\\r\\n\\x1a\\n'), looks_like_an_image(b'hello')
    (True, False)
    """
    starts = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
    if head.startswith(starts) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return True
    return head[:1] == b"P" and head[1:2] in b"123456fF" and head[2:3].isspace()  # netpbm


def read_image(path: str | Path) -> Image.Image:
    """Read an image file as upright RGB, 8 bits per channel.

    Raises:
        DataError: The file is missing, empty, truncated, corrupt or not an image; the message names it.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # radiographs are large; the hard limit stays
            with Image.open(path) as image:
                return upright_rgb(image)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        what = "the file is empty (zero bytes)" if Path(path).stat().st_size == 0 else "not an image, or a damaged one"
        raise DataError(f"{path}: {what}. Replace or remove the file") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: the image is too large ({error}). Make it smaller") from error
    except _DAMAGE as error:
        raise DataError(f"{path}: {_damaged(error)}") from error


def upright_rgb(image: Image.Image) -> Image.Image:
    """What ``read_image`` makes of an image that Pillow opened.

    Raises:
        DataError: It cannot be decoded, or a floating point image holds NaN or infinity.
    """
    from PIL import ImageOps

    try:
        image.load()
        inverted = _white_is_zero(image)  # before the copy that exif_transpose makes
        return to_rgb(ImageOps.exif_transpose(image), inverted=inverted)
    except _DAMAGE as error:
        raise DataError(_damaged(error)) from error


def _damaged(error: BaseException) -> str:
    return f"the image cannot be decoded ({error}). It is truncated or damaged: replace or remove the file"


def to_rgb(image: Image.Image, *, inverted: bool = False) -> Image.Image:
    """Convert an image of any Pillow mode to RGB by the rules at the top of this module.

    Args:
        image: Decoded, upright.
        inverted: Wide gray in which small values are bright.

    Raises:
        DataError: A floating point image holds NaN or infinity.
    """
    from PIL import Image

    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _WIDE_MODES:
        gray = Image.fromarray(rescale(_wide_values(image), inverted=inverted))
        return gray.convert("RGB")
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        rgba = image.convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, rgba).convert("RGB")
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    return image.convert("RGB")


def rescale(values: np.ndarray, *, inverted: bool = False) -> np.ndarray:
    """Map the range of ``values`` linearly to 0 … 255, rounded; a constant image becomes 0.

    Args:
        values: ``[H, W]``, any integer or floating type, finite.
        inverted: The largest value becomes 0.

    Returns:
        ``[H, W]`` uint8.

    Raises:
        DataError: A value is NaN or infinite.

    >>> import numpy as np
    >>> rescale(np.array([[0, 1000], [2000, 4095]])).tolist()
    [[0, 62], [125, 255]]
    """
    import numpy as np

    values = np.asarray(values, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError("the image holds values that are not finite numbers. Replace them before training")
    if high == low:
        return np.zeros(values.shape, dtype=np.uint8)
    scaled = (values - low) * (255.0 / (high - low))
    return np.rint(255.0 - scaled if inverted else scaled).astype(np.uint8)


def _wide_values(image: Image.Image) -> np.ndarray:
    import numpy as np

    return np.asarray(image)  # Pillow gives every I;16 variant its byte order


def _white_is_zero(image: Image.Image) -> bool:
    """Pillow inverts 1- and 8-bit TIFFs of this kind itself, the wider ones not."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and image.mode in _WIDE_MODES and tags.get(_TIFF_PHOTOMETRIC) == 0


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    return ImageCms.profileToProfile(image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB")
