"""Writing of WebDataset shards, in the layout of img2dataset: an image, a text and a JSON for every sample."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from clipzoo.datasets.files.images import EXTENSIONS
from clipzoo.errors import DataError
from clipzoo.files import cannot_write, new_folder, read_bytes


@dataclass(frozen=True)
class Sample:
    """An image with its captions.

    Attributes:
        id: Where it comes from; recorded in the JSON.
        path: The image file.
        captions: At least one.
        group: Its group; ``None`` records none.
    """

    id: str
    path: str
    captions: Sequence[str]
    group: str | None = None


def write_shards(folder: Path, samples: Iterable[Sample], size: int = 10_000) -> int:
    """Write ``00000.tar``, ``00001.tar`` … into a new folder; equal samples give equal bytes.

    ``000000123.txt`` holds the first caption. ``000000123.json`` holds ``caption`` (a sentence, or the list of several), ``key``,
    ``source`` and ``group``, if there is one.

    Args:
        folder: New or empty folder; it appears when all shards are complete.
        samples: Samples in order.
        size: Number of samples per shard.

    Returns:
        The number of shards.

    Raises:
        DataError: The folder exists, cannot be written, or an image cannot be read.
    """
    if size < 1:
        raise DataError(f"shard_size: {size} is not allowed; use 1 or more")
    remaining, shards, first = iter(samples), 0, 0
    with new_folder(folder) as temporary:
        while some := list(islice(remaining, size)):
            path = temporary / f"{shards:05d}.tar"
            try:
                with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
                    for number, sample in enumerate(some, start=first):
                        for name, content in _members(f"{number:09d}", sample):
                            member = tarfile.TarInfo(name)
                            member.size = len(content)
                            archive.addfile(member, io.BytesIO(content))
                with path.open("r+b") as file:
                    os.fsync(file.fileno())
            except OSError as error:
                raise cannot_write(folder / path.name, error) from error
            shards, first = shards + 1, first + len(some)
    return shards


def _members(key: str, sample: Sample) -> Iterator[tuple[str, bytes]]:
    described = {"caption": sample.captions[0] if len(sample.captions) == 1 else list(sample.captions), "key": key, "source": sample.id}
    described |= {} if sample.group is None else {"group": sample.group}
    ending = os.path.splitext(sample.path)[1].lower()
    if ending not in EXTENSIONS:
        raise DataError(f"{sample.path}: images in shards must end in one of {', '.join(EXTENSIONS)}. Convert or rename it")
    yield f"{key}{ending}", read_bytes(sample.path)
    yield f"{key}.txt", sample.captions[0].encode()
    yield f"{key}.json", json.dumps(described, ensure_ascii=False).encode()
