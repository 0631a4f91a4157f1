"""One digest of how an image file becomes the pixels that the cache keeps: equal digests and equal bytes, equal pixels."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from clipzoo import __version__
from clipzoo.datasets import placement, transforms
from clipzoo.datasets.files import image_files, images, tiff_pages
from clipzoo.datasets.files.dicom import detect, pixels, reading
from clipzoo.structures import Preprocessing

READING = (images, image_files, tiff_pages, detect, reading, pixels, transforms)  # code between a file and a tower
_FORMAT = 1  # of the files of the cache; a higher one begins anew
_LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "pydicom",
    "python-gdcm",
    "pylibjpeg-libjpeg",
    "pylibjpeg-openjpeg",
    "pylibjpeg-rle",
)
_CODECS = ("jpg", "jpg_2000", "zlib", "libtiff", "webp", "littlecms2")  # libraries inside Pillow


def geometry_digest(preprocessing: Preprocessing, frame: int | None = None) -> str:
    """32 hexadecimal digits for everything that scaled pixels depend on, except the bytes of the file.

    Mean and standard deviation are not included: pixels are kept before the normalisation, so towers of the same size share them.

    Args:
        preprocessing: The input format of the tower.
        frame: Frame of DICOM files that is read; see ``read_image``.
    """
    import torch
    from PIL import ImageFile, features

    about = {
        "format": _FORMAT,
        "geometry": [preprocessing.size, preprocessing.fit, preprocessing.interpolation, frame],
        "code": [code_of(module.__name__) for module in (*READING, placement)],
        "versions": [__version__, *(version_of(name) for name in _LIBRARIES), *(features.version(name) for name in _CODECS)],
        # Torch resizes by other instructions, with other roundings, on other processors.
        "processor": [platform.machine(), torch.backends.cpu.get_cpu_capability()],
        "truncated": ImageFile.LOAD_TRUNCATED_IMAGES,
    }
    return hashlib.blake2b(json.dumps(about).encode(), digest_size=16).hexdigest()


@functools.cache
def code_of(name: str) -> str:
    """Digest of the source of a module, which may change under the same name and version."""
    try:
        return hashlib.blake2b(inspect.getsource(sys.modules[name]).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    except (OSError, TypeError, KeyError):  # defined in an interactive session
        return ""


@functools.cache
def version_of(package: str) -> str:
    """The version of a distribution on PyPI; empty if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
