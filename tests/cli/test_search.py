"""``clipzoo search``: a folder is encoded once and then searched by texts and images."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

import clipzoo


@pytest.fixture
def images(class_folders, tmp_path):
    return shutil.copytree(class_folders, tmp_path / "images")


@pytest.fixture
def search(command, finished, images):
    """``search(QUERY, …)``: search the copy of the tiny pictures with the first fold."""
    return lambda *arguments: command("search", finished / "fold_1", images, *arguments, "--device", "cpu")


def tables(shown: str) -> dict[str, list[tuple[str, float]]]:
    """What was found, by query."""
    found = {}
    for block in shown.strip().split("\n\n"):
        query, header, _, *rows = block.splitlines()
        assert header.split() == ["image", "similarity"] and [row.split()[0] for row in rows] == [str(i + 1) for i in range(len(rows))]
        found[query] = [(row.split()[1], float(row.split()[2])) for row in rows]
    return found


def test_texts_and_images_are_searched_for(search, finished, images):
    query = images / "条纹" / "003.png"
    ended = search("一个圆", "条纹", "--image", query, "--image", images / "圆" / "001.png", "--top", 4)
    assert ended.status == 0, ended.err
    found = tables(ended.out)
    assert list(found) == ["一个圆", "条纹", str(query), str(images / "圆" / "001.png")] and all(len(rows) == 4 for rows in found.values())
    assert found[str(query)][0] == ("条纹/003.png", 1.0)
    loaded = clipzoo.load(finished / "fold_1")
    names = sorted(str(path.relative_to(images)) for path in images.rglob("*.png"))
    cosines = loaded.similarity([images / name for name in names], "一个圆")[:, 0]
    best = [names[i] for i in cosines.argsort(descending=True, stable=True)[:4]]
    assert [name for name, _ in found["一个圆"]] == best
    assert "36 images: 36 encoded, 0 unchanged" in ended.err and str(images / ".clipzoo-index") in ended.err


def test_the_folder_is_encoded_once(search, images):
    first = search("圆")
    again = search("圆")
    assert again.out == first.out and "36 images: 0 encoded, 36 unchanged" in again.err
    (images / "圆" / "000.png").unlink()
    shutil.copy(images / "圆" / "001.png", images / "copy.png")
    changed = search("圆")
    assert "36 images: 1 encoded, 35 unchanged, 1 removed" in changed.err
    assert "36 encoded" in search("圆", "--rebuild", "--workers", 2, "--batch-size", 10).err


def test_what_cannot_be_read_is_named_and_skipped(search, images):
    (images / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (images / "圆" / "empty.jpg").write_bytes(b"")
    ended = search("圆", "--top", 99)
    assert ended.status == 0 and len(tables(ended.out)["圆"]) == 36
    warnings = [line for line in ended.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2 and "cut.png" in warnings[0] and "empty.jpg: the file is empty" in warnings[1]
    assert "36 encoded, 0 unchanged, 2 unreadable and skipped" in ended.err


def test_a_damaged_index_is_made_again_with_a_note(search, images):
    search("圆")
    (index,) = (images / ".clipzoo-index").iterdir()
    index.write_bytes(index.read_bytes()[:100])
    ended = search("圆")
    assert ended.status == 0 and "note: " in ended.err and "the index is rebuilt" in ended.err and "36 encoded" in ended.err


def test_every_checkpoint_has_an_index_of_its_own(search, command, finished, images):
    search("圆")
    other = command("search", finished / "fold_2", images, "圆", "--device", "cpu")
    assert "36 encoded" in other.err and len(list((images / ".clipzoo-index").iterdir())) == 2
    assert "0 encoded" in search("圆").err


@pytest.mark.slow
def test_a_contact_sheet(search, images, tmp_path):
    sheet = tmp_path / "sheet.png"
    ended = search("一个圆", "--image", images / "圆" / "001.png", "--top", 7, "--contact-sheet", sheet)
    assert ended.status == 0 and f"written: {sheet}" in ended.err
    width, height = Image.open(io.BytesIO(sheet.read_bytes())).size
    assert width > 5 * 200 and height > 4 * 200, "two rows for each query"
    before = sheet.read_bytes()
    assert search("一个圆", "--image", images / "圆" / "001.png", "--top", 7, "--contact-sheet", sheet).status == 0
    ended = search("条纹", "--contact-sheet", sheet)
    assert ended.status == 2 and "sheet.png exists with other content" in ended.err and sheet.read_bytes() == before
    assert search("条纹", "--contact-sheet", sheet, "--force").status == 0 and sheet.read_bytes() != before


def test_queries_are_asked_for_on_a_terminal(search, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("圆\n条纹\n\nnever read\n"))
    ended = search("--top", 2)
    assert ended.status == 0
    blocks = ended.out.replace("query (empty to end): ", "").strip()
    assert list(tables(blocks)) == ["圆", "条纹"]
    monkeypatch.setattr(sys, "stdin", Terminal("圆"))
    assert search("--top", 2).status == 0, "the end of the input ends it, too"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["WORK/fold_1", "IMAGES"], "no query. Pass a text"),
        (["WORK/fold_1", "IMAGES", ""], "a query is empty"),
        (["WORK/fold_1", "IMAGES", "圆", " "], "a query is empty"),
        (["WORK/fold_1", "IMAGES", "--image", "none.png"], "--image: none.png: no such file"),
        (["WORK/fold_1", "IMAGES", "--image", "broken.png"], "broken.png: not an image"),
        (["WORK/fold_1", "empty", "圆"], "empty: no images in this folder"),
        (["WORK/fold_1", "nowhere", "圆"], "nowhere: no such folder"),
        (["WORK/fold_1", "broken.png", "圆"], "broken.png: is a file, not a folder"),
        (["WORK", "IMAGES", "圆"], "contains the checkpoints of 3 folds. Pass one of them"),
        (["WORK/fold_7", "IMAGES", "圆"], "no such checkpoint"),
        (["openclip:ViT-B-32", "IMAGES", "圆"], "has no trained weights"),
        (["WORK/fold_1", "IMAGES", "圆", "--contact-sheet", "sheet.jpg"], "--contact-sheet: sheet.jpg must end in .png"),
        (["WORK/fold_1", "IMAGES", "圆", "--topp", "3"], "--topp: no such argument. Did you mean '--top'? See clipzoo search --help"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_one_clear_line(command, finished, class_folders, tmp_path, arguments, message, monkeypatch):
    images = shutil.copytree(class_folders / "圆", tmp_path / "images")
    Path("empty").mkdir()
    Path("broken.png").write_bytes(b"hello")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    places = {"WORK": str(finished), "IMAGES": str(images)}
    placed = ["/".join([places.get(head, head), *rest]) for head, *rest in (argument.split("/") for argument in arguments)]
    ended = command("search", *placed)
    assert ended.status == 2 and message in ended.err, ended.err
    assert "Traceback" not in ended.err and ended.out == "" and ended.err.strip().splitlines()[-1].startswith("error: ")
