"""Pixels of a DICOM file as a viewer shows them first, following PS3.3 C.11: modality transform, VOI transform, polarity.

* The modality LUT or the rescale slope and intercept, then the first VOI LUT or else the first window, are applied by pydicom.
* What the window or LUT maps to its lowest and highest value is black and white, so the contrast is the one that the station chose. Without
  them, gray of more than 8 bits is rescaled from the image's minimum and maximum, as for 16-bit PNG; gray of up to 8 bits is kept.
* MONOCHROME1 is inverted: air is black in every image. Presentation LUTs, overlays and annotations are not drawn.
* Pixels with the padding value (or in its range) are black, and do not count for minimum and maximum.
* Palettes and YBR are converted to RGB; colour of more than 8 bits is reduced to its upper 8 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipzoo.datasets.files.dicom.reading import INSTALL, read_elements, readable
from clipzoo.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from pydicom import Dataset

TAGS = (
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns", "BitsAllocated"),
    *("BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "ModalityLUTSequence"),
    *("RescaleSlope", "RescaleIntercept", "VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "ExtendedOffsetTable"),
    *("ExtendedOffsetTableLengths", "PixelData", "FloatPixelData", "DoubleFloatPixelData", "SOPClassUID", "LossyImageCompression"),
    *(f"{colour}PaletteColorLookupTable{part}" for colour in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    "PaletteColorLookupTableUID",
)
_COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT", "PALETTE COLOR")
_GRAY = ("MONOCHROME1", "MONOCHROME2")
_EXTREME = 1e30  # beyond every pixel value


@dataclass(frozen=True)
class Displayed:
    """The pixels of one frame.

    Attributes:
        values: ``[H, W]`` gray of any type, or ``[H, W, 3]`` uint8 RGB.
        limits: Gray values of black and white.
        inverted: Whether the smaller limit is white.
        padding: ``[H, W]`` bool: pixels that were never exposed; ``None`` if there are none.
    """

    values: np.ndarray
    limits: tuple[float, float] = (0.0, 255.0)
    inverted: bool = False
    padding: np.ndarray | None = None


def displayed(content: bytes, frame: int | None = None) -> Displayed:
    """Decode the content of a DICOM file.

    Args:
        content: The whole file.
        frame: Number of the frame, from 1; ``None`` accepts only files with one frame.

    Raises:
        DataError: pydicom or a decoder is missing, the file has no pixels, several frames or too few, or it is damaged.
    """
    data = read_elements(content, TAGS, pixels=True)
    with readable():
        check_pixels(data, frame)
    if not any(keyword in data for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise DataError(without_pixels(data))
    syntax = data.file_meta.TransferSyntaxUID
    stored = f", stored as '{syntax.name}'," if syntax.is_compressed else ""
    with readable(f"the pixels of the DICOM file{stored} cannot be decoded"):
        from pydicom.pixels import pixel_array

        values = pixel_array(data, index=None if int(data.get("NumberOfFrames") or 1) == 1 else frame - 1)
        if data.PhotometricInterpretation in _GRAY:
            return _gray(data, values)
        return Displayed(_colour(data, values))


def check_pixels(data: Dataset, frame: int | None = None) -> None:
    """Refuse a data set whose pixels cannot be read, from its elements alone.

    Raises:
        DataError: It has no pixels, an unknown kind of them, several frames or too few, or needs a decoder that is missing.
    """
    from PIL import Image
    from pydicom.pixels import get_decoder

    if not data.get("Rows") or not data.get("Columns") or not data.get("PhotometricInterpretation"):
        raise DataError(without_pixels(data))
    if data.PhotometricInterpretation not in (*_COLOURS, *_GRAY):
        kinds = ", ".join((*_GRAY, *_COLOURS))
        raise DataError(f"the pixels are '{data.PhotometricInterpretation}', which is not supported. Supported: {kinds}")
    if Image.MAX_IMAGE_PIXELS and int(data.Rows) * int(data.Columns) > 2 * Image.MAX_IMAGE_PIXELS:
        raise DataError(f"the image exceeds the size limit ({data.Rows} x {data.Columns} pixels). Downscale it")
    frames = int(data.get("NumberOfFrames") or 1)
    if frames > 1 and frame is None:
        raise DataError(
            f"has {frames} frames, not one. Set data.dataset.frame to the number of one, from 1, or extract the one that you need"
        )
    if frame is not None and frame > frames:
        raise DataError(f"has {frames} {'frames' if frames > 1 else 'frame'}, so there is no frame {frame} (data.dataset.frame)")
    syntax = data.file_meta.TransferSyntaxUID
    try:
        decodable = get_decoder(syntax).is_available
    except NotImplementedError as error:
        raise DataError(f"the pixels are stored as '{syntax.name}', which pydicom does not support. Convert the file") from error
    if not decodable:
        raise DataError(f"no decoder for '{syntax.name}' is installed. {INSTALL}")


def without_pixels(data: Dataset) -> str:
    """The message for a data set that is no image, such as a report."""
    kind = data.get("SOPClassUID")
    name = f", {kind.name.replace(' Storage', '')}," if kind and kind.name != kind else ""
    return f"a DICOM file{name} without pixels. Remove it from the images"


def _gray(data: Dataset, stored: np.ndarray) -> Displayed:
    """Apply the transforms of the data set to stored values."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    if not _has_window(data):
        data.WindowCenter = data.WindowWidth = None
    padding = _padding(data, stored)
    values = apply_modality_lut(stored, data)
    if padding is not None and padding.all():
        padding = None
    shown = apply_voi_lut(values, data)
    limits = _limits(data, values if padding is None else values[~padding])
    return Displayed(shown, limits, data.PhotometricInterpretation == "MONOCHROME1", padding)


