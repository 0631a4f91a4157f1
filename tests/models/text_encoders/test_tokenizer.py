"""The tokenizers: explicit lengths, truncation that keeps the end token, Chinese without a network."""

import open_clip
import pytest
import small_towers
import torch

from clipzoo.errors import ConfigError
from clipzoo.models.text_encoders.open_clip_text import OpenCLIPTokenizer
from clipzoo.models.text_encoders.tokenizer import (
    SPECIAL,
    CLIPTokenizer,
    HFTokenizer,
    WholeContextTokenizer,
    WordPieceTokenizer,
    character_vocabulary,
)

SENTENCES = ["a photo of a cat", "这是一张髋关节假体的X线图片", "!", "", "hip  prosthesis &amp; cement"]
TYPOGRAPHIC = [
    *("the patient’s “left” hip", "‘a’ ‟b„ ʼc", "ﬁxed ﬄ ĳ ŉ", "（左）侧，Ｘ线：２", "a　b", "&nbsp;a&nbsp; b", "tab\tand\u2028line"),
    *("&lt;x&gt; &quot;q&quot;", "it&#39;s it&apos;s", "x &amp;lt; y"),
]


def test_clip_tokens_are_open_clips():
    tokens = CLIPTokenizer()(SENTENCES)
    expected = open_clip.tokenize(SENTENCES)
    longest = int(tokens.lengths.max())
    assert torch.equal(tokens.ids, expected[:, :longest]) and not expected[:, longest:].any()
    assert torch.equal(tokens.lengths, expected.argmax(dim=1) + 1)  # the end token has the largest id


def test_clip_truncation_keeps_the_end_token_and_count_sees_the_whole_sentence():
    tokenizer = CLIPTokenizer(context_length=10)
    tokens = tokenizer(["word " * 30, "short"])
    assert tokens.ids.shape == (2, 10)
    assert tokens.ids[0, 9] == 49407 and tokens.ids[0, 0] == 49406
    assert torch.equal(tokens.ids, torch.nn.functional.pad(open_clip.tokenize(["word " * 30, "short"], 10), (0, 0)))
    assert tokenizer.count("word " * 30) == 32


def test_an_exclamation_mark_is_no_padding():
    tokens = CLIPTokenizer()(["!", "! !"])
    assert tokens.lengths.tolist() == [3, 4]


@pytest.mark.parametrize("context_length", [2, 78])
def test_clip_context_is_limited(context_length):
    with pytest.raises(ConfigError, match="is not a whole number from 3 to 77"):
        CLIPTokenizer(context_length)


def test_the_offline_vocabulary_holds_ascii_and_gb2312():
    vocabulary = character_vocabulary()
    ideographs = [t for t in vocabulary if len(t) == 1 and "\u4e00" <= t <= "\u9fff"]
    assert len(ideographs) == 6763
    assert list(vocabulary)[:5] == list(SPECIAL) and list(vocabulary.values()) == list(range(len(vocabulary)))
    printable = {chr(c).lower() for c in range(33, 127)}
    assert printable <= set(vocabulary)


def test_chinese_is_read_character_by_character_without_unknowns():
    tokenizer = WordPieceTokenizer()
    words = {index: token for token, index in character_vocabulary().items()}
    tokens = tokenizer(["这是一张Hip 7α髋关节，假体！"])
    read = [words[i] for i in tokens.ids[0].tolist()]
    assert read == ["[CLS]", *"这是一张h", "##i", "##p", "7", "##α", *"髋关节", "，", *"假体", "！", "[SEP]"]
    assert tokens.lengths.tolist() == [len(read)] == [tokenizer.count("这是一张Hip 7α髋关节，假体！")]


def test_every_gb2312_character_is_known_alone_and_inside_a_word():
    unknown = character_vocabulary()["[UNK]"]
    tokenizer = WordPieceTokenizer(context_length=16)
    characters = [token for token in character_vocabulary() if len(token) == 1]
    alone = tokenizer(characters)
    inside = tokenizer([f"a{c}b{c}" for c in characters if not c.isspace()])
    assert not (alone.ids == unknown).any() and not (inside.ids == unknown).any()


def test_characters_outside_gb2312_are_unknown_and_not_lost():
    tokens = WordPieceTokenizer()(["髖關節"])  # traditional
    assert tokens.lengths.tolist() == [5] and (tokens.ids == character_vocabulary()["[UNK]"]).any()


def test_word_pieces_are_those_of_transformers_bert_tokenizer(tmp_path):
    from transformers import BertTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(character_vocabulary()), encoding="utf-8")
    reference = BertTokenizer(str(tmp_path / "vocab.txt"))
    tokens = WordPieceTokenizer()(SENTENCES)
    for row, length, sentence in zip(tokens.ids, tokens.lengths, SENTENCES, strict=True):
        assert row[:length].tolist() == reference(sentence)["input_ids"]


def test_word_piece_truncation_keeps_the_separator():
    tokens = WordPieceTokenizer(context_length=6)(["一二三四五六七八", "一"])
    assert tokens.ids.shape == (2, 6) and tokens.ids[0, -1] == character_vocabulary()["[SEP]"]
    assert tokens.lengths.tolist() == [6, 3]


