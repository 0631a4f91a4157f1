"""Every image file decoded once before training: a damaged one is found at the start, and not when a fold reads it days later.

The files of a check that found no damage are remembered in the cache folder by their sizes and times: the next start reads none of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

from clipzoo.config.settings import DataSettings
from clipzoo.datasets.file_dataset import reads_files
from clipzoo.datasets.inspection.damage import refuse_damaged, warnings_of
from clipzoo.datasets.inspection.image_facts import MOST_WORKERS, FileFact, decoded_fact_of, facts_of
from clipzoo.datasets.inspection.remembered import read_remembered, record_of, remember
from clipzoo.engine.inputs import image_cache
from clipzoo.runtime import distributed
from clipzoo.runtime.progress import shown

if TYPE_CHECKING:
    from logging import Logger

    from rich.console import Console

    from clipzoo.config import Config
    from clipzoo.datasets.base import Dataset
    from clipzoo.datasets.image_cache.cache import CachedImages
    from clipzoo.structures import Preprocessing

FOLDER = "checked_images"  # in the cache folder
_VERSION = 1  # a higher one checks all images again


@dataclass(frozen=True)
class CheckedImages:
    """What is remembered of images that can all be decoded.

    Attributes:
        num_images: Number of images.
        warnings: See ``check_images``.
    """

    num_images: int
    warnings: list[str]


def check_images(
    data: Dataset,
    config: Config,
    *,
    log: Logger,
    console: Console,
    is_dry: bool = False,
    preprocessing: Preprocessing | None = None,
) -> list[str]:
    """Decode every image file of the data once, of all parts, unless ``data.check_images`` is False. A collective operation.

    Images without a known state are not checked here: the fingerprint of the data decodes them.

    Args:
        data: Dataset, possibly with several images per case.
        config: A checked config.
        log: Logger for progress lines.
        console: Console for the progress bar.
        is_dry: Whether nothing may be written, also not in the cache folder.
        preprocessing: What the image tower requires, if it is known: images are then kept in ``runtime.image_cache`` in the same pass.

    Returns:
        One sentence for each kind of image that can be decoded, but perhaps not as intended.

    Raises:
        DataError: Images cannot be decoded; the message names them.
    """
    images = data.single_images
    can_check = reads_files(images) or images.image_state(0) is not None
    if not can_check or not DataSettings.of(config).check_images:
        return []
    record = distributed.from_main(lambda: record_of(images, FOLDER, _VERSION))
    checked = distributed.from_main(lambda: read_remembered(CheckedImages, record))
    if checked is None:
        cached = None if is_dry or preprocessing is None else image_cache(config, log).images(images, preprocessing)
        checked = distributed.in_turns(_decoded(images, cached, log, console))
        if not is_dry:
            distributed.from_main(lambda: remember(record, asdict(checked)))
    return checked.warnings


def _decoded(images: Dataset, cached: CachedImages | None, log: Logger, console: Console) -> Generator[None, None, CheckedImages]:
    """The work of the main process; yields when a turn is over."""
    facts: list[FileFact] = []
    turn = time.monotonic()
    workers = min(os.cpu_count() or 1, MOST_WORKERS)
    look = decoded_fact_of if cached is None else partial(decoded_fact_of, keep=cached.keep_if_new)
    with shown("checking the images", len(images), console, log) as report:
        for found in facts_of(images, range(len(images)), workers, look):
            facts += found
            report(len(facts))
            if time.monotonic() - turn > distributed.TURN_SECONDS:
                yield
                turn = time.monotonic()
    if cached is not None:
        cached.after_batch()  # if the cache cannot grow, the first fold says so, in the log of the run
    refuse_damaged(facts)
    return CheckedImages(len(facts), warnings_of(facts))
