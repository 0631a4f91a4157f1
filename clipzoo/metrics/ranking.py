"""Ranks of images and captions in both directions, block by block: the matrix of all similarities is never stored.

Shapes: N images · T captions · D embedding width · P matching pairs of image and caption · Q queries · G items of a gallery.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clipzoo.records.tables import DIRECTIONS, RetrievalTable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from clipzoo.records.folds import Case

TIE = 1e-6
NUM_BINS = 200
# A block of 4096 x 4096 has 2^24 products, the most that float32 counters (torch.histc) count exactly.
LARGEST_BLOCK = 4096
# Below every cosine: matching pairs are set to this value, so that they count neither as ahead nor as tied, nor in a histogram.
_MASKED = -2.0


@dataclass(frozen=True)
class Similarities:
    """Distribution of the cosines of all pairs.

    Attributes:
        positive_histogram: ``[200]`` int64 counts of matching pairs.
        negative_histogram: ``[200]`` int64 counts of all other pairs.
        edges: ``[201]`` float64 bin edges, -1 to 1; the last bin includes 1.
    """

    positive_histogram: np.ndarray
    negative_histogram: np.ndarray
    edges: np.ndarray


@dataclass(frozen=True)
class QueryRanks:
    """Ranks of the queries of one direction, as in the columns of ``RetrievalTable``, with row numbers instead of names.

    Attributes:
        gallery: Size of the gallery, G, the same for all queries.
        ahead: ``[Q]`` int64; G if nothing matches the query.
        tied: ``[Q]`` int64.
        positives: ``[Q]`` int64; 0 if nothing matches the query.
        positive_similarity: ``[Q]`` float64.
        negative_similarity: ``[Q]`` float64.
        best_match: ``[Q]`` int64 row in the gallery; on ties with the best matching item, the first of them. -1 for none.
    """

    gallery: int
    ahead: np.ndarray
    tied: np.ndarray
    positives: np.ndarray
    positive_similarity: np.ndarray
    negative_similarity: np.ndarray
    best_match: np.ndarray


@dataclass(frozen=True)
class Ranks:
    """Ranks in both directions, and the underlying similarities.

    Attributes:
        image_to_text: One query per image.
        text_to_image: One query per caption.
        similarities: Histograms over all pairs.
    """

    image_to_text: QueryRanks
    text_to_image: QueryRanks
    similarities: Similarities


def rank(
    image_ND: Tensor | np.ndarray,
    text_TD: Tensor | np.ndarray,
    positives: Sequence[Sequence[int]],
    *,
    block: int | None = None,
    device: torch.device | str = "cpu",
) -> Ranks:
    """Search every image's captions among all captions, and every caption's images among all images.

    Similarities of matching pairs are computed in float64, the others in float32, regardless of global settings for matrix products. Two
    that differ by at most 1e-6, more than the rounding error for features of unit length, are tied. Besides the features on
    ``device``, three blocks are stored: 13 MB on a CPU.

    Args:
        image_ND: ``[N, D]`` float, rows of unit length.
        text_TD: ``[T, D]`` float, rows of unit length.
        positives: For each image, the rows of its captions in ``text_TD``: none, one or several; images may share captions.
        block: Rows and columns per block, at most 4096; ``None``: 1024 on a CPU, 4096 on a GPU. Affects no result except ties.
        device: Device for the products.

    Returns:
        Ranks in both directions. If any feature is not finite, similarities are NaN, all other items are ahead, and histograms are empty.

    Raises:
        ValueError: Shapes or rows are inconsistent, or ``block`` is too large.
    """
    import torch

    device = torch.device(device)
    if device.type == "mps":  # no float64 on MPS
        device = torch.device("cpu")
    if block is None:
        block = 1024 if device.type == "cpu" else LARGEST_BLOCK
    if not 1 <= block <= LARGEST_BLOCK:
        raise ValueError(f"rank: block is {block}; it must be 1 to {LARGEST_BLOCK}")
    image_ND, text_TD = (torch.as_tensor(features).detach().to(device, torch.float32) for features in (image_ND, text_TD))
    if image_ND.ndim != 2 or text_TD.ndim != 2 or image_ND.shape[1] != text_TD.shape[1] or len(positives) != len(image_ND):
        raise ValueError(f"rank: {tuple(image_ND.shape)} images, {tuple(text_TD.shape)} captions, positives of {len(positives)} images")
    pairs = _pairs(positives, len(text_TD))
    image_D, text_D = _total(image_ND, block), _total(text_TD, block)
    if not bool((image_D.isfinite() & text_D.isfinite()).all()):
        return _undefined(pairs, len(image_ND), len(text_TD))
    with torch.no_grad(), _exact_products(device):
        by_image, by_text, similarities = _count(image_ND, text_TD, pairs, block)
        return Ranks(by_image.ranks(image_ND, text_D, block), by_text.ranks(text_TD, image_D, block), similarities)


def retrieval_table(
    ranks: Ranks, *, cases: Sequence[Case], captions: Sequence[str], fold: str, positives: Sequence[Sequence[int]] | None = None
) -> RetrievalTable:
    """The table of one part; queries without matching items are omitted, as they are distractors.

    Args:
        ranks: Ranks of N images and T captions.
        cases: The N images.
        captions: The T sentences.
        fold: Name of the fold.
        positives: Matching captions of every image, as for ``rank``: a caption that matches images of one group only belongs to that group.
            ``None`` leaves the groups of captions empty.
    """
    case_ids, groups = [case.id for case in cases], [case.group for case in cases]
    sides = (
        (ranks.image_to_text, case_ids, groups, captions),
        (ranks.text_to_image, captions, _caption_groups(groups, positives, len(captions)), case_ids),
    )
    tables = []
    for direction, (found, queries, of_group, gallery) in zip(DIRECTIONS, sides, strict=True):
        table = RetrievalTable.from_columns(
            direction=[direction] * len(queries),
            query=queries,
            group=of_group,
            fold=[fold] * len(queries),
            gallery=np.full(len(queries), found.gallery),
            ahead=found.ahead,
            tied=found.tied,
            positives=found.positives,
            positive_similarity=found.positive_similarity,
            negative_similarity=found.negative_similarity,
            best_match=[gallery[row] if row >= 0 else "" for row in found.best_match],
        )
        tables.append(table.take(table.positives > 0))
    return RetrievalTable.join(tables)


def _caption_groups(groups: Sequence[str], positives: Sequence[Sequence[int]] | None, num_captions: int) -> list[str]:
    """The group of every caption; empty if it matches images of several groups, or none."""
    found: list[set[str]] = [set() for _ in range(num_captions)]
    for group, rows in zip(groups, positives or [()] * len(groups), strict=True):
        for row in rows:
            found[row].add(group)
    return [next(iter(of)) if len(of) == 1 else "" for of in found]


@dataclass(frozen=True)
class _Pairs:
    """The P matching pairs, each once: ``images`` and ``texts`` are ``[P]`` int64 rows."""

    images: np.ndarray
    texts: np.ndarray


def _pairs(positives: Sequence[Sequence[int]], num_texts: int) -> _Pairs:
    counts = [len(rows) for rows in positives]
    texts = np.array([row for rows in positives for row in rows], dtype=np.int64)
    if len(texts) and not (0 <= texts.min() and texts.max() < num_texts):
        raise ValueError(f"rank: positives name captions {texts.min()} to {texts.max()}, but there are {num_texts}")
    keys = np.unique(np.repeat(np.arange(len(counts), dtype=np.int64), counts) * num_texts + texts)
    return _Pairs(*(np.divmod(keys, num_texts) if num_texts else (keys, keys)))


@contextlib.contextmanager
def _exact_products(device: torch.device) -> Iterator[None]:
    """Compute float32 products in float32: no TF32 (errors of 1e-3 would change ties and ranks), bfloat16 or outer autocast."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _total(features: Tensor, block: int) -> Tensor:
    """``[D]`` float64 sum of all rows, block by block, without a float64 copy of all rows. Not finite if any element is not."""
    import torch

    total_D = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
    for rows in features.split(block):
        total_D += rows.sum(dim=0, dtype=torch.float64)
    return total_D


