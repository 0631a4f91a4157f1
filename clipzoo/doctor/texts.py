"""Captions as the text tower reads them: too long, equal, in another language, outside the vocabulary, or never filled in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from clipzoo.doctor.findings import Finding
from clipzoo.doctor.words import Words
from clipzoo.errors import DataError
from clipzoo.structures import Tokenizer

if TYPE_CHECKING:
    from clipzoo.datasets.captions import Captions

_COUNTED = 20_000  # captions whose tokens are counted for the line of facts
# {class_name}, ${name}, <name>, [name], %s, %(name)s, TODO; and cells that a spreadsheet or pandas leaves
_PLACEHOLDER = re.compile(
    r"\{\s*[\w.]*\s*\}|\$\{|<\s*[A-Za-z_]\w*\s*>|\[\s*(?:insert|todo|name|class|text|填写|待填)[^\]]*\]|%\(?\w*\)?s\b|%d\b"
    r"|\b(?:TODO|TBD|FIXME|XXX+|lorem ipsum)\b|待填|待补|待定|占位"
    r"|^(?:nan|none|null|n/?a|undefined|#n/a|#ref!|#name\?|#value!|-+|\.+|_+|\?+)$",
    re.IGNORECASE,
)


def placeholders(sentences: Sequence[str]) -> list[str]:
    """The sentences that were probably never filled in.

    >>> placeholders(['a photo of a {class_name}', 'NaN', 'a cat'])
    ['a photo of a {class_name}', 'NaN']
    """
    return [sentence for sentence in sentences if _PLACEHOLDER.search(sentence)]


def audit(
    captions: Captions, tokenizer: Tokenizer | None, words: Words, *, classes: Sequence[str] = (), allow_overlong: bool = True
) -> tuple[list[Finding], str]:
    """What is wrong with the captions, and a line about their tokens.

    Args:
        captions: The distinct captions of a dataset.
        tokenizer: Tokenizer of the config's text tower; ``None`` checks the text alone.
        words: Language of the findings.
        classes: Class names.
        allow_overlong: See ``DataSettings.allow_overlong_captions``.
    """
    found = []
    unfilled = placeholders(captions.sentences)
    if unfilled:
        found.append(Finding("warning", "placeholder", words("placeholder", n=len(unfilled), caption=unfilled[0][:60])))
    if tokenizer is None:
        return found, ""
    try:
        captions.tokenise(tokenizer, "model.text_encoder", allow_overlong=allow_overlong, classes=classes or None)
    except DataError as error:
        found.append(Finding("error", "text", words("text_error", why=error)))
    found += [Finding("warning", "text", words("text", why=warning)) for warning in captions.warnings]
    counts = [tokenizer.count(sentence) for sentence in captions.worded(tokenizer).sentences[:_COUNTED]]
    values = {"n": len(captions), "median": int(median(counts)), "longest": max(counts), "context": tokenizer.context_length}
    return found, words("tokens", **values)
