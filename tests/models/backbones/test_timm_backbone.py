"""Every image tower: published size, forward and backward, freezing, depth groups, weights from files."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.backbones import ConvNeXt, EfficientNet, ResNet, StarNet, TimmBackbone, VisionTransformer
from clipzoo.registries import BACKBONES

# Parameters of the published classifiers with 1000 classes: torchvision's model table for ResNet, EfficientNet, ConvNeXt and ViT-B/16;
# StarNet (arXiv:2403.19967, Table 8) in millions, two digits.
PUBLISHED = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "efficientnet-b0": 5_288_548,
    "efficientnet-b1": 7_794_184,
    "efficientnet-b2": 9_109_994,
    "efficientnet-b3": 12_233_232,
    "efficientnet-b4": 19_341_616,
    "efficientnet-b5": 30_389_784,
    "efficientnet-b6": 43_040_704,
    "efficientnet-b7": 66_347_960,
    "convnext-tiny": 28_589_128,
    "convnext-small": 50_223_688,
    "convnext-base": 88_591_464,
    "convnext-large": 197_767_336,
    "vit": 86_567_656,
    "starnet_s1": 2.87e6,
    "starnet_s2": 3.68e6,
    "starnet_s3": 5.75e6,
    "starnet_s4": 7.48e6,
    "starnet_s050": 0.54e6,
    "starnet_s100": 1.04e6,
    "starnet_s150": 1.56e6,
}
HEAVY = {"resnet152", "efficientnet-b7", "convnext-small", "convnext-base", "convnext-large", "vit"}
TOWERS = [pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name for name in PUBLISHED]


@pytest.mark.fast_cases(4)
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_number_of_parameters_is_as_published(name):
    with torch.device("meta"):
        tower = BACKBONES.build(name)
    head = tower.num_features * 1000 + 1000  # the classifier that a tower leaves out
    counted = sum(p.numel() for p in tower.parameters()) + head
    assert counted == pytest.approx(PUBLISHED[name], abs=0 if isinstance(PUBLISHED[name], int) else 5e3)
    assert tower.weights == "random" and tower.preprocessing.size == 224


LARGE = ("efficientnet-b4", "efficientnet-b5", "efficientnet-b6", "resnet101", "convnext-tiny")


@pytest.mark.fast_cases(2)
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in TOWERS])
def test_every_tower_runs_forward_and_backward(name):
    tower = BACKBONES.build({"type": name, "image_size": 64}).train()
    features = tower(torch.randn(2, 3, 64, 64))
    assert features.shape == (2, tower.num_features)
    features.square().sum().backward()
    unused = [key for key, p in tower.named_parameters() if p.grad is None]
    assert not unused  # an unused parameter breaks DistributedDataParallel
    assert all(torch.isfinite(p.grad).all() for p in tower.parameters())


@pytest.mark.parametrize("name", ["resnet18", "starnet_s1", "efficientnet-b0", "convnext-tiny", "vit-tiny"])
def test_depth_groups_are_a_partition_from_stem_to_last_block(name):
    with torch.device("meta"):
        tower = BACKBONES.build(name)
    groups = tower.depth_groups()
    names = [key for key, _ in tower.named_parameters()]
    assert sorted(sum(groups, [])) == sorted(names)
    blocks = {"resnet18": 8, "starnet_s1": 19, "efficientnet-b0": 16, "convnext-tiny": 18, "vit-tiny": 12}
    assert len(groups) == blocks[name] + 1
    assert names[0] in groups[0] and names[-1] in groups[-1]


@pytest.mark.parametrize("name", ["resnet18", "efficientnet-b0"])
def test_a_frozen_tower_is_bit_identical_after_training_steps(name):
    model = torch.nn.Sequential(BACKBONES.build({"type": name, "image_size": 32, "freeze": "all"}), torch.nn.LazyLinear(3))
    model(torch.zeros(1, 3, 32, 32))
    before = {key: value.clone() for key, value in model[0].state_dict().items()}
    head = model[1].weight.clone()
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 3, 32, 32)).square().mean().backward()
        optimizer.step()
    assert any("running_mean" in key for key in before)  # the point of the test
    assert all(torch.equal(before[key], value) for key, value in model[0].state_dict().items())
    assert not torch.equal(head, model[1].weight)


def test_preprocessing_comes_from_the_weights():
    with torch.device("meta"):
        assert VisionTransformer("base").preprocessing.mean == (0.5, 0.5, 0.5)
        assert ResNet(50).preprocessing.mean == (0.485, 0.456, 0.406)
        assert ResNet(50, image_size=96).preprocessing.size == 96


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_weights_of_a_file_with_a_classifier(tmp_path, ending):
    network = timm.create_model("resnet18", num_classes=7).eval()
    path = str(tmp_path / f"weights.{ending}")
    if ending == "pth":
        torch.save({"state_dict": network.state_dict()}, path)
    else:
        save_file(network.state_dict(), path)
    tower = ResNet(18, pretrained=path).eval()
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(tower(images), network.forward_head(network.forward_features(images), pre_logits=True))
    assert tower.weights == f"file {path}"


def test_position_embeddings_of_a_file_are_resized(tmp_path):
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    path = str(tmp_path / "vit.safetensors")
    save_file(network.state_dict(), path)
    tower = VisionTransformer("tiny", pretrained=path, image_size=64)
    assert tower.net.pos_embed.shape[1] == 4 * 4 + 1
    assert torch.equal(tower.net.blocks[3].attn.qkv.weight, network.blocks[3].attn.qkv.weight)
    assert tower(torch.randn(1, 3, 64, 64)).shape == (1, 192)


def test_weights_of_another_network_are_refused(tmp_path):
    path = str(tmp_path / "resnet34.pth")
    torch.save(timm.create_model("resnet34", num_classes=0).state_dict(), path)
    with pytest.raises(BuildError, match="the weights do not fit. .* unexpected: layer1.2"):
        ResNet(18, pretrained=path)


@pytest.mark.parametrize("variant", ["s050", "s100", "s150"])
def test_a_tower_without_published_weights_names_those_that_have_some(variant):
    with pytest.raises(BuildError) as raised:
        BACKBONES.build(f"starnet_{variant}:pretrained")
    message = str(raised.value)
    assert f"starnet_{variant}" in message and "starnet_s1, starnet_s2, starnet_s3, starnet_s4" in message and "\n" not in message


def test_every_efficientnet_has_published_weights():
    from clipzoo.models.backbones import efficientnet

    assert all(timm.models.is_model_pretrained(name) for name in efficientnet._NAMES.values())


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: ResNet(19), ConfigError, "ResNet.depth: 19 is not one of 18, 34, 50, 101, 152"),
        (lambda: StarNet("s5"), ConfigError, "Did you mean 's"),
        (lambda: EfficientNet("b8"), ConfigError, "variant: 'b8' is not one of"),
        (lambda: ConvNeXt("huge"), ConfigError, "variant: 'huge' is not one of"),
        (lambda: VisionTransformer("tiny", image_size=60), ConfigError, "not a multiple of the patch size 16"),
        (lambda: ResNet(18, image_size=0), ConfigError, "ResNet.image_size: 0 is not a whole number"),
        (lambda: ResNet(18, freeze="yes"), ConfigError, "freeze: 'yes'"),
        (lambda: TimmBackbone("resnet19"), BuildError, "timm has no model 'resnet19'. Did you mean 'resnet1"),
        (lambda: TimmBackbone("resnet18.a1_in2k"), BuildError, "Did you mean 'resnet18.a1_in1k'"),
        (lambda: ResNet(18, pretrained="nowhere.pth"), BuildError, "no weights file nowhere.pth"),
    ],
)
def test_mistakes_are_one_clear_line(make, error, words):
    with pytest.raises(error, match=words) as raised:
        make()
    assert "\n" not in str(raised.value)
