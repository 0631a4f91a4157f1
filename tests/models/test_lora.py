"""Low-rank adapters on every tower: nothing changes before training, all of them learn, the weights do not, and merging changes nothing."""

import copy

import pytest
import torch
from small_towers import IMAGES, NAMES, build, inputs_of, spec_of
from torch import nn

from clipzoo.errors import BuildError, ConfigError
from clipzoo.models import lora
from clipzoo.models.tower import Tower
from clipzoo.registries import BACKBONES, TEXT_ENCODERS

LORA = {"rank": 2, "alpha": 8.0}
# Weights with an adapter: all linear layers, full convolutions, and what attention layers read without calling it.
ADAPTED = {
    "ResNet": 15, "StarNet": 23, "EfficientNet": 15, "ConvNeXt": 22, "VisionTransformer": 25, "HFVision": 19,
    "HFVision siglip": 23, "CLIPVision": 13,
    "CLIPVision resnet": 26,
    "OpenCLIPBackbone": 13, "OpenCLIPBackbone resnet": 26, "OpenCLIPBackbone timm": 27,
    "BERT": 18, "CLIPText": 12, "HFText": 18, "OpenCLIPText": 12, "OpenCLIPText bert": 20,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("towers")


def own_weights(tower):
    """Everything that is no adapter, by the plain tower's names."""
    return {key.replace(".base_layer", ""): value.clone() for key, value in tower.state_dict().items() if not lora.is_adapter(key)}


def train(tower, steps=3):
    optimizer = torch.optim.AdamW([p for p in tower.parameters() if p.requires_grad], lr=0.01, weight_decay=0.1)
    inputs = inputs_of(tower)
    for _ in range(steps):
        optimizer.zero_grad()
        tower(inputs).sin().sum().backward()
        optimizer.step()


@pytest.mark.fast_cases(5)
@pytest.mark.parametrize("name", NAMES)
def test_the_contract(folder, name):
    plain, tower = build(name, folder).eval(), build(name, folder, lora=LORA).eval()
    inputs = inputs_of(plain)
    with torch.no_grad():
        assert torch.equal(tower(inputs), plain(inputs))
    before = own_weights(tower)
    assert before.keys() == plain.state_dict().keys() and all(torch.equal(before[key], value) for key, value in plain.state_dict().items())
    assert {key for key, p in tower.named_parameters() if p.requires_grad} == tower.adapter_names() and not tower.frozen
    groups = tower.depth_groups()
    assert sorted(sum(groups, [])) == sorted(key for key, _ in tower.named_parameters()) and len(groups) == plain.depth
    assert f"LoRA of rank 2 on {ADAPTED[name]} weights" in tower.describe()

    tower.train()
    tower(inputs).sin().sum().backward()
    zeros = [key for key, p in tower.named_parameters() if ".lora_B" in key and (p.grad is None or not p.grad.any())]
    assert not zeros and sum(".lora_B" in key for key, _ in tower.named_parameters()) == ADAPTED[name]
    train(tower)
    assert all(torch.equal(before[key], value) for key, value in own_weights(tower).items())  # running statistics too

    table = BACKBONES if name in IMAGES else TEXT_ENCODERS
    again = table.build({**spec_of(name, folder), "lora": LORA, **tower.blueprint()})  # as a checkpoint does
    again.load_state_dict(tower.state_dict(), strict=True)
    with torch.no_grad():
        features = tower.eval()(inputs)
        assert not torch.allclose(features, plain(inputs), atol=1e-3)
        assert torch.equal(again.eval()(inputs), features)
        again.merge_lora()
        torch.testing.assert_close(again(inputs), features, rtol=1e-5, atol=1e-5)
        assert list(again.state_dict()) == list(plain.state_dict()) and again.lora is None
        plain.load_state_dict(again.state_dict(), strict=True)
        assert torch.equal(plain(inputs), again(inputs))
    again.merge_lora()  # a second time is nothing


@pytest.mark.parametrize("name", [pytest.param("ConvNeXt", marks=pytest.mark.slow), "CLIPVision resnet", "CLIPText", "HFText"])
def test_recomputing_activations_changes_no_gradient(folder, name):
    tower = build(name, folder, lora=LORA)
    with torch.no_grad():
        for key, p in tower.named_parameters():
            if ".lora_B" in key:
                p.normal_(std=0.1)
    other = copy.deepcopy(tower)
    other.checkpoint_gradients()
    results = []
    for each in (tower, other):
        torch.manual_seed(2)
        each.train()(inputs_of(each)).sin().sum().backward()
        results.append({key: p.grad for key, p in each.named_parameters() if p.requires_grad})
    for key, gradient in results[0].items():
        torch.testing.assert_close(results[1][key], gradient, rtol=1e-4, atol=1e-6)


def test_the_last_blocks_may_learn_beside_the_adapters(folder):
    tower = build("VisionTransformer", folder, lora=LORA, unfreeze_blocks=2)
    assert {key for key, p in tower.named_parameters() if p.requires_grad} == tower.adapter_names() | set(
        sum(tower.depth_groups()[-2:], [])
    )
    assert "last 2 of 7 blocks learn, LoRA of rank 2 on 25 weights" in tower.describe()
    tower.unfreeze(0)
    assert {key for key, p in tower.named_parameters() if p.requires_grad} == tower.adapter_names()
    assert "none of 7 blocks learns, LoRA" in tower.describe()


def test_published_weights_are_loaded_before_the_adapters_are_put_beside_them(tmp_path):
    import timm

    network = timm.create_model("test_vit", num_classes=0, img_size=32)
    torch.save(network.state_dict(), tmp_path / "vit.pth")
    tower = BACKBONES.build(
        {"type": "TimmBackbone", "name": "test_vit", "image_size": 32, "pretrained": str(tmp_path / "vit.pth"), "lora": {}}
    )
    weights = own_weights(tower)
    assert all(torch.equal(weights[f"net.{key}"], value) for key, value in network.state_dict().items())


class Reads(nn.Module):
    """Uses the weights of two of its layers without calling them."""

    def __init__(self):
        super().__init__()
        self.qkv, self.inner, self.out = nn.Linear(3, 6), nn.Sequential(nn.Linear(6, 4), nn.ReLU()), nn.Linear(4, 2)

    def forward(self, x):
        return nn.functional.linear(self.inner(nn.functional.linear(x, self.qkv.weight, self.qkv.bias)), self.out.weight)


class Standardised(nn.Conv2d):
    """Not what its base class is."""

    def forward(self, x):
        return nn.functional.conv2d(x, self.weight / self.weight.std(), self.bias)


class Odd(Tower):
    def __init__(self, lora=None, body=None):
        super().__init__("none", None, lora)
        self.name, self.num_features = "odd", 2
        self.stem = nn.Sequential(
            nn.Conv2d(3, 6, 1),
            nn.Conv2d(6, 6, 1, groups=6),
            nn.Conv2d(6, 6, 1, groups=2),
            Standardised(6, 6, 1),
            nn.Conv2d(6, 3, 3, dilation=2),
        )
        self.body = Reads() if body is None else body
        self.preprocessing = type("P", (), {"size": 8})
        self.apply_freeze()

    def forward(self, images):
        return self.body(self.stem(images).mean(dim=(2, 3)))

    def depth_groups(self):
        return [[name for name, _ in self.named_parameters()]]


def test_what_is_read_is_adapted_from_outside_and_what_cannot_be_is_left_alone():
    torch.manual_seed(0)
    tower = Odd(lora=LORA)
    found = sorted(key.replace(".default.weight", "") for key in tower.adapter_names() if "lora_B" in key)
    assert found == ["body.base_layer.inner.0.lora_B", "body.lora_B.0", "body.lora_B.1", "stem.0.lora_B"]
    assert tower.body.names == ["qkv.weight", "out.weight"] and tower.body.qkv.in_features == 3  # handed through
    with torch.no_grad():
        for key, p in tower.named_parameters():
            if "lora_B" in key:
                p.normal_()
    images = torch.randn(2, 3, 8, 8)
    adapted = tower(images)
    with torch.no_grad():
        body = copy.deepcopy(tower.body.base_layer)
        weight = body.qkv.weight + 4.0 * tower.body.lora_B[0] @ tower.body.lora_A[0]  # alpha / rank
    torch.testing.assert_close(tower.body.adapted()["qkv.weight"], weight)
    tower.merge_lora()
    torch.testing.assert_close(tower(images), adapted, rtol=1e-5, atol=1e-5)
    assert list(tower.state_dict()) == list(Odd().state_dict())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rnak": 4}, r"Odd.lora: unknown key 'rnak'\. Did you mean 'rank'\? Known: rank, alpha, dropout"),
        ({"rank": 0}, "Odd.lora.rank: 0 is not a whole number from 1 to 65536"),
        ({"rank": 1.5}, "rank: 1.5 is not a whole number"),
        ({"alpha": 0}, "Odd.lora.alpha: 0 is not a number above 0"),
        ({"alpha": "big"}, "alpha: 'big' is not a number"),
        ({"dropout": 1.0}, r"Odd.lora.dropout: 1.0 is not a number in \[0, 1\)"),
    ],
)
def test_mistakes_are_one_clear_line(values, words):
    with pytest.raises(ConfigError, match=words) as raised:
        Odd(lora=values)
    assert "\n" not in str(raised.value)


def test_without_the_package_or_a_layer_it_says_what_to_do(monkeypatch):
    class Nothing(Odd):
        def __init__(self):
            super().__init__(lora={}, body=nn.Identity())

        def __setattr__(self, name, value):
            super().__setattr__(name, nn.Identity() if name == "stem" else value)

    with pytest.raises(BuildError, match="Nothing: lora: odd has no linear layer and no full convolution to adapt. Remove lora"):
        Nothing()
    monkeypatch.setattr(lora.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BuildError, match="Odd: lora requires the package peft. Run pip install peft, or remove lora"):
        Odd(lora={})


def test_dropout_is_on_the_adapters_input_and_only_in_training(folder):
    tower = build("VisionTransformer", folder, lora={"rank": 2, "dropout": 0.5})
    with torch.no_grad():
        for key, p in tower.named_parameters():
            if ".lora_B" in key:
                p.normal_()
    images = inputs_of(tower)
    assert not torch.equal(tower.train()(images), tower(images)) and torch.equal(tower.eval()(images), tower(images))
