"""A picture of search results: thumbnails with rank, similarity and file name, query by query."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from clipzoo.errors import DataError
from clipzoo.pictures.fonts import Lettering, installed, lettering
from clipzoo.text import visible

THUMBNAIL, GAP, COLUMNS = 200, 16, 5
TITLE_SIZE, TEXT_SIZE = 22, 15
_PAPER, _INK, _FAINT, _FRAME = (255, 255, 255), (20, 20, 20), (110, 110, 110), (225, 225, 225)


@dataclass(frozen=True)
class Row:
    """One query and its results.

    Attributes:
        title: Text of the query.
        found: Names, image files and similarities of the results, best first.
        query: Query image; ``None`` for a text query.
    """

    title: str
    found: Sequence[tuple[str, Path, float]]
    query: Path | None = None


def contact_sheet(rows: Sequence[Row], read: Callable[[Path], Image.Image]) -> bytes:
    """A PNG with one block per query: its title, then thumbnails with rank, similarity and file name below.

    Args:
        rows: The queries.
        read: Function that reads an image file, and raises ``DataError`` if it cannot.
    """
    used = lettering(_texts(rows))
    title, pen = _Pen(used, TITLE_SIZE), _Pen(used, TEXT_SIZE)
    cell = THUMBNAIL + 2 * (TEXT_SIZE + 5)
    blocks = [TITLE_SIZE + GAP + -(-_cells(row) // COLUMNS) * (cell + GAP) + GAP for row in rows]
    columns = min(COLUMNS, max(map(_cells, rows)))
    width = max(GAP + columns * (THUMBNAIL + GAP), 3 * THUMBNAIL)
    sheet = Image.new("RGB", (width, GAP + sum(blocks)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for number, (row, height) in enumerate(zip(rows, blocks, strict=True), start=1):
        drawable = any(c not in used.missing and c != " " for c in visible(row.title))
        title.write(draw, (GAP, top), row.title if drawable else f"query {number}", width - 2 * GAP, _INK)
        entries = [("query", row.query.name, row.query)] if row.query is not None else []
        entries += [(f"{rank}   {score:.4f}", name, path) for rank, (name, path, score) in enumerate(row.found, start=1)]
        for index, (head, name, path) in enumerate(entries):
            left = GAP + index % COLUMNS * (THUMBNAIL + GAP)
            _draw_cell(
                sheet, draw, (left, top + TITLE_SIZE + GAP + index // COLUMNS * (cell + GAP)), _thumbnail(path, read), (head, name), pen
            )
        top += height
    content = io.BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue()


def _cells(row: Row) -> int:
    return len(row.found) + (row.query is not None)


def _thumbnail(path: Path, read: Callable[[Path], Image.Image]) -> Image.Image | None:
    """An image resized to fit a cell; ``None`` if it can no longer be read."""
    try:
        image = read(path)
    except DataError:
        return None
    scale = THUMBNAIL / max(image.size)
    return image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS)


def _draw_cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], image: Image.Image | None, lines: tuple[str, str], pen: _Pen
) -> None:
    left, top = corner
    draw.rectangle((left - 1, top - 1, left + THUMBNAIL, top + THUMBNAIL), _FRAME)
    if image is None:
        pen.write(draw, (left + 8, top + 8), "not readable", THUMBNAIL - 16, _FAINT)  # removed since it was encoded
    else:
        sheet.paste(image, (left + (THUMBNAIL - image.width) // 2, top + (THUMBNAIL - image.height) // 2))
    below = top + THUMBNAIL + 5
    pen.write(draw, (left, below), lines[0], THUMBNAIL, _INK)
    pen.write(draw, (left, below + TEXT_SIZE + 4), lines[1], THUMBNAIL, _FAINT)


class _Pen:
    """Draws text in one size, each character in the first font that has it.

    Args:
        used: Fonts in order of preference.
        size: Font size in pixels.
    """

    def __init__(self, used: Lettering, size: int):
        from matplotlib.font_manager import findfont

        draws = {font.name: font.draws for font in installed()}
        paths = [findfont(family, fallback_to_default=False) for family in used.families]
        fonts = [ImageFont.truetype(str(path), size, index=getattr(path, "face_index", 0)) for path in paths]
        self._fonts = [(font, draws[family]) for font, family in zip(fonts, used.families, strict=True)]
        self._missing, self._size = used.missing, size

    def write(self, draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, width: int, colour: tuple[int, int, int]) -> None:
        """Draw ``text`` below and to the right of ``corner``; if too wide, its middle is omitted, as the end distinguishes files."""
        x, baseline = corner[0], corner[1] + self._size
        for font, run in self._runs(self.fitting(visible(text), width)):
            draw.text((x, baseline), run, colour, font, anchor="ls")
            x += font.getlength(run)

    def fitting(self, text: str, width: int) -> str:
        """``text`` as drawn: an ellipsis replaces characters without a glyph, and text that is too wide."""
        text = re.sub("…{2,}", "…", "".join("…" if c in self._missing else c for c in text))
        kept, shown = len(text), text
        while kept > 2 and self.length(shown) > width:
            kept -= 1
            shown = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
        return shown

    def length(self, text: str) -> float:
        """Width of the text in pixels."""
        return sum(font.getlength(run) for font, run in self._runs(text))

    def _runs(self, text: str) -> list[tuple[ImageFont.FreeTypeFont, str]]:
        chosen = [next((i for i, (_, draws) in enumerate(self._fonts) if draws(c)), 0) for c in text]
        places = itertools.groupby(range(len(text)), key=chosen.__getitem__)
        return [(self._fonts[i][0], "".join(text[place] for place in run)) for i, run in places]


def lacking(rows: Sequence[Row]) -> str:
    """The characters that no font on this machine can draw."""
    return "".join(sorted(lettering(_texts(rows)).missing))


def _texts(rows: Sequence[Row]) -> list[str]:
    queries = [row.query.name for row in rows if row.query is not None]
    return [*(row.title for row in rows), *queries, *(name for row in rows for name, _, _ in row.found), "…"]