def _count(image_ND: Tensor, text_TD: Tensor, pairs: _Pairs, block: int) -> tuple[_Side, _Side, Similarities]:
    """One pass over all blocks, for both directions and the histograms."""
    import torch

    cosine_P = _cosines_of_pairs(image_ND, text_TD, pairs, block)
    shape = (len(image_ND), len(text_TD))
    by_image = _Side(pairs.images, pairs.texts, cosine_P, shape, image_ND.device)
    by_text = _Side(pairs.texts, pairs.images, cosine_P, shape[::-1], text_TD.device)
    negative = torch.zeros(NUM_BINS, dtype=torch.int64, device=image_ND.device)
    scratch = torch.empty(block * block, device=image_ND.device)
    tiles = _tiles(pairs, len(image_ND), len(text_TD), block, image_ND.device)
    for first_image, first_text, own_images, own_texts in tiles:
        tile = torch.mm(image_ND[first_image : first_image + block], text_TD[first_text : first_text + block].T).clamp_(-1, 1)
        tile[own_images, own_texts] = _MASKED
        by_image.add(tile, first_image, first_text, scratch)
        by_text.add(tile.T.contiguous(), first_text, first_image, scratch)
        negative += torch.histc(tile, NUM_BINS, -1, 1).to(torch.int64)
    positive = torch.histc(torch.from_numpy(cosine_P).clamp(-1, 1), NUM_BINS, -1, 1).to(torch.int64)
    return by_image, by_text, Similarities(positive.numpy(), negative.cpu().numpy(), np.linspace(-1, 1, NUM_BINS + 1))


def _cosines_of_pairs(image_ND: Tensor, text_TD: Tensor, pairs: _Pairs, block: int) -> np.ndarray:
    """``[P]`` float64 cosines of the matching pairs."""
    found = np.empty(len(pairs.images))
    for first in range(0, len(found), block):
        chunk = slice(first, first + block)
        image_BD, text_BD = image_ND[pairs.images[chunk]].double(), text_TD[pairs.texts[chunk]].double()
        found[chunk] = (image_BD * text_BD).sum(dim=1).cpu().numpy()
    return found


