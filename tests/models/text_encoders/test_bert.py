"""BERT against transformers' BertModel."""

import pytest
import torch

from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.text_encoders import BERT, HFText
from clipzoo.models.text_encoders.tokenizer import character_vocabulary

SENTENCES = ["人工髋关节", "a cat", "左膝关节，假体周围骨折 2"]


def mask_of(tokens):
    return (torch.arange(tokens.ids.shape[1]) < tokens.lengths[:, None]).long()


def masked_mean(hidden, tokens):
    """The naive loop, in double precision."""
    return torch.stack([row[:length].double().mean(dim=0) for row, length in zip(hidden, tokens.lengths, strict=True)]).float()


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_features_equal_transformers(pooling):
    from transformers import BertModel

    torch.manual_seed(0)
    tower = BERT(pretrained=False, hidden_size=48, num_layers=3, num_heads=4, pooling=pooling).eval()
    reference = BertModel(tower.bert.config, add_pooling_layer=False).eval()
    tower.bert.load_state_dict(reference.state_dict())
    tokens = tower.tokenizer(SENTENCES)
    with torch.no_grad():
        hidden = reference(input_ids=tokens.ids, attention_mask=mask_of(tokens)).last_hidden_state
        expected = hidden[:, 0] if pooling == "cls" else masked_mean(hidden, tokens)
        torch.testing.assert_close(tower(tokens), expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved BertForMaskedLM: its head is not the tower's, and its pooling layer is missing."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    path = tmp_path_factory.mktemp("bert")
    (path / "vocab.txt").write_text("\n".join(character_vocabulary()), encoding="utf-8")
    BertTokenizer(str(path / "vocab.txt")).save_pretrained(path)
    config = BertConfig(
        vocab_size=len(character_vocabulary()), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=40,
    )  # fmt: skip
    BertForMaskedLM(config).half().save_pretrained(path)
    return path


def test_published_weights_from_a_folder(folder):
    from transformers import BertModel

    tower = BERT(str(folder), max_length=20, pooling="cls", dropout=0.3).eval()
    reference = BertModel.from_pretrained(folder, add_pooling_layer=False, torch_dtype=torch.float32).eval()
    tokens = tower.tokenizer(SENTENCES)
    assert tower.weights == f"folder {folder}" and tower.num_features == 32 and tokens.ids.shape[1] <= 20
    assert all(p.dtype == torch.float32 for p in tower.parameters())
    assert {m.p for m in tower.modules() if isinstance(m, torch.nn.Dropout)} == {0.3}
    with torch.no_grad():
        expected = reference(input_ids=tokens.ids, attention_mask=mask_of(tokens)).last_hidden_state[:, 0]
        torch.testing.assert_close(tower(tokens), expected, rtol=0, atol=1e-5)
        # The general tower reads the same folder to the same features.
        torch.testing.assert_close(HFText(str(folder), pooling="cls", max_length=20).eval()(tokens), expected, rtol=0, atol=1e-5)
        mean = masked_mean(reference(input_ids=tokens.ids, attention_mask=mask_of(tokens)).last_hidden_state, tokens)
        torch.testing.assert_close(HFText(str(folder), max_length=20).eval()(tokens), mean, rtol=0, atol=1e-5)


def test_random_weights_of_a_named_architecture(folder):
    tower = HFText(str(folder), pretrained=False, max_length=40)
    assert tower.weights == "random" and tower.num_features == 32
    assert all(p.dtype == torch.float32 for p in tower.parameters())  # though the files are in half precision
    assert not any("pooler" in key for key, _ in tower.named_parameters())


def test_missing_weights_are_an_error(folder, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, tmp_path / "copy")
    state = load_file(tmp_path / "copy" / "model.safetensors")
    del state["bert.encoder.layer.1.output.dense.weight"]
    save_file(state, tmp_path / "copy" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BuildError, match="missing or of another shape: encoder.layer.1.output.dense.weight"):
        BERT(str(tmp_path / "copy"), max_length=20)


@pytest.mark.parametrize("tower", [BERT, HFText])
def test_a_folder_without_a_tokenizer_is_an_error(folder, tmp_path, tower):
    import shutil

    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder / name, tmp_path / name)
    with pytest.raises(BuildError, match="has no tokenizer files"):
        tower(str(tmp_path), max_length=20)


def test_another_architecture_is_named(tmp_path):
    from transformers import T5Config, ViTConfig

    ViTConfig().save_pretrained(tmp_path / "vit")
    T5Config().save_pretrained(tmp_path / "t5")
    with pytest.raises(BuildError, match="is a vit model, not BERT"):
        BERT(str(tmp_path / "vit"))
    with pytest.raises(BuildError, match="is a t5 model, not a text encoder"):
        HFText(str(tmp_path / "t5"))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda folder: BERT(str(folder)), ConfigError, r"max_length=64 must be between 3 and 40"),
        (lambda folder: BERT(str(folder / "no")), BuildError, "no folder"),
        (lambda folder: HFText(str(folder.parent)), BuildError, "has no config.json"),
        (lambda folder: BERT(pretrained=False, hidden_size=30, num_heads=4), ConfigError, "not a multiple of num_heads"),
        (lambda folder: BERT(pretrained=False, pooling="max"), ConfigError, "pooling: 'max' is not one of"),
        (lambda folder: BERT(pretrained=False, dropout=1), ConfigError, r"dropout: 1 is not a number in \[0, 1\)"),
    ],
)
def test_mistakes_are_one_clear_line(folder, make, error, words):
    with pytest.raises(error, match=words) as raised:
        make(folder)
    assert "\n" not in str(raised.value)


def test_a_damaged_folder_is_one_clear_line(folder, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(BuildError, match="cannot be read") as raised:
        BERT(str(tmp_path / "copy"), max_length=20)
    assert "\n" not in str(raised.value)
    (tmp_path / "copy" / "config.json").write_text("{")
    with pytest.raises(BuildError):
        HFText(str(tmp_path / "copy"), max_length=20)
