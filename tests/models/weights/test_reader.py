"""CLIPs saved by the reference libraries, read here: the same features, and what travels with them."""

import json

import open_clip
import pytest
import torch
from clip_files import (
    CHINESE,
    EMBED_DIM,
    SENTENCES,
    TEXT,
    VISION,
    ChineseCLIP,
    bert_features,
    ids_and_mask,
    image_features,
    open_clip_model,
    output_of,
    pictures,
    save_open_clip_folder,
    save_script,
    scatter,
    text_features,
    transformers_chinese_clip,
    transformers_clip,
    vocabulary_text,
)
from open_clip.model import CLIP as OpenCLIP
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file

from clipzoo.models.weights import CLIPWeights, read_clip
from clipzoo.structures import Preprocessing

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def assert_same_features(weights: CLIPWeights, model, atol: float = 1e-5) -> None:
    with torch.no_grad():
        images, texts = model.encode_image(pictures(weights.image_size)), model.encode_text(open_clip.tokenize(SENTENCES))
    assert images.std() > 0.1 and texts.std() > 0.1  # features of zeros would agree with anything
    torch.testing.assert_close(image_features(weights), images, rtol=0, atol=atol)
    torch.testing.assert_close(text_features(weights), texts, rtol=0, atol=atol)


@pytest.mark.parametrize("vision", ["vit", "resnet"])
def test_openais_archive(tmp_path, vision):
    model = open_clip_model(vision, quick_gelu=True)
    half = {key: value.half().float() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    model.load_state_dict(half)  # what half precision keeps
    expected = open_clip_model(vision, quick_gelu=True)
    expected.load_state_dict(half)
    save_script(model, tmp_path / "ViT.pt")
    weights = read_clip(tmp_path / "ViT.pt", "X")
    assert_same_features(weights, expected)
    assert (weights.format, weights.quick_gelu, weights.vision_kind) == ("openai-torchscript", True, vision)
    assert weights.preprocessing == Preprocessing(weights.image_size, MEAN, STD, "bicubic", "crop")
    assert weights.logit_scale == pytest.approx(2.6592, abs=1e-3)  # ln(1 / 0.07), in half precision


def test_openais_state_dict(tmp_path):
    model = open_clip_model(quick_gelu=True)
    numbers = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}
    torch.save({**model.state_dict(), **numbers}, tmp_path / "a.pt")
    weights = read_clip(tmp_path / "a.pt", "X")
    assert_same_features(weights, model)
    assert (weights.format, weights.quick_gelu) == ("openai", True)


@pytest.mark.parametrize(
    ("vision", "kind", "name"),
    [
        ("vit", OpenCLIP, "a.safetensors"),
        ("resnet", CustomTextCLIP, "a.safetensors"),
        ("resnet", OpenCLIP, "open_clip_pytorch_model.bin"),
        ("vit", CustomTextCLIP, "epoch_3.pt"),
        ("resnet", OpenCLIP, "epoch_3.pt"),
    ],
)
def test_open_clips_files(tmp_path, vision, kind, name):
    model = open_clip_model(vision, kind=kind)
    if name.endswith(".safetensors"):
        save_file(model.state_dict(), tmp_path / name)
    elif name.endswith(".bin"):
        torch.save(model.state_dict(), tmp_path / name)
    else:  # open_clip's own trainer, in several processes
        state = {f"module.{key}": value for key, value in model.state_dict().items()}
        torch.save({"epoch": 3, "name": "run", "state_dict": state, "optimizer": {"state": {}}}, tmp_path / name)
    weights = read_clip(tmp_path / name, "X")
    assert_same_features(weights, model)
    assert (weights.format, weights.quick_gelu, weights.preprocessing) == ("open_clip", None, None)  # the file does not say


def test_sizes_are_those_of_the_tensors(tmp_path):
    save_file(open_clip_model(context_length=40).state_dict(), tmp_path / "a.safetensors")
    read = read_clip(tmp_path / "a.safetensors", "X")
    assert (read.image_size, read.patch_size, read.vision_width, read.vision_layers, read.vision_heads) == (32, 8, 128, 2, 2)
    assert (read.text_width, read.text_layers, read.text_heads, read.context_length, read.vocab_size) == (64, 2, 1, 40, 49408)
    assert (read.embed_dim, read.vision_mlp, read.text_mlp, read.logit_bias) == (EMBED_DIM, 512, 256, None)
    save_file(open_clip_model("resnet").state_dict(), tmp_path / "b.safetensors")
    read = read_clip(tmp_path / "b.safetensors", "X")
    assert (read.image_size, read.patch_size, read.vision_width, read.vision_layers, read.vision_heads) == (64, None, 8, (1, 2, 1, 1), 4)


