"""What every text tower must do, whatever is registered."""

import pytest
import torch

from clipzoo.models.text_encoders.tokenizer import character_vocabulary
from clipzoo.registries import TEXT_ENCODERS
from clipzoo.structures import Tokens

SENTENCES = ["一张髋关节假体的图片", "a cat", "!", "膝关节", "a photo of a cat"]


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    """A tiny BERT with its masked-language head and its tokenizer, as save_pretrained leaves them."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(character_vocabulary()), encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(character_vocabulary()), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=70,
    )  # fmt: skip
    torch.manual_seed(1)
    BertForMaskedLM(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def small(bert_folder):
    """Arguments that make every registered text tower small and offline."""
    arguments = {
        "CLIPText": {"width": 32, "layers": 2, "heads": 2, "output_dim": 16},
        "BERT": {"pretrained": False, "hidden_size": 32, "num_layers": 2, "num_heads": 2},
        "HFText": {"name": bert_folder},
        "OpenCLIPText": {
            "name": "small",
            "config": {"embed_dim": 16, "vision_cfg": {}, "text_cfg": {"width": 32, "layers": 2, "heads": 2}},
        },
    }
    return lambda name, **more: TEXT_ENCODERS.build({"type": name, **arguments[name], **more})


NAMES = ["BERT", "CLIPText", "HFText", "OpenCLIPText"]


def test_every_registered_text_tower_is_tested_here():
    assert sorted(n for n in TEXT_ENCODERS if TEXT_ENCODERS.get(n).__module__.startswith("clipzoo.")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_features_and_gradients(small, name):
    tower = small(name).train()
    features = tower(tower.tokenizer(SENTENCES))
    assert features.shape == (len(SENTENCES), tower.num_features) and features.dtype == torch.float32
    features.square().sum().backward()
    assert [key for key, p in tower.named_parameters() if p.grad is None] == []
    assert tower.context_length == tower.tokenizer.context_length


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing_whatever_stands_there(small, name):
    tower = small(name).eval()
    tokens = tower.tokenizer(SENTENCES)
    garbage = torch.randint(1, 1000, (len(SENTENCES), tower.context_length))
    garbage[:, : tokens.ids.shape[1]] = torch.where(
        torch.arange(tokens.ids.shape[1]) < tokens.lengths[:, None], tokens.ids, garbage[:, : tokens.ids.shape[1]]
    )
    trimmed, padded = tower(tokens), tower(Tokens(garbage, tokens.lengths))
    torch.testing.assert_close(trimmed, padded, rtol=0, atol=2e-6)
    alone = torch.cat([tower(tokens.take(torch.tensor([i]))) for i in range(len(SENTENCES))])
    torch.testing.assert_close(trimmed, alone, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_different_sentences_have_different_features(small, name):
    tower = small(name).eval()
    distances = torch.cdist(*[tower(tower.tokenizer(SENTENCES))] * 2)
    assert (distances + torch.eye(len(SENTENCES))).min() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_autocast_runs_and_stays_close(small, name):
    tower = small(name).eval()
    tokens = tower.tokenizer(SENTENCES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = tower(tokens)
    assert torch.nn.functional.cosine_similarity(half.float(), tower(tokens)).min() > 0.99


@pytest.mark.parametrize("name", NAMES)
def test_depth_groups_are_a_partition(small, name):
    tower = small(name)
    groups = tower.depth_groups()
    assert len(groups) == 3  # embeddings and two layers
    assert sorted(sum(groups, [])) == sorted(key for key, _ in tower.named_parameters())
    assert all("embedding" in key for key in groups[0]) or name == "HFText"


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_text_tower_is_silent(small, name):
    tower = small(name, freeze="all").train()
    tokens = tower.tokenizer(SENTENCES)
    assert not any(m.training for m in tower.modules()) and not any(p.requires_grad for p in tower.parameters())
    assert torch.equal(tower(tokens), tower(tokens))  # no dropout


@pytest.mark.parametrize("name", NAMES)
def test_the_log_line_says_where_the_weights_come_from(small, name, bert_folder):
    line = small(name).describe()
    assert name in line and ("weights random" in line or f"folder {bert_folder}" in line)
