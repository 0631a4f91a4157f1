"""Which installed fonts can draw a text: class names are in Chinese on many machines that have no Chinese font.

matplotlib is imported inside: whoever builds a config needs none of it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from clipzoo.text import visible

# matplotlib brings it along; every other font is only asked for what it cannot draw.
BASE_FONT = "DejaVu Sans"
# Sans-serif fonts with simplified Chinese as systems install them, best first: Linux, Windows, macOS, Android.
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
# They claim to have every character, or have pictures that matplotlib cannot draw.
_USELESS = ("last resort", "lastresort", ".lastresort", "adobe blank", "emoji")


@dataclass(frozen=True)
class Font:
    """A font that may be used.

    Attributes:
        name: Of its family.
        draws: Has it a glyph for this character?
    """

    name: str
    draws: Callable[[str], bool]


@dataclass(frozen=True)
class Lettering:
    """The fonts that a picture's texts need.

    Attributes:
        families: Names for matplotlib, which takes each character from the first that has it.
        missing: Characters that no font has.
    """

    families: tuple[str, ...]
    missing: frozenset[str]

    def draws(self, text: str) -> bool:
        """Can all of ``text`` be drawn, as ``visible`` shows it?"""
        return self.missing.isdisjoint(visible(text))


def lettering(texts: Iterable[str]) -> Lettering:
    """The fonts of this machine for ``texts``, as ``visible`` shows these. The answer is kept: asking again costs nothing."""
    return _lettering(frozenset(character for text in texts for character in visible(text) if not character.isascii()))


@functools.lru_cache(maxsize=64)
def _lettering(characters: frozenset[str]) -> Lettering:
    found = choose(characters, installed())
    return choose(characters, [*installed(), *not_yet_known()]) if found.missing else found


def choose(characters: frozenset[str], fonts: Iterable[Font]) -> Lettering:
    """The fewest of ``fonts`` that have all of ``characters``, or as many of these as they can; earlier fonts first."""
    families, missing = [BASE_FONT], characters
    fonts = list(fonts)
    base = next((font for font in fonts if font.name == BASE_FONT), None)
    if base is not None:
        missing = frozenset(c for c in missing if not base.draws(c))
    whole = next((font for font in fonts if missing and all(map(font.draws, missing))), None)  # one hand for all names
    for font in [whole] if whole else fonts:
        left = frozenset(c for c in missing if not font.draws(c)) if missing else missing
        if left != missing:
            families.append(font.name)
            missing = left
    return Lettering(tuple(families), missing)


def installed() -> tuple[Font, ...]:
    """The fonts that matplotlib knows of, those of ``PREFERRED`` first; upright ones of normal weight."""
    from matplotlib.font_manager import fontManager

    paths: dict[str, str] = {}
    for entry in sorted(fontManager.ttflist, key=lambda e: (e.style != "normal", abs(_weight(e.weight) - 400), e.name, e.fname)):
        if not any(word in entry.name.lower() for word in _USELESS):
            paths.setdefault(entry.name, entry.fname)
    rank = {name: place for place, name in enumerate((BASE_FONT, *PREFERRED))}
    return tuple(Font(name, _coverage(paths[name])) for name in sorted(paths, key=lambda name: (rank.get(name, len(rank)), name)))


def not_yet_known() -> tuple[Font, ...]:
    """Fonts that were installed after matplotlib made its list; they are on it from now on, in this process."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    before = {font.name for font in installed()}
    known = {entry.fname for entry in fontManager.ttflist}
    for path in sorted(set(findSystemFonts()) - known):
        with contextlib.suppress(Exception):  # FreeType has no class for 'not a font'; such a file is none of ours
            fontManager.addfont(path)
    return tuple(font for font in installed() if font.name not in before)


@contextlib.contextmanager
def drawing(texts: Iterable[str]) -> Iterator[Lettering]:
    """Inside, figures are made and saved in matplotlib's own style, whatever the user's is, with fonts for ``texts`` and no formulas."""
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
    log.setLevel(logging.ERROR)  # that a font has only one weight is no news
    try:
        with matplotlib.style.context(["default", ours]):
            yield used
    finally:
        log.setLevel(level)


@functools.lru_cache(maxsize=256)
def _coverage(path: str) -> Callable[[str], bool]:
    """Asks the character map of the font in a file, which is opened once and only when it is asked."""
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
    except (OSError, RuntimeError) as error:  # removed since matplotlib made its list, or broken
        logging.getLogger(__name__).debug(f"{path}: {error}")
        return None


def _weight(weight: int | str) -> int:
    """matplotlib's list holds numbers and words."""
    from matplotlib.font_manager import weight_dict

    return weight if isinstance(weight, int) else weight_dict.get(weight, 400)