def _limits(data: Dataset, values: np.ndarray) -> tuple[float, float]:
    """What is shown black and white.

    Args:
        data: The data set.
        values: Values after the modality transform, without padding.
    """
    import numpy as np
    from pydicom.pixels import apply_voi_lut

    first = (data.get("VOILUTSequence") or [{}])[0]
    if first.get("LUTDescriptor") is not None and first.get("LUTData") is not None:
        ends = apply_voi_lut(np.arange(first.LUTDescriptor[1], first.LUTDescriptor[1] + (first.LUTDescriptor[0] or 2**16)), data)
    elif _has_window(data):
        with np.errstate(over="ignore"):
            ends = apply_voi_lut(np.array([-_EXTREME, _EXTREME]), data)
    elif _is_narrow(data):
        lowest = -(2 ** (data.BitsStored - 1)) if data.PixelRepresentation else 0
        slope, intercept = (float(data.get(name) or default) for name, default in (("RescaleSlope", 1), ("RescaleIntercept", 0)))
        ends = np.array([lowest, lowest + 2**data.BitsStored - 1]) * slope + intercept
    else:
        ends = values
    return float(ends.min()), float(ends.max())


def _has_window(data: Dataset) -> bool:
    """Is there a first window of a possible width? Some stations write 0 where they have none."""
    centre, width = data.get("WindowCenter"), data.get("WindowWidth")
    first = width[0] if isinstance(width, Sequence) and not isinstance(width, str) and len(width) else width
    linear = (data.get("VOILUTFunction") or "LINEAR") == "LINEAR"
    return centre not in (None, "") and isinstance(first, float) and (first >= 1 if linear else first > 0)


def _is_narrow(data: Dataset) -> bool:
    """Are the values integers of up to 8 bits, whose range is known?"""
    return "PixelData" in data and data.BitsStored <= 8 and not data.get("ModalityLUTSequence")


def _padding(data: Dataset, stored: np.ndarray) -> np.ndarray | None:
    """Where the stored values are padding (PS3.3 C.7.5.1.1.2); values may be written as the other type of 16 bits."""
    import numpy as np

    value = data.get("PixelPaddingValue")
    if value is None or stored.dtype.kind not in "iu":
        return None
    other = data.get("PixelPaddingRangeLimit")
    low, high = sorted(int(np.array(end, dtype=np.int64).astype(stored.dtype)) for end in (value, value if other is None else other))
    found = (stored >= low) & (stored <= high)
    return found if found.any() else None


def _colour(data: Dataset, values: np.ndarray) -> np.ndarray:
    """``[H, W, 3]`` uint8 RGB."""
    import numpy as np
    from pydicom.pixels import apply_color_lut

    bits = int(data.BitsStored)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        values = apply_color_lut(values, data)
        bits = 8 * values.dtype.itemsize
    if values.ndim != 3 or values.shape[2] != 3:
        raise ValueError(f"an array of shape {values.shape} is not a colour image")
    values = np.ascontiguousarray(values)
    return values.astype(np.uint8) if bits <= 8 else (values >> (bits - 8)).astype(np.uint8)
