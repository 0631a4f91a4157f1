"""DICOM files that tests write: a radiograph of given pixels, with a patient and anything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_dicom(path: Path, pixels: np.ndarray, *, header: bool = True, syntax: str = "1.2.840.10008.1.2.1", **elements: object) -> Path:
    """Write one or several frames as a digital X-ray.

    Args:
        path: File to write.
        pixels: ``[H, W]``, ``[F, H, W]`` or ``[H, W, 3]`` of 8, 16 or 32 bits.
        header: Whether to write the header of PS3.10.
        syntax: Transfer syntax, uncompressed.
        elements: Values of further elements by keyword; ``None`` removes one.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import generate_uid

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    data.SpecificCharacterSet = "ISO_IR 192"
    data.Modality, data.StudyInstanceUID = "DX", "1.2.3.4"
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    data.Rows, data.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        data.PlanarConfiguration = 0
    elif pixels.ndim == 3:
        data.NumberOfFrames = len(pixels)
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(pixels.dtype.kind == "i")
    order = ">" if syntax == "1.2.840.10008.1.2.2" else "<"
    content = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    data.PixelData = content + b"\0" * (len(content) % 2)
    data["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for keyword, value in elements.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {"implicit_vr": syntax == "1.2.840.10008.1.2", "little_endian": order == "<"}
    if header:
        data.save_as(path, enforce_file_format=True)
    else:
        del data.file_meta
        data.save_as(path, **kinds)
    return path
