"""Data may change between two starts: it is noticed without reading everything again, refused with names, or noted for ever."""

import io
import json
import logging
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from tiny import write_class_folders, write_pairs

from clipzoo.datasets.base import Dataset
from clipzoo.datasets.captions import Captions
from clipzoo.datasets.file_dataset import FileDataset
from clipzoo.datasets.files import digests
from clipzoo.datasets.image_folder import ImageFolderDataset
from clipzoo.datasets.pairs import PairsDataset
from clipzoo.engine import fingerprint
from clipzoo.engine.fingerprint import FILE, Change, Fingerprint, Look, Mark, compare_fingerprint, differences, keep_fingerprint
from clipzoo.errors import CheckpointError, DataError
from clipzoo.records.folds import Case
from clipzoo.runtime import distributed

HOUR = 3600 * 10**9


@pytest.fixture
def root(tmp_path):
    return write_class_folders(tmp_path / "images", classes=("圆", "条纹"), per_class=3)


@pytest.fixture
def work(tmp_path):
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def reads(monkeypatch):
    """The files whose bytes are read from here on."""
    found = []
    original = digests.file_digest

    def counted(path):
        found.append("/".join(Path(path).parts[-2:]))
        return original(path)

    monkeypatch.setattr(digests, "file_digest", counted)
    return found


def compared(work, data, accept_changes=False, log=None):
    log = log or logging.Logger("silent")
    return compare_fingerprint(work, data, accept_changes=accept_changes, log=log, console=Console(quiet=True))


def opened(work, data, accept_changes=False, log=None):
    return keep_fingerprint(work, compared(work, data, accept_changes, log), accept_changes=accept_changes)


def as_if_old(monkeypatch):
    """No file was written just now."""
    monkeypatch.setattr(digests, "_TICK", -(10**18))


def wait_a_tick():
    """Of the clock that the kernel takes the times of files from."""
    time.sleep(0.02)


def images(root):
    return ImageFolderDataset(str(root))


def test_a_copy_of_the_data_has_the_same_digest_and_any_other_content_another(root, tmp_path):
    copied = shutil.copytree(root, tmp_path / "copied")
    for path in copied.rglob("*.png"):
        os.utime(path, (10**9, 10**9))
    whole = fingerprint.of(images(root))
    assert fingerprint.of(images(copied)).digest == whole.digest
    assert fingerprint.of(ImageFolderDataset(str(root), template="ein {class_name}")).digest != whole.digest
    with open(copied / "圆" / "000.png", "ab") as file:
        file.write(b"\0")
    assert fingerprint.of(images(copied)).digest != whole.digest


def test_a_later_start_reads_only_files_whose_size_or_times_changed(root, work, reads, monkeypatch):
    as_if_old(monkeypatch)
    first = opened(work, images(root))
    assert len(reads) == 6
    reads.clear()
    written = (work / FILE).stat().st_mtime_ns
    assert opened(work, images(root)) == first and not reads
    assert (work / FILE).stat().st_mtime_ns == written, "nothing new, nothing written"
    wait_a_tick()
    (root / "圆" / "001.png").touch()
    os.utime(root / "条纹" / "002.png", (10**9, 10**9))
    assert opened(work, images(root)).digest == first.digest
    assert sorted(reads) == ["圆/001.png", "条纹/002.png"], "touched, so looked at; the same bytes, so accepted"
    reads.clear()
    data = images(root)
    opened(work, data)
    assert not reads, "the new times are known now"
    assert [data.content_digest(row) for row in range(6)] == [mark.image for mark in Fingerprint.read(work).cases.values()]
    assert not reads, "nor are files read for the cache of features"


def test_files_written_just_before_they_were_read_are_read_again(root, work, reads):
    """A clock that ticks seldom gives a later change the same time ("racy git")."""
    opened(work, images(root))
    reads.clear()
    opened(work, images(root))
    assert len(reads) == 6
    reads.clear()
    first = Fingerprint.read(work)
    replace(first, made=first.made + HOUR).write(work)
    opened(work, images(root))
    assert not reads