def test_a_sigmoid_losss_bias_is_read(tmp_path):
    model = OpenCLIP(EMBED_DIM, VISION["vit"], TEXT, init_logit_bias=-10, nonscalar_logit_scale=True)
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    weights = read_clip(tmp_path / "a.safetensors", "X")
    assert (weights.logit_bias, weights.logit_scale) == (-10, pytest.approx(2.65926))


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_open_clips_folder(tmp_path, quick_gelu):
    vision, text = {**VISION["vit"], "head_width": 32}, {**TEXT, "heads": 4}
    model = open_clip_model(quick_gelu=quick_gelu, heads=4)
    model.visual = open_clip.CLIP(EMBED_DIM, vision, text, quick_gelu=quick_gelu).visual  # four heads, which no tensor shows
    scatter(model)
    config = {"embed_dim": EMBED_DIM, "vision_cfg": vision, "text_cfg": text, **({"quick_gelu": True} if quick_gelu else {})}
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bilinear", "resize_mode": "squash"}
    save_open_clip_folder(model, tmp_path / "folder", config, preprocess)
    weights = read_clip(tmp_path / "folder", "X")
    assert_same_features(weights, model)
    assert (weights.quick_gelu, weights.vision_heads, weights.text_heads) == (quick_gelu, 4, 4)
    assert weights.preprocessing == Preprocessing(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bilinear", "squash")


def test_a_folder_for_both_libraries(tmp_path):
    """As many on the hub: whichever weights are there are read with their own library's config."""
    transformers_clip("gelu").save_pretrained(tmp_path / "folder")
    model = open_clip_model(quick_gelu=True)
    config = {"embed_dim": EMBED_DIM, "vision_cfg": VISION["vit"], "text_cfg": TEXT, "quick_gelu": True}
    (tmp_path / "folder" / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    assert (read_clip(tmp_path / "folder", "X").format, read_clip(tmp_path / "folder", "X").quick_gelu) == ("transformers", False)
    torch.save(model.state_dict(), tmp_path / "folder" / "open_clip_pytorch_model.bin")
    weights = read_clip(tmp_path / "folder", "X")
    assert (weights.format, weights.quick_gelu) == ("open_clip", True)
    assert_same_features(weights, model)


def test_an_open_clip_folder_without_preprocessing_means_open_clips_own(tmp_path):
    config = {"embed_dim": EMBED_DIM, "vision_cfg": VISION["resnet"], "text_cfg": TEXT}
    save_open_clip_folder(open_clip_model("resnet"), tmp_path / "folder", config)
    weights = read_clip(tmp_path / "folder", "X")
    assert weights.preprocessing == Preprocessing(64, MEAN, STD, "bicubic", "crop") and weights.quick_gelu is False


@pytest.mark.parametrize(("activation", "saved"), [("quick_gelu", "safetensors"), ("gelu", "bin"), ("gelu", "parts")])
def test_transformers_clip(tmp_path, activation, saved):
    model = transformers_clip(activation)
    if saved == "bin":
        model.config.save_pretrained(tmp_path)
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    else:
        model.save_pretrained(tmp_path, max_shard_size="5MB" if saved == "parts" else "1GB")
    assert (tmp_path / "model.safetensors.index.json").exists() == (saved == "parts")
    weights = read_clip(tmp_path, "X")
    ids = open_clip.tokenize(SENTENCES)
    with torch.no_grad():
        images = output_of(model.get_image_features(pictures(32)))
        texts = output_of(model.get_text_features(ids))
    torch.testing.assert_close(image_features(weights), images, rtol=0, atol=1e-5)
    torch.testing.assert_close(text_features(weights), texts, rtol=0, atol=1e-5)
    assert (weights.format, weights.quick_gelu, weights.preprocessing) == ("transformers", activation == "quick_gelu", None)
    assert (weights.vision_heads, weights.text_heads, weights.text_kind) == (4, 2, "clip")


@pytest.mark.parametrize(
    ("processor", "fit"),
    [
        ({"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "resample": 2}, "crop"),
        ({"size": 32, "crop_size": 32, "resample": 2}, "crop"),
        ({"size": {"height": 32, "width": 32}, "do_center_crop": False, "resample": 2}, "squash"),
    ],
)
def test_transformers_preprocessing(tmp_path, processor, fit):
    transformers_clip().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2], **processor})
    )
    assert read_clip(tmp_path, "X").preprocessing == Preprocessing(32, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), "bilinear", fit)


