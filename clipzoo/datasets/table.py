"""Images with labels and groups in a table, such as an Excel workbook of a hospital; no class folders needed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clipzoo.config.arguments import Count, FilePath
from clipzoo.datasets.captions import class_captions, clean
from clipzoo.datasets.file_dataset import FileDataset
from clipzoo.datasets.files.checks import check_headers, identical
from clipzoo.datasets.files.copies import merge_copies
from clipzoo.datasets.files.dicom.cases import read_cases
from clipzoo.datasets.files.folders import ImageFile
from clipzoo.datasets.files.groups import groups_from_pattern
from clipzoo.datasets.files.images import DICOM_EXTENSIONS, EXTENSIONS
from clipzoo.datasets.files.locate import Folders, top_folder
from clipzoo.datasets.files.tables.columns import Columns
from clipzoo.datasets.files.tables.findings import UNKNOWN, ColumnFindings, FindingCells, ListedFindings, check_arguments
from clipzoo.datasets.files.tables.sheet import Sheet, read_sheet
from clipzoo.datasets.group_hint import group_note
from clipzoo.datasets.pseudonyms import pseudonym, read_salt
from clipzoo.errors import ConfigError, DataError, did_you_mean, shortened
from clipzoo.files import natural
from clipzoo.records.folds import Case
from clipzoo.registries import DATASETS
from clipzoo.text import clean_name, clean_path, differences, lookalike


@dataclass(frozen=True)
class _Row:
    """One row of the table: its number, its image and that one's actual path, and its cells by role (``label``: a class or findings)."""

    number: int
    written: str
    path: str
    size: int
    label: str
    group: str | None
    attributes: Mapping[str, str]


