"""Grad-CAM and relevance against naive implementations, against captum, and over every kind of tower."""

from dataclasses import replace

import pytest
import small_towers
import timm
import torch
from torch import nn
from torch.nn import functional as F

from clipzoo.errors import BuildError
from clipzoo.explain.attribution import attribute, grad_cam, method_for, relevance, spatial_of
from clipzoo.models.backbones.base import Backbone
from clipzoo.models.backbones.spatial import FeatureMap, Patches
from clipzoo.registries import BACKBONES
from clipzoo.structures import Preprocessing


class TinyCNN(Backbone):
    """Two convolutions, pooled."""

    name, num_features = "tiny", 6
    preprocessing = Preprocessing(size=8)

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 6, 3, stride=2, padding=1)

    def forward(self, images):
        return self.last(F.gelu(self.first(images))).relu().mean(dim=(2, 3))

    def spatial(self):
        return (FeatureMap("last", self.last, channels=6),)


@pytest.fixture
def cnn():
    torch.manual_seed(1)
    tower = TinyCNN().eval()
    return tower, torch.randn(3, 3, 8, 8), torch.randn(6)


def naive_grad_cam(tower, image, weight):
    """One image, one channel after the other; the gradient by finite differences in fp64."""
    tower = tower.double()
    hidden = tower.last(F.gelu(tower.first(image[None].double())))[0].detach()

    def score(values):
        return float(values.relu().mean(dim=(1, 2)) @ weight.double())

    result = torch.zeros(hidden.shape[1:], dtype=torch.float64)
    for channel in range(len(hidden)):
        alpha = 0.0
        for row in range(hidden.shape[1]):
            for column in range(hidden.shape[2]):
                step = torch.zeros_like(hidden)
                step[channel, row, column] = 1e-6
                alpha += (score(hidden + step) - score(hidden - step)) / 2e-6 / hidden[0].numel()
        result += alpha * hidden[channel]
    return result


def test_grad_cam_equals_a_naive_loop(cnn):
    tower, images, weight = cnn
    found, scores = attribute(tower, tower.spatial(), images, lambda features: features @ weight)
    torch.testing.assert_close(scores, tower(images) @ weight)
    for image, one in zip(images, found, strict=True):
        torch.testing.assert_close(one.double(), naive_grad_cam(tower, image, weight), rtol=1e-4, atol=1e-6)


def test_grad_cam_of_the_negative_score_is_the_negative_map(cnn):
    tower, images, weight = cnn
    other = torch.randn(6)
    for_one, _ = attribute(tower, tower.spatial(), images, lambda features: features @ weight - features @ other)
    for_other, _ = attribute(tower, tower.spatial(), images, lambda features: features @ other - features @ weight)
    torch.testing.assert_close(for_one, -for_other)
    assert (for_one > 0).any() and (for_one < 0).any()
    scaled, _ = attribute(tower, tower.spatial(), images, lambda features: 7 * (features @ weight - features @ other))
    torch.testing.assert_close(scaled, 7 * for_one)


