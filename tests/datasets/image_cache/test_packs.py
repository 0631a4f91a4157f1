"""Packs: pixels come back as they were, or not at all, whatever happens to the files and to the processes that write them."""

import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from clipzoo.datasets.image_cache import budget as budget_module
from clipzoo.datasets.image_cache.budget import Budget, writing
from clipzoo.datasets.image_cache.packs import RECORD, Packs

MIB = 1 << 20
GEOMETRY = "0123456789abcdef" * 2


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def pixels(number: int, height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


def packs_in(root: Path, notes: list | None = None, size: int = 64 * MIB, geometry: str = GEOMETRY) -> Packs:
    return Packs(root / geometry, Budget(root, size), (notes if notes is not None else []).append)


def filled(root: Path, count: int = 10) -> Packs:
    packs = packs_in(root)
    for number in range(count):
        packs.put(key(number), pixels(number, 20 + number))
    packs.flush()
    return packs


def check(packs: Packs, count: int) -> int:
    """Whatever is found of ``count`` images is right; how many are found."""
    found = {number: packs.get(key(number)) for number in range(count)}
    assert all(np.array_equal(got, pixels(number, 20 + number)) for number, got in found.items() if got is not None)
    return sum(got is not None for got in found.values())


def files_of(root: Path, ending: str) -> list[Path]:
    return sorted(root.glob(f"*/*.{ending}"))


def test_pixels_come_back_in_this_object_another_and_a_pickled_one(tmp_path):
    packs = filled(tmp_path)
    for one in (packs, packs_in(tmp_path), pickle.loads(pickle.dumps(packs))):
        assert check(one, 10) == 10 and one.get(key(99)) is None
        assert key(3) in one and key(99) not in one
    assert len(files_of(tmp_path, "pack")) == 1


def test_the_folder_is_for_its_owner_unless_it_was_there(tmp_path):
    filled(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    (tmp_path / "shared").mkdir(mode=0o755)
    filled(tmp_path / "shared")
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o755


def test_what_another_object_keeps_is_seen_and_not_kept_twice(tmp_path):
    first, second, third = (packs_in(tmp_path) for _ in range(3))
    for number in range(4):
        first.put(key(number), pixels(number))
        first.flush()
        np.testing.assert_array_equal(second.get(key(number)), pixels(number))
    size = files_of(tmp_path, "pack")[0].stat().st_size
    third.put(key(2), pixels(2))
    third.flush()
    assert files_of(tmp_path, "pack")[0].stat().st_size == size == 4 * 20 * 30 * 3


@pytest.mark.parametrize("ending", ["pack", "index"])
def test_every_damage_is_noticed_and_written_again(tmp_path, ending):
    rng = random.Random(0)
    for trial in range(24):
        root = tmp_path / str(trial)
        filled(root)
        file = files_of(root, ending)[0]
        content = bytearray(file.read_bytes())
        kind = trial % 3
        if kind == 0:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del content[rng.randrange(len(content)) :]
        else:
            start = rng.randrange(len(content))
            content[start : start + 100] = rng.randbytes(min(100, len(content) - start))
        file.write_bytes(content)
        notes: list[str] = []
        packs = packs_in(root, notes)
        found = check(packs, 10)
        assert found < 10 or kind == 2
        assert len(set(notes)) <= 1 and all("is damaged" in note for note in notes) and (notes or ending == "index")
        for number in range(10):
            if packs.get(key(number)) is None:
                packs.put(key(number), pixels(number, 20 + number))
        packs.flush()
        assert check(packs, 10) == 10 and check(packs_in(root), 10) == 10


def test_a_half_written_record_is_overwritten(tmp_path):
    filled(tmp_path, 3)
    index = files_of(tmp_path, "index")[0]
    index.write_bytes(index.read_bytes() + b"x" * (RECORD.size - 1))
    packs = packs_in(tmp_path)
    packs.put(key(3), pixels(3, 23))
    packs.flush()
    assert check(packs_in(tmp_path), 4) == 4 and index.stat().st_size == 4 * RECORD.size


def test_a_deleted_folder_costs_only_decoding(tmp_path):
    import shutil

    packs = filled(tmp_path)
    shutil.rmtree(tmp_path / GEOMETRY)
    assert check(packs, 10) in (0, 10)  # open files may still be there
    packs.close()
    assert check(packs, 10) == 0
    packs.put(key(0), pixels(0))
    packs.flush()
    assert check(packs_in(tmp_path), 1) == 1


# --- the budget -------------------------------------------------------------------------------------------------------------------------


def used(root: Path) -> int:
    return sum(file.stat().st_size for ending in ("pack", "index") for file in files_of(root, ending))


def test_packs_unused_for_longest_make_room_and_nothing_else_is_deleted(tmp_path, monkeypatch):
    size = 8 * MIB
    other = tmp_path / "data"
    other.mkdir()
    (other / f"{1:020d}.pack").write_bytes(b"mine")
    (tmp_path / GEOMETRY).mkdir()
    (tmp_path / GEOMETRY / "notes.pack").write_bytes(b"mine")
    for mine in (other / f"{1:020d}.pack", tmp_path / GEOMETRY / "notes.pack"):
        os.utime(mine, (0, 0))
    old = packs_in(tmp_path, size=size)
    for number in range(40):  # 120 KB each: five packs
        old.put(key(number), pixels(number, 200, 200))
    old.flush()
    first, second, *_ = files_of(tmp_path, "index")
    notes: list[str] = []
    new = packs_in(tmp_path, notes, size, geometry="f" * 32)
    for number in range(40):
        new.put(key(number), pixels(number, 200, 200))
    new.flush()
    assert used(tmp_path) <= size and not new.is_open and len(notes) == 1
    assert "cannot grow (no room within runtime.image_cache_gib" in notes[0]
    assert old.get(key(0)) is not None, "all packs were used a moment ago"
    ages = {path: age for age, path in enumerate(reversed(files_of(tmp_path, "index")), start=2)}
    for path, hours in ages.items():
        for part in (path, path.with_suffix(".pack")):
            os.utime(part, (time.time() - hours * 3600,) * 2)
    os.utime(second)
    again = packs_in(tmp_path, size=size, geometry="e" * 32)
    for number in range(9):  # two packs
        again.put(key(number), pixels(number, 200, 200))
    again.flush()
    assert again.is_open and used(tmp_path) <= size and second.exists()
    assert sum(not path.exists() for path in ages) == 2 and not max(set(ages) - {second}, key=ages.get).exists()
    assert (other / f"{1:020d}.pack").read_bytes() == (tmp_path / GEOMETRY / "notes.pack").read_bytes() == b"mine"
    old.close()
    left = [number for number in range(40) if (got := old.get(key(number))) is not None and np.array_equal(got, pixels(number, 200, 200))]
    assert 0 < len(left) < 40


def test_the_disk_is_not_filled(tmp_path, monkeypatch):
    monkeypatch.setattr(budget_module.shutil, "disk_usage", lambda path: type("", (), {"free": 1 << 29}))
    notes: list[str] = []
    packs = packs_in(tmp_path, notes)
    packs.put(key(0), pixels(0))
    packs.flush()
    assert packs.get(key(0)) is None and files_of(tmp_path, "pack") == []
    assert len(notes) == 1 and "cannot grow (less than 1 GiB of the disk is free)" in notes[0]


def test_a_write_that_fails_ends_the_cache_with_one_line(tmp_path):
    """A real limit of the system: a file may not grow beyond it, and the write that would fails in its middle."""
    packs, notes = packs_in(tmp_path, notes := []), notes
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20 * 30 * 3 * 3 + 100, hard))
    try:
        for number in range(8):
            packs.put(key(number), pixels(number, 20 + number))
            packs.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(notes) == 1 and "cannot grow (File too large)" in notes[0] and "runtime.image_cache" in notes[0]
    assert not packs.is_open and check(packs, 8) == check(packs_in(tmp_path), 8) == 2
    (tmp_path / "file").write_text("")
    packs = packs_in(tmp_path / "file" / "cache", notes)
    packs.put(key(0), pixels(0))
    packs.flush()
    assert len(notes) == 2 and "cannot grow (Not a directory)" in notes[1]


