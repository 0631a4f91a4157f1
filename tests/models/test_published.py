"""Published models by the names that people use: written by the reference libraries into a cache laid out as the hub's, loaded by name."""

import copy
import subprocess
import sys

import hub_cache
import open_clip
import pytest
import torch
from hub_cache import SENTENCES, put, without_file
from safetensors.torch import load_file, save_file
from small_towers import bert_folder

from clipzoo.errors import BuildError
from clipzoo.inference.load import load
from clipzoo.models.clip import CLIP
from clipzoo.models.export import from_model
from clipzoo.registries import BACKBONES, TEXT_ENCODERS


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def agree(name, expected_images, expected_texts):
    """Both towers of ``name``, whose features are those of the reference library."""
    image, text = BACKBONES.build(name).eval(), TEXT_ENCODERS.build(name).eval()
    torch.manual_seed(1)
    images = torch.randn(3, 3, image.preprocessing.size, image.preprocessing.size)
    with torch.no_grad():
        torch.testing.assert_close(image(images), expected_images(images), rtol=0, atol=1e-5)
        tokens = text.tokenizer(SENTENCES)
        torch.testing.assert_close(text(tokens), expected_texts(SENTENCES), rtol=0, atol=1e-5)
    assert image.projected and text.projected and image.space == text.space is not None
    assert image.num_features == text.num_features and text.context_length == text.tokenizer.context_length
    assert (image.logit_scale, image.logit_bias) == (text.logit_scale, text.logit_bias)
    return image, text


def features_of(output):
    """The features themselves, which transformers 4 returned."""
    return getattr(output, "pooler_output", output)


def of_transformers(model, folder, **padding):
    """How transformers itself encodes images and sentences."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)

    def texts(sentences):
        inputs = tokenizer(list(sentences), truncation=True, return_tensors="pt", **padding)
        names = ("input_ids",) if padding["padding"] == "max_length" else ("input_ids", "attention_mask")
        return features_of(model.get_text_features(**{name: inputs[name] for name in names}))

    return lambda images: features_of(model.get_image_features(images)), texts


@pytest.mark.parametrize("kind", ["CLIP", "MetaClip2"])
def test_clip(cache, kind):
    folder = put(cache, "openai/small")
    model = hub_cache.clip(folder, kind)
    image, text = agree("hf:openai/small", *of_transformers(model, folder, padding=True, max_length=20))
    assert image.space == "Hugging Face openai/small" and image.logit_scale == 3.5
    assert text.context_length == 20 and image.preprocessing.mean == (0.4, 0.5, 0.6) and image.preprocessing.fit == "crop"
    image, _ = agree(f"hf:{folder}", *of_transformers(model, folder, padding=True, max_length=20))  # from a local folder
    assert image.space == str(folder)
    if kind == "CLIP":
        image, _ = agree("weights:openai/small", *of_transformers(model, folder, padding=True, max_length=20))
        assert type(image).__name__ == "CLIPVision" and image.space == "Hugging Face openai/small"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda state: state.pop("vision_model.post_layernorm.bias"),
            "vision_model: the weights do not fit. 1 missing: post_layernorm.bias",
        ),
        (lambda state: state.pop("visual_projection.weight"), "visual_projection: the weights do not fit. 1 missing: weight"),
        (lambda state: state.update({"other.weight": torch.ones(2)}), "1 tensors belong to no part of a chinese_clip model: other.weight"),
        (lambda state: state["visual_projection.weight"].fill_(float("nan")), "visual_projection.weight are NaN or infinite"),
    ],
)
def test_every_tensor_of_a_clip_is_accounted_for(cache, change, words):
    folder = put(cache, "ofa/small")
    hub_cache.chinese_clip(folder)
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BuildError) as raised:
        BACKBONES.build("hf:ofa/small")
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_a_bare_name_is_one_of_transformers(cache):
    hub_cache.clip(put(cache, "openai/small"))
    for table in (BACKBONES, TEXT_ENCODERS):
        assert table.build("openai/small").weights == "Hugging Face openai/small"
        assert table.build("openai/small:scratch").weights == "random"


@pytest.mark.parametrize("name", ["hf:ofa/small", "chinese-clip:ofa/small"])
def test_chinese_clip(cache, name):
    """Through both doors, of which the second has Chinese-CLIP's own towers."""
    folder = put(cache, "ofa/small")
    model = hub_cache.chinese_clip(folder)
    image, text = agree(name, *of_transformers(model, folder, padding=True, max_length=52))
    assert text.context_length == 52 and image.logit_scale == 3.0 and image.preprocessing.fit == "squash"
    assert text.tokenizer.languages == ("zh",)


