"""CLIP's image towers against open_clip's."""

import open_clip
import pytest
import torch
from open_clip.model import CLIP as OpenCLIP
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save_file

from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.backbones import CLIPVision
from clipzoo.models.layout.clip_weights import OPENAI_MEAN, OPENAI_STD
from clipzoo.models.weights import source

VIT = {"image_size": 32, "patch_size": 8, "width": 48, "layers": 3, "heads": 3, "output_dim": 24}
RESNET = {"image_size": 64, "width": 8, "layers": [1, 2, 1, 1], "heads": 4, "output_dim": 24}
KINDS = {"vit": VIT, "resnet": RESNET}


def reference(kind="vit", quick_gelu=True, image_size=None, **more):
    """A whole CLIP of open_clip; head_width is its way of counting heads."""
    torch.manual_seed(0)
    sizes = dict(KINDS[kind], **more)
    channels = sizes["width"] * (32 if kind == "resnet" else 1)
    vision = CLIPVisionCfg(
        layers=sizes["layers"], width=sizes["width"], head_width=channels // sizes["heads"], image_size=image_size or sizes["image_size"],
        **({"patch_size": sizes["patch_size"], "mlp_ratio": sizes.get("mlp_ratio", 4.0)} if kind == "vit" else {}),
    )  # fmt: skip
    model = OpenCLIP(24, vision, CLIPTextCfg(width=16, heads=1, layers=1), quick_gelu=quick_gelu).eval()
    for name, value in model.visual.named_buffers():  # as after training, so that evaluation mode is tested
        if name.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    return model


@pytest.fixture(params=["safetensors", "openai"])
def saved(request, tmp_path):
    """Writes a model to a file; ``openai``: with the marks of OpenAI's own files."""

    def write(model):
        path = tmp_path / f"clip.{request.param}.pt"
        if request.param == "safetensors":
            path = path.with_suffix(".safetensors")
            save_file(model.state_dict(), path)
        else:
            size = model.visual.image_size
            size = size if isinstance(size, int) else size[0]
            marks = {"input_resolution": torch.tensor(size), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}
            torch.save({**model.state_dict(), **marks}, path)
        return str(path)

    return write


@pytest.mark.parametrize("kind", KINDS)
def test_features_and_gradients_equal_open_clips(saved, kind):
    model = reference(kind)
    tower = CLIPVision(pretrained=saved(model), quick_gelu=None if kind == "resnet" else True, heads=KINDS[kind]["heads"]).eval()
    images = torch.randn(3, 3, tower.preprocessing.size, tower.preprocessing.size)
    expected = model.encode_image(images)
    torch.testing.assert_close(tower(images), expected, rtol=0, atol=1e-6)
    weights = torch.randn_like(expected)
    (tower(images) * weights).sum().backward()
    (expected * weights).sum().backward()
    theirs = dict(model.visual.named_parameters())
    for name, parameter in tower.net.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-4, atol=1e-5)


def test_the_activation_makes_a_difference(tmp_path):
    model = reference()
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    images = torch.randn(2, 3, 32, 32)
    for quick_gelu in (True, False):
        tower = CLIPVision(pretrained=str(tmp_path / "clip.safetensors"), quick_gelu=quick_gelu, heads=3).eval()
        assert tower.quick_gelu is quick_gelu
        assert torch.allclose(tower(images), model.encode_image(images), atol=1e-6) is quick_gelu


