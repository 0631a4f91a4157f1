"""Text files: UTF-8 with or without a mark, and what is said of others."""

import codecs

import pytest

from clipzoo.errors import DataError
from clipzoo.files import read_json, read_text


def test_a_byte_order_mark_is_no_text(tmp_path):
    for name, content in (("plain", "猫\r\n狗".encode()), ("marked", codecs.BOM_UTF8 + "猫\r\n狗".encode())):
        (tmp_path / name).write_bytes(content)
        assert read_text(tmp_path / name) == "猫\r\n狗"


@pytest.mark.parametrize(
    "content, words",
    [
        ("猫\n狗,猫\n".encode() + "髋".encode("gbk"), r"a\.txt:3: not UTF-8 text \(byte 12 is 0xF7; it may be GBK.*Save the file as UTF-8"),
        (codecs.BOM_UTF8 + b"ab\n\xe9", r"a\.txt:2: not UTF-8 text \(byte 6 is 0xE9"),
        ("猫".encode("utf-16"), r"a\.txt:1: not UTF-8 text \(byte 0 is 0xFF; it looks like UTF-16"),
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
    with pytest.raises(DataError, match="cannot be read"):
        read_text(tmp_path)
    (tmp_path / "deep.json").write_text("[" * 200_000)
    with pytest.raises(DataError, match="deep.json"):
        read_json(tmp_path / "deep.json")
