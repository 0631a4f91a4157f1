"""Whether a file ends too early is read from its own structure: what follows the first picture does not matter."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from smooth_pictures import picture

from clipzoo.datasets.inspection.image_facts import _is_cut


def saved(format: str, number: int = 0, **options) -> bytes:
    buffer = io.BytesIO()
    picture(number).convert("RGB").save(buffer, format, **options)
    return buffer.getvalue()


JPEGS = {
    "baseline": saved("JPEG"),
    "progressive": saved("JPEG", progressive=True, quality=95),
    "restarts": saved("JPEG", restart_marker_rows=1),
    "preview": saved("JPEG", exif=b"Exif\x00\x00" + saved("JPEG", 1)),
    "comment": saved("JPEG", comment=b"\xff\xd9 \xff\xda"),
}


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_without_its_end(name):
    content = JPEGS[name]
    assert not _is_cut(content) and not _is_cut(content + bytes(100)) and not _is_cut(content[:-2] + b"\xff" + content[-2:])
    for missing in (1, 2, 10, len(content) // 2):
        assert _is_cut(content[:-missing]), missing


def test_a_png_without_its_end():
    content = saved("PNG")
    assert not _is_cut(content) and not _is_cut(content + bytes(100_000)) and not _is_cut(content + b"a scanner's notes")
    for missing in (1, 4, 12, len(content) // 2):
        assert _is_cut(content[:-missing]), missing
    assert _is_cut(content[:-12] + b"IENDIEND"), "the name alone is not the chunk"


def test_only_the_first_picture_of_a_jpeg_with_two_counts():
    content = saved("MPO", save_all=True, append_images=[picture(1).convert("RGB")])
    first = content.index(b"\xff\xd8\xff", 2)
    assert Image.open(io.BytesIO(content)).n_frames == 2
    assert not _is_cut(content) and not _is_cut(content[:-200]) and not _is_cut(content[: first + 50])
    assert _is_cut(content[: first - 40])


def test_other_formats_are_not_judged():
    assert not any(_is_cut(saved(format)[:-20]) for format in ("BMP", "TIFF", "WEBP"))
