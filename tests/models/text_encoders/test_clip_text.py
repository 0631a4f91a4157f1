"""CLIP's text tower against open_clip's."""

import open_clip
import pytest
import torch
from open_clip.model import CLIP as OpenCLIP
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from safetensors.torch import save_file

from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.text_encoders import CLIPText
from clipzoo.models.weights import source

SENTENCES = ["a photo of a cat", "人工髋关节置换术后的X线片", "!", "w " * 90]
SMALL = {"width": 64, "layers": 3, "heads": 4, "output_dim": 24}


def reference(kind, quick_gelu: bool):
    torch.manual_seed(0)
    vision = CLIPVisionCfg(layers=1, width=32, head_width=16, patch_size=16, image_size=32)
    text = CLIPTextCfg(context_length=77, vocab_size=49408, width=64, heads=4, layers=3)
    return kind(24, vision, text, quick_gelu=quick_gelu).eval()


@pytest.mark.parametrize("kind", [OpenCLIP, CustomTextCLIP])
@pytest.mark.parametrize("quick_gelu", [False, True])
def test_features_equal_open_clips(tmp_path, kind, quick_gelu):
    model = reference(kind, quick_gelu)
    path = str(tmp_path / "clip.safetensors")
    save_file(model.state_dict(), path)
    tower = CLIPText(pretrained=path, quick_gelu=quick_gelu, **SMALL).eval()
    with torch.no_grad():
        expected = model.encode_text(open_clip.tokenize(SENTENCES))
        torch.testing.assert_close(tower(tower.tokenizer(SENTENCES)), expected, rtol=0, atol=1e-5)
    other = CLIPText(pretrained=path, quick_gelu=not quick_gelu, **SMALL).eval()
    assert (other(tower.tokenizer(SENTENCES)) - expected).abs().max() > 1e-5  # the test can tell the activations apart


def test_gradients_equal_open_clips(tmp_path):
    model = reference(OpenCLIP, False)
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    tower = CLIPText(pretrained=str(tmp_path / "clip.safetensors"), quick_gelu=False, **SMALL)
    weights = torch.randn(len(SENTENCES), 24)
    (model.encode_text(open_clip.tokenize(SENTENCES)) * weights).sum().backward()
    (tower(tower.tokenizer(SENTENCES)) * weights).sum().backward()
    theirs = dict(model.named_parameters())
    for key, parameter in tower.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[key].grad, rtol=1e-4, atol=1e-5)


def test_a_shorter_context_takes_the_first_positions(tmp_path):
    model = reference(OpenCLIP, False)
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    tower = CLIPText(pretrained=str(tmp_path / "clip.safetensors"), quick_gelu=False, context_length=32, **SMALL).eval()
    with torch.no_grad():
        expected = model.encode_text(open_clip.tokenize(SENTENCES[:1]))
        torch.testing.assert_close(tower(tower.tokenizer(SENTENCES[:1])), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("variant", "parameters", "features"),
    # 151 277 313 parameters of ViT-B/32 minus 87 849 216 of its image tower and 1 logit scale; RN50's projection is twice as wide.
    [("ViT-B/32", 63_428_096, 512), ("ViT-B/16", 63_428_096, 512), ("RN50", 63_428_096 + 512 * 512, 1024), ("RN101", 63_428_096, 512)],
)
def test_the_number_of_parameters_is_as_published(variant, parameters, features):
    with torch.device("meta"):
        tower = CLIPText(variant)
    assert sum(p.numel() for p in tower.parameters()) == parameters and tower.num_features == features and tower.projected


def test_the_large_variant_is_open_clips():
    with torch.device("meta"):
        ours, theirs = CLIPText("ViT-L/14"), open_clip.model._build_text_tower(768, open_clip.get_model_config("ViT-L-14")["text_cfg"])
    assert {k: p.shape for k, p in ours.named_parameters()} == {k: p.shape for k, p in theirs.named_parameters()}


def test_initial_weights_have_open_clips_spread():
    torch.manual_seed(0)
    ours, theirs = CLIPText(**SMALL), reference(CustomTextCLIP, False).text
    for key, parameter in theirs.named_parameters():
        own = dict(ours.named_parameters())[key]
        torch.testing.assert_close(own.std(), parameter.std(), rtol=0.15, atol=5e-3)