def test_what_is_to_be_exported_is_named_otherwise(cache, tmp_path):
    folder = put(cache, "ofa/small")
    hub_cache.chinese_clip(folder)
    with pytest.raises(BuildError, match="Train chinese-clip:ofa/small instead, the same weights in towers that can be exported"):
        from_model(CLIP(BACKBONES.build("hf:ofa/small"), TEXT_ENCODERS.build("hf:ofa/small")))
    exported = from_model(CLIP(BACKBONES.build("chinese-clip:ofa/small"), TEXT_ENCODERS.build("chinese-clip:ofa/small")))
    assert exported.text_kind == "bert" and exported.logit_scale == 3.0


def test_the_names_of_chinese_clips_releases(cache):
    folder = put(cache, "OFA-Sys/chinese-clip-vit-base-patch16")
    hub_cache.chinese_clip(folder)
    image, text = BACKBONES.build("chinese-clip:ViT-B-16"), TEXT_ENCODERS.build("chinese-clip:ViT-B-16")
    assert image.space == text.space == "Hugging Face OFA-Sys/chinese-clip-vit-base-patch16"


def test_siglip(cache):
    folder = put(cache, "google/small")
    model = hub_cache.siglip(folder)
    hub_cache.sentence_pieces(folder)
    image, text = agree("hf:google/small", *of_transformers(model, folder, padding="max_length", max_length=16))
    assert (image.logit_scale, image.logit_bias) == (2.5, -7.0) and image.preprocessing.fit == "squash"
    assert text.tokenizer(["a", "a photo of a cat"]).lengths.tolist() == [16, 16]
    assert load(folder).model.image_encoder.name == str(folder.resolve())  # for use, from a folder
    with pytest.raises(BuildError, match="config.json is of a siglip model, not of a CLIP.*Use hf:.* for both towers"):
        BACKBONES.build(f"weights:{folder}")


@pytest.mark.slow
def test_without_the_package_of_a_tokenizer_the_message_names_it(tmp_path):
    """In a Python of its own, in which SentencePiece cannot be imported."""
    hub_cache.siglip(tmp_path)
    hub_cache.sentence_pieces(tmp_path)
    code = (
        "import sys, importlib.util; sys.modules['sentencepiece'] = None; find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name.startswith('sentencepiece') else find(name, *rest)\n"
        "from clipzoo.errors import BuildError; from clipzoo.registries import TEXT_ENCODERS\n"
        "try: TEXT_ENCODERS.build('hf:' + sys.argv[1])\n"
        "except BuildError as error: print(error)"
    )
    shown = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True).stdout
    assert shown == f"HFText: the tokenizer of '{tmp_path}' needs the package sentencepiece: pip install sentencepiece\n"


def test_siglip_2_reads_lower_case(cache):
    """transformers leaves it to the caller, although the published models were trained so."""
    folder = put(cache, "google/small")
    model = hub_cache.siglip(folder)
    hub_cache.gemma_tokenizer(folder)
    images, texts = of_transformers(model, folder, padding="max_length", max_length=16)
    agree("hf:google/small", images, lambda sentences: texts([sentence.lower() for sentence in sentences]))
    with torch.no_grad():
        assert (texts(["Two, dogs!"]) - texts(["two, dogs!"])).abs().max() > 0.01


DINO = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 32, "patch_size": 8}
SWIN = {"embed_dim": 16, "depths": [1, 2], "num_heads": [1, 2], "window_size": 2, "patch_size": 4, "image_size": 32}


@pytest.mark.parametrize(
    ("kind", "config", "depth"),
    [
        ("Dinov2", {**DINO, "intermediate_size": 96}, 3),
        ("DINOv3ViT", {**DINO, "intermediate_size": 96, "num_register_tokens": 2}, 3),
        ("ViT", {**DINO, "intermediate_size": 96}, 3),
        ("Swin", SWIN, 4),
        ("ConvNext", {"hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2}, 4),
        ("ResNet", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2], "layer_type": "basic"}, 4),
    ],
)
def test_image_models_of_transformers(cache, kind, config, depth):
    model = hub_cache.image_model(put(cache, "someone/small"), kind, **config)
    tower = BACKBONES.build("hf:someone/small").eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(tower(images), model(images).pooler_output.flatten(1), rtol=0, atol=1e-5)
        states = model(images).last_hidden_state
        mean = states.mean(dim=1) if states.ndim == 3 else states.mean(dim=(2, 3))
        other = BACKBONES.build({"type": "hf:someone/small", "pooling": "mean"}).eval()
        torch.testing.assert_close(other(images), mean, rtol=0, atol=1e-5)
    assert tower.preprocessing.size == 32 and tower.preprocessing.std == (0.2, 0.2, 0.3) and tower.preprocessing.fit == "pad"
    assert (tower.depth, tower.projected, tower.space) == (depth, False, None)
    assert BACKBONES.build({"type": "hf:someone/small", "image_size": 64}).preprocessing.size == 64


