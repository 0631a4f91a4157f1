"""What a page of a report is made of. Text is plain, the template escapes it; only pictures and charts are markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: Its text.
        svg: A small chart behind the text; empty for none.
        share: Strength of its colour, 0 to 1; ``None`` for none.
        strong: Whether it is emphasised.
        wraps: Whether it may have several lines, as text and unlike numbers.
    """

    text: str = ""
    svg: str = ""
    share: float | None = None
    strong: bool = False
    wraps: bool = False


@dataclass(frozen=True)
class Paragraph:
    """A paragraph, or a remark if ``level`` is ``'note'`` or ``'warning'``; ``english`` marks text that is on record in English only."""

    text: str
    level: str = ""
    english: bool = False
    type: str = "paragraph"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: What it shows.
        header: Column names.
        rows: Rows of text or cells; the first column is the name of the row.
        folded: Whether it is shown on demand.
        type: Name of the block.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    folded: bool = False
    type: str = "table"


@dataclass(frozen=True)
class Figure:
    """A chart with its caption and legend, as pairs of a label and a colour number."""

    svg: str
    caption: str
    legend: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class Figures:
    """Charts side by side."""

    figures: Sequence[Figure]
    type: str = "figures"


@dataclass(frozen=True)
class Picture:
    """An image of a case: data URI (empty if it cannot be shown), and a caption."""

    uri: str
    caption: str = ""


@dataclass(frozen=True)
class Card:
    """A case: pictures, a title, and lines of text; ``bars`` are labels with a share of 1."""

    title: str
    pictures: Sequence[Picture] = ()
    lines: Sequence[str] = ()
    bars: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class Cards:
    """Cases side by side."""

    title: str
    intro: str
    cards: Sequence[Card]
    type: str = "cards"


@dataclass(frozen=True)
class Text:
    """Preformatted text; ``folded``: shown on demand."""

    title: str
    text: str
    folded: bool = False
    type: str = "text"


Block = Paragraph | Table | Figures | Cards | Text


@dataclass(frozen=True)
class Section:
    """A part of the page with an anchor."""

    anchor: str
    title: str
    blocks: Sequence[Block] = field(default=())
