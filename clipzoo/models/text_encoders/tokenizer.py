"""The tokenizers of the text towers: from sentences to ids with explicit lengths."""

from __future__ import annotations

import functools
import inspect
import string
import tempfile
import threading
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from annotated_types import Interval

from clipzoo.config.arguments import checked
from clipzoo.errors import ConfigError
from clipzoo.models.layout.byte_pairs import merges, tokenizer_files
from clipzoo.models.text_encoders import byte_pairs
from clipzoo.models.text_encoders.identity import hugging_face_settings, identity_of
from clipzoo.structures import Tokens
from clipzoo.text import is_chinese

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer
    from tokenizers.implementations import BertWordPieceTokenizer
    from tokenizers.normalizers import Normalizer
    from transformers import PreTrainedTokenizerBase

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Calling a Hugging Face tokenizer changes its truncation settings, so that two threads must not call it at once.
ONE_AT_A_TIME = threading.Lock()
# The ampersand comes first, as open_clip resolves entities twice.
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&#39;": "'", "&#x27;": "'", "&nbsp;": " "}
_EVERYDAY = "这是一张图片，上面有一个人和一只小猫在红色的房子前面"


ContextLength = Annotated[int, Interval(ge=3, le=77)]  # for CLIP's byte pairs
MaxLength = Annotated[int, Interval(ge=3, le=65536)]


@checked
class CLIPTokenizer:
    """OpenAI's byte-pair encoding: 49 408 tokens, lower-cased, with start and end token. Merges and text cleaning are open_clip's.

    Id 0 is used for padding, but is also the token ``!``: only the lengths identify padding. Chinese takes 2.3 to 2.7 tokens per
    character, so that about 30 characters fit into 77.

    Args:
        context_length: Maximum number of tokens per sentence, including start and end token.

    Raises:
        ConfigError: ``context_length`` leaves no room between start and end.
    """

    vocab_size = byte_pairs.VOCAB_SIZE
    languages = ("en",)

    def __init__(self, context_length: ContextLength = 77):
        self.context_length = context_length

    def __call__(self, sentences: list[str]) -> Tokens:
        """Tokenise; longer sentences are truncated and keep their end token."""
        tokens, counts = byte_pairs.encode(sentences)
        lengths = np.minimum(counts, self.context_length)
        ids = np.zeros((len(counts), lengths.max(initial=0)), dtype=np.int64)
        place = np.arange(ids.shape[1])
        ids[place < lengths[:, None]] = tokens[np.arange(len(tokens)) - np.repeat(np.cumsum(counts) - counts, counts) < self.context_length]
        ids[np.arange(len(ids)), lengths - 1] = byte_pairs.END
        return Tokens(torch.from_numpy(ids), torch.from_numpy(lengths))

    def count(self, sentence: str) -> int:
        """Number of tokens of the whole sentence, including start and end token."""
        return self.counts([sentence])[0]

    def counts(self, sentences: list[str]) -> list[int]:
        """``count`` of each sentence."""
        return byte_pairs.encode(sentences)[1].tolist()

    @property
    def identity(self) -> str:
        """See ``identity_of``."""
        return identity_of(self, self.context_length, inspect.getsource(byte_pairs), merges())

    def portable(self) -> FastTokenizer:
        """See ``HFTokenizer.portable``; of ftfy's and open_clip's cleaning, only what replaces fixed characters (see ``_cleaning``)."""
        from tokenizers.normalizers import Sequence
        from transformers import CLIPTokenizerFast

        with tempfile.TemporaryDirectory() as folder:
            for name, text in tokenizer_files(self.context_length).items():
                Path(folder, name).write_text(text, encoding="utf-8")
            made = made_portable(CLIPTokenizerFast.from_pretrained(folder).backend_tokenizer, self.context_length)
        made.normalizer = Sequence([*_cleaning(), made.normalizer])
        return made


def _cleaning() -> list[Normalizer]:
    """What ftfy and open_clip replace without looking at the context: HTML entities, ligatures, full-width forms, and curly quotes.

    The rest needs the context: text decoded with a wrong encoding, all other entities, and escape sequences of terminals.
    """
    from ftfy.chardata import DOUBLE_QUOTE_RE, LIGATURES, SINGLE_QUOTE_RE, WIDTH_MAP
    from tokenizers import Regex
    from tokenizers.normalizers import Replace

    characters = {chr(code): text for code, text in {**LIGATURES, **WIDTH_MAP}.items()}
    fixed = [Replace(found, text) for found, text in (*_ENTITIES.items(), *characters.items())]
    return [*fixed, Replace(Regex(SINGLE_QUOTE_RE.pattern), "'"), Replace(Regex(DOUBLE_QUOTE_RE.pattern), '"')]


