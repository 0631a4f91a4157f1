"""Caches that are damaged are computed again: never a wrong row, never a traceback."""

import os
import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipzoo.errors import DataError
from clipzoo.features.arrays import read_arrays, write_arrays
from clipzoo.features.store import FILE, Shelf
from clipzoo.inference.index import FORMAT, ImageIndex, IndexedFile
from clipzoo.records.sealed import seal

ROWS = {f"{i:032x}": np.array([i, i + 0.5, -i], dtype=np.float32) for i in range(4)}
INDEX = ImageIndex(
    tuple(IndexedFile(name, 100 + i, 10**18 + i) for i, name in enumerate(["a.png", "圆/b.png", os.fsdecode(b"\xff.png")])),
    np.eye(3, dtype=np.float32),
)


class Features:
    """``features.npz``, and what becomes of it."""

    def __init__(self, folder):
        self.folder, self.path, self.notes = folder, folder / FILE, []
        shelf = self.shelf()
        shelf.add(list(ROWS), np.stack(list(ROWS.values())))
        shelf.save()

    def shelf(self):
        return Shelf(self.folder, 3, self.notes.append)

    def survives(self):
        """Is it read as it was? Otherwise it must be empty, with one note."""
        self.notes.clear()
        rows = self.shelf().rows
        if rows:
            assert rows.keys() == ROWS.keys() and all(np.array_equal(rows[key], ROWS[key]) for key in ROWS) and not self.notes
            return True
        assert len(self.notes) == 1 and "computed again" in self.notes[0] and "\n" not in self.notes[0]
        return False


class Index:
    """The index of a folder."""

    def __init__(self, folder):
        self.path = folder / "index.npz"
        INDEX.write(self.path, "d" * 32)

    def survives(self):
        """Is it read as it was? Otherwise it must be refused in one line."""
        try:
            found = ImageIndex.read(self.path, "d" * 32)
        except DataError as error:
            assert "\n" not in str(error)
            return False
        assert found.files == INDEX.files and np.array_equal(found.features, INDEX.features)
        return True


@pytest.fixture(params=[Features, Index])
def kept(request, tmp_path):
    made = request.param(tmp_path)
    assert made.survives()
    return made


def test_every_one_of_200_flipped_bits_is_noticed(kept):
    whole, rng = kept.path.read_bytes(), random.Random(0)
    for bit in rng.sample(range(8 * len(whole)), 200):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        kept.path.write_bytes(damaged)
        assert not kept.survives(), bit


def mutated(whole: bytes, kind: str, place: int, length: int, content: bytes) -> bytes:
    place %= len(whole)
    if kind == "cut":
        return whole[:place]
    if kind == "begin later":
        return whole[place:]
    if kind == "leave out":
        return whole[:place] + whole[place + length :]
    if kind == "insert":
        return whole[:place] + content + whole[place:]
    if kind == "repeat":
        return whole[:place] + whole[place : place + length] * 2 + whole[place + length :]
    return whole[:place] + content + whole[place + len(content) :]


MUTATION = given(
    kind=st.sampled_from(["cut", "begin later", "leave out", "insert", "repeat", "overwrite"]),
    place=st.integers(0, 10**6),
    length=st.integers(1, 300),
    content=st.binary(min_size=1, max_size=40),
)
CHECKS = {"deadline": None, "derandomize": True, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


def check_mutation(kept, kind, place, length, content):
    whole = getattr(kept, "whole", None) or kept.path.read_bytes()
    kept.whole = whole
    changed = mutated(whole, kind, place, length, content)
    kept.path.write_bytes(changed)
    assert kept.survives() == (changed == whole)


@MUTATION
@settings(max_examples=100, **CHECKS)
def test_a_mutated_cache_is_noticed(kept, kind, place, length, content):
    check_mutation(kept, kind, place, length, content)


@pytest.mark.slow
@MUTATION
@settings(max_examples=2000, **CHECKS)
def test_2000_mutated_caches_are_noticed(kept, kind, place, length, content):
    check_mutation(kept, kind, place, length, content)


KEYS, VALUES = np.array(list(ROWS), dtype="S"), np.stack(list(ROWS.values()))


@pytest.mark.parametrize(
    "arrays",
    [
        {"keys": KEYS},
        {"keys": KEYS, "features": VALUES, "more": VALUES},
        {"keys": KEYS.astype("U"), "features": VALUES},
        {"keys": KEYS, "features": VALUES.astype(np.float64)},
        {"keys": KEYS, "features": VALUES.astype(">f4")},
        {"keys": KEYS, "features": VALUES[:3]},
        {"keys": KEYS, "features": VALUES[:, :2]},
        {"keys": KEYS, "features": VALUES[0]},
        {"keys": KEYS[None], "features": VALUES[None]},
        {"keys": np.repeat(KEYS[:1], 4), "features": VALUES},
        {"keys": np.array([b"\xff", b"a", b"b", b"c"]), "features": VALUES},
        {"keys": np.array([b"", b"a", b"b", b"c"]), "features": VALUES},
        {"keys": KEYS, "features": np.full_like(VALUES, np.nan)},
        {"keys": KEYS, "features": np.full_like(VALUES, np.inf)},
    ],
    ids=range(14),
)
def test_a_whole_archive_of_other_arrays_is_no_cache(tmp_path, arrays):
    kept = Features(tmp_path)
    write_arrays(kept.path, **arrays)
    assert not kept.survives()


@pytest.mark.parametrize("change", ["head", "names twice", "too few names", "states", "float states", "NaN", "one dimension"])
def test_a_whole_archive_of_other_arrays_is_no_index(tmp_path, change):
    kept = Index(tmp_path)
    arrays = read_arrays(kept.path, head="u1", names="u1", states="i8", features="f4")
    changes = {
        "head": {"head": np.frombuffer(f"{FORMAT} another".encode(), dtype=np.uint8)},
        "names twice": {"names": np.frombuffer(b"a\0a\0b", dtype=np.uint8)},
        "too few names": {"names": arrays["names"][:4]},
        "states": {"states": arrays["states"][:, :1]},
        "float states": {"states": arrays["states"].astype(np.float64)},
        "NaN": {"features": np.full((3, 3), np.nan, dtype=np.float32)},
        "one dimension": {"features": np.zeros(3, dtype=np.float32)},
    }
    write_arrays(kept.path, **{**arrays, **changes[change]})
    assert not kept.survives()


@pytest.mark.parametrize("kind", ["fifo", "folder", "dangling link", "no zip", "pickle", "no seal"])
def test_what_is_no_archive_of_ours_is_not_read(kept, kind):
    whole = kept.path
    whole.unlink()
    if kind == "fifo":
        os.mkfifo(whole)
    elif kind == "folder":
        whole.mkdir()
    elif kind == "dangling link":
        whole.symlink_to("nowhere")
    elif kind == "no zip":
        whole.write_bytes(b"PK\x05\x06" + bytes(18))
        seal(whole)
    else:
        with whole.open("wb") as file:
            np.savez(file, keys=np.array([{}], dtype=object) if kind == "pickle" else KEYS, features=VALUES)
        if kind == "pickle":
            seal(whole)
    assert not kept.survives()


def test_features_that_are_no_numbers_are_not_kept(tmp_path):
    kept = Features(tmp_path)
    shelf = kept.shelf()
    shelf.add(["e" * 32], np.full((1, 3), np.nan))
    shelf.save()
    assert np.isnan(shelf.take(["e" * 32])).all() and kept.survives()
