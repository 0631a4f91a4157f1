import contextlib
import datetime
import io
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pytest

from clipzoo.datasets.files.tables.columns import Columns
from clipzoo.datasets.files.tables.encoding import decode_table
from clipzoo.datasets.files.tables.sheet import read_sheet
from clipzoo.errors import BuildError, ConfigError, DataError

TEXT = "路径,标签,患者编号\n甲/1.png,松动,P001\n甲/2.png,正常,P002\n"


def fits(names):
    return Columns().score(names)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return str(path)


def workbook(path, *rows, title="标注", change=lambda page: None):
    book = openpyxl.Workbook()
    page = book.active
    page.title = title
    for row in rows:
        page.append(row)
    change(page)
    book.save(path)
    return str(path)


# ---- encodings ----


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gbk", "gb18030"])
@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_one_table_in_every_encoding_and_with_every_separator(tmp_path, encoding, separator):
    sheet = read_sheet(write(tmp_path / "t.csv", TEXT.replace(",", separator).encode(encoding)), fits)
    assert sheet.columns == ("路径", "标签", "患者编号") and sheet.header == 1
    assert sheet.rows == ((2, ["甲/1.png", "松动", "P001"]), (3, ["甲/2.png", "正常", "P002"]))
    assert [note.partition(" is ")[2] for note in sheet.notes] == ["not UTF-8 and was read as GB18030 (GBK)"] * encoding.startswith("gb")


def test_a_character_outside_gbk_is_read_as_gb18030(tmp_path):
    assert decode_table("t.csv", "路径,标签,𠮷野髋".encode("gb18030"))[0] == "路径,标签,𠮷野髋"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("path,label\nMüller.png,gelöst\nNoël.png,fixé\n".encode("latin-1"), r"t\.csv:2: not UTF-8 text .* Save the file as UTF-8"),
        ("path,label,Größe\na.png,x,2\n".encode("latin-1"), r"t\.csv:1: not UTF-8 text"),  # F6 DF is a rare Chinese character
        ("路徑,標籤\n髖關節,鬆動\n診斷,體檢\n".encode("big5"), r"t\.csv:1: not UTF-8 text"),
        ("path,label\na.png,x\n".encode("utf-16-le"), r"t\.csv:1: the file contains zero bytes.*UTF-16 without a byte-order"),
        (b"path,label\n\xff\xff\xff\n", r"t\.csv:2: not UTF-8 text"),
        (b" \n", r"t\.csv: the file is empty"),
        (b",,\n,,\n", r"t\.csv: all cells are empty"),
        ("路径,标签\n", r"t\.csv: no rows below the header \(路径, 标签\)"),
        ('path,label\n"a.png,x\n', r"t\.csv:2: not valid CSV: unbalanced quotation marks"),
        ("path,label\na.png,x,y\n", r"t\.csv:2: the row has 3 cells, the header in row 1 names 2 columns"),
        ("\ufeff <html><table><tr><td>path", r"t\.csv: a web page or XML, whatever its name says"),
    ],
)
def test_text_that_is_no_table(tmp_path, content, words):
    with pytest.raises(DataError, match=words) as caught:
        read_sheet(write(tmp_path / "t.csv", content), fits)
    assert "\n" not in str(caught.value)


def test_titles_above_the_header_are_skipped(tmp_path):
    sheet = read_sheet(write(tmp_path / "t.csv", "2024年髋关节,,\n\n" + TEXT), fits)
    assert (sheet.header, sheet.columns[0], sheet.rows[0][0]) == (3, "路径", 4)
    assert sheet.notes == (f"{tmp_path / 't.csv'}: 1 row above the header in row 3 skipped",)


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_a_title_without_separators_and_the_hint_for_excel(tmp_path, separator):
    for above in ("髋关节，2024年\n\n", f"sep={separator}\n"):
        sheet = read_sheet(write(tmp_path / "t.csv", above + TEXT.replace(",", separator)), fits)
        assert sheet.columns == ("路径", "标签", "患者编号") and len(sheet.rows) == 2


# ---- workbooks ----


def test_cells_are_read_as_excel_shows_them(tmp_path):
    def change(page):
        page["C2"].number_format = "00000"
        page.merge_cells("C3:C4")

    rows = [
        ["路径", "标签", "患者编号", "日期"],
        ["1.png", 2, 12, datetime.datetime(2024, 5, 31)],
        ["2.png", 2.0, "甲", True],
        ["3.png", 0.5],
    ]
    sheet = read_sheet(workbook(tmp_path / "t.xlsx", *rows, change=change), fits)
    assert sheet.rows == (
        (2, ["1.png", "2", "00012", "2024-05-31"]),
        (3, ["2.png", "2", "甲", "TRUE"]),
        (4, ["3.png", "0.5", "甲", ""]),
    )


