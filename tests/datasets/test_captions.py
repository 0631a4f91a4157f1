import pytest
import torch

from clipzoo.datasets.captions import Captions
from clipzoo.errors import DataError
from clipzoo.structures import Tokens


class Characters:
    """One token per character between a start and an end token; 'x' and 'y' are both unknown to it."""

    context_length = 8

    def count(self, sentence):
        return len(sentence) + 2

    def __call__(self, sentences):
        rows = [[1, *[9 if c in "xy" else ord(c) for c in s][: self.context_length - 2], 2] for s in sentences]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        return Tokens(ids, torch.tensor([len(row) for row in rows]))


def table(*sentences, labels=None):
    captions = Captions()
    for i, sentence in enumerate(sentences):
        captions.add(sentence, i if labels is None else labels[i])
    return captions


def test_equal_sentences_share_an_id():
    captions = Captions()
    ids = [captions.add(s, 0) for s in ("caf\u00e9", " cafe\u0301\n", "tea")]
    assert ids == [0, 0, 1]
    assert captions.sentences == ["caf\u00e9", "tea"] and captions.labels == [0, 0] and len(captions) == 2


def test_refused_sentences():
    captions = table("a")
    with pytest.raises(DataError, match="empty"):
        captions.add("  ")
    with pytest.raises(DataError, match="'a' describes two classes"):
        captions.add("a", 1)


def test_tokens_stand_in_order_of_id():
    tokens = table("ab", "c").tokenise(Characters(), "model.text_encoder")
    assert tokens.ids.tolist() == [[1, 97, 98, 2], [1, 99, 2, 0]] and tokens.lengths.tolist() == [4, 3]


def test_overlong_is_a_warning_or_an_error():
    captions = table("abcdefg", "b")
    captions.tokenise(Characters(), "text")
    assert len(captions.warnings) == 1 and "'abcdefg' has 9 tokens, 8 fit" in captions.warnings[0]
    with pytest.raises(DataError, match=r"text: 1 captions are too long.*allow_overlong_captions"):
        captions.tokenise(Characters(), "text", allow_overlong=False)
    captions = table(*(f"{i:02d}abcdefg" for i in range(9)))
    captions.tokenise(Characters(), "text")
    assert len(captions.warnings) == 6 and "9 captions are cut" in captions.warnings[-1]
    captions.tokenise(Characters(), "text")
    assert len(captions.warnings) == 6  # not added up


@pytest.mark.parametrize("first, second, why", [("abcdefgh", "abcdefxx", "both are cut"), ("ax", "ay", "vocabulary")])
def test_classes_that_become_equal_are_refused(first, second, why):
    with pytest.raises(DataError, match=f"classes 'cat' and 'dog' have the same tokens .*{why}"):
        table(first, second).tokenise(Characters(), "text", classes=["cat", "dog"])


def test_captions_of_one_class_may_become_equal():
    captions = table("ax", "ay", labels=[0, 0])
    captions.tokenise(Characters(), "text")
    assert "1 captions have the same tokens" in captions.warnings[0]


def test_padding_does_not_make_sentences_equal():
    class PadIsAToken(Characters):
        def __call__(self, sentences):
            return Tokens(torch.tensor([[1, 0], [1, 0]]), torch.tensor([1, 2]))

    assert len(table("a", "b").tokenise(PadIsAToken(), "text")) == 2
