"""The audit of captions."""

from __future__ import annotations

import pytest

from clipzoo.datasets.captions import Captions
from clipzoo.doctor.texts import audit, placeholders
from clipzoo.doctor.tokenizers import tokenizer_of
from clipzoo.doctor.words import Words

SMALL_BERT = {"type": "BERT", "pretrained": False, "hidden_size": 32, "num_layers": 1, "num_heads": 2}


def captions(*sentences: str) -> Captions:
    table = Captions()
    for label, sentence in enumerate(sentences):
        table.add(sentence, label)
    return table


@pytest.fixture(scope="module")
def byte_pairs():
    from clipzoo.models.text_encoders.tokenizer import CLIPTokenizer

    return CLIPTokenizer()


def said(found) -> list[str]:
    return [f"{finding.level} {finding.check} {finding.what}" for finding in found]


@pytest.mark.parametrize(
    "sentence",
    [
        "a photo of a {class_name}",
        "a ${name}",
        "a photo of <class>",
        "TODO",
        "nan",
        "N/A",
        "%s",
        "[insert text]",
        "这是待填的描述",
        "---",
        "#REF!",
    ],
)
def test_placeholders(sentence):
    assert placeholders([sentence, "a cat"]) == [sentence]


@pytest.mark.parametrize(
    "sentence", ["a cat < 3 kg and > 1 kg", "50 % of cats", "none of the screws is loose", "Nan Zhang's hip", "髋关节 [左]", "T-O-D-O"]
)
def test_ordinary_sentences_are_no_placeholders(sentence):
    assert placeholders([sentence]) == []


def test_good_captions_have_no_finding(byte_pairs):
    found, line = audit(captions("a cat", "a dog on a mat"), byte_pairs, Words())
    assert found == [] and line == "2 captions, median 5, longest 7, 77 fit"


def test_chinese_under_english_byte_pairs(byte_pairs):
    (finding,) = audit(captions("一只猫", "一只狗"), byte_pairs, Words())[0]
    assert finding.level == "warning" and "2 of 2 captions are not English" in finding.what


def test_truncation(byte_pairs):
    found, line = audit(captions("a cat", "dog " * 90), byte_pairs, Words())
    assert any("caption truncated" in what for what in said(found)) and "longest 92" in line


def test_captions_of_two_classes_that_are_cut_to_the_same_tokens(byte_pairs):
    found, _ = audit(captions("dog " * 90 + "one", "dog " * 90 + "two"), byte_pairs, Words(), classes=["x", "y"])
    assert [finding.level for finding in found if "'x' and 'y'" in finding.what] == ["error"]


def test_captions_that_differ_in_case_only(byte_pairs):
    table = Captions()
    table.add("A cat", 0)
    table.add("a cat", 0)
    assert any("1 captions have the same tokens" in what for what in said(audit(table, byte_pairs, Words())[0]))


def test_unknown_characters():
    tokenizer, why = tokenizer_of({"type": "CLIP", "image_encoder": "resnet18", "text_encoder": SMALL_BERT})
    assert why == "" and any("outside the vocabulary" in what for what in said(audit(captions("一只🐈", "一只狗"), tokenizer, Words())[0]))


def test_a_tower_that_is_not_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tokenizer, why = tokenizer_of({"type": "CLIP", "image_encoder": "resnet18", "text_encoder": "hf:nobody/nothing-like-this"})
    assert tokenizer is None and "nobody/nothing-like-this" in why and "\n" not in why


def test_a_model_without_a_text_tower():
    assert tokenizer_of({"type": "ImageClassifier", "image_encoder": "resnet18"}) == (None, "")
