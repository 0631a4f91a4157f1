"""The index of a folder: encoded once, brought up to date, found again, and made again where it is damaged."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch
from checkpoint_files import saved
from PIL import Image
from tiny import tiny_config

import clipzoo
from clipzoo.config import Config
from clipzoo.errors import DataError
from clipzoo.inference import index as image_index
from clipzoo.inference.index import ImageIndex


@pytest.fixture(scope="module")
def loaded(tmp_path_factory, class_folders):
    path, _ = saved(tmp_path_factory.mktemp("model") / "x.pth", Config.from_dict(tiny_config(class_folders), "tiny"))
    return clipzoo.load(path)


@pytest.fixture
def folder(class_folders, tmp_path):
    return shutil.copytree(class_folders, tmp_path / "images")


@pytest.fixture
def counted(loaded, monkeypatch):
    """How many images were encoded since the last look."""
    seen: list[int] = []
    original = loaded.image_features
    monkeypatch.setattr(loaded, "image_features", lambda images: (seen.append(len(images)), original(images))[1])

    def look() -> int:
        count = sum(seen)
        seen.clear()
        return count

    return look


def test_an_index_holds_the_features_of_every_image(loaded, folder, counted):
    found = image_index.update(folder, loaded, batch_size=7)
    names = [file.name for file in found.index.files]
    assert names == sorted(str(p.relative_to(folder)) for p in folder.rglob("*.png")) and counted() == 36
    np.testing.assert_allclose(found.index.features, loaded.encode_image([folder / name for name in names]).numpy(), atol=1e-6)
    assert (found.encoded, found.kept, found.removed, found.failed, found.notes) == (36, 0, 0, {}, ())
    assert found.path == folder / ".clipzoo-index" / f"{loaded.digest}.npz"
    counted()
    again = image_index.update(folder, loaded)
    assert counted() == 0 and (again.encoded, again.kept) == (0, 36)
    assert again.index.files == found.index.files and np.array_equal(again.index.features, found.index.features)


def test_search_finds_what_a_loop_finds(loaded, folder):
    index = image_index.update(folder, loaded).index
    query = loaded.encode_text(["一个圆", "条纹"]).numpy()
    for row, entries in enumerate(index.search(query, 5)):
        cosines = {
            file.name: float(sum(a * b for a, b in zip(x, query[row], strict=True)))
            for file, x in zip(index.files, index.features, strict=True)
        }
        best = sorted(cosines.values(), reverse=True)[:5]
        np.testing.assert_allclose([score for _, score in entries], best, atol=1e-5)
        assert all(abs(cosines[name] - score) < 1e-5 for name, score in entries)
    assert len(index.search(query, 99)[0]) == 36
    own = index.search(loaded.encode_image(folder / "圆" / "003.png").numpy(), 1)[0]
    assert own[0][0] == "圆/003.png" and abs(own[0][1] - 1) < 1e-5


def test_equal_similarities_stand_in_order_of_name():
    files = tuple(image_index.IndexedFile(name, 1, 1) for name in "abcd")
    index = ImageIndex(files, np.array([[0, 1], [1, 0], [1, 0], [1, 0]], dtype=np.float32))
    assert [name for name, _ in index.search(np.array([[1.0, 0.0]]), 3)[0]] == ["b", "c", "d"]


def test_only_what_changed_is_encoded(loaded, folder, counted):
    image_index.update(folder, loaded)
    counted()
    (folder / "圆" / "000.png").unlink()
    shutil.copy(folder / "方块" / "001.png", folder / "new.png")
    Image.new("L", (20, 20), 99).save(folder / "圆" / "001.png")
    found = image_index.update(folder, loaded)
    assert counted() == 2 and (found.encoded, found.kept, found.removed) == (2, 34, 1)
    shutil.rmtree(folder / ".clipzoo-index")
    whole = image_index.update(folder, loaded)
    assert whole.index.files == found.index.files
    np.testing.assert_allclose(whole.index.features, found.index.features, atol=1e-6)
    (folder / "new.png").unlink()
    gone = image_index.update(folder, loaded)
    assert (gone.encoded, gone.removed) == (0, 1) and len(ImageIndex.read(gone.path, loaded.digest)) == 35


def test_the_same_size_at_another_time_is_another_image(loaded, folder, counted):
    image_index.update(folder, loaded)
    counted()
    path = folder / "圆" / "000.png"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert image_index.update(folder, loaded).encoded == 1 == counted()
    assert image_index.update(folder, loaded, rebuild=True).encoded == 36 == counted()


def test_models_have_indexes_of_their_own(loaded, folder, tmp_path, config_of):
    torch.manual_seed(3)
    other = clipzoo.load(saved(tmp_path / "y.pth", config_of())[0])
    first = image_index.update(folder, loaded)
    second = image_index.update(folder, other)
    assert first.path != second.path and second.encoded == 36
    assert image_index.update(folder, loaded).kept == 36 == image_index.update(folder, other).kept
    shutil.copy(first.path, second.path)
    renamed = image_index.update(folder, other)
    assert renamed.encoded == 36 and "of another model" in renamed.notes[0]


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "pickle", "encrypted"])
def test_a_damaged_index_is_made_again(loaded, folder, damage):
    path = image_index.update(folder, loaded).path
    whole = path.read_bytes()
    if damage == "pickle":
        with path.open("wb") as file:
            np.savez(file, head=np.array([{}], dtype=object))
    else:
        entry = whole.index(b"PK\x01\x02")
        encrypted = whole[: entry + 8] + b"\x01" + whole[entry + 9 :]  # one bit, which zipfile answers with a RuntimeError
        path.write_bytes({"cut": whole[: len(whole) // 2], "text": b"hello", "empty": b"", "encrypted": encrypted}[damage])
    found = image_index.update(folder, loaded)
    assert found.encoded == 36 and len(found.notes) == 1
    assert ".npz: " in found.notes[0] and "the index is rebuilt" in found.notes[0] and "\n" not in found.notes[0]
    assert image_index.update(folder, loaded).kept == 36


def test_unreadable_images_are_skipped_and_named(loaded, folder):
    (folder / "cut.png").write_bytes((folder / "圆" / "000.png").read_bytes()[:60])
    (folder / "nothing.jpg").symlink_to(folder / "not there")
    found = image_index.update(folder, loaded)
    assert set(found.failed) == {"cut.png", "nothing.jpg"} and len(found.index) == 36
    assert "cut.png" in found.failed["cut.png"] and image_index.update(folder, loaded).kept == 36
    for path in folder.rglob("*0*.png"):
        path.write_bytes(b"x")
    with pytest.raises(DataError, match="none of its 38 images can be read. The first: .*cut.png"):
        image_index.update(folder, loaded)


def test_where_the_folder_cannot_be_written_to_the_index_is_in_the_cache(loaded, folder, tmp_path, monkeypatch, counted):
    monkeypatch.setenv("CLIPZOO_CACHE", str(tmp_path / "cache"))
    (folder / ".clipzoo-index").write_text("in the way", encoding="utf-8")
    found = image_index.update(folder, loaded)
    assert found.path.is_relative_to(tmp_path / "cache") and "its index is kept in" in found.notes[0]
    assert image_index.update(folder, loaded).kept == 36 and counted() == 36
    monkeypatch.setattr(image_index, "cache_folder", lambda: folder / "圆" / "000.png")
    nowhere = image_index.update(folder, loaded)
    assert nowhere.path is None and len(nowhere.index) == 36 and "the index is not kept" in nowhere.notes[-1]


def test_what_was_encoded_before_an_interruption_is_kept(loaded, folder, monkeypatch):
    original, calls = loaded.image_features, []

    def interrupted(images):
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(images)

    monkeypatch.setattr(loaded, "image_features", interrupted)
    with pytest.raises(KeyboardInterrupt):
        image_index.update(folder, loaded, batch_size=8)
    found = image_index.update(folder, loaded)
    assert (found.kept, found.encoded) == (16, 20)


def test_worker_processes_change_nothing(loaded, folder):
    alone = image_index.update(folder, loaded).index
    together = image_index.update(folder, loaded, rebuild=True, num_workers=2, batch_size=10).index
    np.testing.assert_allclose(alone.features, together.features, atol=1e-6)


def test_a_name_that_is_no_text(loaded, folder):
    name = os.fsencode(folder) + b"/\xff\xfe.png"
    try:
        shutil.copy(os.fsencode(folder / "圆" / "000.png"), name)
    except OSError:
        pytest.skip("this file system has text for names")
    assert len(image_index.update(folder, loaded).index) == 37 == image_index.update(folder, loaded).kept


def test_folders_without_images(loaded, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x", encoding="utf-8")
    for name, message in (
        ("empty", "no images in this folder. Supported: png"),
        ("nowhere", "no such folder"),
        ("empty/notes.txt", "is a file"),
    ):
        with pytest.raises(DataError, match=message):
            image_index.update(tmp_path / name, loaded)