def test_a_writer_that_hangs_is_not_waited_for(tmp_path):
    program = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); time.sleep(60)"
    packs = filled(tmp_path, 2)
    hanging = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / ".lock")], stdout=subprocess.PIPE)
    try:
        hanging.stdout.readline()
        with writing(tmp_path) as is_ours:
            assert not is_ours
        packs.put(key(2), pixels(2, 22))
        packs.flush()
        assert packs.is_open and check(packs, 3) == 2
    finally:
        hanging.kill()
        hanging.communicate()
    packs.put(key(2), pixels(2, 22))
    packs.flush()
    assert check(packs, 3) == 3


# --- processes --------------------------------------------------------------------------------------------------------------------------

WRITER = """
import random, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_packs import check, key, packs_in, pixels
root, count, seed = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
numbers = list(range(count))
random.Random(seed).shuffle(numbers)
packs = packs_in(root, size=16 << 20)
for number in numbers:
    if packs.get(key(number)) is None:
        packs.put(key(number), pixels(number, 20 + number))
        if number % 3 == 0:
            packs.flush()
packs.flush()
print("done", check(packs, count))
"""


def writer(root: Path, count: int, seed: int) -> subprocess.Popen:
    command = [sys.executable, "-c", WRITER, str(Path(__file__).parent), str(root), str(count), str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_writers_at_once_keep_every_image_once(tmp_path):
    running = [writer(tmp_path, 120, seed) for seed in range(2)]
    assert [process.communicate(timeout=60)[0] for process in running] == ["done 120\n"] * 2
    assert check(packs_in(tmp_path), 120) == 120
    assert sum(file.stat().st_size for file in files_of(tmp_path, "index")) == 120 * RECORD.size


@pytest.mark.slow
def test_what_killed_writers_leave_is_right_or_written_again(tmp_path):
    """Kills at random moments while several write: nothing wrong is read, and the cache fills all the same."""
    rng = random.Random(1)
    kept = []
    for trial in range(4):
        root = tmp_path / str(trial)
        for kill in range(2):
            running = [writer(root, 400, 10 * kill + number) for number in range(2)]
            begun, end = sum(file.stat().st_size for file in files_of(root, "index")), time.monotonic() + 30
            while sum(file.stat().st_size for file in files_of(root, "index")) == begun < 400 * RECORD.size and time.monotonic() < end:
                time.sleep(0.001)
            time.sleep(0.05 * rng.random())
            for process in running:
                process.send_signal(signal.SIGKILL)
                process.communicate()
            kept.append(check(packs_in(root, size=16 * MIB), 400))
        if trial % 2:  # what a power cut may take
            os.truncate(last := files_of(root, "pack")[-1], last.stat().st_size * 2 // 3)
        assert writer(root, 400, 0).communicate(timeout=60)[0] == "done 400\n"
        assert used(root) <= 16 * MIB
    assert any(0 < count < 400 for count in kept), "some were killed in the middle of their work"
