"""``classes.json`` of a folder for the hub: the classes of a model whose weights are in another library's layout, which has none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from clipzoo.errors import CheckpointError, DataError
from clipzoo.files import read_json, write_json
from clipzoo.records.json_records import as_record

CLASSES = "classes.json"
_FORMAT = "clipzoo-classes-1"
_ADVICE = "Export or download the folder again, or delete this file to use the model without its classes"


@dataclass(frozen=True)
class HubClasses:
    """What a model says about its classes.

    Attributes:
        classes: Their names.
        captions: Sentences of each class.
        multi_label: Whether they are findings, of which an image may have several or none.
        calibration: Temperature by which the logits of these classes are divided; 1 without a calibration.
        format: Mark of this kind of file.
    """

    classes: list[str]
    captions: list[list[str]]
    multi_label: bool
    calibration: float
    format: str = _FORMAT

    @classmethod
    def of(cls, classes: Sequence[str], captions: Sequence[Sequence[str]], *, multi_label: bool, calibration: float) -> HubClasses:
        """The same from any sequences."""
        return cls(list(classes), [list(texts) for texts in captions], multi_label, float(calibration))

    def write(self, folder: Path) -> None:
        """Write the file into a folder."""
        write_json(folder / CLASSES, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> HubClasses | None:
        """The file in a folder; ``None`` without one, and for a file of this name that clipzoo did not write.

        Raises:
            CheckpointError: It is damaged.
        """
        path = folder / CLASSES
        if not path.is_file():
            return None
        try:
            content = read_json(path)
        except DataError as error:
            raise CheckpointError(f"{error}. {_ADVICE}") from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            return None
        found = as_record(cls, content, path, _ADVICE)
        if len(found.captions) != len(found.classes) or not all(found.captions) or len(set(found.classes)) < len(found.classes):
            raise CheckpointError(f"{path}: every class needs a name of its own and a sentence. {_ADVICE}")
        if not 0 < found.calibration < math.inf:
            raise CheckpointError(f"{path}: calibration={found.calibration} must be a number above 0. {_ADVICE}")
        return found
