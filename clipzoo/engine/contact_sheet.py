"""One picture of what a search found: thumbnails with rank, similarity and file name, query by query."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from clipzoo.datasets.images import read_image
from clipzoo.errors import DataError

THUMBNAIL, GAP, COLUMNS = 200, 16, 5
TITLE_SIZE, TEXT_SIZE = 22, 15
_PAPER, _INK, _FAINT, _FRAME = (255, 255, 255), (20, 20, 20), (110, 110, 110), (225, 225, 225)
# Families with Chinese, those for screens first; where none is installed any font that has the characters is taken.
_CHINESE = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "SimHei",
    "Droid Sans Fallback",
    "Arial Unicode MS",
)


@dataclass(frozen=True)
class Row:
    """One query and what it found.

    Attributes:
        title: The query.
        found: Names, image files and similarities, best first.
        query: The image that was searched for; ``None`` for a text.
    """

    title: str
    found: Sequence[tuple[str, Path, float]]
    query: Path | None = None


def contact_sheet(rows: Sequence[Row]) -> bytes:
    """A PNG with one block per query: its title, then thumbnails, each with rank, similarity and file name below it."""
    fonts = _fonts(_characters(rows))
    cell = THUMBNAIL + 2 * (TEXT_SIZE + 5)
    blocks = [TITLE_SIZE + GAP + -(-_cells(row) // COLUMNS) * (cell + GAP) + GAP for row in rows]
    columns = min(COLUMNS, max(map(_cells, rows)))
    width = max(GAP + columns * (THUMBNAIL + GAP), 3 * THUMBNAIL)
    sheet = Image.new("RGB", (width, GAP + sum(blocks)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for row, height in zip(rows, blocks, strict=True):
        draw.text((GAP, top), _fitting(fonts.drawable(row.title), fonts.title, width - 2 * GAP), _INK, fonts.title)
        entries = [("query", row.query.name, row.query)] if row.query is not None else []
        entries += [(f"{rank}   {score:.4f}", name, path) for rank, (name, path, score) in enumerate(row.found, start=1)]
        for index, (head, name, path) in enumerate(entries):
            left = GAP + index % COLUMNS * (THUMBNAIL + GAP)
            _draw_cell(sheet, draw, (left, top + TITLE_SIZE + GAP + index // COLUMNS * (cell + GAP)), path, (head, name), fonts)
        top += height
    content = io.BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue()


def _cells(row: Row) -> int:
    return len(row.found) + (row.query is not None)


def _draw_cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], path: Path, lines: tuple[str, str], fonts: _Fonts
) -> None:
    left, top = corner
    draw.rectangle((left - 1, top - 1, left + THUMBNAIL, top + THUMBNAIL), _FRAME)
    try:
        image = read_image(path)
    except DataError:
        draw.text((left + 8, top + 8), "not readable", _FAINT, fonts.text)  # removed since it was encoded
    else:
        scale = THUMBNAIL / max(image.size)
        image = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS)
        sheet.paste(image, (left + (THUMBNAIL - image.width) // 2, top + (THUMBNAIL - image.height) // 2))
    below = top + THUMBNAIL + 5
    draw.text((left, below), _fitting(fonts.drawable(lines[0]), fonts.text, THUMBNAIL), _INK, fonts.text)
    draw.text((left, below + TEXT_SIZE + 4), _fitting(fonts.drawable(lines[1]), fonts.text, THUMBNAIL), _FAINT, fonts.text)


@dataclass(frozen=True)
class _Fonts:
    """One typeface in two sizes, and the characters that it has."""

    title: ImageFont.FreeTypeFont
    text: ImageFont.FreeTypeFont
    characters: frozenset[str]

    def drawable(self, text: str) -> str:
        """``text`` with an ellipsis for what the typeface lacks, which would come out as boxes."""
        return re.sub("…{2,}", "…", "".join(c if c in self.characters or c == " " else "…" for c in text))


def lacking(rows: Sequence[Row]) -> str:
    """The characters that no font on this machine can draw."""
    characters = _characters(rows)
    return "".join(sorted(characters - _fonts(characters).characters))


def _characters(rows: Sequence[Row]) -> frozenset[str]:
    names = [name for row in rows for name, _, _ in row.found]
    queries = [row.query.name for row in rows if row.query is not None]
    return frozenset("".join([*names, *queries, *(row.title for row in rows), "…—0123456789."])) - {" "}


@functools.lru_cache(maxsize=4)
def _fonts(characters: frozenset[str]) -> _Fonts:
    """The first typeface that has all ``characters``, or else the one that has most of them."""
    from matplotlib import font_manager, ft2font

    entries = [entry for entry in font_manager.fontManager.ttflist if entry.style == "normal" and 300 <= _weight(entry.weight) <= 500]
    entries = [entry for entry in entries if not entry.name.startswith(("Last Resort", ".Last"))]  # it has a box for every character
    rank = {name: place for place, name in enumerate(["DejaVu Sans", *_CHINESE])}
    best: tuple[int, object, frozenset[str]] | None = None
    for entry in sorted(entries, key=lambda entry: (rank.get(entry.name, len(rank)), entry.name)):
        try:
            has = frozenset(map(chr, ft2font.FT2Font(entry.fname).get_charmap()))
        except (OSError, RuntimeError):  # a font that was removed, or is of another kind
            continue
        count = len(characters & has)
        if best is None or count > best[0]:
            best = (count, entry, has)
        if count == len(characters):
            break
    _, entry, has = best
    title, text = (ImageFont.truetype(entry.fname, size, index=getattr(entry, "index", 0)) for size in (TITLE_SIZE, TEXT_SIZE))
    return _Fonts(title, text, has)


def _weight(weight: int | str) -> int:
    return weight if isinstance(weight, int) else 700 if "bold" in weight or "heavy" in weight else 400


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """``text`` with its middle left out where it is too wide: the end of a file name tells files apart."""
    kept = len(text)
    shown = text
    while kept > 2 and font.getlength(shown) > width:
        kept -= 1
        shown = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
    return shown