@DATASETS.register_module()
class TableDataset(FileDataset):
    """One row per image, with its class or findings and, if known, its patient: CSV, TSV or an Excel workbook (``.xlsx``, with openpyxl).

    Columns are found by their usual names: ``path``, ``label`` and ``group``, or 路径, 标签 and 患者编号, and many like them; titles above
    the header are skipped. Text may be UTF-8, UTF-16 with a byte-order mark, or GB18030 (GBK). Relative paths start at the table's folder,
    with ``/`` or ``\\``; the ending of a file name may be missing if only one image has the name. Case ids are the paths below that folder
    (below the deepest folder that contains all images, if some lie elsewhere), NFC-normalised. Several rows with one group are several
    images of one patient.

    DICOM files are read as in ``ImageFolderDataset``; a column of groups wins over their Patient IDs.

    Groups from a column are written as pseudonyms (see ``pseudonyms``), because a run's files are for sharing and patient numbers are not.
    Byte-identical images become one group, whatever the given groups.

    Args:
        path: The table.
        image_key: Column of the image path; ``None`` uses the one with a usual name.
        label_key: Column of the class name, likewise.
        group_key: Column of the group, such as the patient's number, likewise; without one, every image is its own group.
        attributes: Columns for whose values results are also reported, such as sex, scanner or view. Empty cells mean unknown.
        classes: Class names in label order, as needed for an external test set; a row of another class is an error. ``None`` uses the
            labels of the table, in natural order: 2 before 10.
        class_texts: See ``ImageFolderDataset``.
        template: See ``ImageFolderDataset``.
        group_pattern: Alternative to ``group_key``, which it overrides: a regular expression that is searched in the file name (in the
            whole id if the pattern contains ``/``); its first group is the case's group.
        sheet: Worksheet of a workbook; ``None`` uses the first visible one.
        image_root: Folder that relative paths and case ids start from; ``None`` uses the table's own.
        allow_label_conflicts: Whether to accept byte-identical images in two classes.
        hide_groups: Whether groups of a column are replaced by pseudonyms.
        salt: File with the secret for pseudonyms of patients; ``None`` uses ``.clipzoo_salt`` beside the table, and makes it if needed.
        frame: Number of the frame of DICOM files that is the image, from 1; ``None`` refuses files with several frames.
        findings: For several labels per image: columns with 1 or 0 (or yes/no, 是/否, +/-), one for each finding. An empty cell is unknown,
            which no loss and no metric counts.
        separator: For several labels per image in one cell of the label column, what separates them, such as ``';'``. A finding that is not
            named is absent, and so are all in an empty cell. ``classes`` may give the findings.
        no_finding: With ``separator``, a word for an image without findings, such as ``'正常'``.

    Raises:
        BuildError: The table is a workbook, and openpyxl is not installed.
        ConfigError: Two arguments exclude each other, or the template or pattern is invalid.
        DataError: The table, or an image named in it, is not as described above; the message gives file and row.

    Example:
        ``dict(type='TableDataset', path='data/hip/标注.xlsx', label_key='假体型号', attributes=['性别', '设备'])``
    """

    def __init__(
        self,
        path: FilePath,
        image_key: str | None = None,
        label_key: str | None = None,
        group_key: str | None = None,
        attributes: list[str] | None = None,
        classes: list[str] | None = None,
        class_texts: FilePath | None = None,
        template: str | None = None,
        group_pattern: str | None = None,
        sheet: str | None = None,
        image_root: FilePath | None = None,
        allow_label_conflicts: bool = False,
        hide_groups: bool = True,
        salt: FilePath | None = None,
        frame: Count | None = None,
        findings: list[str] | None = None,
        separator: str | None = None,
        no_finding: str | None = None,
    ):
        several = {"findings": findings, "separator": separator, "no_finding": no_finding}
        check_arguments({**several, "label_key": label_key, "classes": classes})
        if group_key is not None and group_pattern is not None:
            raise ConfigError("data.dataset: group_key and group_pattern are mutually exclusive. Remove one of them")
        columns = Columns(image_key, label_key, group_key, tuple(attributes or ()), tuple(findings or ()))
        table = read_sheet(path, columns.score, sheet=sheet)
        root = os.path.dirname(path) or "." if image_root is None else image_root
        cells = _finding_cells(table, columns, classes, **several)
        rows = _rows(table, columns, root, grouped=group_pattern is None, findings=cells)
        names, vectors = (_class_names(table, rows, classes), None) if cells is None else cells.vectors(_places(table, rows))
        files = _files(table, rows, root)
        folder = os.path.dirname(path) or "."
        grouped = group_pattern is not None or rows[0].group is not None
        dicom = read_cases({file.id: file.path for file in check_headers(files)}, folder, salt=salt, frame=frame, grouped=grouped)
        hints: list[str] = []
        groups = {file.id: row.group or file.id for file, row in zip(files, rows, strict=True)}
        if group_pattern is not None:
            groups = groups_from_pattern(group_pattern, list(groups))
        elif not grouped:
            groups |= dicom.groups
            hints = [] if dicom.groups else group_note(list(groups), [file.class_name for file in files])
        elif hide_groups:
            secret = read_salt(folder, salt)
            groups = {case_id: pseudonym(group, secret) for case_id, group in groups.items()}
        given = groups
        groups, copied = merge_copies(given, identical(files, allow_label_conflicts))
        captions, of_class = class_captions(names, class_texts, template)
        label_of = {name: label for label, name in enumerate(names)} if vectors is None else dict.fromkeys(vectors)
        cases = [
            Case(file.id, label_of[file.class_name], groups[file.id], findings=None if vectors is None else vectors[file.class_name])
            for file in files
        ]
        super().__init__(
            cases,
            names,
            paths={file.id: file.path for file in files},
            captions=captions,
            captions_of_case={case.id: [i for label in case.classes for i in of_class[label]] for case in cases},
            captions_of_class=of_class,
            notes=[*table.notes, *dicom.notes, *hints, *copied, *_unknown_note(cases)],
        )
        self.table, self.frame, self.given_groups = path, frame, given
        self.attributes = dict(dicom.attributes) | {
            name: {file.id: row.attributes[name] for file, row in zip(files, rows, strict=True) if row.attributes[name]}
            for name in columns.of_attributes(table)
        }

    def describe(self) -> list[str]:
        """See ``Dataset.describe``."""
        return [f"{type(self).__name__} {self.table}", *super().describe()]


def _rows(table: Sheet, columns: Columns, root: str, *, grouped: bool, findings: FindingCells | None = None) -> list[_Row]:
    """The rows with their images found, with groups if ``grouped``; or the first problem.

    Raises:
        DataError: A cell is empty, an image is missing, or an image has two rows.
    """
    image_at, label_at, group_at = columns.positions(table)
    group_at = group_at if grouped else None
    attributes = columns.of_attributes(table)
    folders, found, missing = Folders(), [], []
    if not os.path.isdir(root):
        raise DataError(f"{root}: no such folder (data.dataset.image_root)")
    start = os.path.realpath(root)
    for number, cells in table.rows:
        where = f"{table.name}:{number}"
        written, group = cells[image_at].strip(), None if group_at is None else clean(cells[group_at])
        label = clean(cells[label_at]) if findings is None else findings.label(where, cells)
        if not written:
            raise DataError(f"{where}: empty image path (column '{table.columns[image_at]}'). Write it, or remove the row")
        if not label and findings is None:
            raise DataError(f"{where}: empty label for '{written}' (column '{table.columns[label_at]}'). Write it, or remove the row")
        if group == "":
            advice = "Treating it as a group of its own could split a patient"
            raise DataError(f"{where}: empty group for '{written}' (column '{table.columns[group_at]}'). {advice}")
        try:
            place = folders.locate(start, written) or folders.without_ending(start, written, (*EXTENSIONS, *DICOM_EXTENSIONS))
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        if place is None:
            missing.append((where, written))
        else:
            values = {name: clean_name(cells[at]) for name, at in attributes.items()}
            found.append(_Row(number, written, *place, label, group, values))
    if missing:
        raise DataError(_missing(start, missing))
    _refuse_second_rows(table, found)
    return found