def test_a_change_within_one_tick_of_the_clock_is_noticed(root, work):
    opened(work, images(root))
    path = root / "圆" / "000.png"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\0")
    known, state = Fingerprint.read(work), path.stat()
    case = known.cases["圆/000.png"]._replace(modified=state.st_mtime_ns, changed=state.st_ctime_ns)
    replace(known, cases={**known.cases, "圆/000.png": case}).write(work)
    with pytest.raises(CheckpointError, match=r"1 image \(圆/000.png\)"):
        opened(work, images(root))


def test_new_bytes_of_the_same_size_under_the_old_time_are_noticed(root, work, monkeypatch):
    as_if_old(monkeypatch)
    opened(work, images(root))
    path = root / "圆" / "000.png"
    content, before = path.read_bytes(), path.stat()
    wait_a_tick()
    path.write_bytes(content[:-1] + b"\0")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(CheckpointError, match=r"1 image \(圆/000.png\)"):
        opened(work, images(root))


def test_a_link_that_leads_elsewhere_is_noticed(root, work, monkeypatch, tmp_path):
    as_if_old(monkeypatch)
    path = root / "圆" / "000.png"
    real, other = path.rename(tmp_path / "a.png"), tmp_path / "b.png"
    other.write_bytes(real.read_bytes()[:-1] + b"\0")
    path.symlink_to(real)
    first = opened(work, images(root))
    path.unlink()
    path.symlink_to(other)
    with pytest.raises(CheckpointError, match=r"1 image \(圆/000.png\)"):
        opened(work, images(root))
    path.unlink()
    path.symlink_to(real)
    assert opened(work, images(root)).digest == first.digest


def test_a_change_is_refused_by_name_and_nothing_is_written(root, work):
    opened(work, images(root))
    for name in ("000", "001", "002"):
        Image.new("RGB", (8, 8), (0, 0, int(name))).save(root / "圆" / f"{name}.png")
    Image.new("RGB", (8, 8), (0, 9, 0)).save(root / "条纹" / "000.png")
    texts = work.parent / "texts.json"
    texts.write_text(json.dumps({"圆": ["这是一张圆的图片"], "条纹": ["stripes\x1b[31m"]}), encoding="utf-8")
    before = (work / FILE).read_bytes()
    with pytest.raises(CheckpointError) as refused:
        compared(work, ImageFolderDataset(str(root), class_texts=str(texts)))
    message = str(refused.value)
    assert "4 images (圆/000.png, 圆/001.png, 圆/002.png and 1 more)" in message and "条纹)" in message
    assert all(words in message for words in ("Restore the data", "--work-dir", "--accept-changed-data"))
    assert (work / FILE).read_bytes() == before


def test_an_accepted_change_is_noted_for_ever(root, work):
    for fold, file in (("fold_1", "result.json"), ("fold_2", "result.json"), ("fold_10", "checkpoint_latest.pth")):
        (work / fold).mkdir()
        (work / fold / file).touch()
    first = opened(work, images(root))
    path = root / "圆" / "000.png"
    original = path.read_bytes()
    Image.new("RGB", (8, 8), "red").save(path)
    second = opened(work, images(root), accept_changes=True)
    note = "data changed after fold_1, fold_2 were trained and while fold_10 was in training: 1 image (圆/000.png)"
    assert second.notes == (note,) and second.earlier == (first.digest,) and second.digest != first.digest
    assert opened(work, images(root), accept_changes=True).changes == opened(work, images(root)).changes == second.changes, "once is enough"
    path.write_bytes(original)
    with pytest.raises(CheckpointError):
        opened(work, images(root))
    third = opened(work, images(root), accept_changes=True)
    assert third.digest == first.digest and third.earlier == (first.digest, second.digest) and third.notes == (note, note)
    assert second.cases["圆/000.png"].image in {digest for digest, _ in third.images()}, "what was trained on meanwhile"


