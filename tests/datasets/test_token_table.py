"""Tokens of large caption tables: small in memory, kept by content, and equal to those of small ones."""

import errno
import random

import numpy as np
import pytest
import torch

from clipzoo.datasets import token_table
from clipzoo.datasets.captions import Captions
from clipzoo.datasets.token_table import TokenCache, perhaps_equal, rows_with, tokenised
from clipzoo.structures import Tokens


class Characters:
    """One token per character between a start and an end token; calls are counted, and characters above 65 535 make int32 necessary."""

    context_length, identity, unknown_id = 8, "characters", ord("?")
    calls = 0

    def count(self, sentence):
        return len(sentence) + 2

    def __call__(self, sentences):
        Characters.calls += len(sentences)
        rows = [[1, *map(ord, s[: self.context_length - 2]), 2] for s in sentences]
        longest = max(map(len, rows), default=0)
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.int64)
        return Tokens(ids, torch.tensor([len(row) for row in rows]))


def sentences(number=900, seed=0, last="zy"):
    rng = random.Random(seed)
    return ["".join(rng.choices("abcdefghijklmno髋关节", k=rng.randint(1, 9))) + f" {i}" * (i % 3) for i in range(number)] + [last]


@pytest.fixture
def large(monkeypatch):
    monkeypatch.setattr(token_table, "LARGE", 10)
    monkeypatch.setattr(token_table, "_PORTION", 64)
    Characters.calls = 0


def cache(folder, **options):
    notes = []
    return TokenCache(folder / "tokens", notes.append, **options), notes


def assert_same(found, counts, texts):
    expected = Characters()(texts)
    everything = torch.arange(len(texts))
    assert torch.equal(found.lengths, expected.lengths) and found.lengths.dtype == torch.int64
    for rows in (everything, everything.flip(0)[:7], everything[:0]):
        ours, theirs = found.take(rows), expected.take(rows)
        assert torch.equal(ours.ids, theirs.ids) and ours.ids.dtype == torch.int64 and torch.equal(ours.lengths, theirs.lengths)
    assert counts.tolist() == [len(text) + 2 for text in texts]


@pytest.mark.parametrize(("last", "dtype"), [("z", torch.uint16), ("\uffff", torch.uint16), ("𠮷", torch.int32)])
def test_a_large_table_holds_the_same_tokens_in_a_small_dtype(large, tmp_path, last, dtype):
    texts, (kept, notes) = sentences(last=last), cache(tmp_path)
    for once in (None, kept, kept):
        tokens, counts = tokenised(texts, Characters(), once)
        assert tokens.ids.dtype == dtype
        assert_same(tokens, counts, texts)
        assert torch.equal(tokens.distinct(), Characters()(texts).ids.unique()) and tokens.distinct().dtype == torch.int64
    assert notes == [] and len(list((tmp_path / "tokens").iterdir())) == 1


def test_a_second_start_tokenises_nothing_and_another_one_does(large, tmp_path):
    texts, (kept, _) = sentences(), cache(tmp_path)
    tokenised(texts, Characters(), kept)
    before = Characters.calls
    tokenised(texts, Characters(), kept)
    assert Characters.calls == before == len(texts)
    other = Characters()
    other.identity = "other"
    for changed, tokenizer in (
        (texts[::-1], Characters()),
        (texts[:-1], Characters()),
        ([*texts[:-2], texts[-2] + texts[-1][0], texts[-1][1:]], Characters()),
        ([*texts[:-2], "".join(texts[-2:])], Characters()),
        (texts, other),
    ):
        before = Characters.calls
        assert_same(*tokenised(changed, tokenizer, kept), changed)
        assert Characters.calls > before
    other.identity = None
    files = sorted((tmp_path / "tokens").iterdir())
    tokenised(texts, other, kept)
    assert sorted((tmp_path / "tokens").iterdir()) == files, "an unknown tokenizer is not cached"


