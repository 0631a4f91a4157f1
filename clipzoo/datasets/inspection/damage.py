"""What the facts of image files mean for a training: damaged ones are refused, doubtful ones are a remark each."""

from __future__ import annotations

from collections.abc import Sequence

from clipzoo.commands import typed
from clipzoo.datasets.inspection.image_facts import DEEP, FileFact
from clipzoo.errors import DataError, shortened

_MOST_NAMES = 5


def refuse_damaged(facts: Sequence[FileFact]) -> None:
    """Refuse images that cannot be decoded.

    Raises:
        DataError: There are such images; the message names them.
    """
    damaged = [fact for fact in facts if fact.error]
    if not damaged:
        return
    first = damaged[0]
    others = f". {len(damaged)} of {len(facts)} images cannot be read: {_names(damaged)}" if len(damaged) > 1 else ""
    raise DataError(f"{first.path or first.id}: {first.error}{others}. {typed('check_data')} CONFIG checks all data")


def warnings_of(facts: Sequence[FileFact]) -> list[str]:
    """One sentence for each kind of image that can be decoded, but perhaps not as intended; ``check_data`` has more."""
    readable = [fact for fact in facts if not fact.error]
    deep = [fact for fact in readable if fact.bits > DEEP]
    mixed = len(deep) < sum(fact.bits > 0 for fact in readable)
    kinds = (
        ("lack their last bytes, although their pixels can be decoded", [fact for fact in readable if fact.incomplete]),
        ("are CMYK, a format for printing, and converted without a colour profile", [fact for fact in readable if fact.mode == "CMYK"]),
        ("have more than 8 bits per channel and the others have not, so that brightness is not comparable", deep if mixed else []),
    )
    return [
        f"{len(found)} of {len(facts)} images {what}: {_names(found)}. See {typed('check_data')} CONFIG" for what, found in kinds if found
    ]


def _names(facts: Sequence[FileFact]) -> str:
    return shortened([fact.id for fact in facts], _MOST_NAMES)
