"""Choice of installed fonts for a text, as Chinese class names are common on machines without a Chinese font.

matplotlib is imported inside the functions, so that building a config does not load it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from clipzoo.text import visible

# Included in matplotlib; other fonts are used only for characters it lacks.
BASE_FONT = "DejaVu Sans"
# Sans-serif fonts with simplified Chinese that are common on Linux, Windows, macOS and Android, best first.
PREFERRED = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "Sarasa Gothic SC",
    "HarmonyOS Sans SC",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti SC",
    "SimHei",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Noto Sans CJK JP",
    "Noto Sans CJK TC",
    "Source Han Sans",
    "Arial Unicode MS",
    "STHeiti",
    "DengXian",
    "SimSun",
)
# Fonts that claim to have every character, or consist of pictures that matplotlib cannot draw.
_USELESS = ("last resort", "lastresort", ".lastresort", "adobe blank", "emoji")


@dataclass(frozen=True)
class Font:
    """A candidate font.

    Attributes:
        name: Name of the font family.
        draws: Function that returns whether the font has a glyph for a character.
    """

    name: str
    draws: Callable[[str], bool]


@dataclass(frozen=True)
class Lettering:
    """The fonts required for the texts of a picture.

    Attributes:
        families: Font families for matplotlib, which uses the first one that has a character.
        missing: Characters that no font has.
    """

    families: tuple[str, ...]
    missing: frozenset[str]

    def draws(self, text: str) -> bool:
        """Can all of ``text`` be drawn, after ``visible``?"""
        return self.missing.isdisjoint(visible(text))


def lettering(texts: Iterable[str]) -> Lettering:
    """The fonts of this machine for ``texts``, after ``visible``. The result is cached."""
    return _lettering(frozenset(character for text in texts for character in visible(text) if not character.isascii()))


@functools.lru_cache(maxsize=64)
def _lettering(characters: frozenset[str]) -> Lettering:
    found = choose(characters, installed())
    return choose(characters, [*installed(), *not_yet_known()]) if found.missing else found


def choose(characters: frozenset[str], fonts: Iterable[Font]) -> Lettering:
    """The fewest of ``fonts`` that cover all of ``characters``, or as many as possible; earlier fonts are preferred."""
    families, missing = [BASE_FONT], characters
    fonts = list(fonts)
    base = next((font for font in fonts if font.name == BASE_FONT), None)
    if base is not None:
        missing = frozenset(c for c in missing if not base.draws(c))
    whole = next((font for font in fonts if missing and all(map(font.draws, missing))), None)  # one font for all names
    for font in [whole] if whole else fonts:
        left = frozenset(c for c in missing if not font.draws(c)) if missing else missing
        if left != missing:
            families.append(font.name)
            missing = left
    return Lettering(tuple(families), missing)


def installed() -> tuple[Font, ...]:
    """The fonts known to matplotlib, those of ``PREFERRED`` first; upright fonts of normal weight."""
    from matplotlib.font_manager import fontManager

    paths: dict[str, str] = {}
    for entry in sorted(fontManager.ttflist, key=lambda e: (e.style != "normal", abs(_weight(e.weight) - 400), e.name, e.fname)):
        if not any(word in entry.name.lower() for word in _USELESS):
            paths.setdefault(entry.name, entry.fname)
    rank = {name: place for place, name in enumerate((BASE_FONT, *PREFERRED))}
    return tuple(Font(name, _coverage(paths[name])) for name in sorted(paths, key=lambda name: (rank.get(name, len(rank)), name)))


def not_yet_known() -> tuple[Font, ...]:
    """Fonts installed after matplotlib created its list; they are added to it in this process."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    before = {font.name for font in installed()}
    known = {entry.fname for entry in fontManager.ttflist}
    for path in sorted(set(findSystemFonts()) - known):
        with contextlib.suppress(Exception):  # FreeType has no error class for 'not a font'; skip such files
            fontManager.addfont(path)
    return tuple(font for font in installed() if font.name not in before)


@contextlib.contextmanager
def drawing(texts: Iterable[str]) -> Iterator[Lettering]:
    """Inside the block, figures use matplotlib's default style regardless of the user's, fonts for ``texts``, and no formulas."""
    import matplotlib.style

    used = lettering(texts)
    ours = {
        "font.family": list(used.families),
        "text.parse_math": False,  # a class may be called '$5 or $10'
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "grid.color": "#dddddd",
        "grid.linewidth": 0.8,
        "legend.frameon": False,
        "legend.fontsize": 9,
    }
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)  # suppress messages about fonts with a single weight
    try:
        with matplotlib.style.context(["default", ours]):
            yield used
    finally:
        log.setLevel(level)


@functools.lru_cache(maxsize=256)
def _coverage(path: str) -> Callable[[str], bool]:
    """A test for the character map of a font file, which is opened once and on demand."""
    font = []

    def draws(character: str) -> bool:
        if not font:
            font.append(_open(path))
        return font[0] is not None and font[0].get_char_index(ord(character)) != 0

    return draws


def _open(path: str) -> object | None:
    from matplotlib.ft2font import FT2Font

    try:
        return FT2Font(path)
    except (OSError, RuntimeError) as error:  # removed after matplotlib created its list, or broken
        logging.getLogger(__name__).debug(f"{path}: {error}")
        return None


def _weight(weight: int | str) -> int:
    """Convert a font weight, as matplotlib's list contains numbers and words."""
    from matplotlib.font_manager import weight_dict

    return weight if isinstance(weight, int) else weight_dict.get(weight, 400)
