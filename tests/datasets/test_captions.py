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
    assert len(captions.warnings) == 1 and "'abcdefg' has 9 tokens, at most 8 fit" in captions.warnings[0]
    with pytest.raises(DataError, match=r"text: 1 captions are too long.*allow_overlong_captions"):
        captions.tokenise(Characters(), "text", allow_overlong=False)
    captions = table(*(f"{i:02d}abcdefg" for i in range(9)))
    captions.tokenise(Characters(), "text")
    assert len(captions.warnings) == 6 and "9 captions truncated" in captions.warnings[-1]
    captions.tokenise(Characters(), "text")
    assert len(captions.warnings) == 6  # not added up


@pytest.mark.parametrize("first, second, why", [("abcdefgh", "abcdefxx", "both are truncated"), ("ax", "ay", "vocabulary")])
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


def reading(*languages, **attributes):
    tokenizer = Characters()
    tokenizer.languages, tokenizer.context_length = languages, 77
    for name, value in attributes.items():
        setattr(tokenizer, name, value)
    return tokenizer


@pytest.mark.parametrize(
    ("languages", "names", "first", "why"),
    [
        (("en",), ["猫", "狗"], "a photo of a 猫", "as the text tower reads English"),
        (("zh",), ["cat", "dog"], "这是一张cat的图片", "as the text tower reads Chinese"),
        (("zh", "en"), ["猫", "dog"], "这是一张猫的图片", "as the class names are Chinese"),
        (("zh", "en"), ["cat", "dog"], "a photo of a cat", "as the class names are not Chinese"),
        ((), ["猫", "狗"], "这是一张猫的图片", "as the class names are Chinese"),
    ],
)
def test_the_default_template_is_in_the_language_of_the_text_tower(languages, names, first, why):
    open_ = Captions(names_only=True)
    ids = [open_.add(name, label) for label, name in enumerate(names)]
    worded = open_.worded(reading(*languages) if languages else None)
    assert worded.sentences[0] == first and ids == [0, 1] and worded.labels == [0, 1] and not worded.names_only
    assert worded.note.startswith("captions: '") and worded.note.endswith(why)
    assert open_.sentences == names and worded.worded(reading("en")) is worded, "another tower may read the same data"


def test_texts_that_the_tower_does_not_read_are_named():
    captions = table("一只猫", "a dog", "7")
    captions.tokenise(reading("en"), "text")
    (warning,) = captions.warnings
    assert warning.startswith("text: 1 of 3 captions are not English") and "'一只猫' (1.7 tokens per character)" in warning
    captions.tokenise(reading("zh"), "text")
    assert len(captions.warnings) == 1 and "1 of 3 captions are not Chinese" in captions.warnings[0] and "'a dog'" in captions.warnings[0]
    for languages in (("zh", "en"), ()):
        captions.tokenise(reading(*languages), "text")
        assert captions.warnings == []
    names = Captions(names_only=True)
    for label, name in enumerate(("cat", "狗", "3")):
        names.add(name, label)
    worded = names.worded(reading("zh"))
    worded.tokenise(reading("zh"), "text")
    assert len(worded.warnings) == 1 and "1 of 3 class names are not Chinese" in worded.warnings[0], "a template hides nothing"


def test_unknown_tokens_are_named():
    captions = table("ax", "b")
    captions.tokenise(reading("en", unknown_id=9), "text")
    assert captions.warnings == ["text: 1 of 2 captions contain words or characters outside the vocabulary, such as 'ax'"]
