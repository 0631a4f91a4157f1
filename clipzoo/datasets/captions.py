"""The caption table: every distinct sentence of a dataset is stored and tokenised once."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from clipzoo.datasets.files.class_texts import LANGUAGES, default_template, read_class_texts, texts_from_template
from clipzoo.datasets.token_table import TokenCache, perhaps_equal, rows_with, tokenised
from clipzoo.errors import DataError
from clipzoo.structures import Tokenizer, Tokens
from clipzoo.text import is_chinese, visible

MAX_WARNINGS = 5


def clean(sentence: str) -> str:
    """The normalised form in which a sentence is stored and compared: NFC, without surrounding whitespace. Same in training and inference.

    Raises:
        DataError: The sentence contains bytes that are not UTF-8, which tokenizers do not accept.

    >>> clean('  髋关节 ')
    '髋关节'
    """
    if sentence.isascii():
        return sentence.strip()
    try:
        sentence.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"'{visible(sentence)}' contains bytes that are not UTF-8. Save the text as UTF-8") from error
    return unicodedata.normalize("NFC", sentence).strip()


class Captions:
    """Distinct sentences; the id of a sentence is its position.

    Args:
        names_only: Whether the sentences are class names, to be put into a template once the text tower is known; see ``worded``.

    Attributes:
        sentences: Sentences in order of id.
        labels: Class of each sentence; ``None`` if it describes no class.
        warnings: Warnings of the last ``tokenise``, one sentence each.
        note: The chosen template and the reason; empty if none was chosen.

    >>> captions = Captions()
    >>> captions.add('一只猫'), captions.add(' 一只猫'), captions.add('一只狗')
    (0, 0, 1)
    """

    def __init__(self, *, names_only: bool = False) -> None:
        self.sentences: list[str] = []
        self.labels: list[int | None] = []
        self.warnings: list[str] = []
        self.note = ""
        self.names_only = names_only
        self._ids: dict[str, int] = {}
        self._names: list[str] = []  # class names that were put into a built-in template

    @classmethod
    def of_classes(cls, sentences: Sequence[Sequence[str]]) -> tuple[Captions, list[list[int]]]:
        """A table of the sentences of each class, and the ids of those of each class, in order.

        Raises:
            DataError: As ``add``.
        """
        table = cls()
        return table, [[table.add(sentence, label) for sentence in own] for label, own in enumerate(sentences)]

    def __len__(self) -> int:
        return len(self.sentences)

    def add(self, sentence: str, label: int | None = None) -> int:
        """The id of ``sentence``, which is added if new.

        Args:
            sentence: Any text; it is normalised first.
            label: Class of the sentence; ``None`` for no class.

        Raises:
            DataError: The sentence is empty, or already describes another class, which would make the two classes indistinguishable.
        """
        cleaned = clean(sentence)
        if not cleaned:
            raise DataError("captions: empty caption. Give every class and every image a sentence")
        known = self._ids.get(cleaned)
        if known is not None:
            if self.labels[known] != label:
                raise DataError(f"captions: '{_short(cleaned)}' describes two classes. Describe every class by a distinct sentence")
            return known
        self._ids[cleaned] = len(self.sentences)
        self.sentences.append(cleaned)
        self.labels.append(label)
        return len(self.sentences) - 1

    def worded(self, tokenizer: Tokenizer | None) -> Captions:
        """The table as read by a text tower, with the same ids: class names are put into the template of the tower's language.

        Args:
            tokenizer: Tokenizer of the text tower; ``None`` if there is no text tower.
        """
        if not self.names_only:
            return self
        template, why = default_template(self.sentences, _languages(tokenizer))
        worded = Captions()
        for (sentence,), label in zip(texts_from_template(template, self.sentences), self.labels, strict=True):
            worded.add(sentence, label)
        worded.note = f"captions: '{template}', {why}"
        worded._names = self.sentences
        return worded

    def tokenise(
        self,
        tokenizer: Tokenizer,
        where: str,
        *,
        allow_overlong: bool = True,
        classes: Sequence[str] | None = None,
        cache: TokenCache | None = None,
    ) -> Tokens:
        """Tokens of the whole table as ``worded`` for this tower, in order of id; sets ``warnings`` and ``note``.

        Args:
            tokenizer: Tokenizer of the text encoder.
            where: Owner of the tokenizer, for messages (``'model.text_encoder'``).
            allow_overlong: Whether to truncate sentences longer than the encoder's context, with a warning, instead of refusing them.
            classes: Class names for messages; ``None`` shows class indices.
            cache: Where the tokens of a large table are kept; ``None`` keeps nothing.

        Raises:
            DataError: A sentence is too long and ``allow_overlong`` is false, or captions of two classes have equal tokens (cut at the
                same place, or with characters outside the vocabulary), which would make the classes indistinguishable.
        """
        if self.names_only:
            worded = self.worded(tokenizer)
            tokens = worded.tokenise(tokenizer, where, allow_overlong=allow_overlong, classes=classes)
            self.warnings, self.note = worded.warnings, worded.note
            return tokens
        tokens, counts = tokenised(self.sentences, tokenizer, cache)
        self.warnings = []
        overlong = np.flatnonzero(counts > tokenizer.context_length).tolist()
        self._check_lengths(overlong, counts, tokenizer.context_length, where, allow_overlong)
        self._check_distinct(tokens, set(overlong), where, classes)
        self._check_language(tokens, counts, tokenizer, where)
        return tokens

    def _check_lengths(self, overlong: list[int], counts: np.ndarray, context: int, where: str, allowed: bool) -> None:
        lines = [f"'{_short(self.sentences[i])}' has {counts[i]} tokens, at most {context} fit" for i in overlong[:MAX_WARNINGS]]
        if lines and not allowed:
            raise DataError(
                f"{where}: {len(overlong)} captions are too long, the first: {lines[0]}. Shorten them, choose a text encoder with a longer "
                "context or a vocabulary for their language, or set data.allow_overlong_captions=True to truncate them"
            )
        self.warnings += [f"{where}: caption truncated: {line}" for line in lines]
        if len(overlong) > MAX_WARNINGS:
            self.warnings.append(f"{where}: {len(overlong)} captions truncated in total")

    def _check_distinct(self, tokens: Tokens, overlong: set[int], where: str, classes: Sequence[str] | None) -> None:
        first: dict[tuple[int, ...], int] = {}
        merged = 0
        for i, row in perhaps_equal(tokens):
            j = first.setdefault(row, i)
            if j == i:
                continue
            merged += 1
            if self.labels[i] != self.labels[j]:
                names = " and ".join(f"'{label if classes is None else classes[label]}'" for label in (self.labels[j], self.labels[i]))
                why = "both are truncated" if {i, j} <= overlong else "its vocabulary does not tell them apart"
                raise DataError(
                    f"{where}: the captions of the classes {names} have the same tokens ({why}): '{_short(self.sentences[j])}' and "
                    f"'{_short(self.sentences[i])}'. Put the difference first, shorten them, or choose a text encoder for their language"
                )
        if merged:
            self.warnings.append(f"{where}: {merged} captions have the same tokens as another one")

    def _check_language(self, tokens: Tokens, counts: np.ndarray, tokenizer: Tokenizer, where: str) -> None:
        """Warn about texts in a language that the tower does not read, and about text outside its vocabulary."""
        languages, texts = _languages(tokenizer), self._names or self.sentences
        foreign = [i for i, text in enumerate(texts) if languages and not _readable(text, languages)]
        if foreign:
            kind = "class names" if self._names else "captions"
            cost = int(counts[foreign].sum()) / sum(len(self.sentences[i]) for i in foreign)
            self.warnings.append(
                f"{where}: {len(foreign)} of {len(texts)} {kind} are not {_names(languages)}, the language of the text tower's vocabulary, "
                f"such as '{_short(texts[foreign[0]])}' ({cost:.1f} tokens per character). Describe the classes in its language "
                "(data.dataset.class_texts), or choose a text encoder that reads theirs"
            )
        unknown = getattr(tokenizer, "unknown_id", None)
        if unknown is None:
            return
        lacking = rows_with(tokens, unknown)
        if len(lacking):
            first = _short(self.sentences[lacking[0]])
            self.warnings.append(
                f"{where}: {len(lacking)} of {len(self)} captions contain words or characters outside the vocabulary, such as '{first}'"
            )


def _languages(tokenizer: Tokenizer | None) -> tuple[str, ...]:
    return getattr(tokenizer, "languages", ())


def _names(languages: Sequence[str]) -> str:
    return " or ".join(LANGUAGES[language] for language in languages)


def _readable(text: str, languages: Sequence[str]) -> bool:
    """Is ``text`` in one of the languages? Digits and punctuation belong to all of them."""
    if is_chinese(text):
        return "zh" in languages
    return "en" in languages or not any(map(str.isalpha, text))


def _short(sentence: str, limit: int = 40) -> str:
    return sentence if len(sentence) <= limit else sentence[: limit - 1] + "…"


def class_captions(names: list[str], class_texts: str | None, template: str | None) -> tuple[Captions, list[list[int]]]:
    """The distinct captions of all classes, and the caption ids of each class.

    Args:
        names: Class names.
        class_texts: See ``read_class_texts``; ``None`` uses ``template``.
        template: See ``texts_from_template``; ``None`` for names alone, until the text tower's language is known.

    Raises:
        ConfigError: See ``texts_from_template``.
        DataError: See ``read_class_texts``.
    """
    captions, of_class = Captions(names_only=class_texts is None and template is None), []
    if class_texts is not None:
        texts = read_class_texts(class_texts, names)
    else:
        texts = texts_from_template("{class_name}" if template is None else template, names)
    for label, sentences in enumerate(texts):
        of_class.append(list(dict.fromkeys(captions.add(sentence, label) for sentence in sentences)))
    return captions, of_class