def test_comparing_accepts_without_writing(root, work):
    first = compared(work, images(root))
    assert not list(work.iterdir()), "there is nothing to compare with"
    opened(work, images(root))
    Image.new("RGB", (8, 8), "red").save(root / "圆" / "000.png")
    before = (work / FILE).read_bytes()
    found = compared(work, images(root), accept_changes=True)
    assert found.earlier == (first.digest,) and (work / FILE).read_bytes() == before


def of_pairs(*pairs):
    """``(id, label, group, captions)`` without files, whose images are their groups."""
    captions = Captions()
    ids = {i: [captions.add(c) for c in sentences] for i, _, _, sentences in pairs}
    return Fingerprints([Case(i, label, group) for i, label, group, _ in pairs], (), captions=captions, captions_of_case=ids)


class Fingerprints(Dataset):
    def content_digest(self, row):
        return "0" * 32


@pytest.mark.parametrize("changed, words", [
    ([("a", None, "g", ["x"]), ("b", None, "b", ["y"])], "groups of 1 case (a)"),
    ([("a", None, "a", ["x", "z"]), ("b", None, "b", ["z"])], "captions of 2 cases (a, b)"),
    ([("a", None, "a", ["x"])], "1 lost case (b)"),
    ([("a", None, "a", ["x"]), ("b", None, "b", ["y"]), ("c", None, "c", ["x"]), ("d", None, "c", ["x"])], "2 new cases (c, d)"),
])  # fmt: skip
def test_what_changed_is_said_of_pairs(changed, words):
    old = fingerprint.of(of_pairs(("a", None, "a", ["x"]), ("b", None, "b", ["y"])))
    assert differences(old, fingerprint.of(of_pairs(*changed))) == [words]


MARK = Mark(0, "p1", None, "aa", 1, 2, 3)
OLD = Fingerprint(0, ("猫", "狗"), (("一只猫",), ("一只狗",)), {"a": MARK, "b": MARK._replace(label=1)})


@pytest.mark.parametrize("new, words", [
    (replace(OLD, made=7, cases={"b": OLD.cases["b"]._replace(size=9, modified=9, changed=9), "a": MARK}), []),
    (replace(OLD, cases={**OLD.cases, "a": MARK._replace(label=1)}), ["labels of 1 case (a)"]),
    (replace(OLD, class_texts=(("一只小猫",), ("一只狗",))), ["texts of 1 class (猫)"]),
    (replace(OLD, class_texts=((), ())), ["texts of 2 classes (猫, 狗)"]),
    (replace(OLD, classes=("猫", "狼")), ["labels of 1 case (b)", "2 class names (狗, 狼)"]),
    (replace(OLD, classes=OLD.classes[::-1], class_texts=OLD.class_texts[::-1],
             cases={"a": MARK._replace(label=1), "b": MARK}), ["order of the classes"]),
])  # fmt: skip
def test_what_changed_is_said_of_classes(new, words):
    assert differences(OLD, new) == words and (new.digest == OLD.digest) == (not words)