def _tiles(pairs: _Pairs, num_images: int, num_texts: int, block: int, device: torch.device) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """The corner of every block, and the positions of matching pairs inside it."""
    import torch

    down, across = -(-num_images // block), -(-num_texts // block)
    keys = pairs.images // block * across + pairs.texts // block
    order = np.argsort(keys, kind="stable")
    borders = np.searchsorted(keys[order], np.arange(down * across + 1))
    images, texts = (torch.from_numpy(rows[order] % block).to(device) for rows in (pairs.images, pairs.texts))
    for number in range(down * across):
        own = slice(borders[number], borders[number + 1])
        yield number // across * block, number % across * block, images[own], texts[own]


class _Side:
    """Counts for the queries of one direction, accumulated over blocks."""

    def __init__(self, query_P: np.ndarray, item_P: np.ndarray, cosine_P: np.ndarray, shape: tuple[int, int], device: torch.device):
        import torch

        num_queries, self.gallery = shape
        self.counts = np.bincount(query_P, minlength=num_queries)
        self.sums = np.bincount(query_P, weights=cosine_P, minlength=num_queries)
        self.best = np.full(num_queries, -np.inf)
        np.maximum.at(self.best, query_P, cosine_P)
        top = cosine_P >= self.best[query_P] - TIE
        self.positives = np.bincount(query_P[top], minlength=num_queries)
        self.best_own = np.full(num_queries, np.iinfo(np.int64).max)
        np.minimum.at(self.best_own, query_P[top], item_P[top])
        self.above, self.below = (torch.from_numpy(self.best + shift).to(device, torch.float32)[:, None] for shift in (TIE, -TIE))
        self.ahead, self.reached = (torch.zeros(num_queries, dtype=torch.int64, device=device) for _ in range(2))
        self.hardest = torch.full((num_queries,), _MASKED, device=device)
        self.hardest_item = torch.full((num_queries,), -1, dtype=torch.int64, device=device)

    def add(self, tile_QG: Tensor, first_query: int, first_item: int, scratch: Tensor) -> None:
        """Count a block; ``scratch`` is memory of at least its size."""
        import torch

        rows = slice(first_query, first_query + len(tile_QG))
        scratch = scratch[: tile_QG.numel()].view_as(tile_QG)
        # Summing float32 comparisons is ten times as fast as bool ones, and exact: a block has at most 4096 columns.
        self.ahead[rows] += torch.gt(tile_QG, self.above[rows], out=scratch).sum(dim=1).to(torch.int64)
        self.reached[rows] += torch.ge(tile_QG, self.below[rows], out=scratch).sum(dim=1).to(torch.int64)
        value, item = tile_QG.max(dim=1)
        harder = value > self.hardest[rows]
        self.hardest[rows] = torch.where(harder, value, self.hardest[rows])
        self.hardest_item[rows] = torch.where(harder, item + first_item, self.hardest_item[rows])

    def ranks(self, query_QD: Tensor, gallery_D: Tensor, block: int) -> QueryRanks:
        """The columns, after all blocks are counted; ``gallery_D`` is the float64 sum of the gallery's features."""
        totals = [(rows.double() @ gallery_D).cpu().numpy() for rows in query_QD.split(block)]
        hardest, hardest_item = self.hardest.cpu().double().numpy(), self.hardest_item.cpu().numpy()
        best_match = np.where(hardest > self.best, hardest_item, self.best_own)
        level = np.abs(hardest - self.best) <= TIE
        return QueryRanks(
            gallery=self.gallery,
            ahead=self.ahead.cpu().numpy(),
            tied=(self.reached - self.ahead).cpu().numpy(),
            positives=self.positives,
            positive_similarity=_ratio(self.sums, self.counts),
            negative_similarity=_ratio(np.concatenate(totals) - self.sums, self.gallery - self.counts),
            best_match=np.where(level, np.minimum(hardest_item, self.best_own), best_match),
        )


def _ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """``sums / counts``, NaN where the count is 0."""
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)


def _undefined(pairs: _Pairs, num_images: int, num_texts: int) -> Ranks:
    def side(query_P: np.ndarray, num_queries: int, num_items: int) -> QueryRanks:
        own = np.bincount(query_P, minlength=num_queries)
        return QueryRanks(
            gallery=num_items,
            ahead=num_items - own,
            tied=np.zeros(num_queries, dtype=np.int64),
            positives=np.minimum(own, 1),
            positive_similarity=np.full(num_queries, np.nan),
            negative_similarity=np.full(num_queries, np.nan),
            best_match=np.full(num_queries, -1),
        )

    empty = np.zeros(NUM_BINS, dtype=np.int64)
    histograms = Similarities(empty, empty.copy(), np.linspace(-1, 1, NUM_BINS + 1))
    return Ranks(side(pairs.images, num_images, num_texts), side(pairs.texts, num_texts, num_images), histograms)
