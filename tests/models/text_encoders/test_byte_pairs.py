"""The fast byte pairs: open_clip's tokens for every text, whatever it contains, from any thread or process."""

import copy
import os
import pickle
import random
import re
import subprocess
import sys
import unicodedata
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ftfy
import numpy as np
import open_clip
import pytest
import torch
from ftfy.badness import BADNESS_RE
from open_clip.tokenizer import SimpleTokenizer, basic_clean

from clipzoo.models.layout import byte_pairs as files
from clipzoo.models.text_encoders import byte_pairs
from clipzoo.models.text_encoders.tokenizer import CLIPTokenizer

# What is special to the cleaning, to the pattern that cuts words, or to the cutting of chunks.
SPECIAL = [
    *("<start_of_text>", "<end_of_text>", "<|endoftext|>", "<|startoftext|>", "<START_OF_TEXT>", "<ſtart_of_text>", "a<start_of_text>b"),
    *("it's", "don't", "they're", "I'VE", "i'm", "we'll", "he'd", "'S", "'ſ", "'s's", "''t", "字's", "，'s字", "o'clock", "’s", "‘d"),
    *("2024", "١٢٣", "½", "Ⅷ", "㊿", "x2y3", "12月", "3.14"),
    *("&amp;", "&lt;b&gt;", "&#39;", "&eacute;", "&amp;amp;", "&#1;", "&#0;", "&#xD800;", "＆amp;", "AT&T", "&"),
    *("\0", "\1", "\x1b[31m", "\x7f", "\x85", "\u2028", "\ufeff", "\u200b", "\u200d", "\ue000", "\ufffd", "\U0010ffff"),
    *("\u0301", "e\u0301", "\u0345", "ͅα", "\u3099", "か\u3099", "ㄱ", "각", "\u1100\u1161\u11a8", "Σας ΟΔΟΣ", "İI", "ß", "ﬁ", "ｱﾞ", "Ｘ"),
    *("rÃ©sumÃ©", "schÃ¶n", "â€œquoteâ€\x9d", "вЂ", "ÐŸÑ€", "×²", "à²", "Ã ", "\xa0"),
    *("，", "。", "（左）", "“", "”", "…", "——", "·", "、", "「", "〜", "～", "！？", "\u3000", "#", "@", "_", "🙂", "👩‍👩‍👧", "🇨🇳", "❤️"),
    *("猨瓷", "䠨璃", "一", "龥", "㐀", "𠮷", "X线", "ct图像", "左,右", "左),右", "左,'s右", "(左", "左<end_of_text>右", "左<右"),
]  # fmt: skip


@pytest.fixture(scope="module")
def reference():
    return SimpleTokenizer()


def scripts():
    """Letters, marks and digits by the first word of their names: LATIN, CJK, DEVANAGARI …"""
    found = defaultdict(list)
    for code in range(0x20, 0x32000):
        character = chr(code)
        if unicodedata.category(character)[0] in "LMN":
            found[unicodedata.name(character, "?").split(" ")[0].split("-")[0]].append(character)
    return list(found.values())


def sentences_of_every_script(number, seed):
    rng, alphabets = random.Random(seed), scripts()
    for index in range(number):
        words = []
        for _ in range(rng.randint(1, 6)):
            alphabet = alphabets[(index if rng.random() < 0.8 else rng.randrange(len(alphabets))) % len(alphabets)]
            word = "".join(rng.choices(alphabet, k=rng.randint(1, 9)))
            words += [word.capitalize() if rng.random() < 0.2 else word] + rng.choices(SPECIAL, k=rng.random() < 0.4)
        yield rng.choice((" ", " ", "", "\t", "，", ", ")).join(words)


def assert_equal(reference, sentences):
    tokens, counts = byte_pairs.encode(sentences)
    assert len(counts) == len(sentences)
    for sentence, own in zip(sentences, np.split(tokens, np.cumsum(counts)[:-1]), strict=True):
        assert own.tolist() == [reference.sot_token_id, *reference.encode(sentence), reference.eot_token_id], ascii(sentence)


def test_vocabulary_and_merges_are_read_without_importing_open_clip(reference):
    assert list(files.vocabulary().values()) == list(reference.encoder.values()) == list(range(byte_pairs.VOCAB_SIZE))
    assert list(files.vocabulary())[:-2] == list(reference.encoder)[:-2]
    assert [tuple(pair.split(" ")) for pair in files.merges()] == list(reference.bpe_ranks)
    assert (byte_pairs.START, byte_pairs.END) == (reference.sot_token_id, reference.eot_token_id)


def test_special_texts(reference):
    assert_equal(reference, [*SPECIAL, *(a + b for a in SPECIAL[::3] for b in SPECIAL[::2]), *(f"x {a} y" for a in SPECIAL), "", " ", "\n"])


def test_sentences_of_every_script(reference):
    assert_equal(reference, list(sentences_of_every_script(600, seed=1)))


@pytest.mark.slow
def test_a_hundred_thousand_sentences_of_every_script(reference):
    assert_equal(reference, list(sentences_of_every_script(100_000, seed=2)))


@pytest.mark.slow
@pytest.mark.parametrize("between", ["", "字"])
def test_the_whole_unicode_range(reference, between):
    """Sixteen at a time, in order; surrogates, which are no text, are replaced by ftfy."""
    codes = range(0, 0x110000, 16)
    assert_equal(reference, [between.join(map(chr, range(code, code + 16))) for code in codes])


