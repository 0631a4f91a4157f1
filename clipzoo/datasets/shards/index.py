"""What a shard contains: for each sample, where the bytes of its image are, and its captions. Made once, and kept in the cache folder.

A shard is a tar file in which members with the same name before the first dot are one sample (WebDataset): ``000000123.jpg``,
``000000123.txt``, ``000000123.json``. An index holds for the size and modification time of the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass

from clipzoo.datasets.captions import clean
from clipzoo.datasets.files.images import EXTENSIONS
from clipzoo.errors import CheckpointError, DataError, shortened
from clipzoo.files import cache_folder, check_regular, decode_text, json_kind, parse_json, reason
from clipzoo.records.json_records import read_record, write_record
from clipzoo.watching import working

FOLDER = "shards"  # in the cache folder
_VERSION = 1  # a higher one indexes all shards again
_KEY = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)")  # a name that starts with a dot is no sample
_BLOCK = tarfile.BLOCKSIZE
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True)
class Keys:
    """Keys of a sample's JSON.

    Attributes:
        caption: Key of the caption or the captions; ``None`` reads ``.txt``, or else ``caption``.
        group: Key of the group; ``None`` reads no groups.
    """

    caption: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class ShardIndex:
    """The samples of a shard, in the order of the file.

    Attributes:
        size: Bytes of the shard.
        modified: Modification time, in nanoseconds since 1970.
        names: Name of the image of each sample.
        offsets: Where its bytes start.
        sizes: How many there are.
        digests: Their BLAKE2b-128, hexadecimal.
        captions: Normalised captions of each sample.
        groups: Group of each sample, or empty without ``Keys.group``.
        incomplete: Samples without an image or without a caption, with what is missing.
        ignored: Number of members that are no part of a sample.
    """

    size: int
    modified: int
    names: list[str]
    offsets: list[int]
    sizes: list[int]
    digests: list[str]
    captions: list[list[str]]
    groups: list[str]
    incomplete: list[str]
    ignored: int


def shard_indexes(paths: Iterable[str], keys: Keys) -> dict[str, ShardIndex]:
    """The index of each shard: the one in the cache folder if the shard is unchanged, or else a new one.

    Raises:
        DataError: A shard is missing, truncated, compressed or no tar file, or a sample is not as described above.
    """
    found = {path: _kept(path, keys) for path in paths}
    new = [path for path, index in found.items() if index is None]
    with working("indexing shards", len(new), "shards") as done:
        for number, path in enumerate(new, 1):
            found[path] = _indexed(path, keys, check_regular(path))
            _keep(path, keys, found[path])
            done(number)
    return found


def _kept(path: str, keys: Keys) -> ShardIndex | None:
    status, record = check_regular(path), _record(path, keys)
    if record is None or not record.exists():
        return None
    try:
        found = read_record(ShardIndex, record, "")
    except CheckpointError:  # damaged: made again
        return None
    return found if (found.size, found.modified) == (status.st_size, status.st_mtime_ns) else None


def _keep(path: str, keys: Keys, made: ShardIndex) -> None:
    record = _record(path, keys)
    if record is not None:
        with suppress(DataError):  # full or not writable: indexed again at the next start
            write_record(record, asdict(made))


def _record(path: str, keys: Keys):
    cache = cache_folder()
    name = hashlib.sha256(json.dumps([_VERSION, os.path.realpath(path), keys.caption, keys.group]).encode("utf-8", "surrogatepass"))
    return None if cache is None else cache / FOLDER / f"{name.hexdigest()[:32]}.json"


def _indexed(path: str, keys: Keys, status: os.stat_result) -> ShardIndex:
    rows: list[tuple] = []
    incomplete: list[str] = []
    ignored = 0
    for key, members in _samples(path, status.st_size):
        images = [name for name in members if f".{name.rpartition('.')[2].lower()}" in EXTENSIONS]
        if key is None:
            ignored += len(members)
            continue
        if len(images) > 1:
            raise DataError(f"{path}: sample '{key}' has {len(images)} images: {shortened(images, 3)}. Keep one of them")
        captions, group = _described(path, key, members, keys)
        if not images or not captions:
            incomplete.append(f"'{key}' has no {'image' if not images else 'caption'}")
            continue
        offset, content = members[images[0]]
        if not content:
            raise DataError(f"{path}: {images[0]}: the image is empty (zero bytes). Replace or remove it")
        rows.append((images[0], offset, len(content), hashlib.blake2b(content, digest_size=16).hexdigest(), captions, group))
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], [], [], []]
    groups = columns.pop() if keys.group is not None else [] if columns.pop() is not None else []
    return ShardIndex(status.st_size, status.st_mtime_ns, *columns, groups, incomplete, ignored)


def _samples(path: str, size: int) -> Iterator[tuple[str | None, dict[str, tuple[int, bytes]]]]:
    """Key and members of each sample, with offset and content of each; ``None`` and the rest for what is no part of a sample."""
    seen: set[str] = set()
    key, members, others = None, {}, {}
    for name, offset, content in _members(path, size):
        found = _KEY.fullmatch(name)
        if found is None:
            others[f"{name} {offset}"] = (offset, b"")
            continue
        if found.group(1) != key:
            if key is not None:
                yield key, members
            key, members = found.group(1), {}
            if key in seen:
                raise DataError(
                    f"{path}: two samples have the key '{key}'. The members of a sample must follow each other; rename one sample"
                )
            seen.add(key)
        if name in members:
            raise DataError(f"{path}: the member '{name}' occurs twice. Keep one of them")
        members[name] = (offset, content)
    if key is not None:
        yield key, members
    yield None, others


def _members(path: str, size: int) -> Iterator[tuple[str, int, bytes]]:
    """Name, offset and content of each regular file in a tar file; long names of GNU and pax are read by ``tarfile``."""
    try:
        with open(path, "rb") as file:
            head = file.read(8)
            kind = next((name for start, name in _COMPRESSED.items() if head.startswith(start)), None)
            if kind is not None:
                raise DataError(f"{path}: compressed with {kind}, so that a sample cannot be read without all before it. Unpack it to .tar")
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    archive.members = []  # or it would keep them all
                    if member.isreg():
                        file.seek(member.offset_data)
                        yield member.name, member.offset_data, file.read(member.size)
                file.seek(archive.offset)
            if file.read(_BLOCK) != bytes(_BLOCK):  # every program that writes a tar file ends it with zeros
                raise DataError(f"{path}: truncated: the end mark is missing. Write or copy the shard again")
    except tarfile.ReadError as error:
        if size == 0:
            raise DataError(f"{path}: the shard is empty (zero bytes). Write it again") from error
        raise DataError(f"{path}: not a tar file, or truncated or damaged ({error}). Write or copy it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error


def _described(path: str, key: str, members: dict[str, tuple[int, bytes]], keys: Keys) -> tuple[list[str], str | None]:
    """Captions and group of a sample."""
    by_ending = {name[len(key) + 1 :].lower(): (f"{path}: {name}", content) for name, (_, content) in members.items()}
    where, content = by_ending.get("json", (f"{path}: {key}.json", b""))
    described = parse_json(where, decode_text(where, content)) if content.strip() else {}
    if not isinstance(described, dict):
        raise DataError(f"{where}: must be an object such as {{caption}}, not {json_kind(described)}")
    name = keys.caption or "caption"
    value = described.get(name)
    captions = value if isinstance(value, list) else [value]
    if not all(isinstance(caption, (str, type(None))) for caption in captions):
        raise DataError(f"{where}: '{name}' must be a sentence or a list of sentences, not {json_kind(value)}")
    if keys.caption is None and not isinstance(value, list) and "txt" in by_ending:
        captions = [decode_text(*by_ending["txt"])]
    group = None
    if keys.group is not None:
        group = described.get(keys.group)
        if isinstance(group, bool) or not isinstance(group, (str, int)) or not clean(str(group)):
            raise DataError(f"{where}: '{keys.group}' must be a name or a whole number (data.dataset.group_key)")
        group = clean(str(group))
    return list(dict.fromkeys(caption for one in captions if one is not None and (caption := clean(one)))), group
