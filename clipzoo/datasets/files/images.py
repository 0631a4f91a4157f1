"""Image reading: every mode supported by Pillow is converted to upright 8-bit RGB, without clipping or guessing.

Rules and reasons:

* Gray of more than 8 bits (Pillow's modes ``I;16*``, ``I``, ``F``) is rescaled linearly from the image's minimum and maximum to
  0 … 255. ``convert('RGB')`` would clip everything above 255 to white, and dividing by 65 535 would leave a 12-bit radiograph almost black.
  The absolute exposure is lost; a constant image becomes black.
* Alpha is composited on black, the background of a radiograph; the colour of transparent pixels never shows.
* The EXIF (or TIFF or XMP) orientation is applied, so that the image is as a viewer shows it. Other metadata is not read.
* Only the first page or frame is read; of DICOM, the frame that is asked for.
* DICOM is shown as a viewer shows it (``dicom.pixels``).
* 16-bit *colour* is reduced to its upper 8 bits by Pillow while decoding, which is a linear rescaling of the full range.
* A TIFF that Pillow would not read exactly is refused (``tiff_pages``).
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.datasets.files.dicom.detect import HEAD, is_dicom
from clipzoo.datasets.files.dicom.pixels import displayed
from clipzoo.datasets.files.image_files import pixels_only
from clipzoo.datasets.files.tiff_pages import Gray, unreadable
from clipzoo.errors import DAMAGE, DataError
from clipzoo.files import read_bytes

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

DICOM_EXTENSIONS = (".dcm", ".dicom")
EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm")

_ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
_WIDE_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_ORIENTATION = 0x0112
_TIFF_PHOTOMETRIC = 262  # tag; value 0 = WhiteIsZero, DICOM's MONOCHROME1
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")  # those of EXTENSIONS; other plugins may start external programs


def read_image(path: str | Path, *, frame: int | None = None) -> Image.Image:
    """Read an image file as upright RGB, 8 bits per channel.

    Args:
        path: The file.
        frame: Number of the frame of a DICOM file, from 1; ``None`` accepts only files with one frame. Other formats ignore it.

    Raises:
        DataError: The file is missing, empty, truncated, corrupt, not an image, or cannot be read exactly; the message names it.
    """
    content = read_bytes(path)
    try:
        return decode(content, frame=frame)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def decode(content: bytes, *, frame: int | None = None) -> Image.Image:
    """Decode the content of a file as ``read_image`` does.

    Raises:
        DataError: See ``read_image``.
    """
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise DataError("the file is empty (zero bytes). Replace or remove it")
    if is_dicom(content[:HEAD]):
        return _dicom_to_rgb(content, frame)
    pixels = pixels_only(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # radiographs are large; the hard limit still applies, and problems raise an error below
            with Image.open(io.BytesIO(pixels.content), formats=_FORMATS) as image:
                image.load()
                return _upright(_gray_to_rgb(image, pixels.gray) if pixels.gray else to_rgb(image), pixels.orientation)
    except UnidentifiedImageError as error:
        raise unreadable(pixels.tiff) if pixels.tiff else DataError("not an image, or a damaged one. Replace or remove the file") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"the image exceeds the size limit ({error}). Downscale it") from error
    except MemoryError as error:
        raise DataError("too little memory for the image. Downscale it") from error
    except DAMAGE as error:
        raise DataError(_damaged(error)) from error


def num_pixels(content: bytes) -> int:
    """Width times height of the first page as the file states them, without decoding it; 0 if it is no such image, or DICOM."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                return image.width * image.height
    except Image.DecompressionBombError:
        return 2 * (Image.MAX_IMAGE_PIXELS or 0)
    except (UnidentifiedImageError, *DAMAGE):
        return 0


def upright_rgb(image: Image.Image) -> Image.Image:
    """Convert an image opened by Pillow as ``read_image`` does.

    Raises:
        DataError: The image cannot be decoded, or has floating point values that are NaN or infinite.
    """
    try:
        content = _content(image)
        if content is not None:
            return decode(content)
        image.load()
        return _upright(to_rgb(image, inverted=_white_is_zero(image)), _orientation(image))
    except DAMAGE as error:
        raise DataError(_damaged(error)) from error


def _content(image: Image.Image) -> bytes | None:
    """The file content of an image that is not decoded yet, if its format is supported, so that both ways of reading agree."""
    stream = getattr(image, "fp", None)
    if stream is None or not getattr(image, "tile", None) or image.format not in (*_FORMATS, "MPO") or image.tell():
        return None
    position = stream.tell()
    stream.seek(0)
    content = stream.read()
    stream.seek(position)
    return content


def _orientation(image: Image.Image) -> int:
    """The orientation of a decoded image; invalid metadata is ignored."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except DAMAGE:
        return 1
    return orientation if isinstance(orientation, int) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    """Rotate and mirror an image stored in one of the eight EXIF orientations."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _damaged(error: BaseException) -> str:
    return f"the image cannot be decoded ({error}). The file is truncated or damaged: replace or remove it"


def to_rgb(image: Image.Image, *, inverted: bool = False) -> Image.Image:
    """Convert an image of any Pillow mode to RGB by the rules in the module docstring.

    Args:
        image: Decoded, upright image.
        inverted: Whether small values of wide gray are bright.

    Raises:
        DataError: A floating point image contains NaN or infinity.
    """
    from PIL import Image

    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _WIDE_MODES:
        return _rescaled(_values(image), inverted)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        rgba = image.convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, rgba).convert("RGB")
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    return image.convert("RGB")


def rescale(values: np.ndarray, *, inverted: bool = False, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Map the range of ``values`` linearly to 0 … 255, rounded; constant images become 0.

    Args:
        values: ``[H, W]`` of any integer or floating type, finite.
        inverted: Whether the largest value becomes 0.
        limits: Range that is mapped, beyond which values are clipped; ``None`` for minimum and maximum.

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
    low, high = (float(values.min()), float(values.max())) if limits is None else limits
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError("the image contains NaN or infinite values. Replace them before training")
    if high == low:
        return np.zeros(values.shape, dtype=np.uint8)
    if limits is not None:
        values = np.clip(values, low, high)
    scaled = (values - low) * (255.0 / (high - low))
    return np.rint(255.0 - scaled if inverted else scaled).astype(np.uint8)


def _dicom_to_rgb(content: bytes, frame: int | None) -> Image.Image:
    from PIL import Image

    shown = displayed(content, frame)
    if shown.values.ndim == 3:
        return Image.fromarray(shown.values)
    gray = rescale(shown.values, inverted=shown.inverted, limits=shown.limits)
    if shown.padding is not None:
        gray[shown.padding] = 0
    return Image.fromarray(gray).convert("RGB")


def _gray_to_rgb(image: Image.Image, gray: Gray) -> Image.Image:
    """Convert gray values that Pillow returned as bits of another type."""
    values = _values(image)
    values = values.byteswap() if gray.swapped else values
    return _rescaled(values.view(gray.dtype), gray.inverted)


def _rescaled(values: np.ndarray, inverted: bool) -> Image.Image:
    from PIL import Image

    return Image.fromarray(rescale(values, inverted=inverted)).convert("RGB")


def _values(image: Image.Image) -> np.ndarray:
    import numpy as np

    values = np.asarray(image)  # Pillow keeps the byte order of every I;16 variant
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))


def _white_is_zero(image: Image.Image) -> bool:
    """Pillow inverts 1- and 8-bit TIFFs of this kind, but not wider ones."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and image.mode in _WIDE_MODES and tags.get(_TIFF_PHOTOMETRIC) == 0


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    return ImageCms.profileToProfile(image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB")
