"""Sealed archives: read by numpy and torch as before, and refused after any change."""

import random

import numpy as np
import pytest
import torch

from clipzoo.errors import DataError
from clipzoo.records.sealed import check_seal, seal


@pytest.fixture(params=["numpy", "torch"])
def archive(request, tmp_path):
    path = tmp_path / "a.zip"
    with path.open("wb") as file:
        if request.param == "numpy":
            np.savez(file, a=np.arange(100.0))
        else:
            torch.save({"a": torch.arange(100.0)}, file)
    return path


def test_a_sealed_archive_is_read_as_before(archive):
    digest = seal(archive)
    assert check_seal(archive) == digest and len(digest) == 64
    try:
        content = np.load(archive)
    except ValueError:
        content = None
    if content is None or "a" not in content:
        content = torch.load(archive, weights_only=True, mmap=True)
    assert np.array_equal(np.asarray(content["a"]), np.arange(100.0))


def test_every_flipped_bit_is_refused(archive):
    seal(archive)
    content, draw = archive.read_bytes(), random.Random(0)
    last = len(content) * 8 - 8 * 81  # the seal's own bits, all of them
    for bit in [*draw.sample(range(last), 200), *range(last, len(content) * 8)]:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        archive.write_bytes(flipped)
        with pytest.raises(DataError, match="a.zip: (damaged|truncated)"):
            check_seal(archive)


def test_cut_grown_and_foreign_files_are_refused(archive):
    unsealed = archive.read_bytes()
    with pytest.raises(DataError, match="no digest of its content"):
        check_seal(archive)
    seal(archive)
    content = archive.read_bytes()
    for other in (content[:-1], content + b"\0", content[: len(content) // 2], b"", unsealed):
        archive.write_bytes(other)
        with pytest.raises(DataError, match="a.zip: (damaged|truncated)"):
            check_seal(archive)
