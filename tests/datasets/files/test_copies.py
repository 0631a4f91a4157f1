"""Copies are found by their bytes, and large files are not read through for it."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipzoo.datasets.files import copies
from clipzoo.datasets.files.copies import copies_among
from clipzoo.errors import DataError


def written(folder: Path, contents: list[bytes]) -> list[tuple[str, str, int]]:
    for index, content in enumerate(contents):
        (folder / str(index)).write_bytes(content)
    return [(str(index), str(folder / str(index)), len(content)) for index, content in enumerate(contents)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from([b"", b"ab", b"cd", bytes(40), bytes(39) + b"1", b"1" + bytes(39), bytes(9) + b"1" + bytes(30)]), max_size=9)
)
def test_copies_are_the_files_of_equal_bytes(tmp_path_factory, contents):
    """With blocks of 8 bytes, the last of these contents differs from another one only between them."""
    files = written(tmp_path_factory.mktemp("files"), contents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "_BLOCK", 8)
        found = copies_among(files)
    same = [[str(i) for i, other in enumerate(contents) if other == content] for content in dict.fromkeys(contents)]
    assert sorted(found) == sorted(names for names in same if len(names) > 1)


def test_large_files_of_equal_size_are_read_only_where_samples_agree(tmp_path, monkeypatch):
    size = 1 << 20
    files = written(tmp_path, [os.urandom(size) for _ in range(4)])
    (tmp_path / "3").write_bytes((tmp_path / "1").read_bytes())
    through = []
    monkeypatch.setattr(copies, "file_digest", lambda path, whole=copies.file_digest: through.append(path) or whole(path))
    assert copies_among(files) == [["1", "3"]]
    assert through == [str(tmp_path / "1"), str(tmp_path / "3")]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    files = written(tmp_path, [bytes(1 << 20), bytes(1 << 20)])
    (tmp_path / "1").unlink()
    with pytest.raises(DataError, match=r"1: cannot be read \(No such file"):
        copies_among(files)
