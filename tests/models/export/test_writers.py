"""CLIPs written here, loaded by the reference libraries: the same features; and read again here: the same tensors."""

import json
from dataclasses import replace

import open_clip
import pytest
import torch
from clip_files import (
    EMBED_DIM,
    SENTENCES,
    ChineseCLIP,
    ids_and_mask,
    open_clip_model,
    output_of,
    pictures,
    transformers_clip,
    vocabulary_text,
)
from open_clip.model import CLIP as OpenCLIP
from safetensors.torch import save_file

from clipzoo.errors import BuildError, ConfigError, DataError
from clipzoo.models.export import write_open_clip, write_transformers
from clipzoo.models.export.open_clip import model_config, open_clip_names
from clipzoo.models.weights import CLIPWeights, read_clip
from clipzoo.structures import Preprocessing

ODD = Preprocessing(32, (0.5, 0.4, 0.3), (0.2, 0.3, 0.2), "bilinear", "squash")


@pytest.fixture(scope="module")
def models():
    """The four CLIPs: two image towers, two activations."""
    return {(vision, gelu): open_clip_model(vision, gelu) for vision in ("vit", "resnet") for gelu in (False, True)}


@pytest.fixture(scope="module")
def weights_of(models, tmp_path_factory):
    """Their weights, with the activation that was said."""

    def make(vision: str = "vit", quick_gelu: bool = True) -> CLIPWeights:
        path = tmp_path_factory.mktemp("clip") / "a.safetensors"
        save_file(models[vision, quick_gelu].state_dict(), path)
        return replace(read_clip(path, "X"), quick_gelu=quick_gelu)

    return make


@pytest.fixture(scope="module")
def chinese(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chinese")
    (folder / "vocab.txt").write_text(vocabulary_text(), encoding="utf-8")
    model = ChineseCLIP(len(vocabulary_text().split()))
    torch.save({"state_dict": model.state_dict()}, folder / "a.pt")
    return model, read_clip(folder / "a.pt", "X")


def assert_same_weights(read: CLIPWeights, weights: CLIPWeights) -> None:
    for tower in ("visual", "text"):
        one, other = getattr(read, tower), getattr(weights, tower)
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert (read.logit_scale, read.quick_gelu, read.logit_bias) == (weights.logit_scale, weights.quick_gelu, weights.logit_bias)
    assert (read.vision_heads, read.text_heads) == (weights.vision_heads, weights.text_heads)


@torch.no_grad()
def assert_same_features(model, reference) -> None:
    size = reference.visual.image_size
    images, ids = pictures(size[0] if isinstance(size, tuple) else size), open_clip.tokenize(SENTENCES)
    torch.testing.assert_close(model.encode_image(images), reference.encode_image(images), rtol=0, atol=1e-5)
    torch.testing.assert_close(model.encode_text(ids), reference.encode_text(ids), rtol=0, atol=1e-5)
    assert torch.equal(model.logit_scale, reference.logit_scale)


@pytest.mark.fast_cases(2)
@pytest.mark.parametrize(
    ("vision", "quick_gelu", "custom_text"), [("vit", True, False), ("vit", False, True), ("resnet", True, True), ("resnet", False, False)]
)
def test_open_clip_loads_the_file_by_name(tmp_path, monkeypatch, models, weights_of, vision, quick_gelu, custom_text):
    weights = weights_of(vision, quick_gelu)
    write_open_clip(weights, tmp_path / "a.safetensors")
    (tmp_path / "our-clip.json").write_text(json.dumps({**model_config(weights), "custom_text": custom_text}))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [])
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {})
    open_clip.add_model_config(tmp_path / "our-clip.json")
    loaded = open_clip.create_model("our-clip", pretrained=str(tmp_path / "a.safetensors")).eval()
    assert_same_features(loaded, models[vision, quick_gelu])


@pytest.mark.slow
@pytest.mark.parametrize(("vision", "quick_gelu"), [("vit", True), ("vit", False), ("resnet", True)])
def test_open_clip_loads_the_folder_and_all_that_travels(tmp_path, models, weights_of, vision, quick_gelu):
    weights = weights_of(vision, quick_gelu)
    odd = replace(ODD, size=weights.image_size)
    write_open_clip(replace(weights, preprocessing=odd), tmp_path / "v1.0")
    loaded, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'v1.0'}")
    assert_same_features(loaded.eval(), models[vision, quick_gelu])
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'v1.0'}")
    assert torch.equal(tokenizer(SENTENCES), open_clip.tokenize(SENTENCES))
    cfg = loaded.visual.preprocess_cfg
    assert (tuple(cfg["mean"]), tuple(cfg["std"]), cfg["interpolation"], cfg["resize_mode"]) == (odd.mean, odd.std, "bilinear", "squash")
    again = read_clip(tmp_path / "v1.0", "X")
    assert_same_weights(again, weights)
    assert again.preprocessing == odd