def test_an_image_model_saved_without_its_pooling_layer_is_read_at_its_class_token(cache):
    from transformers import ViTConfig, ViTForImageClassification

    folder = put(cache, "someone/small")
    model = hub_cache.shaken(ViTForImageClassification(ViTConfig(**DINO, intermediate_size=96)))
    model.save_pretrained(folder)
    without_file(folder, "preprocessor_config.json", "processor_config.json")
    tower = BACKBONES.build("hf:someone/small").eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(tower(images), model.vit(images).last_hidden_state[:, 0], rtol=0, atol=1e-5)
    assert tower.pooling == "cls" and tower.preprocessing.size == 32 and tower.preprocessing.mean == (0.485, 0.456, 0.406)


TEXT = {"width": 64, "heads": 2, "layers": 2, "context_length": 20}
BERT = {"hf_model_name": "someone/bert", "hf_tokenizer_name": "someone/bert", "hf_pooler_type": "cls_last_hidden_state_pooler"}
MODELS = {
    "a vision transformer": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": TEXT,
    },
    "as BiomedCLIP": {
        "embed_dim": 24,
        "vision_cfg": {
            **{"timm_model_name": "test_vit", "timm_model_pretrained": False, "timm_pool": "", "timm_proj": "linear"},
            "image_size": 160,
        },
        "text_cfg": {**BERT, "hf_proj_type": "mlp", "context_length": 30},
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", MODELS)
def test_open_clips_repositories(cache, kind):
    """Also with a network of timm and a BERT whose config and tokenizer are in another repository."""
    bert_folder(put(cache, "someone/bert"))
    model = hub_cache.open_clip_model(MODELS[kind])
    hub_cache.save_open_clip(model, put(cache, "someone/small"), MODELS[kind])
    tokenizer = open_clip.get_tokenizer("hf-hub:someone/small")
    image, text = agree(
        "openclip:hf-hub:someone/small",
        lambda images: model.encode_image(images, normalize=False),
        lambda sentences: model.encode_text(tokenizer(sentences), normalize=False),
    )
    assert image.preprocessing.mean == (0.5, 0.4, 0.3) and image.logit_scale == 4.25
    assert image.weights == image.space == "Hugging Face someone/small"


def test_a_folder_of_open_clip_may_have_its_text_encoder(cache, tmp_path):
    """The config of a BERT, which otherwise is asked for by its name."""
    bert_folder(tmp_path)
    config = copy.deepcopy(MODELS["as BiomedCLIP"])
    config["text_cfg"]["hf_model_name"] = str(tmp_path)
    model = hub_cache.open_clip_model(config)
    config["text_cfg"] |= {"hf_model_name": "nobody/has-it", "hf_tokenizer_name": "nobody/has-it"}
    hub_cache.save_open_clip(model, tmp_path, config)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    agree(
        f"openclip:{tmp_path}",
        lambda images: model.encode_image(images, normalize=False),
        lambda sentences: model.encode_text(tokenizer(sentences), normalize=False),
    )


@pytest.mark.parametrize(("architecture", "arguments"), [("test_vit", {}), ("test_vit", {"depth": 3}), ("test_resnet", {})])
def test_timms_repositories(cache, architecture, arguments):
    folder = put(cache, "timm/small")
    model = hub_cache.timm_repository(folder, architecture, **arguments)
    for name in ("timm:hf-hub:timm/small", "timm/small", f"timm:{folder}"):
        tower = BACKBONES.build(name).eval()
        images = torch.randn(2, 3, 160, 160)
        with torch.no_grad():
            torch.testing.assert_close(
                tower(images), model.forward_head(model.forward_features(images), pre_logits=True), rtol=0, atol=1e-5
            )
        assert tower.preprocessing.size == 160 and tower.preprocessing.mean == (0.5, 0.5, 0.5)