def test_grad_cam_reads_both_layouts(cnn):
    _, images, weight = cnn
    first = images.clone().requires_grad_()
    last = images.permute(0, 2, 3, 1).clone().requires_grad_()
    score = (first.permute(0, 2, 3, 1) ** 3).mean(dim=(1, 2)) @ weight[:3]
    same = (last**3).mean(dim=(1, 2)) @ weight[:3]
    torch.testing.assert_close(grad_cam(first, score), grad_cam(last, same, channels_last=True))


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_grad_cam_equals_captums(name):
    attr = pytest.importorskip("captum.attr")
    torch.manual_seed(0)
    tower = small_towers.scatter(BACKBONES.build({"type": "TimmBackbone", "name": name, "image_size": 128})).eval()
    images, weight = torch.randn(2, 3, 128, 128), torch.randn(tower.num_features)
    found, _ = attribute(tower, tower.spatial(), images, lambda features: features @ weight)
    cam = attr.LayerGradCam(lambda given: tower(given) @ weight, tower.net.global_pool)
    expected = cam.attribute(images, attribute_to_layer_input=True)[:, 0]
    assert found.shape == (2, 4, 4)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def naive_relevance(net, image, weight):
    """One image through timm's ViT step by step, head by head; the gradient of every attention weight through a zero added to it."""
    num_heads, heads_dim = net.blocks[0].attn.num_heads, net.embed_dim // net.blocks[0].attn.num_heads
    tokens = torch.cat([net.cls_token[0], net.patch_embed(image[None])[0]]) + net.pos_embed[0]
    added = [[torch.zeros(len(tokens), len(tokens), requires_grad=True) for _ in range(num_heads)] for _ in net.blocks]
    kept = []
    with torch.enable_grad():
        for block, zeros in zip(net.blocks, added, strict=True):
            query, key, value = block.attn.qkv(block.norm1(tokens)).split(net.embed_dim, dim=-1)
            outputs = []
            for head, zero in enumerate(zeros):
                part = slice(head * heads_dim, (head + 1) * heads_dim)
                weights = (query[:, part] @ key[:, part].T / heads_dim**0.5).softmax(dim=-1)
                kept.append((weights, zero))
                outputs.append((weights + zero) @ value[:, part])
            tokens = tokens + block.attn.proj(torch.cat(outputs, dim=-1))
            tokens = tokens + block.mlp(block.norm2(tokens))
        (net.fc_norm(net.norm(tokens)[0]) @ weight).backward()
    result = torch.eye(len(tokens))
    for layer in range(len(net.blocks)):
        step = torch.zeros_like(result)
        for weights, zero in kept[layer * num_heads : (layer + 1) * num_heads]:
            for row in range(len(tokens)):
                for column in range(len(tokens)):
                    step[row, column] += max(float(weights[row, column] * zero.grad[row, column]), 0.0) / num_heads
        result = result + step @ result
    return result[0, 1:].view(net.patch_embed.grid_size)


def test_relevance_equals_a_naive_loop_over_a_transformer_of_two_layers():
    torch.manual_seed(0)
    net = timm.models.vision_transformer.VisionTransformer(
        img_size=24, patch_size=8, embed_dim=12, depth=2, num_heads=3, num_classes=0, global_pool="token"
    ).eval()
    images, weight = torch.randn(2, 3, 24, 24), torch.randn(12)
    spatial = Patches(3, 3, 1, 2, "class_token")
    found, scores = attribute(net, spatial, images, lambda features: features @ weight)
    torch.testing.assert_close(scores, net(images) @ weight, rtol=0, atol=1e-5)
    assert found.shape == (2, 3, 3) and (found > 0).any()
    for image, one in zip(images, found, strict=True):
        torch.testing.assert_close(one, naive_relevance(net, image, weight), rtol=1e-4, atol=1e-7)


def test_relevance_reads_every_pooling():
    """One layer with known weights and gradients: what each pooling reads can be written down."""
    torch.manual_seed(0)
    weights = torch.rand(1, 1, 5, 5).requires_grad_()
    pool = torch.rand(1, 1, 1, 5).requires_grad_()
    slopes, pool_slopes = torch.randn(5, 5), torch.randn(5)
    step, pool_step = (weights * slopes).clamp(min=0)[0, 0].detach(), (pool * pool_slopes).clamp(min=0)[0, 0, 0].detach()
    expected = {
        "class_token": step[0],
        "patches": step[1:].mean(dim=0),
        "tokens": step.mean(dim=0),
        "attention": pool_step @ (torch.eye(5) + step),
    }
    for pooling, row in expected.items():
        layers = [weights, pool] if pooling == "attention" else [weights]
        score = (weights * slopes).sum(dim=(1, 2, 3)) + (pool * pool_slopes).sum(dim=(1, 2, 3))
        found = relevance(layers, score, Patches(2, 2, 1, 1, pooling))
        torch.testing.assert_close(found, row[None, 1:].view(1, 2, 2), msg=pooling)


@pytest.mark.parametrize("name", small_towers.IMAGES)
def test_every_kind_of_tower_is_explained_and_left_as_it_was(name, tmp_path):
    tower = small_towers.build(name, tmp_path, freeze="all").eval()
    images = small_towers.inputs_of(tower)
    weight = torch.randn(tower.num_features, generator=torch.Generator().manual_seed(0))
    before = {key: value.clone() for key, value in tower.state_dict().items()}
    spatial = spatial_of(tower)
    with torch.no_grad():
        expected = tower(images)
    found, scores = attribute(tower, spatial, images, lambda features: features @ weight)
    assert found.ndim == 3 and len(found) == 4 and min(found.shape[1:]) >= 2 and found.isfinite().all() and (found != 0).any()
    assert (method_for(spatial) == "relevance") == isinstance(spatial, Patches)
    torch.testing.assert_close(scores, expected @ weight, rtol=1e-4, atol=1e-5)
    alone = torch.cat([attribute(tower, spatial, image[None], lambda features: features @ weight)[0] for image in images])
    torch.testing.assert_close(found, alone, rtol=1e-3, atol=1e-5)
    assert tower.state_dict().keys() == before.keys() and all(torch.equal(value, before[key]) for key, value in tower.state_dict().items())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in tower.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tower.modules()) and not images.requires_grad