def test_our_file_says_what_travels_with_it(tmp_path, weights_of):
    weights = replace(weights_of(), preprocessing=replace(ODD, fit="pad"), vision_heads=4, text_heads=2)
    write_open_clip(weights, tmp_path / "a.safetensors")
    read = read_clip(tmp_path / "a.safetensors", "X")
    assert_same_weights(read, weights)
    assert read.preprocessing == weights.preprocessing


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("quick_gelu", [True, False])
def test_transformers_loads_the_folder_and_all_that_travels(tmp_path, models, weights_of, quick_gelu):
    from transformers import CLIPModel, CLIPProcessor

    weights = replace(weights_of("vit", quick_gelu), preprocessing=ODD)
    write_transformers(weights, tmp_path / "clip")
    model, processor = CLIPModel.from_pretrained(tmp_path / "clip").eval(), CLIPProcessor.from_pretrained(tmp_path / "clip")
    inputs = processor(text=SENTENCES, return_tensors="pt", padding=True, truncation=True)
    ids = open_clip.tokenize(SENTENCES)
    for row, expected in zip(inputs["input_ids"], ids, strict=True):
        length = int(expected.argmax()) + 1  # the end of text has the largest id
        assert torch.equal(row[:length], expected[:length])
    with torch.no_grad():
        images, texts = output_of(model.get_image_features(pictures(32))), output_of(model.get_text_features(**inputs))
        reference = models["vit", quick_gelu]
        torch.testing.assert_close(images, reference.encode_image(pictures(32)), rtol=0, atol=1e-5)
        torch.testing.assert_close(texts, reference.encode_text(ids), rtol=0, atol=1e-5)
        assert torch.equal(model.logit_scale, reference.logit_scale)
    again = read_clip(tmp_path / "clip", "X")
    assert_same_weights(again, weights)
    assert again.preprocessing == ODD


