"""A file is read once, as long as its size and times vouch for its bytes."""

import os

import pytest

from clipzoo.datasets.files import digests
from clipzoo.datasets.files.digests import FileDigest, FileDigests, FileState
from clipzoo.errors import DataError

SECOND = 10**9


@pytest.mark.parametrize("state, holds", [
    (FileState(5, 10 * SECOND, 10 * SECOND), True),
    (FileState(6, 10 * SECOND, 10 * SECOND), False),
    (FileState(5, 10 * SECOND + 1, 10 * SECOND), False),
    (FileState(5, 10 * SECOND, 10 * SECOND + 1), False),
])  # fmt: skip
def test_size_and_both_times_must_be_the_same(state, holds):
    assert FileDigest("aa", FileState(5, 10 * SECOND, 10 * SECOND), 60 * SECOND).holds_for(state) == holds


@pytest.mark.parametrize("modified, changed, holds", [(10, 10, True), (58, 10, False), (10, 58, False), (99, 10, False)])
def test_a_file_written_just_before_it_was_read_may_have_changed_since(modified, changed, holds):
    state = FileState(5, modified * SECOND, changed * SECOND)
    assert FileDigest("aa", state, 60 * SECOND).holds_for(state) == holds


def test_what_still_holds_is_not_read_again(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    path.write_bytes(b"one")
    known = FileDigests()
    assert known.of(str(path)) is not known.of(str(path)), "just written"
    monkeypatch.setattr(digests, "_TICK", -(10**18))
    first = known.of(str(path))
    with monkeypatch.context() as patch:
        patch.setattr(digests, "file_digest", None)
        assert known.of(str(path)) is first
        later = FileDigests()
        later.add(str(path), first)
        assert later.of(str(path)) is first, "what an earlier process found"
    path.write_bytes(b"other")
    assert known.of(str(path)).digest != first.digest
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match="a FIFO"):
        known.of(str(path))