@checked
class WordPieceTokenizer:
    """BERT's tokenizer with a vocabulary created in code, so that Chinese works without network access.

    The vocabulary contains the special tokens, the characters of ASCII and of GB2312 (6 763 Chinese characters and 682 symbols), and
    every letter, digit and sign also as a continuation (``##a``): Chinese is read character by character, everything else letter by letter.
    Case and accents are dropped; characters outside the vocabulary become ``[UNK]``.

    Args:
        context_length: Maximum number of tokens per sentence, including ``[CLS]`` and ``[SEP]``.
    """

    languages = ("zh",)
    unknown_id = SPECIAL.index("[UNK]")

    def __init__(self, context_length: MaxLength = 64):
        self.context_length = context_length
        self.vocab_size = len(character_vocabulary())

    def __call__(self, sentences: list[str]) -> Tokens:
        """Tokenise; longer sentences are truncated and keep their ``[SEP]``."""
        rows = [encoding.ids for encoding in _word_pieces().encode_batch(list(sentences))]
        return _padded([row if len(row) <= self.context_length else [*row[: self.context_length - 1], row[-1]] for row in rows])

    def count(self, sentence: str) -> int:
        """Number of tokens of the whole sentence, including ``[CLS]`` and ``[SEP]``."""
        return len(_word_pieces().encode(sentence).ids)

    @property
    def identity(self) -> str:
        """See ``identity_of``."""
        return identity_of(self, self.context_length, list(character_vocabulary()))

    def portable(self) -> FastTokenizer:
        """See ``HFTokenizer.portable``."""
        return made_portable(_word_pieces(), self.context_length)


@functools.lru_cache(maxsize=1)
def character_vocabulary() -> dict[str, int]:
    """Token to id: special tokens, ASCII, GB2312, and continuations of words. Lower case only, as the tokenizer drops case."""
    rows, columns = range(0xA1, 0xF8), range(0xA1, 0xFF)  # GB2312 is a table of 87 rows and 94 columns with gaps
    table = [bytes([row, column]).decode("gb2312", errors="ignore") for row in rows for column in columns]
    ascii_characters = string.ascii_lowercase + string.digits + string.punctuation
    characters = list(dict.fromkeys(c for c in [*ascii_characters, *table] if c.strip() and c == c.lower()))
    # Ideographs and punctuation are split off as separate words; everything else (letters, digits, ×, ℃) can also continue a word.
    own_words = {c for c in characters if "\u4e00" <= c <= "\u9fff" or c in string.punctuation or unicodedata.category(c)[0] == "P"}
    continued = [f"##{c}" for c in characters if c not in own_words]
    return {token: index for index, token in enumerate([*SPECIAL, *characters, *continued])}


@functools.lru_cache(maxsize=1)
def _word_pieces() -> BertWordPieceTokenizer:
    from tokenizers.implementations import BertWordPieceTokenizer

    return BertWordPieceTokenizer(vocab=dict(character_vocabulary()), lowercase=True)


