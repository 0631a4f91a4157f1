"""Towers of any open_clip model against open_clip itself."""

import json

import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

from clipzoo.errors import BuildError, ConfigError
from clipzoo.models import CLIP
from clipzoo.models.backbones import OpenCLIPBackbone
from clipzoo.models.text_encoders import OpenCLIPText
from clipzoo.models.text_encoders.tokenizer import character_vocabulary
from clipzoo.models.weights.open_clip_model import open_clip_model
from clipzoo.registries import BACKBONES, TEXT_ENCODERS
from clipzoo.structures import Tokens

SENTENCES = ["a photo of a cat", "a", "Two, dogs!", "人工髋关节置换术", "w " * 90]
TEXT = {"width": 64, "heads": 2, "layers": 2}
VIT = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8}
TIMM = {"timm_model_pretrained": False, "image_size": 160}
SHORT = {"context_length": 20, **TEXT}
CHARACTERS = len(character_vocabulary())
# One for every kind of tower in open_clip's list. 'FOLDER' becomes a folder with a tokenizer and a config of transformers.
MODELS = {
    "tiny-vit": {"quick_gelu": True, "vision_cfg": VIT, "text_cfg": TEXT},
    "tiny-rn": {
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16},
        "text_cfg": {**SHORT, "pool_type": "eos", "eos_id": 49407},
    },
    "tiny-convnext": {
        "custom_text": True,
        "vision_cfg": {**TIMM, "timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "linear"},
        "text_cfg": {**SHORT, "proj_type": "none", "width": 24},
    },
    "tiny-siglip": {
        "custom_text": True,
        "init_logit_bias": -10,
        "vision_cfg": {**TIMM, "timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "mlp"},
        "text_cfg": {
            **SHORT, "vocab_size": CHARACTERS, "hf_tokenizer_name": "FOLDER", "tokenizer_kwargs": {"clean": "canonicalize"},
            "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
        },
    },
    "tiny-mobileclip": {"custom_text": True, "vision_cfg": VIT, "text_cfg": {**TEXT, "no_causal_mask": True}},
    "tiny-clipa": {
        "vision_cfg": {**VIT, "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
        "text_cfg": {
            **SHORT, "vocab_size": CHARACTERS, "hf_tokenizer_name": "FOLDER", "tokenizer_kwargs": {"strip_sep_token": True},
            "pool_type": "last", "no_causal_mask": True,
        },
    },
    "tiny-worldwide": {
        "vision_cfg": VIT,
        "text_cfg": {**SHORT, "vocab_size": CHARACTERS, "hf_tokenizer_name": "FOLDER", "pool_type": "eos", "eos_id": 3},
    },
    "tiny-roberta": {
        "vision_cfg": VIT,
        "text_cfg": {"context_length": 20, "hf_model_name": "FOLDER", "hf_tokenizer_name": "FOLDER", "hf_pooler_type": "mean_pooler"},
    },
    "coca_tiny": {
        "custom_text": True,
        "vision_cfg": {**VIT, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "text_cfg": {**SHORT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**SHORT, "layers": 1, "attn_pooler_heads": 2},
    },
}  # fmt: skip
TRIMMED = {"tiny-vit", "tiny-rn", "tiny-convnext", "tiny-worldwide", "tiny-roberta"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of a RoBERTa, and of a tokenizer with a vocabulary of characters."""
    from transformers import BertTokenizer, RobertaConfig

    folder = tmp_path_factory.mktemp("text")
    (folder / "vocab.txt").write_text("\n".join(character_vocabulary()), encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    RobertaConfig(
        vocab_size=CHARACTERS, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=40,
        pad_token_id=0, bos_token_id=2, eos_token_id=3,
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def configs(folder, tmp_path_factory):
    """open_clip's list with these models in it."""
    path = tmp_path_factory.mktemp("configs")
    for name, config in MODELS.items():
        (path / f"{name}.json").write_text(json.dumps({"embed_dim": 24, **config}).replace("FOLDER", str(folder)), encoding="utf-8")
    before = (list(open_clip.factory._MODEL_CONFIG_PATHS), dict(open_clip.factory._MODEL_CONFIGS))
    open_clip.add_model_config(path)
    yield path
    open_clip.factory._MODEL_CONFIG_PATHS[:], open_clip.factory._MODEL_CONFIGS = before


@pytest.fixture
def saved(configs, tmp_path):
    """A model of open_clip's with random weights, and the file that they are in."""

    def make(name, **arguments):
        torch.manual_seed(0)
        model = open_clip.create_model(name, pretrained_text=False, **arguments).eval()
        if hasattr(model, "text_decoder"):  # CoCa's, which no tower has; open_clip leaves one of its matrices as the memory was
            torch.nn.init.zeros_(model.text_decoder.text_projection)
        torch.save({"state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}, tmp_path / f"{name}.pt")
        return model, str(tmp_path / f"{name}.pt")

    return make


@pytest.mark.fast_cases(4)
@pytest.mark.parametrize("name", MODELS)
def test_features_equal_open_clips(saved, name):
    model, path = saved(name)
    image, text = BACKBONES.build(f"openclip:{name}/{path}").eval(), TEXT_ENCODERS.build(f"openclip:{name}/{path}").eval()
    size = image.preprocessing.size
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(image(images), model.encode_image(images, normalize=False), rtol=0, atol=1e-5)
        expected = model.encode_text(open_clip.get_tokenizer(name)(SENTENCES), normalize=False)
        tokens = text.tokenizer(SENTENCES)
        torch.testing.assert_close(text(tokens), expected, rtol=0, atol=1e-5)
    assert image.num_features == text.num_features == expected.shape[1] == 24 and image.projected and text.projected
    assert image.weights == text.weights == f"file {path}" and image.space == text.space == path
    assert image.logit_scale == text.logit_scale == pytest.approx(model.logit_scale.item())
    assert text.logit_bias == (-10.0 if name == "tiny-siglip" else None)
    assert text.context_length == text.tokenizer.context_length == model.context_length or name == "tiny-roberta"


@pytest.mark.fast_cases(3)
@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_no_feature(saved, name):
    """Trimmed, alone, and with anything behind the end, where trimming is exact; whole otherwise."""
    model, path = saved(name)
    tower = OpenCLIPText(name, path).eval()
    tokens = tower.tokenizer(SENTENCES[:3])
    if name not in TRIMMED:
        assert tokens.lengths.tolist() == [tower.context_length] * 3 and tokens.ids.shape == (3, tower.context_length)
        assert torch.equal(tokens.take(torch.tensor([1])).ids, tokens.ids[1:2])  # nothing is ever cut off
        return
    assert tokens.lengths.tolist() == [tower.tokenizer.count(sentence) for sentence in SENTENCES[:3]]
    assert tokens.ids.shape[1] == tokens.lengths.max() < tower.context_length
    garbage = torch.randint(4, 1000, (3, tower.context_length))
    for row, length in enumerate(tokens.lengths):
        garbage[row, :length] = tokens.ids[row, :length]
    with torch.no_grad():
        trimmed = tower(tokens)
        torch.testing.assert_close(tower(Tokens(garbage, tokens.lengths)), trimmed, rtol=0, atol=2e-6)
        alone = torch.cat([tower(tokens.take(torch.tensor([row]))) for row in range(3)])
        torch.testing.assert_close(alone, trimmed, rtol=0, atol=2e-6)


def test_long_sentences_are_counted_whole_and_cut(configs):
    for name in ("tiny-vit", "tiny-siglip", "tiny-roberta"):
        tower = OpenCLIPText(name)
        assert tower.tokenizer(SENTENCES).lengths.max() == tower.context_length and tower.tokenizer.count(SENTENCES[-1]) == 92
        assert len(tower.tokenizer([])) == 0


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-siglip", "tiny-convnext", "tiny-rn"])
def test_another_image_size(saved, name):
    model, path = saved(name)
    size = {"tiny-vit": 48, "tiny-rn": 96}.get(name, 192)
    tower = OpenCLIPBackbone(name, path, image_size=size).eval()
    images = torch.randn(2, 3, size, size)
    if name == "tiny-rn":  # which open_clip itself takes at one size only
        assert tower(images).shape == (2, 24) and tower.preprocessing.size == 96
        return
    theirs = open_clip.create_model(name, pretrained=path, force_image_size=size).eval()
    torch.testing.assert_close(tower(images), theirs.encode_image(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["ViT-S-32-alt", *(pytest.param(name, marks=pytest.mark.slow) for name in ("convnext_tiny", "MobileCLIP-S1"))]
)
def test_real_names_are_open_clips(name):
    """Random weights of a real configuration, the same in both."""
    config = open_clip.get_model_config(name)
    image = OpenCLIPBackbone(name).eval()
    theirs = open_clip.model._build_vision_tower(config["embed_dim"], config["vision_cfg"], config.get("quick_gelu", False)).eval()
    theirs.load_state_dict(image.net.state_dict())
    images = torch.randn(1, 3, image.preprocessing.size, image.preprocessing.size)
    with torch.no_grad():
        torch.testing.assert_close(image(images), theirs(images), rtol=0, atol=1e-5)
    assert image.weights == "random" and image.preprocessing.fit == "pad"
    with torch.device("meta"):
        text = OpenCLIPText(name)
    assert torch.equal(text.tokenizer(SENTENCES[:1]).ids[0, :7], open_clip.get_tokenizer(name)(SENTENCES[:1])[0, :7])
    assert (text.tokenizer(SENTENCES[:1]).ids.shape[1] == 7) == (not config["text_cfg"].get("no_causal_mask", False))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["ViT-L-14", "EVA02-B-16", "ViT-H-14-CLIPA", "ViT-SO400M-14-SigLIP-384", "RN50x4", "swin_base_patch4_window7_224"]
)
def test_the_tensors_and_groups_of_large_towers(name):
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        tower = OpenCLIPBackbone(name)
        theirs = open_clip.model._build_vision_tower(config["embed_dim"], config["vision_cfg"], config.get("quick_gelu", False))
    assert {k: p.shape for k, p in tower.net.state_dict().items()} == {k: p.shape for k, p in theirs.state_dict().items()}
    assert sorted(sum(tower.depth_groups(), [])) == sorted(key for key, _ in tower.named_parameters())
    assert tower.preprocessing.size == config["vision_cfg"]["image_size"]


@pytest.fixture
def published(saved, monkeypatch):
    """``published('tiny-vit', 'a_tag', quick_gelu=True)``: a tag in open_clip's index, whose download is a local file."""
    from open_clip import pretrained

    def publish(name, tag, **values):
        model, path = saved(name)
        entry = {**pretrained._pcfg(hf_hub=f"somebody/{tag}/"), **values}
        monkeypatch.setitem(pretrained._PRETRAINED, name, {**pretrained._PRETRAINED.get(name, {}), tag: entry})
        monkeypatch.setattr("clipzoo.models.weights.source.hub_file", lambda *_: path)
        return model, entry

    return publish


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"resize_mode": "squash", "mean": (0.5,) * 3, "std": (0.5,) * 3},
        {"interpolation": "bilinear", "mean": 0.1, "std": 1.0},
        {"resize_mode": "longest"},
    ],
)
def test_preprocessing_of_a_tag_is_open_clips(published, said):
    import numpy as np
    from PIL import Image

    from clipzoo.datasets.transforms import evaluation_transform

    _, entry = published("tiny-vit", "some_tag", quick_gelu=True, **said)
    tower = OpenCLIPBackbone("tiny-vit", "some-tag")  # open_clip takes both spellings
    assert tower.weights == "open_clip tiny-vit/some-tag" and tower.space == "somebody/some_tag/"
    theirs = image_transform_v2(PreprocessCfg(**merge_preprocess_dict({"size": 32}, entry)), is_train=False)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8))
    got, expected = evaluation_transform(tower.preprocessing)(photo), theirs(photo)
    grey_level = 1 / 255 / min(tower.preprocessing.std)
    torch.testing.assert_close(got, expected, rtol=0, atol=grey_level * 1.01 if tower.preprocessing.fit == "pad" else 1e-5)
    with pytest.raises(BuildError, match="mean=.* but the weights were trained with"):
        OpenCLIPBackbone("tiny-vit", "some_tag", mean=[0.1, 0.2, 0.3])
    assert OpenCLIPBackbone("tiny-vit", "some_tag", fit="pad").preprocessing.fit == "pad"


def test_a_tag_of_another_activation_is_refused(published):
    published("tiny-vit", "gelu", quick_gelu=False)
    for tower in (OpenCLIPBackbone, OpenCLIPText):
        with pytest.raises(BuildError, match="'gelu' of tiny-vit were trained with GELU. Set quick_gelu=False"):
            tower("tiny-vit", "gelu")
    with pytest.raises(BuildError, match="trained with QuickGELU. Use openclip:ViT-B-32-quickgelu/…"):
        OpenCLIPBackbone("ViT-B-32", "openai")


def test_a_local_file_is_prepared_as_all_published_weights_of_that_name(published, saved, monkeypatch):
    published("tiny-siglip", "a", mean=(0.5,) * 3, resize_mode="squash")
    _, path = saved("tiny-siglip")
    assert OpenCLIPBackbone("tiny-siglip", path).preprocessing.fit == "squash"
    assert OpenCLIPBackbone("tiny-siglip", path, mean=[0.1, 0.2, 0.3]).preprocessing.mean == (0.1, 0.2, 0.3)  # nothing says otherwise
    assert OpenCLIPBackbone("tiny-siglip").preprocessing.fit == "pad"
    _, path = saved("tiny-vit")
    assert OpenCLIPBackbone("tiny-vit", path).preprocessing.fit == "crop"


def test_a_folder_as_downloaded_from_the_hub(saved, folder, tmp_path):
    import shutil

    from safetensors.torch import save_file

    model, _ = saved("tiny-siglip")
    shutil.copytree(folder, tmp_path / "siglip")
    save_file(model.state_dict(), tmp_path / "siglip" / "open_clip_model.safetensors")
    config = {
        "model_cfg": {"embed_dim": 24, **MODELS["tiny-siglip"]},
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"},
    }
    (tmp_path / "siglip" / "open_clip_config.json").write_text(json.dumps(config))
    name = f"local-dir:{tmp_path / 'siglip'}"
    theirs, tokenizer = open_clip.create_model(name).eval(), open_clip.get_tokenizer(name)
    image = BACKBONES.build(f"openclip:{tmp_path / 'siglip'}").eval()
    text = TEXT_ENCODERS.build(f"openclip:{tmp_path / 'siglip'}").eval()
    images = torch.randn(2, 3, 160, 160)
    torch.testing.assert_close(image(images), theirs.encode_image(images), rtol=0, atol=1e-5)
    torch.testing.assert_close(text(text.tokenizer(SENTENCES)), theirs.encode_text(tokenizer(SENTENCES)), rtol=0, atol=1e-5)
    assert image.preprocessing.fit == "squash" and image.preprocessing.mean == (0.5,) * 3 and image.space == text.space
    joint = CLIP(image, text)
    assert joint.embed_dim == 24 and joint.logit_scale.item() == pytest.approx(model.logit_scale.item())
    assert OpenCLIPText(str(tmp_path / "siglip"), pretrained=False).weights == "random"
    for preprocess, words in (
        ({"resize_mode": "longest", "fill_color": 255}, "fill_color=255 is not supported; images are always padded with black"),
        ([1], "not a JSON object"),
    ):
        (tmp_path / "siglip" / "open_clip_config.json").write_text(json.dumps({**config, "preprocess_cfg": preprocess}))
        with pytest.raises(BuildError, match=words):
            OpenCLIPBackbone(str(tmp_path / "siglip"))
    (tmp_path / "siglip" / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "siglip" / "open_clip_model.safetensors").unlink()
    missing = "must contain one weights file, such as open_clip_model.safetensors, but none exists"
    for arguments, words in (({}, missing), ({"tag": "webli"}, "Remove tag='webli'")):
        with pytest.raises(BuildError, match=words):
            OpenCLIPBackbone(str(tmp_path / "siglip"), **arguments)


def test_the_other_tower_is_not_made(saved, monkeypatch):
    _, path = saved("tiny-vit")
    monkeypatch.setattr(open_clip.model, "_build_text_tower", lambda *_, **__: pytest.fail("the text tower was made"))
    assert OpenCLIPBackbone("tiny-vit", path).weights == f"file {path}"
    monkeypatch.undo()
    monkeypatch.setattr(open_clip.model, "_build_vision_tower", lambda *_, **__: pytest.fail("the image tower was made"))
    assert OpenCLIPText("tiny-vit", path).weights == f"file {path}"


def test_the_configuration_of_the_list_is_not_changed(configs):
    before = json.dumps(open_clip.get_model_config("tiny-vit"))
    model = open_clip_model("X", "tiny-vit", None, True, None)
    model.config["vision_cfg"]["width"] = 1
    OpenCLIPBackbone("tiny-vit", image_size=64, patch_dropout=0.5)
    assert json.dumps(open_clip.get_model_config("tiny-vit")) == before


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda _: OpenCLIPBackbone("ViT-B32"), BuildError, "no model 'ViT-B32', and there is no such folder. Did you mean 'ViT-B-32'"),
        (lambda _: OpenCLIPText("./nowhere"), BuildError, "no model './nowhere', and there is no such folder"),
        (lambda _: OpenCLIPBackbone("ViT-B-32", "laion2b_s34b_b79"), BuildError, "Did you mean 'laion2b_s34b_b79k'"),
        (lambda _: OpenCLIPText("ViT-S-32", "nothing"), BuildError, "no weights 'nothing' for ViT-S-32. It has no published weights"),
        (lambda _: OpenCLIPBackbone("tiny-vit", image_size=33), ConfigError, "image_size=33 is not a multiple of 8"),
        (lambda _: OpenCLIPBackbone("tiny-rn", image_size=48), ConfigError, "image_size=48 is not a multiple of 32"),
        (lambda _: OpenCLIPBackbone("tiny-siglip", image_size=168), ConfigError, "image_size=168 is not a multiple of 16"),
        (lambda _: OpenCLIPBackbone("tiny-vit", patch_dropout=1.0), ConfigError, "patch_dropout: 1.0 is not a number in"),
        (lambda _: OpenCLIPBackbone("x", config={"embed_dim": 3}), BuildError, "'x' must contain embed_dim, vision_cfg and text_cfg"),
        (
            lambda _: OpenCLIPBackbone("x", config={"embed_dim": 8, "vision_cfg": {"widht": 3}, "text_cfg": {}}),
            BuildError,
            "open_clip cannot build 'x' .*widht",
        ),
        (
            lambda _: OpenCLIPBackbone("x", config={"embed_dim": 8, "vision_cfg": {"timm_model_name": "resnet19"}, "text_cfg": {}}),
            BuildError,
            "open_clip cannot build 'x' .*resnet19",
        ),
        (lambda saved: OpenCLIPBackbone("tiny-rn", saved("tiny-vit")[1]), BuildError, "the weights do not fit. .* missing: attnpool"),
        (lambda saved: OpenCLIPText("tiny-rn", saved("tiny-vit")[1]), BuildError, r"positional_embedding \[77, 64\] instead of \[20, 64\]"),
    ],
)  # fmt: skip
def test_mistakes_are_one_clear_line(saved, make, error, words):
    with pytest.raises(error, match=words) as raised:
        make(saved)
    assert "\n" not in str(raised.value)