def _finding_cells(
    table: Sheet,
    columns: Columns,
    classes: list[str] | None,
    *,
    findings: list[str] | None,
    separator: str | None,
    no_finding: str | None,
) -> FindingCells | None:
    """How the table says which findings an image has; ``None`` for one class per image."""
    if findings is not None:
        return ColumnFindings.of(table, findings)
    if separator is None:
        return None
    return ListedFindings(table.name, columns.positions(table)[1], separator, no_finding, classes)


def _unknown_note(cases: Sequence[Case]) -> list[str]:
    """A note on cases of which no finding is known."""
    unknown = [case.id for case in cases if case.findings is not None and set(case.findings) == {UNKNOWN}]
    if not unknown:
        return []
    return [f"{len(unknown)} of {len(cases)} cases have no known finding, so they are neither learned nor scored: {shortened(unknown, 3)}"]


def _places(table: Sheet, rows: Sequence[_Row]) -> dict[str, str]:
    """Every label, with the place of its first row, in the order of the rows."""
    places: dict[str, str] = {}
    for row in rows:
        places.setdefault(row.label, f"{table.name}:{row.number}")
    return places


def _refuse_second_rows(table: Sheet, rows: Sequence[_Row]) -> None:
    first: dict[str, _Row] = {}
    for row in rows:
        other = first.setdefault(row.path, row)
        if other is row:
            continue
        where = f"{table.name}:{row.number}"
        if other.label != row.label:
            what = f"'{row.written}' has the label '{row.label}' here, but '{other.label}' in row {other.number}"
            raise DataError(f"{where}: {what}. Keep one of them")
        raise DataError(f"{where}: duplicate path: '{row.written}' is already in row {other.number}. Remove one of the rows")


def _files(table: Sheet, rows: Sequence[_Row], root: str) -> list[ImageFile]:
    """The images, in the order of the rows, with their ids."""
    top = top_folder([os.path.realpath(root)], [row.path for row in rows])
    files = [ImageFile(clean_path(row.path[len(top) :]), row.label, row.path, row.size) for row in rows]
    twice = next((case_id for case_id, n in Counter(file.id for file in files).items() if n > 1), None)
    if twice is not None:
        a, b = (file.path[len(top) :] for file in files if file.id == twice)
        raise DataError(f"{table.name}: {differences(a, b)}; both are read as '{twice}'. Rename one of them")
    return files


def _class_names(table: Sheet, rows: Sequence[_Row], classes: list[str] | None) -> list[str]:
    """The classes in label order.

    Raises:
        ConfigError: A class is repeated.
        DataError: A row is of no given class.
    """
    found = {row.label: row.number for row in reversed(rows)}
    if classes is None:
        return sorted(found, key=natural)
    names = [clean(name) for name in classes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"data.dataset.classes: '{twice}' is repeated. List every class once")
    unknown = min((number, name) for name, number in found.items() if name not in names) if set(found) - set(names) else None
    if unknown is not None:
        number, name = unknown
        hint = did_you_mean(name, names) + lookalike(name, names)
        raise DataError(f"{table.name}:{number}: unknown label '{name}'.{hint} Classes: {shortened(names)}")
    return names


def _missing(root: str, missing: Sequence[tuple[str, str]]) -> str:
    """The message about missing images."""
    (where, written), *others = missing
    if written.lower().startswith(("http://", "https://")):
        return f"{where}: '{written}' is a URL. Download the images, and give their local paths"
    more = f" ({len(others)} more are missing: {shortened([name for _, name in others], 3)})" if others else ""
    folder, name = os.path.split(os.path.normpath(os.path.join(root, written.replace("\\", "/"))))
    try:
        near = [other for other in os.listdir(folder) if other.lower().endswith((*EXTENSIONS, *DICOM_EXTENSIONS))]
        hint = did_you_mean(name, sorted(near)[:2000])
    except OSError:
        hint = f" The folder {folder} does not exist."
    return f"{where}: no image '{written}'{more}.{hint} Relative paths start at {root}; data.dataset.image_root sets another folder"