marks = st.builds(Mark, st.sampled_from((None, 0, 1)), st.sampled_from("pq"), st.sampled_from((None, "t")), st.sampled_from("xy"))
fingerprints = st.builds(
    Fingerprint,
    st.just(0),
    st.permutations(("猫", "狗")).map(tuple),
    st.tuples(st.sampled_from(((), ("猫",))), st.sampled_from(((), ("狗",)))),
    st.dictionaries(st.sampled_from("abc"), marks),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(fingerprints, fingerprints)
def test_digests_differ_where_there_is_something_to_say(old, new):
    assert (old.digest == new.digest) == (not differences(old, new))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_damaged_record_is_refused(tmp_path_factory, data):
    work = tmp_path_factory.mktemp("work")
    change = Change("data changed", "0" * 64, {"a": ("aa", 1)})
    whole = replace(OLD, changes=(change,))
    whole.write(work)
    content = (work / FILE).read_bytes()
    assert Fingerprint.read(work) == whole
    place = data.draw(st.integers(0, len(content) - 2))
    flipped = content[:place] + bytes([content[place] ^ 1 << data.draw(st.integers(0, 7))]) + content[place + 1 :]
    (work / FILE).write_bytes(data.draw(st.sampled_from((content[:place], flipped))))
    with pytest.raises(CheckpointError, match=r"data\.json.*Delete it"):
        Fingerprint.read(work)


def test_images_that_are_no_files_are_read_by_the_main_thread(root, work, monkeypatch):
    """Open archives and databases often cannot be used by several threads; and their times say nothing."""
    as_if_old(monkeypatch)
    threads = []

    class Cropped(FileDataset):
        def read_image(self, row):
            threads.append(threading.current_thread())
            return super().read_image(row).crop((0, 0, 4, 4))

    data = images(root)
    data.__class__ = Cropped
    first = opened(work, data)
    assert opened(work, data).digest == first.digest
    assert threads == [threading.main_thread()] * 12 and {mark.size for mark in first.cases.values()} == {None}


def test_an_image_that_is_gone_or_no_regular_file_is_named(root):
    data = images(root)
    (root / "圆" / "002.png").unlink()
    with pytest.raises(DataError, match=r"002\.png: no such file"):
        fingerprint.of(data)
    os.mkfifo(root / "圆" / "002.png")
    with pytest.raises(DataError, match=r"002\.png: a FIFO"):
        fingerprint.of(data)


def test_an_interruption_ends_at_once_and_leaves_nothing(work, monkeypatch):
    waiting, started = threading.Event(), []

    def slow(path):
        started.append(path)
        waiting.wait(0.05)
        return bytes(16)

    monkeypatch.setattr(fingerprint, "_PORTION", 1)
    monkeypatch.setattr(fingerprint, "_THREADS", 1)
    monkeypatch.setattr(digests, "file_digest", slow)
    data = images(write_class_folders(work.parent / "many", per_class=40))

    def interrupted(look):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        for done in Look(data):
            interrupted(done)
    assert len(started) < 10 and not [t for t in threading.enumerate() if t.name.startswith("fingerprint")]
    monkeypatch.setattr(fingerprint.Look, "result", interrupted)
    monkeypatch.setattr(digests, "file_digest", lambda path: bytes(16))
    with pytest.raises(KeyboardInterrupt):
        opened(work, data)
    assert not list(work.iterdir())


def test_other_processes_wait_for_one_turn_at_a_time(root, work, monkeypatch):
    """A collective that waits for the whole of a large dataset would run into its timeout."""
    turns = []
    monkeypatch.setattr(distributed, "TURN_SECONDS", -1.0)
    monkeypatch.setattr(distributed, "from_main", lambda make: turns.append(make()) or turns[-1])
    found = compared(work, images(root))
    assert turns == [(False, None)] * 6 + [(True, found)]


def test_the_log_says_how_many_images_were_read_where_it_took_long(root, work, monkeypatch):
    as_if_old(monkeypatch)
    monkeypatch.setattr(fingerprint, "_NOTABLE", 0.0)
    text = io.StringIO()
    log = logging.Logger("heard")
    log.addHandler(logging.StreamHandler(text))
    opened(work, images(root), log=log)
    opened(work, images(root), log=log)
    assert [line.partition(" images")[0] for line in text.getvalue().splitlines()] == [f"digest of the data: {n} of 6" for n in (6, 0)]


def test_a_changed_caption_of_a_pair_is_named(tmp_path, work):
    root = write_pairs(tmp_path / "pairs", num_images=4)
    opened(work, PairsDataset(str(root)))
    pairs = json.loads((root / "data.json").read_text(encoding="utf-8"))
    pairs[1]["caption"] = ["something else"]
    (root / "data.json").write_text(json.dumps(pairs), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"data changed since it was made: captions of 1 case \(\S*001\.png\)\. Restore"):
        opened(work, PairsDataset(str(root)))