def test_an_unusual_mlp_width_comes_from_the_file(tmp_path):
    model = reference(mlp_ratio=2.7)  # 129.6 -> 129 channels
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    tower = CLIPVision(pretrained=str(tmp_path / "clip.safetensors"), quick_gelu=True, heads=3).eval()
    images = torch.randn(2, 3, 32, 32)
    assert tower.size.mlp_width == 129
    torch.testing.assert_close(tower(images), model.encode_image(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("variant", "parameters"),
    # Of open_clip's models of the same names, which agree with the totals that OpenAI's files have.
    [("ViT-B/32", 87_849_216), ("ViT-B/16", 86_192_640), ("ViT-L/14", 303_966_208), ("RN50", 38_316_896), ("RN101", 56_259_936)],
)
def test_the_number_of_parameters_is_as_published(variant, parameters):
    with torch.device("meta"):
        tower = CLIPVision(variant)
    assert sum(p.numel() for p in tower.parameters()) == parameters and tower.projected and tower.name == variant


@pytest.mark.parametrize("variant", list(source.VISION))
def test_every_variant_is_open_clips(variant):
    name = variant.replace("/", "-").replace("@336px", "-336")
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        tower = CLIPVision(variant)
        theirs = open_clip.model._build_vision_tower(config["embed_dim"], config["vision_cfg"])
    assert {k: p.shape for k, p in tower.net.state_dict().items()} == {k: p.shape for k, p in theirs.state_dict().items()}
    text = config["text_cfg"]
    assert source.TEXT[variant] == source.TextSize(text["width"], text["layers"], text["heads"], config["embed_dim"])
    assert tower.preprocessing.size == config["vision_cfg"]["image_size"]
    heads = tower.net.attnpool.num_heads if tower.size.resnet else tower.net.transformer.resblocks[0].attn.num_heads
    assert heads == (theirs.attnpool.num_heads if tower.size.resnet else theirs.transformer.resblocks[0].attn.num_heads)


def test_position_embeddings_are_resized_as_open_clip_does(tmp_path):
    model = reference()
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    tower = CLIPVision(pretrained=str(tmp_path / "clip.safetensors"), quick_gelu=True, image_size=56, heads=3).eval()
    larger = reference(image_size=56)
    open_clip.factory.load_checkpoint(larger, str(tmp_path / "clip.safetensors"))
    images = torch.randn(2, 3, 56, 56)
    torch.testing.assert_close(tower(images), larger.encode_image(images), rtol=0, atol=1e-6)
    assert tower.preprocessing.size == 56


def test_position_embeddings_of_a_resnet_are_resized_likewise(tmp_path):
    model = reference("resnet")
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    tower = CLIPVision(pretrained=str(tmp_path / "clip.safetensors"), image_size=96)
    own, old = tower.net.attnpool.positional_embedding, model.visual.attnpool.positional_embedding
    assert own.shape == (10, 256) and torch.equal(own[0], old[0])
    assert tower(torch.randn(2, 3, 96, 96)).shape == (2, 24)


def test_preprocessing_comes_from_the_weights(tmp_path):
    state = reference().state_dict()
    torch.save({**state, "input_resolution": torch.tensor(32)}, tmp_path / "openai.pt")
    torch.save(state, tmp_path / "plain.pt")
    tower = CLIPVision(pretrained=str(tmp_path / "openai.pt"), heads=3)
    assert (tower.preprocessing.mean, tower.preprocessing.std) == (OPENAI_MEAN, OPENAI_STD)
    assert (tower.preprocessing.size, tower.preprocessing.fit, tower.preprocessing.interpolation) == (32, "crop", "bicubic")
    assert CLIPVision(pretrained=str(tmp_path / "openai.pt"), heads=3, fit="pad").preprocessing.fit == "pad"
    said = CLIPVision(pretrained=str(tmp_path / "plain.pt"), heads=3, quick_gelu=True, mean=[0.5, 0.5, 0.5], interpolation="bilinear")
    assert said.preprocessing.mean == (0.5,) * 3 and said.preprocessing.interpolation == "bilinear" and said.preprocessing.fit == "crop"
    assert CLIPVision(**VIT).preprocessing.fit == "pad" and CLIPVision(**VIT).preprocessing.mean == OPENAI_MEAN
    with pytest.raises(BuildError, match=r"mean=\(0.5, 0.5, 0.5\), but the weights were trained with mean=\(0.48"):
        CLIPVision(pretrained=str(tmp_path / "openai.pt"), heads=3, mean=[0.5, 0.5, 0.5])
    with pytest.raises(BuildError, match="interpolation=bilinear, but the weights"):
        CLIPVision(pretrained=str(tmp_path / "openai.pt"), heads=3, interpolation="bilinear")


def test_openais_weights_come_from_the_hub_with_everything_that_belongs_to_them(tmp_path, monkeypatch):
    model = reference()
    save_file({key: value.half() for key, value in model.state_dict().items()}, tmp_path / "openai.safetensors")
    monkeypatch.setitem(source.VISION, "ViT-L/14@336px", source.VisionSize(32, 8, 48, 3, 3, 24))
    asked = []
    monkeypatch.setattr(source, "hub_file", lambda repository, *_: asked.append(repository) or tmp_path / "openai.safetensors")
    tower = CLIPVision("ViT-L/14@336px", pretrained=True).eval()
    assert asked == ["timm/vit_large_patch14_clip_336.openai"] and tower.space == f"{asked[0]}/"
    assert tower.quick_gelu and tower.weights == "OpenAI ViT-L/14@336px" and tower.preprocessing.fit == "crop"
    assert tower.logit_scale == pytest.approx(model.logit_scale.item(), abs=1e-3)
    assert all(p.dtype == torch.float32 for p in tower.parameters())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(tower(images), model.half().float().encode_image(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kind", "blocks"), [("vit", 3), ("resnet", 5)])
def test_depth_groups_are_a_partition_from_stem_to_last_block(kind, blocks):
    tower = CLIPVision(**KINDS[kind])
    groups = tower.depth_groups()
    assert len(groups) == blocks + 1
    assert sorted(sum(groups, [])) == sorted(name for name, _ in tower.named_parameters())
    assert all(("resblocks.0." if kind == "vit" else "layer1.0.") in name for name in groups[1])
    assert "net.conv1.weight" in groups[0] and ("net.proj" if kind == "vit" else "net.attnpool.c_proj.weight") in groups[-1]
    assert "net.positional_embedding" in groups[0] or kind == "resnet"


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_is_trained(kind):
    tower = CLIPVision(**KINDS[kind]).train()
    features = tower(torch.randn(2, 3, tower.preprocessing.size, tower.preprocessing.size))
    features.square().sum().backward()
    assert features.shape == (2, 24) and [name for name, p in tower.named_parameters() if p.grad is None] == []


def test_a_frozen_resnet_keeps_its_statistics():
    tower = CLIPVision(**RESNET, freeze="all").train()
    before = {key: value.clone() for key, value in tower.state_dict().items()}
    tower(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(before[key], value) for key, value in tower.state_dict().items())


def test_patches_are_dropped_in_training_only():
    tower = CLIPVision(**VIT, patch_dropout=0.5)
    seen = []
    tower.net.transformer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    tower.train()(torch.randn(1, 3, 32, 32))
    tower.eval()(torch.randn(1, 3, 32, 32))
    assert seen == [1 + 8, 1 + 16]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"variant": "ViT-B-32"}, "Did you mean 'ViT-B/32'"),
        ({**VIT, "image_size": 36}, "image_size=36 is not a multiple of 8, the patch size"),
        ({**RESNET, "image_size": 48}, "image_size=48 is not a multiple of 32"),
        ({**VIT, "heads": 5}, r"48 channels .* not divisible by heads=5"),
        ({**RESNET, "patch_size": 8}, "patch_size applies to vision transformers only"),
        ({**RESNET, "patch_dropout": 0.5}, "patch_dropout applies to vision transformers only"),
        ({**RESNET, "layers": [1, 1, 1]}, "4 of them"),
        ({"variant": "RN50", "layers": 12}, "this is a ResNet, whose layers are four numbers"),
        ({"variant": "ViT-B/32", "layers": [1, 1, 1, 1]}, "this is a vision transformer, whose layers are one number"),
        ({**VIT, "layers": 0}, "layers: 0 is not"),
        ({**VIT, "width": 0}, "width: 0 is not a whole number"),
        ({**VIT, "patch_dropout": 1.0}, r"patch_dropout: 1.0 is not a number in \[0, 1\)"),
        ({**VIT, "mean": [0.5]}, "3 of them"),
        ({**VIT, "fit": "stretch"}, "fit: 'stretch' is not one of"),
    ],
)
def test_mistakes_are_one_clear_line(arguments, words):
    with pytest.raises(ConfigError, match=words) as raised:
        CLIPVision(**arguments)
    assert "\n" not in str(raised.value)


def test_weights_of_another_tower_are_one_clear_line(tmp_path):
    save_file(reference("resnet").state_dict(), tmp_path / "rn.safetensors")
    save_file(reference().state_dict(), tmp_path / "vit.safetensors")
    vit, resnet = str(tmp_path / "vit.safetensors"), str(tmp_path / "rn.safetensors")
    for arguments, words in (
        ({"variant": "ViT-B/32", "pretrained": resnet}, "the weights' image tower is CLIP's ResNet .* a vision transformer is required"),
        ({"variant": "RN50", "pretrained": vit}, "the weights' image tower is a vision transformer"),
        ({"variant": "ViT-B/32", "pretrained": vit, "quick_gelu": True}, "the weights do not fit.* missing: transformer.resblocks.10"),
        ({"pretrained": vit}, "Pass quick_gelu=True"),
        ({"pretrained": str(tmp_path / "no.pt")}, "no weights file"),
    ):
        with pytest.raises(BuildError, match=words) as raised:
            CLIPVision(**arguments)
        assert "\n" not in str(raised.value)
