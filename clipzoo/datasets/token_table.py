"""The tokens of a caption table. Those of a large one stay in a small dtype, and are kept in the cache folder by content.

Legend: T captions · L tokens.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clipzoo.errors import DataError
from clipzoo.records.mapped_array import map_array, write_array
from clipzoo.structures import Tokenizer, Tokens

LARGE = 20_000  # captions; fewer are tokenised faster than they are read, and int64 costs nothing
_PORTION = 1 << 14  # captions at a time, in int64
_VERSION = 1  # a higher one tokenises everything again
_DTYPES = ("uint16", "int32")
_HEADER = 2  # columns before the tokens: how many there are, and how many the whole sentence has


@dataclass(frozen=True)
class TokenCache:
    """Where the tokens of large tables are kept between starts.

    Attributes:
        folder: Folder of the files, one for each table and tokenizer.
        note: Function called with a one-line message if a file is damaged or cannot be written; the run goes on without it.
        writes: Whether new files are written; False in all but one of several processes, and in a dry run.
    """

    folder: Path
    note: Callable[[str], object] = warnings.warn
    writes: bool = True

    def read(self, key: str) -> np.ndarray | None:
        """The table with this key; ``None`` if there is none, or it is damaged."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            return map_array(path, _DTYPES)
        except DataError as error:
            self.note(f"{error}; its captions are tokenised again")
            return None

    def write(self, key: str, table: np.ndarray) -> np.ndarray:
        """Keep a table; returns it as it is read at the next start, or as it is if it cannot be kept."""
        if not self.writes:
            return table
        try:
            write_array(self._path(key), table)
            return map_array(self._path(key), _DTYPES)
        except DataError as error:
            self.note(f"tokens are not kept: {error}")
            return table

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npy"


def tokenised(sentences: list[str], tokenizer: Tokenizer, cache: TokenCache | None = None) -> tuple[Tokens, np.ndarray]:
    """Tokens of all sentences, and ``[T]`` how many tokens each has before truncation.

    Args:
        sentences: T sentences.
        tokenizer: Tokenizer of a text tower.
        cache: Cache for large tables; ``None`` keeps nothing.
    """
    import torch

    if len(sentences) < LARGE:
        tokens = tokenizer(sentences)
        return tokens, _counts(sentences, tokens.lengths.numpy(), tokenizer)
    identity = getattr(tokenizer, "identity", None)
    key = None if cache is None or not identity else _key(sentences, identity)
    table = None if key is None else cache.read(key)
    if table is None or len(table) != len(sentences):
        table = _table(sentences, tokenizer)
        table = table if key is None else cache.write(key, table)
    header = np.asarray(table[:, :_HEADER], dtype=np.int64)
    return Tokens(torch.from_numpy(table)[:, _HEADER:], torch.from_numpy(header[:, 0].copy())), header[:, 1]


def perhaps_equal(tokens: Tokens) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Those rows, with their tokens, that may equal another one: all that share a hash. A million tuples would take a gigabyte."""
    ids, lengths = tokens.ids.numpy(), tokens.lengths.numpy()
    factors = np.random.default_rng(0).integers(1 << 63, size=ids.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    hashes = lengths.astype(np.uint64)
    for first in range(0, len(ids), _PORTION):
        some = slice(first, first + _PORTION)
        inside = np.arange(ids.shape[1]) < lengths[some, None]
        hashes[some] += (np.where(inside, ids[some], 0).astype(np.uint64) * factors).sum(axis=1, dtype=np.uint64)
    _, kind, number = np.unique(hashes, return_inverse=True, return_counts=True)
    for row in np.flatnonzero(number[kind] > 1).tolist():
        yield row, tuple(ids[row, : lengths[row]].tolist())


def rows_with(tokens: Tokens, token: int) -> np.ndarray:
    """The rows that contain ``token``."""
    ids, lengths = tokens.ids.numpy(), tokens.lengths.numpy()
    parts = [slice(first, first + _PORTION) for first in range(0, len(ids), _PORTION)]
    found = [((ids[some] == token) & (np.arange(ids.shape[1]) < lengths[some, None])).any(axis=1) for some in parts]
    return np.flatnonzero(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)


def _table(sentences: list[str], tokenizer: Tokenizer) -> np.ndarray:
    """``[T, 2 + L]``: number of tokens, number before truncation, tokens; in the smallest of the dtypes."""
    parts = []
    for first in range(0, len(sentences), _PORTION):
        some = sentences[first : first + _PORTION]
        tokens = tokenizer(some)
        lengths = tokens.lengths.numpy()
        part = np.column_stack([lengths, _counts(some, lengths, tokenizer), tokens.ids.numpy()])
        parts.append(part.astype(np.uint16 if part.max() <= 0xFFFF else np.int32))
    kind = np.uint16 if all(part.dtype == np.uint16 for part in parts) else np.int32
    table = np.zeros((len(sentences), max(part.shape[1] for part in parts)), dtype=kind)
    first = 0
    for part in parts:
        table[first : first + len(part), : part.shape[1]] = part
        first += len(part)
    return table


def _counts(sentences: Sequence[str], lengths: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """``[T]`` tokens before truncation: only a sentence that fills the context may have more than its length."""
    counts = lengths.copy()
    full = np.flatnonzero(lengths >= tokenizer.context_length)
    many = getattr(tokenizer, "counts", None) or (lambda some: [tokenizer.count(sentence) for sentence in some])
    counts[full] = many([sentences[i] for i in full])
    return counts


def _key(sentences: Sequence[str], identity: str) -> str:
    """32 hexadecimal digits for the sentences, in order, and what tokenises them."""
    digest = hashlib.sha256(f"{_VERSION} {identity}".encode("utf-8", "surrogatepass"))
    for first in range(0, len(sentences), _PORTION):
        digest.update(b"\xff" + b"\xff".join(sentence.encode() for sentence in sentences[first : first + _PORTION]))  # in no UTF-8 text
    return digest.hexdigest()[:32]
