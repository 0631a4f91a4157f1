"""What the doctor says: findings with a level, a sentence, and the images they are about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Shown:
    """Images that a finding is about, next to each other.

    Attributes:
        rows: Rows of one or two images.
        detail: What is known of them, in a few words; may be empty.
    """

    rows: tuple[int, ...]
    detail: str = ""


@dataclass(frozen=True)
class Finding:
    """One result of a check.

    Attributes:
        level: ``'error'``: training fails, or its scores are wrong. ``'warning'``: probably not intended. ``'note'``: worth knowing.
        check: Short name of the check, the same in all languages.
        what: A sentence.
        cases: Images that it is about; empty for a finding on the whole data set.
    """

    level: Level
    check: str
    what: str
    cases: tuple[Shown, ...] = ()


def ordered(findings: list[Finding]) -> list[Finding]:
    """Errors first, then warnings, then notes; otherwise in the given order."""
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def exit_status(findings: list[Finding], strict: bool = False) -> int:
    """2 with errors; 1 with warnings, if they count (``strict``); otherwise 0.

    >>> exit_status([Finding('warning', 'cmyk', 'one image is CMYK')], strict=True)
    1
    """
    levels = {finding.level for finding in findings}
    return 2 if "error" in levels else 1 if strict and "warning" in levels else 0