def timm_tower(name, size):
    torch.manual_seed(0)
    return BACKBONES.build({"type": "TimmBackbone", "name": name, "image_size": size}).eval()


def test_other_networks_of_timm_are_explained_at_their_last_map():
    score, images = (lambda features: features[:, 0]), torch.randn(1, 3, 64, 64)
    for name, sides in {"test_resnet": (4, 4), "test_vit_relpos": None, "test_convnext": (4, 4)}.items():
        tower = timm_tower(name, 160 if sides is None else 64)
        given = torch.randn(1, 3, 160, 160) if sides is None else images
        found, _ = attribute(tower, spatial_of(tower), given, score)
        assert found.shape[1:] == (sides or (10, 10)), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "method", "sides"),
    [
        ("swin_tiny_patch4_window7_224", 224, "grad_cam", (7, 7)),
        ("vit_base_patch16_siglip_224", 224, "relevance", (14, 14)),
        ("eva02_tiny_patch14_224", 224, "relevance", (16, 16)),
        ("vit_small_patch16_dinov3", 256, "relevance", (16, 16)),
        ("mobilenetv3_small_100", 224, "grad_cam", (7, 7)),
        ("pvt_v2_b0", 224, "grad_cam", (7, 7)),
    ],
)
def test_further_families_of_timm(name, size, method, sides):
    tower = timm_tower(name, size)
    images = torch.randn(1, 3, size, size)
    spatial = spatial_of(tower, method)
    weight = torch.randn(tower.num_features)
    found, scores = attribute(tower, spatial, images, lambda features: features @ weight)
    assert found.shape[1:] == sides and (found != 0).any()
    torch.testing.assert_close(scores, tower(images) @ weight, rtol=1e-4, atol=1e-3)


def test_towers_that_cannot_be_explained_say_why(cnn):
    class Silent(TinyCNN):
        spatial = Backbone.spatial

    with pytest.raises(BuildError, match=r"Silent tiny cannot be explained: it declares neither feature maps nor patches"):
        spatial_of(Silent())
    with pytest.raises(BuildError, match=r"method 'relevance' does not fit TinyCNN tiny, which has feature maps. Use 'grad_cam'"):
        spatial_of(cnn[0], "relevance")
    tower, images, weight = cnn
    for maps, message in [
        ((FeatureMap("last", tower.last, channels=5),), "computes no feature map of rows and columns"),
        ((FeatureMap("pooled", nn.Identity()),), "computes no feature map of rows and columns"),
    ]:
        with pytest.raises(BuildError, match=message):
            attribute(tower, maps, images, lambda features: features @ weight)
    with pytest.raises(BuildError, match="its feature maps have a single position. Use a larger image_size"):
        attribute(tower, tower.spatial(), images[:, :, :1, :1], lambda features: features @ weight)
    vit = timm_tower("test_vit", 32)
    with pytest.raises(BuildError, match="the weights of its 5 attention layers over 5 tokens are hidden"):  # not the sixth
        attribute(vit, replace(spatial_of(vit), layers=5), torch.randn(1, 3, 32, 32), lambda features: features[:, 0])
    for block in vit.net.blocks[:2]:
        block.attn.fused_attn = False
    with pytest.raises(BuildError, match="the weights of its 6 attention layers over 5 tokens are hidden"):
        attribute(vit, spatial_of(vit), torch.randn(1, 3, 32, 32), lambda features: features[:, 0])
    with pytest.raises(BuildError, match=r"method 'grad_cam' does not fit TimmBackbone test_vit, which is a transformer"):
        spatial_of(vit, "grad_cam")
    vit.net.dist_token = None  # DeiT: the output is the mean of two tokens
    assert not isinstance(vit.spatial(), Patches)