def test_a_hugging_face_tokenizer_agrees_with_the_same_vocabulary(tmp_path):
    from transformers import BertTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(character_vocabulary()), encoding="utf-8")
    wrapped = HFTokenizer(BertTokenizer(str(tmp_path / "vocab.txt"), padding_side="left"), context_length=6)
    own = WordPieceTokenizer(context_length=6)
    sentences = ["一二三四五六七八", "一", "abc"]
    assert torch.equal(wrapped(sentences).ids, own(sentences).ids)
    assert torch.equal(wrapped(sentences).lengths, own(sentences).lengths)
    assert wrapped.count(sentences[0]) == own.count(sentences[0]) == 10


@pytest.mark.parametrize("make", [CLIPTokenizer, WordPieceTokenizer])
def test_no_sentences_are_no_tokens(make):
    assert make()([]).ids.shape == (0, 0)


def word_pieces(folder, words):
    from transformers import BertTokenizerFast

    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *words]), encoding="utf-8")
    return BertTokenizerFast(str(folder / "vocab.txt"))


def test_every_tokenizer_knows_its_language(tmp_path):
    from open_clip.tokenizer import SimpleTokenizer

    english, chinese = [f"word{i}" for i in range(300)], list("这是一张图片，上面有个人和只小猫在红色的房子前")
    assert CLIPTokenizer().languages == OpenCLIPTokenizer(SimpleTokenizer(), 0).languages == ("en",)
    assert WordPieceTokenizer().languages == HFTokenizer(word_pieces(tmp_path / "zh", chinese + english[:20])).languages == ("zh",)
    assert HFTokenizer(word_pieces(tmp_path / "en", english + chinese[:3])).languages == ("en",), "as bert-base-uncased, which has a few"
    both = HFTokenizer(word_pieces(tmp_path / "both", english + chinese))
    assert both.languages == ("zh", "en") and both.unknown_id == SPECIAL.index("[UNK]")


def test_threads_share_a_hugging_face_tokenizer(tmp_path):
    """Each call sets how the library's tokenizer cuts: unguarded, threads get 'Already borrowed', or a sentence that was not cut."""
    from concurrent.futures import ThreadPoolExecutor

    shared = HFTokenizer(word_pieces(tmp_path / "zh", list("一二三四五六七八")), context_length=5)
    sentences = ["一二三四五六七八"] * 20

    def work(number):
        return shared.count(sentences[0]) if number % 2 else shared(sentences).lengths.max().item()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(400))) == [5, 10] * 200


@pytest.mark.parametrize("tokenizer", [CLIPTokenizer(20), WordPieceTokenizer(12)], ids=["clip", "word pieces"])
def test_the_portable_tokenizer_gives_the_same_ids(tokenizer):
    sentences = [*SENTENCES, "word " * 30, "é 𠮷 ℃ ×3", "Über", *TYPOGRAPHIC]
    encoded = tokenizer.portable().encode_batch(sentences)
    tokens = tokenizer(sentences)
    assert [[i for i, m in zip(e.ids, e.attention_mask, strict=True) if m] for e in encoded] == [
        row[:length].tolist() for row, length in zip(tokens.ids, tokens.lengths, strict=True)
    ]
    assert len({len(each.ids) for each in encoded}) == 1


def test_the_portable_tokenizer_of_a_whole_context_fills_it_and_ignores_case(tmp_path):
    small_towers.bert_folder(tmp_path)
    from transformers import AutoTokenizer

    own = AutoTokenizer.from_pretrained(tmp_path)
    whole = WholeContextTokenizer(own, 16)
    encoded = whole.portable().encode_batch(["左侧 X", "左侧 x"])
    assert encoded[0].ids == encoded[1].ids == whole(["左侧 X"]).ids[0].tolist() and len(encoded[0].ids) == 16
    own.backend_tokenizer.no_truncation()
    assert HFTokenizer(own, 5).portable().encode("左侧髋关节假体").ids == HFTokenizer(own, 5)(["左侧髋关节假体"]).ids[0].tolist()


def test_an_identity_changes_with_what_changes_a_token_and_not_with_use(tmp_path):
    from open_clip.tokenizer import SimpleTokenizer

    chinese = list("一二三四五六七八")
    made = [CLIPTokenizer(20), CLIPTokenizer(21), WordPieceTokenizer(20), OpenCLIPTokenizer(SimpleTokenizer(), 0)]
    made += [OpenCLIPTokenizer(SimpleTokenizer(context_length=20), 0), OpenCLIPTokenizer(SimpleTokenizer(clean="whitespace"), 0)]
    made += [kind(word_pieces(tmp_path / kind.__name__, chinese), 20) for kind in (HFTokenizer, WholeContextTokenizer)]
    made += [HFTokenizer(word_pieces(tmp_path / "other", chinese[::-1]), 20)]
    before = [tokenizer.identity for tokenizer in made]
    assert len(set(before)) == len(made) and all(before)
    for tokenizer in made:
        tokenizer(["一二三" * 20]), tokenizer.count("一")
    assert [tokenizer.identity for tokenizer in made] == before
    assert HFTokenizer(word_pieces(tmp_path / "same", chinese), 20).identity == before[-3]
    assert OpenCLIPTokenizer(SimpleTokenizer(reduction_mask="shuffle"), 0).identity is None, "its tokens are drawn"
