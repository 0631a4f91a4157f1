"""Meaning of columns: which one holds the image, the label and the group, by name in English or Chinese."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from clipzoo.datasets.files.tables.sheet import Sheet
from clipzoo.errors import ConfigError, DataError, did_you_mean, shortened
from clipzoo.text import clean_name, lookalike

# Usual names without blanks, underscores and hyphens, in lower case; the first one wins over the others. Numbers of a stay, a visit or an
# examination are missing among the groups on purpose, as a patient has several; so is 分组, which mostly means the arm of a study.
IMAGE_NAMES = (
    *("path", "filepath", "imagepath", "image", "imagefile", "imagename", "img", "imgpath", "file", "filename", "dicom", "dicompath"),
    *("路径", "文件路径", "图像路径", "图片路径", "影像路径", "文件", "文件名", "文件名称"),
    *("图像", "图片", "影像", "图像文件", "图片文件", "影像文件", "图像名称", "图片名称", "图像文件名", "图片文件名"),
)
LABEL_NAMES = (
    *("label", "class", "classname", "category", "target", "diagnosis"),
    *("标签", "类别", "类别名称", "分类", "诊断", "诊断结果", "标注"),
)
GROUP_NAMES = (
    *("group", "patient", "patientid", "patientno", "patientnumber", "patientname", "subject", "subjectid", "participantid", "mrn"),
    *("患者", "病人", "患者编号", "病人编号", "患者id", "病人id", "患者号", "病人号", "患者姓名", "病人姓名"),
    *("病历号", "病案号", "受试者", "受试者编号"),
)
_NOT_UNIQUE = ("patientname", "患者姓名", "病人姓名")  # used only without a better column
_NAMES = {"image": IMAGE_NAMES, "label": LABEL_NAMES, "group": GROUP_NAMES}
_EXAMPLES = {"image": "path or 路径", "label": "label or 标签", "group": "group or 患者编号"}


@dataclass(frozen=True)
class Columns:
    """The columns that the user names; ``None`` finds them by their usual names.

    Attributes:
        image: Column of the image path.
        label: Column of the class name.
        group: Column of the group.
        attributes: Columns of attributes.
        findings: Columns of findings, instead of a label.
    """

    image: str | None = None
    label: str | None = None
    group: str | None = None
    attributes: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()

    def score(self, names: list[str]) -> int:
        """How many of the columns are among ``names``: a header scores higher than a title or a row of data."""
        return len(self.roles(names)) + len({clean_name(name) for name in (*self.attributes, *self.findings)} & set(names))

    def roles(self, names: Iterable[str]) -> dict[str, list[str]]:
        """The columns among ``names`` that may be the image, the label or the group, by role; roles without one are missing."""
        names = list(names)
        found = {role: [names[place] for place in _candidates(names, role, getattr(self, role))] for role in _NAMES}
        return {role: columns for role, columns in found.items() if columns}

    def positions(self, sheet: Sheet) -> tuple[int, int | None, int | None]:
        """Position of the image, the label and the group; ``None`` for a label if there are findings, and if there is no group.

        Raises:
            DataError: A column is missing, ambiguous or repeated.
        """
        image = _position(sheet, "image", self.image)
        label = None if self.findings else _position(sheet, "label", self.label)
        group = _position(sheet, "group", self.group)
        if image is None or (label is None and not self.findings):
            role = "image" if image is None else "label"
            raise DataError(
                f"{sheet.name}:{sheet.header}: no column for the {role}: none has a usual name such as {_EXAMPLES[role]}. "
                f"Set data.dataset.{role}_key. Columns: {shortened(sheet.columns)}"
            )
        used = [place for place in (image, label, group) if place is not None]
        if len(set(used)) < len(used):
            raise ConfigError(f"data.dataset: image_key, label_key and group_key must name different columns of {sheet.name}")
        return image, label, group

    def of_attributes(self, sheet: Sheet) -> Mapping[str, int]:
        """Position of each attribute, by name.

        Raises:
            DataError: A column is missing or repeated.
        """
        return {clean_name(name): named_column(sheet, name, "attributes") for name in self.attributes}


def _position(sheet: Sheet, role: str, wanted: str | None) -> int | None:
    if wanted is not None:
        return named_column(sheet, wanted, f"{role}_key")
    found = _candidates(sheet.columns, role, None)
    if len(found) > 1:
        names = " or ".join(f"'{sheet.columns[place]}'" for place in found)
        raise DataError(f"{sheet.name}:{sheet.header}: ambiguous {role}: column {names}. Set data.dataset.{role}_key")
    return found[0] if found else None


def _candidates(columns: Iterable[str], role: str, wanted: str | None) -> list[int]:
    """Positions of the columns that may play a role; only the one with the first of all usual names, if it exists."""
    columns = list(columns)
    if wanted is not None:
        return [place for place, name in enumerate(columns) if name == clean_name(wanted)]
    plain = [re.sub(r"[\s_-]+", "", name.casefold()) for name in columns]
    first = [place for place, name in enumerate(plain) if name == _NAMES[role][0]]
    found = first or [place for place, name in enumerate(plain) if name in _NAMES[role]]
    return [place for place in found if plain[place] not in _NOT_UNIQUE] or found


def named_column(sheet: Sheet, wanted: str, setting: str) -> int:
    """Position of the column of this name.

    Raises:
        DataError: It is missing or repeated.
    """
    name, found = clean_name(wanted), [place for place, column in enumerate(sheet.columns) if column == clean_name(wanted)]
    where = f"{sheet.name}:{sheet.header}"
    if not found:
        hint = did_you_mean(name, sheet.columns) + lookalike(name, sheet.columns)
        raise DataError(f"{where}: no column '{name}' (data.dataset.{setting}).{hint} Columns: {shortened(sheet.columns)}")
    if len(found) > 1:
        raise DataError(f"{where}: duplicate column '{name}'. Rename one of them")
    return found[0]
