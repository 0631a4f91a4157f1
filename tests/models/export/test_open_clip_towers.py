"""CLIPs with timm networks and Hugging Face encoders, loaded by open_clip without a network: the same features."""

import json

import open_clip
import pytest
import small_towers
import torch
from clip_files import CHINESE, pictures

import clipzoo
from clipzoo.errors import BuildError
from clipzoo.models import CLIP
from clipzoo.models.export import open_clip_towers, wraps_towers, write_open_clip_towers
from clipzoo.models.heads import LinearProjection, MLPProjection
from clipzoo.models.losses import SigmoidContrastiveLoss

SENTENCES = [*CHINESE, "a cat", "!", "膝关节 " * 40]


def build(image: str, text: str, folder, *, joint: bool = False, **options) -> CLIP:
    """A small CLIP; ``joint`` for towers that are in the joint space already."""
    torch.manual_seed(0)
    towers = small_towers.build(image, folder), small_towers.build(text, folder)
    if not joint:
        options = {"embed_dim": 16, "image_projection": LinearProjection(), "text_projection": LinearProjection(), **options}
    return CLIP(*towers, **options).eval()


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize(
    ("image", "text", "joint"),
    [
        *(("ResNet", "BERT", False), ("ConvNeXt", "HFText", False), ("EfficientNet", "CLIPText", False), ("CLIPVision", "BERT", False)),
        *(("OpenCLIPBackbone timm", "OpenCLIPText bert", True), ("StarNet", "OpenCLIPText", False)),
    ],
)
@torch.no_grad()
def test_open_clip_computes_the_same_features(tmp_path, image, text, joint):
    model = build(image, text, tmp_path, joint=joint)
    assert wraps_towers(model, "X")
    write_open_clip_towers(model, tmp_path / "out", "X")
    loaded, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'out'}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'out'}")
    images, size = pictures(model.preprocessing.size), model.preprocessing.size
    torch.testing.assert_close(loaded.eval().encode_image(images, normalize=True), model.encode_image(images), rtol=0, atol=1e-5)
    expected = model.encode_text(model.tokenizer(SENTENCES))
    torch.testing.assert_close(loaded.encode_text(tokenizer(SENTENCES), normalize=True), expected, rtol=0, atol=1e-5)
    assert expected.std(dim=0).max() > 1e-3 and loaded.logit_scale.item() == model.logit_scale.item()
    assert (loaded.visual.preprocess_cfg["resize_mode"], size) == ("longest", loaded.visual.image_size[0])
    again = clipzoo.load(tmp_path / "out")
    torch.testing.assert_close(again.encode_text(SENTENCES[:4]), expected[:4], rtol=0, atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_bias_adapters_and_the_bias_of_a_sigmoid_loss_are_kept(tmp_path):
    lora = {"rank": 2, "alpha": 4.0}
    torch.manual_seed(0)
    text = small_towers.build("BERT", tmp_path, lora=lora)
    for name, value in text.named_parameters():
        if "lora_B" in name:
            value.copy_(torch.randn(value.shape) / 5)
    options = {"image_projection": LinearProjection(bias=True), "text_projection": LinearProjection(), "embed_dim": 16}
    model = CLIP(small_towers.build("ResNet", tmp_path), text, SigmoidContrastiveLoss(), **options).eval()
    model.image_projection.layers.bias.copy_(torch.randn(16))
    write_open_clip_towers(model, tmp_path / "out", "X", name="someone/model")
    config = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())["model_cfg"]
    assert config["text_cfg"]["hf_model_name"] == config["text_cfg"]["hf_tokenizer_name"] == "someone/model"
    loaded = clipzoo.load(tmp_path / "out")
    images = pictures(32)
    torch.testing.assert_close(loaded.model.encode_image(images), model.encode_image(images), rtol=0, atol=1e-5)
    torch.testing.assert_close(loaded.encode_text(CHINESE), model.encode_text(model.tokenizer(CHINESE)), rtol=0, atol=1e-5)
    assert config["init_logit_bias"] == pytest.approx(model.loss.logit_bias.item())
    assert model.text_encoder.lora is not None  # unchanged


def test_what_open_clip_cannot_express_is_refused(tmp_path, monkeypatch):
    text = "BERT"
    for model, words in (
        (build("HFVision", text, tmp_path), "cannot export HFVision small"),
        (build("ResNet", text, tmp_path, text_projection=LinearProjection(bias=True)), "text_projection has a bias"),
        (build("ResNet", text, tmp_path, image_projection=MLPProjection()), "MLPProjection, which is not linear"),
        (build("VisionTransformer", text, tmp_path), "open_clip builds timm's test_vit for 160 px, not 32"),
        (build("OpenCLIPBackbone timm", text, tmp_path), "ends in its own projection"),
    ):
        with pytest.raises(BuildError, match=words):
            write_open_clip_towers(model, tmp_path / "out", "X")
    model = build("ResNet", text, tmp_path)
    with pytest.raises(BuildError, match="use a name without an extension"):
        write_open_clip_towers(model, tmp_path / "out.safetensors", "X")
    monkeypatch.setattr(open_clip_towers, "_SENTENCES", ["!"])
    monkeypatch.setattr(open_clip_towers, "_padded", lambda tokens, model: tokens.ids + 1)
    with pytest.raises(BuildError, match="open_clip's text features deviate by .*, more than 1e-05"):
        write_open_clip_towers(model, tmp_path / "out", "X")
    assert not (tmp_path / "out").exists()
    assert not wraps_towers(build("CLIPVision", "CLIPText", tmp_path), "X")
