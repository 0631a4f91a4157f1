"""Base class of datasets whose cases are image files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from clipzoo.datasets.base import Dataset
from clipzoo.datasets.captions import Captions
from clipzoo.datasets.files.attributes import read_attributes
from clipzoo.datasets.files.digests import FileDigests
from clipzoo.datasets.files.images import decode, read_image
from clipzoo.errors import DataError, LeakError
from clipzoo.files import check_regular, read_bytes
from clipzoo.records.folds import Case

if TYPE_CHECKING:
    from PIL import Image


class FileDataset(Dataset):
    """A dataset with one image file per case. Subclasses find the files and call this constructor.

    Args:
        cases: See ``Dataset``.
        classes: See ``Dataset``.
        paths: Actual image path by case id. Its spelling may differ from the id, which is NFC-normalised.
        captions: See ``Dataset``.
        captions_of_case: See ``Dataset``.
        captions_of_class: See ``Dataset``.
        notes: See ``Dataset``.

    Raises:
        DataError: See ``Dataset``.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        classes: Sequence[str],
        *,
        paths: Mapping[str, str],
        captions: Captions,
        captions_of_case: dict[str, Sequence[int]],
        captions_of_class: Sequence[Sequence[int]] = (),
        notes: Sequence[str] = (),
    ):
        super().__init__(
            cases, classes, captions=captions, captions_of_case=captions_of_case, captions_of_class=captions_of_class, notes=notes
        )
        self._paths = [paths[case.id] for case in self.cases]
        self.digests = FileDigests()

    def add_attributes(self, table: str, root: str) -> None:
        """Add the attributes in a table, and a note if its encoding is to be doubted; see ``read_attributes``."""
        notes: list[str] = []
        self.attributes |= read_attributes(table, self.rows, root, notes)
        self.notes += tuple(notes)

    def read_image(self, row: int) -> Image.Image:
        """See ``Dataset.read_image``."""
        return read_image(self._paths[row], frame=self.frame)

    @property
    def reads_encoded(self) -> bool:
        """See ``Dataset.reads_encoded``."""
        return reads_files(self)

    def encoded_digest(self, row: int) -> str:
        """See ``Dataset.encoded_digest``; size and times of the file stand for its bytes."""
        return self.digests.of(self._paths[row]).digest

    def encoded_image(self, row: int) -> bytes:
        """See ``Dataset.encoded_image``."""
        return read_bytes(self._paths[row])

    def decode_image(self, row: int, content: bytes) -> Image.Image:
        """See ``Dataset.decode_image``."""
        try:
            return decode(content, frame=self.frame)
        except DataError as error:
            raise DataError(f"{self._paths[row]}: {error}") from error

    def path_of(self, row: int) -> Path:
        """The actual path of the image in ``row``."""
        return Path(self._paths[row])

    def source_of(self, row: int) -> str | None:
        """See ``Dataset.source_of``; ``None`` if a frame is chosen, or a subclass overrides how images are read or digested."""
        usual = reads_files(self) and type(self).content_digest is FileDataset.content_digest
        return self._paths[row] if usual and self.frame is None else None

    def image_state(self, row: int) -> list | None:
        """See ``Dataset.image_state``: path, size and times; ``None`` if the file is missing, or a subclass reads images itself."""
        if not reads_files(self):
            return None
        try:
            status = check_regular(self._paths[row])
        except DataError:
            return None
        return [os.path.abspath(self._paths[row]), status.st_size, status.st_mtime_ns, status.st_ctime_ns]

    def content_digest(self, row: int) -> str:
        """See ``Dataset.content_digest``; of the file's bytes, unless a frame is chosen or a subclass reads images itself."""
        if not reads_files(self) or self.frame is not None:
            return super().content_digest(row)
        return self.digests.of(self._paths[row]).digest


def reads_files(data: Dataset) -> TypeGuard[FileDataset]:
    """Whether every image of ``data`` is the content of its file alone, and not made by a subclass's own ``read_image``."""
    return isinstance(data, FileDataset) and type(data).read_image is FileDataset.read_image


def check_distinct(given: Mapping[str, str], argument: str) -> None:
    """Refuse a file or folder that is the source of two parts.

    Args:
        given: Source of each part.
        argument: Name of the constructor argument, containing ``{part}``.

    Raises:
        LeakError: Two parts have the same source.
    """
    part_of: dict[str, str] = {}
    for part, source in given.items():
        other = part_of.setdefault(os.path.realpath(source), part)
        if other != part:
            where = argument.format(part=part)
            raise LeakError(f"data.dataset.{where}: '{source}' is also the source of the {other} part. Use different images for every part")
