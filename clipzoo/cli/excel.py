"""``tools/excel.py WORK_DIR``: copies of CSV files that Excel opens with Chinese intact."""

from __future__ import annotations

import argparse
import codecs
from pathlib import Path

from clipzoo.cli import command_line

DESCRIPTION = """Copy CSV files so that Excel opens them with Chinese intact: in UTF-8 with a byte-order mark, without which Excel
assumes the encoding of the system. The copies have the same rows, and every command of clipzoo reads them like the originals.

PATH is a CSV file or a folder, such as a work dir, whose CSV files at any depth are copied to PATH/excel."""
FOLDER = "excel"


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = command_line.parser("excel", DESCRIPTION)
    parser.add_argument("path", type=command_line.path, metavar="PATH", help="CSV file, or folder with CSV files")
    help_ = f"folder of the copies (default: {FOLDER} in PATH, or beside the file)"
    parser.add_argument("--out", type=command_line.path, metavar="FOLDER", help=help_)
    parser.add_argument("--force", action="store_true", help="overwrite earlier copies with other content")
    command_line.run(excel, parser.parse_args(arguments))


def excel(arguments: argparse.Namespace) -> None:
    """Copy, and say what was written."""
    from clipzoo.cli import output_file
    from clipzoo.files import read_bytes

    source = arguments.path
    root = source if source.is_dir() else source.parent
    target = arguments.out or root / FOLDER
    files = csv_files(source, target)
    copies = {target / path.relative_to(root): with_mark(path, read_bytes(path)) for path in files}
    for path, content in copies.items():
        output_file.write_new(path, content, "--out", arguments.force)
    command_line.show(f"written: {len(copies)} {'files' if len(copies) > 1 else 'file'} -> {target}")


def csv_files(source: Path, target: Path) -> list[Path]:
    """The CSV files to copy, sorted; without hidden ones and earlier copies.

    Raises:
        DataError: There are none.
    """
    from clipzoo.errors import DataError

    if source.is_file():
        if source.suffix.lower() != ".csv":
            raise DataError(f"{source}: must end in .csv. Pass a CSV file or a folder with CSV files")
        return [source]
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder. Pass a CSV file or a work dir")
    found = [path for path in source.rglob("*.csv") if path.is_file() and target not in path.parents]
    found = [path for path in found if not any(part.startswith(".") for part in path.relative_to(source).parts)]
    if not found:
        raise DataError(f"{source}: no CSV files in this folder. Pass a work dir, whose folds write them")
    return sorted(found)


def with_mark(path: Path, content: bytes) -> bytes:
    """The content with a byte-order mark.

    Raises:
        DataError: It is not UTF-8 (names of files that are not UTF-8 keep their bytes in our tables), and Excel would show wrong text.
    """
    from clipzoo.files import decode_text

    text = decode_text(path, content)
    return codecs.BOM_UTF8 + text.encode("utf-8")