def test_openais_weights_come_from_the_hub_with_quick_gelu(tmp_path, monkeypatch):
    model = reference(OpenCLIP, True)
    save_file({key: value.half() for key, value in model.state_dict().items()}, tmp_path / "openai.safetensors")
    monkeypatch.setitem(source.TEXT, "ViT-B/32", source.TextSize(64, 3, 4, 24))
    asked = []
    monkeypatch.setattr(source, "hub_file", lambda repository, *_: asked.append(repository) or tmp_path / "openai.safetensors")
    tower = CLIPText(pretrained=True).eval()
    assert tower.quick_gelu and tower.weights == "OpenAI ViT-B/32" and asked == ["timm/vit_base_patch32_clip_224.openai"]
    assert all(p.dtype == torch.float32 for p in tower.parameters())
    with torch.no_grad():
        expected = model.half().float().encode_text(open_clip.tokenize(SENTENCES))
        torch.testing.assert_close(tower(tower.tokenizer(SENTENCES)), expected, rtol=0, atol=1e-5)


def test_a_file_that_does_not_say_its_activation_is_refused_until_it_is_said(tmp_path):
    state = reference(OpenCLIP, True).state_dict()
    torch.save(state, tmp_path / "unknown.pt")
    with pytest.raises(BuildError, match="Pass quick_gelu=True"):
        CLIPText(pretrained=str(tmp_path / "unknown.pt"), **SMALL)
    torch.save({**state, "input_resolution": torch.tensor(32)}, tmp_path / "openai.pt")
    assert CLIPText(pretrained=str(tmp_path / "openai.pt"), **SMALL).quick_gelu


def test_missing_and_mismatched_keys_are_listed(tmp_path):
    state = reference(OpenCLIP, False).state_dict()
    del state["ln_final.bias"]
    save_file(state, tmp_path / "clip.safetensors")
    with pytest.raises(BuildError, match="1 missing: ln_final.bias"):
        CLIPText(pretrained=str(tmp_path / "clip.safetensors"), quick_gelu=False, **SMALL)


def test_sizes_come_from_the_file_unless_they_are_said(tmp_path):
    model = reference(OpenCLIP, False)
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    tower = CLIPText(pretrained=str(tmp_path / "clip.safetensors"), quick_gelu=False, heads=4).eval()
    assert (tower.size.width, tower.size.layers, tower.num_features, tower.context_length) == (64, 3, 24, 77)
    assert tower.space == str(tmp_path / "clip.safetensors") and tower.logit_scale == pytest.approx(model.logit_scale.item())
    with torch.no_grad():
        expected = model.encode_text(open_clip.tokenize(SENTENCES))
        torch.testing.assert_close(tower(tower.tokenizer(SENTENCES)), expected, rtol=0, atol=1e-5)
    for arguments, words in (({"layers": 2}, r"12 unexpected: transformer.resblocks.2"), ({"variant": "RN50"}, "of another shape: ")):
        with pytest.raises(BuildError, match=words):
            CLIPText(pretrained=str(tmp_path / "clip.safetensors"), quick_gelu=False, **arguments)


def test_what_contradicts_the_file_is_refused(tmp_path):
    torch.save({**reference(OpenCLIP, True).state_dict(), "input_resolution": torch.tensor(32)}, tmp_path / "openai.pt")
    with pytest.raises(BuildError, match="quick_gelu=False, but the openai weights were trained with quick_gelu=True"):
        CLIPText(pretrained=str(tmp_path / "openai.pt"), quick_gelu=False, heads=4)
    with pytest.raises(BuildError, match=r"positional_embedding \[32, 64\] instead of \[40, 64\]"):
        short = {key: v[:32].clone() if key == "positional_embedding" else v for key, v in reference(OpenCLIP, True).state_dict().items()}
        torch.save(short, tmp_path / "short.pt")
        CLIPText(pretrained=str(tmp_path / "short.pt"), quick_gelu=True, heads=4, context_length=40)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"variant": "ViT-B-32"}, "Did you mean 'ViT-B/32'"),
        ({"width": 65, "heads": 4}, "not a multiple of heads"),
        ({"context_length": 100}, "is not a whole number from 3 to 77"),
        ({"layers": 0}, "layers: 0 is not"),
    ],
)
def test_mistakes_are_one_clear_line(arguments, words):
    with pytest.raises(ConfigError, match=words):
        CLIPText(**arguments)