def test_a_merged_title_and_a_hidden_sheet(tmp_path):
    def change(page):
        page.merge_cells("A1:C1")
        page.parent.create_sheet("隐藏", 0).sheet_state = "hidden"
        page.parent.create_sheet("其他表").append(["path", "label"])
        page.parent["其他表"].append(["x.png", "y"])

    path = workbook(tmp_path / "t.xlsx", ["髋关节"], *(line.split(",") for line in TEXT.split()), change=change)
    sheet = read_sheet(path, fits)
    assert sheet.header == 2 and sheet.rows[0] == (3, ["甲/1.png", "松动", "P001"])
    assert read_sheet(path, fits, sheet="其他表").rows == ((2, ["x.png", "y"]),)
    with pytest.raises(ConfigError, match=r"sheet: no worksheet '其它表' in .*Did you mean '其他表'\? Worksheets: 隐藏, 标注, 其他表"):
        read_sheet(path, fits, sheet="其它表")


def test_the_bytes_say_what_a_table_is_not_its_name(tmp_path):
    assert read_sheet(workbook(tmp_path / "t.csv", ["path", "label"], ["a.png", "x"]), fits).rows == ((2, ["a.png", "x"]),)
    assert len(read_sheet(write(tmp_path / "t.xls", TEXT.replace(",", "\t").encode("gbk")), fits).rows) == 2
    with pytest.raises(ConfigError, match="sheet: .*t.xls is not an Excel workbook"):
        read_sheet(str(tmp_path / "t.xls"), fits, sheet="标注")


def archive(*names, content=b""):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name in names:
            file.writestr(name, content)
    return stream.getvalue()


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 504


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (OLE + "EncryptedPackage".encode("utf-16-le"), "the workbook is encrypted. Open it in Excel, remove its password"),
        (OLE + "Workbook".encode("utf-16-le"), r"a workbook of Excel 97-2003 \(\.xls\), which is not supported. Save it as \.xlsx"),
        (archive("[Content_Types].xml", "xl/workbook.bin"), r"a binary workbook \(\.xlsb\), not a workbook of Excel"),
        (archive("mimetype", "content.xml"), r"an OpenDocument file \(\.ods\)"),
        (archive("a.txt"), r"an archive \(zip\), not a workbook"),
        (archive("[Content_Types].xml", "xl/workbook.xml", content=b"<a"), "the workbook cannot be read .*save it again"),
        (b"PK\x03\x04" + b"\0" * 60, "a damaged workbook or archive"),
    ],
)
def test_files_that_are_no_workbook(tmp_path, content, words):
    with pytest.raises(DataError, match=words) as caught:
        read_sheet(write(tmp_path / "t.xlsx", content), fits)
    assert "\n" not in str(caught.value)


def test_formats_far_below_and_many_columns(tmp_path):
    def change(page):
        page.cell(1_000_000, 300).number_format = "0.00"

    assert len(read_sheet(workbook(tmp_path / "t.xlsx", ["path", "label"], ["a.png", "x"], change=change), fits).rows) == 1
    with pytest.raises(DataError, match=r"t\.xlsx:1: more than 1000 columns"):
        read_sheet(workbook(tmp_path / "t.xlsx", ["path"] * 1001), fits)


def test_damage_anywhere_is_one_line(tmp_path):
    """Every byte may be wrong, also inside the parts of the archive."""
    content = Path(workbook(tmp_path / "t.xlsx", *(line.split(",") for line in TEXT.split()))).read_bytes()
    stored = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as packed, zipfile.ZipFile(stored, "w") as unpacked:
        for name in packed.namelist():
            unpacked.writestr(name, packed.read(name))
    rng, outcomes = np.random.default_rng(0), set()
    for number in range(120):
        changed = bytearray(content if number % 2 else stored.getvalue())
        for place in rng.integers(0, len(changed), 3):
            changed[place] = rng.integers(256)
        try:
            outcomes.add(type(read_sheet(write(tmp_path / "t.xlsx", bytes(changed)), fits)).__name__)
        except DataError as error:
            assert "\n" not in str(error)
            outcomes.add("DataError")
    for name in zipfile.ZipFile(io.BytesIO(content)).namelist():
        for kind in (b"", b"<x/>", b"<a"):
            with zipfile.ZipFile(io.BytesIO(content)) as packed, zipfile.ZipFile(tmp_path / "t.xlsx", "w") as other:
                for part in packed.namelist():
                    other.writestr(part, kind if part == name else packed.read(part))
            with contextlib.suppress(DataError):
                read_sheet(str(tmp_path / "t.xlsx"), fits)
    assert outcomes == {"Sheet", "DataError"}


def test_a_cell_with_an_error_names_itself(tmp_path):
    path = workbook(tmp_path / "t.xlsx", ["path", "label"], ["a.png", "#N/A"])
    with pytest.raises(DataError, match=r"t\.xlsx:2: cell B2 has the error #N/A"):
        read_sheet(path, fits)


def test_without_openpyxl_one_line_says_so(tmp_path, monkeypatch):
    path = workbook(tmp_path / "t.xlsx", ["path", "label"], ["a.png", "x"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BuildError, match=r"t\.xlsx: Excel workbooks require the package openpyxl\. Run pip install openpyxl, or save"):
        read_sheet(path, fits)


def test_no_such_table(tmp_path):
    write(tmp_path / "标注.csv", TEXT)
    with pytest.raises(DataError, match=r"标注\.cs: no such file\. Did you mean '标注\.csv'\? Pass a CSV, TSV or XLSX"):
        read_sheet(str(tmp_path / "标注.cs"), fits)
    with pytest.raises(DataError, match="is a folder, not a table"):
        read_sheet(str(tmp_path), fits)