def test_transformers_own_processor_file(tmp_path):
    from transformers import CLIPImageProcessor, CLIPProcessor, CLIPTokenizer

    from clipzoo.models.layout import byte_pairs

    transformers_clip().save_pretrained(tmp_path)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    tokenizer = CLIPTokenizer(vocab=byte_pairs.vocabulary(), merges=[tuple(pair.split(" ")) for pair in byte_pairs.merges()])
    CLIPProcessor(images, tokenizer).save_pretrained(tmp_path)
    assert read_clip(tmp_path, "X").preprocessing == Preprocessing(32, MEAN, STD, "bicubic", "crop")


@pytest.mark.parametrize("vision", ["vit", "resnet"])
def test_chinese_clips_checkpoint(tmp_path, vision):
    vocab_size = len(vocabulary_text().split())
    model = ChineseCLIP(vocab_size, vision)
    state = {f"module.{key}": value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    assert any("bert.pooler" in key for key in state)
    torch.save({"epoch": 1, "step": 2, "state_dict": state}, tmp_path / "clip_cn.pt")
    (tmp_path / "vocab.txt").write_text(vocabulary_text(), encoding="utf-8")
    model.load_state_dict({key.removeprefix("module."): value.float() for key, value in state.items()})
    weights = read_clip(tmp_path / "clip_cn.pt", "X")
    ids, mask = ids_and_mask(vocab_size)
    with torch.no_grad():
        torch.testing.assert_close(image_features(weights), model.encode_image(pictures(weights.image_size)), rtol=0, atol=1e-5)
        torch.testing.assert_close(bert_features(weights, ids, mask), model.encode_text(ids, mask), rtol=0, atol=1e-5)
    assert (weights.format, weights.text_kind, weights.context_length, weights.logit_scale) == ("chinese-clip", "bert", 52, 3.5)
    assert weights.preprocessing.fit == "squash" and weights.quick_gelu is True
    assert weights.files["vocab.txt"] == vocabulary_text()
    (tmp_path / "vocab.txt").unlink()
    assert read_clip(tmp_path / "clip_cn.pt", "X").files == {}


def test_transformers_chinese_clip(tmp_path):
    from transformers import BertTokenizer

    vocab_size = len(vocabulary_text().split())
    model = transformers_chinese_clip(vocab_size)
    model.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text(vocabulary_text(), encoding="utf-8")
    BertTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    weights = read_clip(tmp_path, "X")
    ids, mask = ids_and_mask(vocab_size)
    with torch.no_grad():
        images = output_of(model.get_image_features(pictures(32)))
        texts = output_of(model.get_text_features(ids, attention_mask=mask))
    torch.testing.assert_close(image_features(weights), images, rtol=0, atol=1e-5)
    torch.testing.assert_close(bert_features(weights, ids, mask), texts, rtol=0, atol=1e-5)
    assert (weights.format, weights.text_kind, weights.quick_gelu, weights.context_length) == ("transformers", "bert", True, 52)
    assert {"tokenizer.json", "tokenizer_config.json"} <= weights.files.keys()
    assert CHINESE[0][0] in weights.files["tokenizer.json"]


def test_the_published_chinese_clip_folders_have_a_vocabulary_alone(tmp_path):
    """And a preprocessing without crop, and a config with keys of transformers 4."""
    from clipzoo.models.text_encoders import BERT

    model = transformers_chinese_clip(len(vocabulary_text().split()))
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"] |= {"directionality": "bidi", "eos_token_id": 2, "pooler_type": "first_token_transform", "output_past": True}
    config |= {"text_config_dict": None, "vision_config_dict": None, "transformers_version": None}
    config["vision_config"]["dropout"] = 0.0
    (tmp_path / "config.json").write_text(json.dumps(config))
    processor = {"do_center_crop": False, "do_normalize": True, "do_resize": True, "resample": 3, "size": {"height": 32, "width": 32}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    (tmp_path / "vocab.txt").write_text(vocabulary_text(), encoding="utf-8")
    weights = read_clip(tmp_path, "X")
    assert weights.preprocessing == Preprocessing(32, MEAN, STD, "bicubic", "squash")
    tower = BERT(pretrained=str(tmp_path)).eval()
    tokens = tower.tokenizer(CHINESE)
    names = vocabulary_text().split()
    assert [names[number] for number in tokens.ids[0, : tokens.lengths[0]]] == ["[CLS]", *CHINESE[0], "[SEP]"]
    mask = (torch.arange(tokens.ids.shape[1])[None] < tokens.lengths[:, None]).long()
    with torch.no_grad():
        expected = output_of(model.get_text_features(tokens.ids, attention_mask=mask))
        torch.testing.assert_close(tower(tokens), expected, rtol=0, atol=1e-5)