@pytest.mark.fast_cases(2)
@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_transformers_processor_makes_the_same_pixels(tmp_path, weights_of, fit, interpolation):
    """Of a picture that is not square, as torchvision makes them in the way that ``Preprocessing`` describes."""
    from PIL import Image
    from torchvision.transforms.v2 import functional as TF
    from transformers import CLIPImageProcessor

    shown = Preprocessing(32, (0.5, 0.4, 0.3), (0.2, 0.3, 0.2), interpolation, fit)
    write_transformers(replace(weights_of(), preprocessing=shown), tmp_path / "clip")
    pixels = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mode = TF.InterpolationMode(interpolation)
    scaled = TF.resize(pixels, [32] if fit == "crop" else [32, 32], interpolation=mode, antialias=True)
    expected = TF.normalize(TF.to_dtype(TF.center_crop(scaled, [32, 32]), torch.float32, scale=True), list(shown.mean), list(shown.std))
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    made = CLIPImageProcessor.from_pretrained(tmp_path / "clip")(images=image, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(made, expected, rtol=0, atol=1.5 / 255 / 0.2)


def test_transformers_loads_a_chinese_clip(tmp_path, chinese):
    from transformers import ChineseCLIPModel, ChineseCLIPProcessor

    reference, weights = chinese
    write_transformers(weights, tmp_path / "clip")
    model, processor = ChineseCLIPModel.from_pretrained(tmp_path / "clip").eval(), ChineseCLIPProcessor.from_pretrained(tmp_path / "clip")
    ids, mask = ids_and_mask(weights.vocab_size)
    with torch.no_grad():
        images, texts = output_of(model.get_image_features(pictures(32))), output_of(model.get_text_features(ids, attention_mask=mask))
        torch.testing.assert_close(images, reference.encode_image(pictures(32)), rtol=0, atol=1e-5)
        torch.testing.assert_close(texts, reference.encode_text(ids, mask), rtol=0, atol=1e-5)
    tokens = vocabulary_text().split("\n")
    encoded = processor(text=["左侧X"], return_tensors="pt")["input_ids"][0].tolist()
    assert [tokens[number] for number in encoded] == ["[CLS]", "左", "侧", "x", "[SEP]"]
    assert_same_weights(read_clip(tmp_path / "clip", "X"), weights)


def test_a_transformers_folder_becomes_an_open_clip_one(tmp_path):
    """Heads that no tensor shows (four of 32 in the image tower, two in the text tower) travel through both."""
    from transformers import CLIPModel

    model = transformers_clip("gelu")
    model.save_pretrained(tmp_path / "a")
    write_open_clip(read_clip(tmp_path / "a", "X"), tmp_path / "b")
    write_transformers(read_clip(tmp_path / "b", "X"), tmp_path / "c")
    middle, last = open_clip.create_model(f"local-dir:{tmp_path / 'b'}").eval(), CLIPModel.from_pretrained(tmp_path / "c").eval()
    ids = open_clip.tokenize(SENTENCES)
    with torch.no_grad():
        images, texts = output_of(model.get_image_features(pictures(32))), output_of(model.get_text_features(ids))
        torch.testing.assert_close(middle.encode_image(pictures(32)), images, rtol=0, atol=1e-5)
        torch.testing.assert_close(middle.encode_text(ids), texts, rtol=0, atol=1e-5)
        torch.testing.assert_close(output_of(last.get_image_features(pictures(32))), images, rtol=0, atol=0)
        torch.testing.assert_close(output_of(last.get_text_features(ids)), texts, rtol=0, atol=0)


def test_a_sigmoid_losss_bias_goes_to_open_clip_alone(tmp_path, weights_of):
    weights = replace(weights_of(), logit_bias=-3.5)
    write_open_clip(weights, tmp_path / "clip")
    assert open_clip.create_model(f"local-dir:{tmp_path / 'clip'}").logit_bias.item() == -3.5
    with pytest.raises(BuildError, match="transformers' CLIPModel has no logit_bias"):
        write_transformers(weights, tmp_path / "other")


def test_an_odd_width_inside_the_blocks_survives_open_clips_ratio(tmp_path):
    """49 * 2.939 is cut off to 144 or not, as rounding has it; the config must say a ratio that gives the width again."""
    vision = {"layers": 1, "width": 64, "patch_size": 8, "image_size": 32, "mlp_ratio": 1.141}
    model = OpenCLIP(EMBED_DIM, vision, {"width": 64, "heads": 1, "layers": 1, "mlp_ratio": 2.939}).eval()
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    weights = replace(read_clip(tmp_path / "a.safetensors", "X"), quick_gelu=False)
    for mlp in range(1, 600):
        config = model_config(replace(weights, text_mlp=mlp))["text_cfg"]
        assert int(64 * config.get("mlp_ratio", 4.0)) == mlp
    write_open_clip(weights, tmp_path / "clip")
    assert_same_features(open_clip.create_model(f"local-dir:{tmp_path / 'clip'}").eval(), model)
    assert_same_weights(read_clip(tmp_path / "clip", "X"), weights)


def test_nothing_is_overwritten_and_nothing_is_left_half_done(tmp_path, weights_of, monkeypatch):
    weights = weights_of()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes.txt").write_text("mine")
    (tmp_path / "there.safetensors").write_text("mine")
    for write, name in ((write_open_clip, "there"), (write_transformers, "there"), (write_open_clip, "there.safetensors")):
        with pytest.raises(DataError, match="already exists and will not be overwritten"):
            write(weights, tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["notes.txt", "there", "there.safetensors"]
    (tmp_path / "empty").mkdir()
    write_transformers(weights, tmp_path / "empty")  # as good as none

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("clipzoo.models.export.folder.save_file", full)
    for write, name in ((write_open_clip, "new"), (write_transformers, "new"), (write_open_clip, "new.safetensors")):
        with pytest.raises(DataError, match="No space left on device"):
            write(weights, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "there", "there.safetensors"]


def test_what_a_library_cannot_express_is_refused(tmp_path, weights_of, chinese):
    weights = weights_of()
    for change, write, words in (
        ({"quick_gelu": None}, write_open_clip, "unknown activation"),
        ({"quick_gelu": None}, write_transformers, "unknown activation"),
        ({"preprocessing": replace(ODD, fit="pad")}, write_transformers, "does not support. Pass fit='crop' or fit='squash'"),
    ):
        with pytest.raises(BuildError, match=words):
            write(replace(weights, **change), tmp_path / "a")
    with pytest.raises(BuildError, match="transformers has no CLIP with CLIP's ResNet"):
        write_transformers(weights_of("resnet"), tmp_path / "a")
    with pytest.raises(BuildError, match="open_clip cannot build a BERT of 2 layers"):
        write_open_clip(chinese[1], tmp_path / "a")
    with pytest.raises(BuildError, match="unknown BERT vocabulary"):
        write_transformers(replace(chinese[1], files={}), tmp_path / "a")
    with pytest.raises(BuildError, match="extension .safetensors for a file, or a folder"):
        write_open_clip(weights, tmp_path / "a.pt")
    with pytest.raises(ConfigError, match="fit='stretch' is not supported"):
        write_transformers(weights, tmp_path / "a", fit="stretch")
    assert not list(tmp_path.iterdir())
    write_transformers(replace(weights, preprocessing=replace(ODD, fit="pad")), tmp_path / "a", fit="crop")
    assert read_clip(tmp_path / "a", "X").preprocessing == replace(ODD, fit="crop")


def test_open_clips_own_names_are_found(weights_of):
    weights = weights_of()
    assert open_clip_names(weights) == []
    base = {"image_size": 224, "patch_size": 32, "vision_width": 768, "vision_layers": 12, "vision_heads": 12, "vision_mlp": 3072}
    text = {"text_width": 512, "text_layers": 12, "text_heads": 8, "text_mlp": 2048, "embed_dim": 512}
    assert open_clip_names(replace(weights, **base, **text)) == ["ViT-B-32-quickgelu"]
    assert open_clip_names(replace(weights, **base, **text, quick_gelu=False)) == ["ViT-B-32"]
    resnet = {"vision_kind": "resnet", "image_size": 224, "vision_width": 64, "vision_layers": (3, 4, 6, 3), "vision_heads": 32}
    resnet |= {"patch_size": None, "vision_mlp": None}
    assert open_clip_names(replace(weights, **{**text, **resnet, "embed_dim": 1024}, quick_gelu=False)) == ["RN50"]