def test_a_small_table_is_not_kept(tmp_path):
    kept, _ = cache(tmp_path)
    tokens, counts = tokenised(sentences(), Characters(), kept)
    assert tokens.ids.dtype == torch.int64 and not (tmp_path / "tokens").exists()
    assert counts.tolist() == [len(text) + 2 for text in sentences()]


@pytest.mark.parametrize("damage", ["flip", "cut", "foreign", "other rows"])
def test_a_damaged_entry_is_made_again(large, tmp_path, damage):
    texts, (kept, notes) = sentences(), cache(tmp_path)
    tokenised(texts, Characters(), kept)
    (path,) = (tmp_path / "tokens").iterdir()
    content = path.read_bytes()
    if damage == "flip":
        path.write_bytes(content[:-500] + bytes([content[-500] ^ 8]) + content[-499:])
    elif damage == "cut":
        path.write_bytes(content[:999])
    elif damage == "foreign":
        path.write_text("hello")
    else:
        token_table.write_array(path, np.zeros((3, 5), dtype=np.uint16))
    assert_same(*tokenised(texts, Characters(), kept), texts)
    assert len(notes) == (damage != "other rows") and all("tokenised again" in note and str(path) in note for note in notes)
    assert path.read_bytes() == content


def test_a_full_disk_is_one_note_and_a_file_in_the_way_too(large, tmp_path, monkeypatch):
    texts, (kept, notes) = sentences(), cache(tmp_path)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        assert_same(*tokenised(texts, Characters(), kept), texts)
    assert len(notes) == 1 and notes[0].startswith("tokens are not kept:") and "Free some space" in notes[0]
    assert list((tmp_path / "tokens").iterdir()) == [], "no part of a file remains"
    (tmp_path / "tokens").rmdir()
    (tmp_path / "tokens").write_text("")
    assert_same(*tokenised(texts, Characters(), kept), texts)
    assert len(notes) == 2


def test_only_one_process_writes(large, tmp_path):
    kept, notes = cache(tmp_path, writes=False)
    assert_same(*tokenised(sentences(), Characters(), kept), sentences())
    assert notes == [] and not (tmp_path / "tokens").exists()


def test_checks_of_a_large_table_say_what_those_of_a_small_one_say(tmp_path, monkeypatch):
    texts = [*sentences(), "abcdefgh1", "abcdefgh2", "why?", "髋"]
    found = []
    for large in (10, 10**6):
        monkeypatch.setattr(token_table, "LARGE", large)
        captions, tokenizer = Captions(), Characters()
        tokenizer.languages = ("en",)
        for text in texts:
            captions.add(text)
        for kept in (None, cache(tmp_path)[0], cache(tmp_path)[0]):
            captions.tokenise(tokenizer, "text", cache=kept)
            found.append(captions.warnings)
    assert all(one == found[0] for one in found)
    assert any("same tokens as another" in line for line in found[0]) and any("outside the vocabulary" in line for line in found[0])
    assert any("truncated in total" in line for line in found[0]) and any("are not English" in line for line in found[0])


def test_rows_that_may_be_equal_are_found_without_padding(monkeypatch):
    monkeypatch.setattr(token_table, "_PORTION", 2)
    ids = torch.tensor([[5, 6, 0], [5, 6, 9], [6, 5, 0], [5, 6, 7], [0, 0, 0]], dtype=torch.int64).to(torch.uint16)
    assert dict(perhaps_equal(Tokens(ids, torch.tensor([2, 2, 2, 3, 1])))) == {0: (5, 6), 1: (5, 6)}
    assert rows_with(Tokens(ids, torch.tensor([2, 2, 2, 3, 1])), 6).tolist() == [0, 1, 2, 3]
    assert rows_with(Tokens(ids, torch.tensor([2, 2, 2, 3, 1])), 9).tolist() == []
    empty = Tokens(torch.zeros(0, 0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    assert list(perhaps_equal(empty)) == [] and rows_with(empty, 1).tolist() == []
