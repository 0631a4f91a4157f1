"""Image–text pairs in WebDataset shards: every sample is a case, read by random access."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from clipzoo.config.arguments import FilePath
from clipzoo.datasets.captions import Captions
from clipzoo.datasets.files.copies import merge_copies
from clipzoo.datasets.files.groups import groups_from_pattern
from clipzoo.datasets.files.images import decode
from clipzoo.datasets.group_hint import group_note
from clipzoo.datasets.pairs import PairSource
from clipzoo.datasets.shards.index import Keys, ShardIndex, shard_indexes
from clipzoo.datasets.shards.paths import shard_paths
from clipzoo.errors import ConfigError, DataError, LeakError, shortened
from clipzoo.files import reason
from clipzoo.records.folds import PARTS, Case
from clipzoo.registries import DATASETS
from clipzoo.text import clean_path

if TYPE_CHECKING:
    from PIL import Image

_MOST_NAMES = 3


@DATASETS.register_module()
class ShardPairs(PairSource):
    """Images and sentences in local tar files, as img2dataset and webdataset write them; evaluated by retrieval.

    A sample is an image with ``NAME.txt`` (one caption), ``NAME.json`` with the key ``caption`` (a sentence, or a list of sentences, which
    then takes precedence), or both. Each shard is read once from start to end; what it contains is kept in the cache folder and holds until
    the shard's size or modification time changes. Then images are read by offset, so that folds, restarts, several processes and workers
    are the same as with images in folders. Case ids are the shard's path below the deepest common folder and the name of the image in it:
    ``00000.tar/000000123.jpg``. Byte-identical images become one group.

    Args:
        shards: Shards of all pairs, or of the training part if ``val_shards`` or ``test_shards`` is given: a file, a folder of ``*.tar``, a
            glob, braces (``data/{00000..00099}.tar``), or a list of these.
        val_shards: Shards of the val part; ``splits.type='AsGiven'`` follows it.
        test_shards: Shards of the test part, likewise.
        caption_key: Key of the captions in ``NAME.json``; ``None`` reads them as above.
        group_key: Key of the group in ``NAME.json``, such as a patient's.
        group_pattern: Alternative to ``group_key``; see ``PairsDataset``.
        skip_incomplete: Whether samples without an image or without a caption are left out, with a note, instead of refused.

    Raises:
        ConfigError: Two arguments exclude each other.
        DataError: A shard, or a sample in it, is not as described above.
        LeakError: A shard is in two parts.

    Example:
        ``dict(type='ShardPairs', shards='data/{00000..00099}.tar')``
    """

    def __init__(
        self,
        shards: FilePath | list[FilePath],
        val_shards: FilePath | list[FilePath] | None = None,
        test_shards: FilePath | list[FilePath] | None = None,
        caption_key: str | None = None,
        group_key: str | None = None,
        group_pattern: str | None = None,
        skip_incomplete: bool = False,
    ):
        if group_key is not None and group_pattern is not None:
            raise ConfigError("data.dataset: group_key and group_pattern are mutually exclusive. Remove one of them")
        given = {
            part: shard_paths(named) for part, named in zip(PARTS, (shards, val_shards, test_shards), strict=True) if named is not None
        }
        part_of = _parts(given)
        indexes = shard_indexes(part_of, Keys(caption_key, group_key))
        notes = _notes(indexes, skip_incomplete)
        top = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in indexes])
        captions, cases, captions_of_case = Captions(), [], {}
        copies: dict[str, list[str]] = defaultdict(list)
        self._places: dict[str, tuple[str, int]] = {}
        for path, index in indexes.items():
            folder = clean_path(os.path.relpath(os.path.abspath(path), top))
            for row, name in enumerate(index.names):
                case_id = f"{folder}/{clean_path(name)}"
                if case_id in self._places:
                    raise DataError(f"{path}: two images are both read as '{case_id}'. Rename one of them")
                self._places[case_id] = path, row
                cases.append(Case(case_id, None, index.groups[row] if group_key else case_id, part_of[path] if len(given) > 1 else None))
                captions_of_case[case_id] = [captions.add(caption) for caption in index.captions[row]]
                copies[index.digests[row]].append(case_id)
        groups = {case.id: case.group for case in cases}
        if group_pattern is not None:
            groups = groups_from_pattern(group_pattern, list(groups))
        elif group_key is None:
            notes += group_note(sorted(groups), [None] * len(groups))
        given_groups = groups
        groups, copied = merge_copies(groups, [same for same in copies.values() if len(same) > 1])
        cases = [Case(case.id, None, groups[case.id], case.part) for case in cases]
        super().__init__(cases, (), captions=captions, captions_of_case=captions_of_case, notes=notes + copied)
        self.indexes, self.given_groups = indexes, given_groups
        self.sources = (f"{len(indexes)} shards, from {next(iter(indexes))}",)

    @property
    def reads_encoded(self) -> bool:
        """See ``Dataset.reads_encoded``."""
        return type(self).read_image is ShardPairs.read_image

    def encoded_digest(self, row: int) -> str:
        """See ``Dataset.encoded_digest``; found when the shard was indexed."""
        path, place = self._places[self.cases[row].id]
        return self.indexes[path].digests[place]

    def encoded_image(self, row: int) -> bytes:
        """See ``Dataset.encoded_image``; refuses a shard that changed since it was indexed."""
        path, place = self._places[self.cases[row].id]
        index = self.indexes[path]
        try:
            with open(path, "rb", buffering=0) as file:  # opened for each image: no descriptor is shared by threads or forked workers
                status = os.fstat(file.fileno())
                if (status.st_size, status.st_mtime_ns) != (index.size, index.modified):
                    raise DataError(f"{path}: the shard changed since it was indexed. Start again to index it")
                file.seek(index.offsets[place])
                return file.read(index.sizes[place])
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({reason(error)})") from error

    def decode_image(self, row: int, content: bytes) -> Image.Image:
        """See ``Dataset.decode_image``."""
        try:
            return decode(content)
        except DataError as error:
            raise DataError(f"{self.path_of(row)}: {error}") from error

    def read_image(self, row: int) -> Image.Image:
        """See ``Dataset.read_image``."""
        return self.decode_image(row, self.encoded_image(row))

    def path_of(self, row: int) -> Path:
        """The shard in place of a folder, and the name of the image in it: for its ending, and for people."""
        path, place = self._places[self.cases[row].id]
        return Path(path, self.indexes[path].names[place])

    def image_state(self, row: int) -> list | None:
        """See ``Dataset.image_state``: the digest of the bytes, which holds for the unchanged shard."""
        return [self.encoded_digest(row)] if self.reads_encoded else None

    def content_digest(self, row: int) -> str:
        """See ``Dataset.content_digest``; of the bytes."""
        return self.encoded_digest(row) if self.reads_encoded else super().content_digest(row)


def _parts(given: dict[str, list[str]]) -> dict[str, str]:
    """The part of every shard."""
    part_of: dict[str, str] = {}
    known: dict[str, str] = {}
    for part, paths in given.items():
        for path in paths:
            other = known.setdefault(os.path.realpath(path), part)
            if other != part:
                raise LeakError(f"{path}: this shard is in the {other} and in the {part} part. Use different shards for every part")
            part_of[path] = part
    return part_of


def _notes(indexes: dict[str, ShardIndex], skip_incomplete: bool) -> list[str]:
    """Remarks about what is left out; refuses incomplete samples unless they are to be skipped, and shards without any sample."""
    incomplete = [(path, what) for path, index in indexes.items() for what in index.incomplete]
    if incomplete and not skip_incomplete:
        path, what = incomplete[0]
        others = (
            f" (and {len(incomplete) - 1} more samples: {shortened([what for _, what in incomplete[1:]], 2)})" if incomplete[1:] else ""
        )
        raise DataError(
            f"{path}: sample {what}{others}. Add it as NAME.txt or 'caption' in NAME.json, or the image as NAME.jpg; or set "
            "data.dataset.skip_incomplete=True to leave such samples out"
        )
    if not any(index.names for index in indexes.values()):
        raise DataError(f"{next(iter(indexes))}: {len(indexes)} shards contain no image with a caption. Expected NAME.jpg and NAME.txt")
    notes = [f"{len(incomplete)} samples without image or caption are left out: {shortened([w for _, w in incomplete], _MOST_NAMES)}"]
    ignored = sum(index.ignored for index in indexes.values())
    return notes * bool(incomplete) + [f"{ignored} members of the shards are no part of a sample and were ignored"] * bool(ignored)
