"""Files: read through one door, written whole; text is UTF-8 with or without a mark, or UTF-16 with one."""

import codecs
import errno
import os
import stat
import threading

import pytest

from clipzoo.errors import DataError
from clipzoo.files import leftovers, new_folder, parse_json, read_json, read_text, write_json, write_text


def test_a_byte_order_mark_is_no_text(tmp_path):
    text = "猫\r\n狗"
    for name, content in (("plain", text.encode()), ("marked", codecs.BOM_UTF8 + text.encode()), ("wide", text.encode("utf-16"))):
        (tmp_path / name).write_bytes(content)
        assert read_text(tmp_path / name) == "猫\r\n狗"


@pytest.mark.parametrize(
    "content, words",
    [
        ("猫\n狗,猫\n".encode() + "髋".encode("gbk"), r"a\.txt:3: not UTF-8 text \(byte 12 is 0xF7; it may be GBK.*Save the file as UTF-8"),
        (codecs.BOM_UTF8 + b"ab\n\xe9", r"a\.txt:2: not UTF-8 text \(byte 6 is 0xE9"),
        ("猫".encode("utf-16") + b"a", r"a\.txt:1: not UTF-8 text \(byte 4 is 0x61; it looks like UTF-16"),
        (b"ab\xe7\x8c", r"a\.txt:1: .*byte 2"),
    ],
)
def test_other_encodings_are_named_with_line_and_byte(tmp_path, content, words):
    (tmp_path / "a.txt").write_bytes(content)
    for read in (read_text, read_json):
        with pytest.raises(DataError, match=words):
            read(tmp_path / "a.txt")


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="none.json: no such file"):
        read_json(tmp_path / "none.json")
    with pytest.raises(DataError, match="a folder, not a regular file"):
        read_text(tmp_path)
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(DataError, match="deep.json"):
        read_json(tmp_path / "deep.json")


@pytest.mark.parametrize(
    "text, words",
    [
        ('{"a": 1,\n "b": {"a": 2},\n "a": 3}', "x.json:1 and :3: duplicate key 'a'"),
        ('[{"a": 1}, {"a": 1, "a": 2}]', "x.json:1: duplicate key 'a'"),
        ('{"\\u732b": "{", "猫": "}"}', "x.json:1: duplicate key '猫'"),
        ('{"n": ' + "9" * 5000 + "}", "a number is too long"),
        ('{"a":\n"\\ud800"}', r"x.json:2: .ud800 is half of a surrogate pair"),
        ("[1,\n2", "x.json:2: not valid JSON"),
    ],
)
def test_json_that_means_nothing_or_two_things(text, words):
    with pytest.raises(DataError, match=words):
        parse_json("x.json", text)


def test_json_with_whole_pairs_is_text():
    assert parse_json("x.json", r'{"a": "\ud83d\ude00"}') == {"a": "😀"}


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "self").symlink_to("self")
    said = {"fifo": "a FIFO", "gone": "broken link to nowhere", "self": "[Ss]ymbolic links", "a\0b": "null"}
    for name, words in said.items():
        with pytest.raises(DataError, match=words):
            read_text(tmp_path / name)
    with pytest.raises(DataError, match="a device"):
        read_text("/dev/zero")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_share_that_cannot_sync_is_written_all_the_same(tmp_path, monkeypatch, number):
    def refused(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refused)
    monkeypatch.setattr(os, "chmod", refused)
    write_text(tmp_path / "a", "x")
    assert (tmp_path / "a").read_text() == "x" and leftovers(tmp_path) == []


def test_the_reason_is_the_systems_own(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DataError, match="File name too long"):
        write_text(tmp_path / ("猫" * 100), "x")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left on device.*Free some space"):
        write_text(tmp_path / "a", "x")
    assert list(tmp_path.iterdir()) == []


def test_a_long_name_leaves_room_for_the_temporary_one(tmp_path):
    write_text(tmp_path / ("猫" * 84), "x")
    assert [path.name for path in tmp_path.iterdir()] == ["猫" * 84]


def test_permissions_are_those_of_any_new_file(tmp_path):
    """The umask is never set to be read: files that other threads make meanwhile would get other permissions."""
    before = os.umask(0o027)
    try:
        threads = [threading.Thread(target=write_text, args=(tmp_path / str(i), "x")) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with new_folder(tmp_path / "folder") as folder:
            write_text(folder / "a", "x")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o640, 0o750}


def test_bytes_of_a_name_that_are_not_utf8_are_one_clear_line(tmp_path):
    with pytest.raises(DataError, match=r"r.json: cannot be written: '.*b\\xbb\.png.*' contains bytes that are not UTF-8. Rename the file"):
        write_json(tmp_path / "r.json", {"image": "b\udcbb.png"})
    assert not list(tmp_path.iterdir())
