"""Every image file decoded once before training: a damaged one is found at the start, and not when a fold reads it days later.

The files of a check that found no damage are remembered in the cache folder by their sizes and times: the next start reads none of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.config.settings import DataSettings
from clipzoo.datasets.file_dataset import FileDataset
from clipzoo.datasets.inspection.damage import refuse_damaged, warnings_of
from clipzoo.datasets.inspection.image_facts import FileFact, decoded_fact_of, facts_of
from clipzoo.errors import CheckpointError, DataError
from clipzoo.files import cache_folder, check_regular
from clipzoo.records.json_records import read_record, write_record
from clipzoo.runtime import distributed
from clipzoo.runtime.progress import shown

if TYPE_CHECKING:
    from logging import Logger

    from rich.console import Console

    from clipzoo.config import Config
    from clipzoo.datasets.base import Dataset

FOLDER = "checked_images"  # in the cache folder
_VERSION = 1  # a higher one checks all images again
_MOST_WORKERS = 16


@dataclass(frozen=True)
class CheckedImages:
    """What is remembered of images that can all be decoded.

    Attributes:
        num_images: Number of images.
        warnings: See ``check_images``.
    """

    num_images: int
    warnings: list[str]


def check_images(data: Dataset, config: Config, *, log: Logger, console: Console, is_dry: bool = False) -> list[str]:
    """Decode every image file of the data once, of all parts, unless ``data.check_images`` is False. A collective operation.

    Images that are not simply files are not checked here: the fingerprint of the data decodes them.

    Args:
        data: Dataset, possibly with several images per case.
        config: A checked config.
        log: Logger for progress lines.
        console: Console for the progress bar.
        is_dry: Whether nothing may be written, also not in the cache folder.

    Returns:
        One sentence for each kind of image that can be decoded, but perhaps not as intended.

    Raises:
        DataError: Images cannot be decoded; the message names them.
    """
    images = data.single_images
    is_plain = isinstance(images, FileDataset) and type(images).read_image is FileDataset.read_image
    if not is_plain or not DataSettings.of(config).check_images:
        return []
    record = distributed.from_main(lambda: _record_of(images))
    checked = distributed.from_main(lambda: _remembered(record))
    if checked is None:
        checked = distributed.in_turns(_decoded(images, log, console))
        if not is_dry:
            distributed.from_main(lambda: _remember(record, checked))
    return checked.warnings


def _decoded(images: FileDataset, log: Logger, console: Console) -> Generator[None, None, CheckedImages]:
    """The work of the main process; yields when a turn is over."""
    facts: list[FileFact] = []
    turn = time.monotonic()
    workers = min(os.cpu_count() or 1, _MOST_WORKERS)
    with shown("checking the images", len(images), console, log) as report:
        for found in facts_of(images, range(len(images)), workers, decoded_fact_of):
            facts += found
            report(len(facts))
            if time.monotonic() - turn > distributed.TURN_SECONDS:
                yield
                turn = time.monotonic()
    refuse_damaged(facts)
    return CheckedImages(len(facts), warnings_of(facts))


def _record_of(images: FileDataset) -> Path | None:
    """The file that remembers a check of exactly these files; ``None`` without a cache folder, or if a file is missing."""
    from PIL import __version__ as pillow

    folder = cache_folder()
    if folder is None:
        return None
    digest = hashlib.sha256(json.dumps([_VERSION, pillow, images.frame]).encode())
    for row, case in enumerate(images.cases):
        path = images.path_of(row)
        try:
            status = check_regular(path)
        except DataError:
            return None
        state = [case.id, os.path.abspath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        digest.update(json.dumps(state).encode())
    return folder / FOLDER / f"{digest.hexdigest()[:32]}.json"


def _remembered(record: Path | None) -> CheckedImages | None:
    if record is None or not record.exists():
        return None
    try:
        return read_record(CheckedImages, record, "")
    except CheckpointError:  # damaged: the images are checked again
        return None


def _remember(record: Path | None, checked: CheckedImages) -> None:
    if record is not None:
        try:
            write_record(record, asdict(checked))
        except DataError:  # a cache folder that is full or not writable; the images are checked again at the next start
            pass