class HFTokenizer:
    """A Hugging Face tokenizer with explicit lengths and right padding.

    Args:
        tokenizer: Loaded Hugging Face tokenizer.
        context_length: Maximum number of tokens per sentence, including special tokens.

    Attributes:
        hugging_face: The wrapped tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context_length: int = 64):
        self.context_length = context_length
        self.vocab_size = len(tokenizer)
        self.hugging_face = tokenizer
        self._pad = tokenizer.pad_token_id or 0  # never used by a tower, as all of them mask by length
        self.unknown_id = unknown_of(tokenizer)

    @functools.cached_property
    def languages(self) -> tuple[str, ...]:
        """See ``languages_of``."""
        return languages_of(self.hugging_face)

    def __call__(self, sentences: list[str]) -> Tokens:
        """Tokenise; longer sentences are truncated and keep their special tokens."""
        if not sentences:
            return _padded([], self._pad)
        with ONE_AT_A_TIME:
            encoded = self.hugging_face(list(sentences), truncation=True, max_length=self.context_length)
        return _padded(encoded["input_ids"], self._pad)

    def count(self, sentence: str) -> int:
        """Number of tokens of the whole sentence, including special tokens."""
        with ONE_AT_A_TIME:
            return len(self.hugging_face(sentence, verbose=False)["input_ids"])

    @property
    def identity(self) -> str | None:
        """See ``identity_of``; ``None`` if the tokenizer is Python code of transformers, which may do anything."""
        with ONE_AT_A_TIME:
            settings = hugging_face_settings(self.hugging_face)
        return None if settings is None else identity_of(self, self.context_length, settings)

    def portable(self) -> FastTokenizer | None:
        """The same tokenizer for the library tokenizers, which truncates and pads; ``None`` if only transformers can run it."""
        return portable_of(self.hugging_face, self.context_length)


class WholeContextTokenizer(HFTokenizer):
    """A Hugging Face tokenizer whose padding the tower sees, as in the training of SigLIP: every sentence fills the context.

    Sentences are put in lower case first, as the published models were trained, also by tokenizers that keep the case.
    """

    def __call__(self, sentences: list[str]) -> Tokens:
        """Tokenise; shorter sentences are padded on the tokenizer's own side, longer ones truncated."""
        if not sentences:
            return _padded([], self._pad)
        with ONE_AT_A_TIME:
            lower = [sentence.lower() for sentence in sentences]
            encoded = self.hugging_face(lower, padding="max_length", truncation=True, max_length=self.context_length)
        return _padded(encoded["input_ids"], self._pad)

    def count(self, sentence: str) -> int:
        """Number of tokens of the whole sentence, including special tokens."""
        return super().count(sentence.lower())

    def portable(self) -> FastTokenizer | None:
        """See ``HFTokenizer.portable``."""
        return portable_of(self.hugging_face, self.context_length, whole=True)


def portable_of(tokenizer: PreTrainedTokenizerBase, context_length: int, *, whole: bool = False) -> FastTokenizer | None:
    """``made_portable`` of a tokenizer of transformers; ``None`` if it is not implemented by the library tokenizers."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    with ONE_AT_A_TIME:
        return made_portable(backend, context_length, tokenizer.pad_token_id or 0, tokenizer.pad_token or "[PAD]", whole=whole)


def made_portable(backend: object, context_length: int, pad: int = 0, pad_token: str = "[PAD]", *, whole: bool = False) -> FastTokenizer:
    """A copy of a tokenizer of the library tokenizers, with truncation and padding on the right.

    Args:
        backend: Tokenizer, whose own settings stay as they are.
        context_length: Maximum number of tokens.
        pad: Id of the padding.
        pad_token: Token of the padding.
        whole: Whether every sentence fills the context, and is put in lower case first; see ``WholeContextTokenizer``.
    """
    from tokenizers import Tokenizer as FastTokenizer
    from tokenizers.normalizers import Lowercase, Sequence

    made = FastTokenizer.from_str(backend.to_str())
    made.enable_truncation(context_length)
    made.enable_padding(pad_id=pad, pad_token=pad_token, length=context_length if whole else None)
    if whole:
        made.normalizer = Lowercase() if made.normalizer is None else Sequence([Lowercase(), made.normalizer])
    return made


def languages_of(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Languages of a vocabulary: Chinese if at least a third of it is, both if everyday Chinese also takes few tokens."""
    vocabulary = tokenizer.get_vocab()
    if 3 * sum(map(is_chinese, vocabulary)) >= len(vocabulary):
        return ("zh",)
    with ONE_AT_A_TIME:
        ids = tokenizer(_EVERYDAY, add_special_tokens=False, verbose=False)["input_ids"]
    return ("zh", "en") if len(ids) <= len(_EVERYDAY) and unknown_of(tokenizer) not in ids else ("en",)


def unknown_of(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token for text outside the vocabulary; ``None`` if the vocabulary covers everything and the token has another meaning."""
    unknown = tokenizer.unk_token_id
    return None if unknown in (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id) else unknown


def check_context(where: str, context_length: int, longest: int | None) -> None:
    """Refuse a context longer than the weights' position embeddings.

    Raises:
        ConfigError: The context is out of range; the message gives the limit.
    """
    if longest is not None and context_length > longest:
        raise ConfigError(f"{where}: max_length={context_length} must be between 3 and {longest}")


def _padded(rows: list[list[int]], pad: int = 0) -> Tokens:
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    ids = torch.full((len(rows), int(lengths.max()) if rows else 0), pad, dtype=torch.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return Tokens(ids, lengths)