def test_files_of_other_libraries_are_named(configs, tmp_path):
    torch.save({"vision_model.x": torch.zeros(1)}, tmp_path / "hf.pt")
    torch.save(
        {"visual.conv1.weight": torch.zeros(1), "text_projection": torch.zeros(1), "input_resolution": torch.tensor(3)}, tmp_path / "o.pt"
    )
    with pytest.raises(BuildError, match="hf.pt is not in open_clip's format; its tensors are vision_model.x"):
        OpenCLIPBackbone("tiny-rn", str(tmp_path / "hf.pt"))
    with pytest.raises(BuildError, match="o.pt is an OpenAI file, trained with QuickGELU. Set quick_gelu=True"):
        OpenCLIPText("tiny-rn", str(tmp_path / "o.pt"))


def test_without_a_hub_the_message_names_three_ways(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for build, words in (
        (lambda: OpenCLIPBackbone("ViT-B-32", "laion2b_s34b_b79k"), "openclip:ViT-B-32/FILE.safetensors"),
        (lambda: OpenCLIPText("ViT-B-16-SigLIP"), "openclip:FOLDER with the tokenizer's files"),
        (lambda: OpenCLIPText("roberta-ViT-B-32"), "openclip:FOLDER with the tokenizer's files"),
    ):
        with pytest.raises(BuildError, match="HF_HUB_OFFLINE is set") as raised:
            build()
        assert words in str(raised.value) and "\n" not in str(raised.value)