def test_the_unicode_range_in_samples(reference):
    rng = random.Random(3)
    assert_equal(reference, ["".join(chr(rng.randrange(0x3000)) for _ in range(8)) for _ in range(600)])
    assert_equal(reference, ["".join(chr(rng.choice((rng.randrange(0x3000, 0xA000), 0x2C))) for _ in range(12)) for _ in range(1000)])


def test_a_word_can_be_cut_between_two_ideographs(reference):
    """No token contains the last byte of one and the first byte of another: the only such bytes belong to the kana と before 繋."""
    ideographs = [chr(code).encode() for code in range(0x4E00, 0xA000)]
    first, last = {own[0] for own in ideographs}, {own[-1] for own in ideographs}
    found = set()
    for token in list(files.vocabulary())[:-2]:
        content = bytes(reference.byte_decoder[character] for character in token.removesuffix("</w>"))
        places = [i for i in range(1, len(content)) if content[i - 1] in last and content[i] in first]
        found |= {content[max(i - 3, 0) : i + 3].decode() for i in places}
    assert found == {"と繋"}


def test_text_that_is_not_passed_to_ftfy_would_not_be_changed_by_it():
    kept = [chr(c) for c in range(0x80, 0x110000) if re.fullmatch(f"[{byte_pairs._KEPT}]", chr(c))]
    assert len(kept) > 35_000 and not set(kept) & set(BADNESS_RE.pattern), "mojibake contains none of them"
    wide = [chr(c) for c in range(0x80, 0x110000) if byte_pairs._HAS_WIDE.fullmatch(chr(c))]
    ascii_ = [chr(c) for c in range(0x20, 0x7F) if chr(c) != "&"]
    assert byte_pairs._SIMPLE.fullmatch("".join(kept + wide + ascii_)) and not byte_pairs._SIMPLE.search("&").group()
    rng = random.Random(4)
    for _ in range(800):
        text = "".join(rng.choice(rng.choice((kept, kept[:12], wide, ascii_))) for _ in range(rng.randint(1, 10)))
        assert byte_pairs.cleaned(text).split() == basic_clean(text).split(), ascii(text)
        assert unicodedata.is_normalized("NFC", text) or text != ftfy.fix_text(text)
    for text in ("".join(ascii_), "".join(kept[:3000]), "".join(wide)):
        assert byte_pairs.cleaned(text).split() == basic_clean(text).split()


def test_truncation_is_open_clips(reference):
    sentences = ["word " * 30, "short", "", "一只猫" * 20, "!" * 90, "a b c d e f g h", "<end_of_text> " * 20]
    for context in (3, 9, 10, 77):
        tokens = CLIPTokenizer(context)(sentences)
        expected = open_clip.tokenize(sentences, context)
        assert torch.equal(tokens.ids, expected[:, : tokens.ids.shape[1]]) and not expected[:, tokens.ids.shape[1] :].any()
        assert tokens.ids.dtype == tokens.lengths.dtype == torch.int64
        counts = [CLIPTokenizer(context).count(sentence) for sentence in sentences]
        assert tokens.lengths.tolist() == [min(count, context) for count in counts]
        assert counts == CLIPTokenizer(context).counts(sentences) == [len(reference.encode(s)) + 2 for s in sentences]


def test_remembered_chunks_are_bounded_and_change_nothing(reference, monkeypatch):
    monkeypatch.setattr(byte_pairs, "_MOST_CHUNKS", 50)
    monkeypatch.setattr(byte_pairs, "_PORTION", 3)
    for seed in range(3):
        assert_equal(reference, list(sentences_of_every_script(40, seed)))
    assert len(byte_pairs._chunks()) < 400


def test_an_interruption_leaves_no_half_entry(reference, monkeypatch):
    def interrupted(chunks):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(byte_pairs, "_merged", interrupted)
        byte_pairs.encode(["neverseenbefore qqzzx", "another1"])
    assert_equal(reference, ["qqzzx neverseenbefore", "yetanother neverseenbefore"])


def test_threads_copies_and_pickles(reference):
    tokenizer = CLIPTokenizer(20)
    sentences = list(sentences_of_every_script(60, seed=5))
    expected = tokenizer(sentences).ids
    for other in (copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert torch.equal(other(sentences).ids, expected) and vars(other) == vars(tokenizer) == {"context_length": 20}
    with ThreadPoolExecutor(4) as pool:
        for ids in pool.map(lambda _: tokenizer(sentences).ids, range(16)):
            assert torch.equal(ids, expected)


@pytest.mark.slow
@pytest.mark.parametrize("setting", [None, "true", "false"])
def test_forked_workers_neither_hang_nor_warn(setting):
    """Whatever TOKENIZERS_PARALLELISM says: no pool of threads is ever started."""
    code = (
        "import multiprocessing as m, sys\n"
        "from clipzoo.models.text_encoders.tokenizer import CLIPTokenizer\n"
        "t = CLIPTokenizer(); assert 'open_clip' not in sys.modules\n"
        "s = ['a photo of a cat'] * 50 + [f'word{i} 字{i}' for i in range(50)]\n"
        "expected = t(s).ids.tolist()\n"
        "def work(_): return t(s + ['new words of this process']).ids[:-1].tolist()\n"
        "with m.get_context('fork').Pool(3) as pool: found = pool.map_async(work, range(6)).get(60)\n"
        "assert all(one == expected for one in found)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"}
    environment |= {} if setting is None else {"TOKENIZERS_PARALLELISM": setting}
    root = str(Path(__file__).resolve().parents[3])
    found = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=root,
        env=environment,
    )
    assert found.returncode == 0 and "fork" not in found.stderr, found.stderr
