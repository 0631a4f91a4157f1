"""Both towers of one file: zero-shot logits as open_clip's, from photo and sentence on, and files that a tower refuses."""

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIP as OpenCLIP
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from open_clip.transform import image_transform
from PIL import Image
from torch.nn import functional as F

from clipzoo.datasets.transforms import evaluation_transform
from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.backbones import CLIPVision
from clipzoo.models.text_encoders import BERT, CLIPText
from clipzoo.models.text_encoders.tokenizer import character_vocabulary
from clipzoo.registries import MODELS
from clipzoo.structures import Batch, ClassCaptions

CLASSES = ["a photo of a cat", "人工髋关节", "X-ray of a left hip, with prosthesis", "!"]
VISION = {
    "vit": CLIPVisionCfg(layers=3, width=128, patch_size=16, image_size=64),
    "resnet": CLIPVisionCfg(layers=(1, 1, 1, 1), width=16, image_size=64),
}


def openai_model(kind="vit"):
    torch.manual_seed(0)
    model = OpenCLIP(96, VISION[kind], CLIPTextCfg(width=128, heads=2, layers=3), quick_gelu=True, init_logit_scale=np.log(100)).eval()
    for name, value in model.visual.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    return model


def openai_file(model, path):
    """As OpenAI published its weights: half precision, with three numbers beside them."""
    state = {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    marks = {"input_resolution": torch.tensor(64), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}
    torch.save({**state, **marks}, path)
    return str(path)


def photos():
    """Of several proportions, with fine texture."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:400, :400]
    texture = (
        127 + 90 * np.sin(rows / 3)[..., None] * np.cos(columns[..., None] / np.array([2.0, 5.0, 11.0])) + rng.normal(0, 20, (400, 400, 3))
    )
    whole = Image.fromarray(np.clip(texture, 0, 255).astype(np.uint8))
    return [whole.crop((0, 0, width, height)) for width, height in ((400, 250), (123, 397), (64, 64), (90, 50), (300, 300))]


@pytest.mark.slow
@pytest.mark.parametrize("kind", VISION)
def test_zero_shot_logits_are_open_clips_from_photo_and_sentence_on(tmp_path, kind):
    reference = openai_model(kind)
    path = openai_file(reference, tmp_path / "clip.pt")
    reference.half().float()
    with torch.no_grad():
        pixels = torch.stack([image_transform(64, is_train=False)(photo) for photo in photos()])
        image = reference.encode_image(pixels, normalize=True)
        text = reference.encode_text(open_clip.tokenize(CLASSES), normalize=True)
        expected = reference.logit_scale.exp() * image @ text.T

        model = MODELS.build({"type": "CLIP", "image_encoder": f"weights:{path}", "text_encoder": f"weights:{path}"}).eval()
        transform = evaluation_transform(model.preprocessing)
        images = torch.stack([transform(photo) for photo in photos()])
        torch.testing.assert_close(images, pixels, rtol=0, atol=1e-6)
        ids = torch.arange(len(CLASSES))
        prototypes = model.encode_classes(ClassCaptions(model.tokenizer(CLASSES), ids, ids, len(CLASSES)))
        logits = model.predict(Batch(images=images, labels=ids, cases=ids), prototypes)
    assert model.logit_scale.exp().item() == pytest.approx(100, abs=0.1) and model.embed_dim == 96
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(model.encode_image(images), image, rtol=0, atol=1e-6)
    assert (expected.max() - expected.min()) > 1  # the logits have something to say


def test_letterboxed_photos_are_another_thing(tmp_path):
    """Why the weights decide: the same weights on padded photos give other features."""
    path = openai_file(openai_model(), tmp_path / "clip.pt")
    cropped, padded = (CLIPVision(pretrained=path, fit=fit).eval() for fit in (None, "pad"))
    photo = photos()[0]
    features = [F.normalize(tower(evaluation_transform(tower.preprocessing)(photo)[None]), dim=-1) for tower in (cropped, padded)]
    assert (features[0] - features[1]).abs().max() > 1e-2


@pytest.fixture
def chinese_clip(tmp_path):
    """A checkpoint of Chinese-CLIP with its vocabulary beside it, and the BERT in it."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 128}
    bert = BertModel(BertConfig(**sizes, vocab_size=len(character_vocabulary())), add_pooling_layer=False).eval()
    state = {f"visual.{key}": value for key, value in openai_model().visual.state_dict().items()}
    state |= {f"bert.{key}": value for key, value in bert.state_dict().items()}
    state |= {"text_projection": torch.randn(64, 96) / 8, "logit_scale": torch.tensor(4.5)}
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "chinese.pt")
    (tmp_path / "vocab.txt").write_text("\n".join(character_vocabulary()), encoding="utf-8")
    return str(tmp_path / "chinese.pt"), bert, state


def test_a_chinese_clip_is_named_once_for_both_towers(chinese_clip):
    path, bert, state = chinese_clip
    model = MODELS.build({"type": "CLIP", "image_encoder": f"chinese-clip:{path}", "text_encoder": f"chinese-clip:{path}"}).eval()
    assert model.logit_scale.item() == 4.5 and model.embed_dim == 96 and model.preprocessing.fit == "squash"
    assert model.text_encoder.context_length == 52 and model.image_encoder.quick_gelu is True
    tokens = model.tokenizer(CLASSES)
    mask = (torch.arange(tokens.ids.shape[1]) < tokens.lengths[:, None]).long()
    with torch.no_grad():
        expected = bert(input_ids=tokens.ids, attention_mask=mask).last_hidden_state[:, 0] @ state["text_projection"]
        torch.testing.assert_close(model.text_encoder(tokens), expected, rtol=0, atol=1e-5)
        images = torch.randn(2, 3, 64, 64)
        torch.testing.assert_close(model.image_encoder(images), openai_model().encode_image(images), rtol=0, atol=1e-5)
    names = [name for name, _ in model.text_encoder.named_parameters()]
    assert (
        sorted(sum(model.text_encoder.depth_groups(), [])) == sorted(names) and "text_projection" in model.text_encoder.depth_groups()[-1]
    )


def test_what_contradicts_a_chinese_clip_is_refused(chinese_clip, tmp_path):
    path, _, state = chinese_clip
    for arguments, error, words in (
        ({"pooling": "mean"}, BuildError, r"pooling='mean', but the weights were trained with the state of \[CLS\]"),
        ({"projection": 8}, BuildError, "projection=8, but the weights' joint space has width 96"),
        ({"max_length": 600}, ConfigError, r"max_length=600 must be between 3 and 512"),
        ({"files": {"config.json": "{}"}}, ConfigError, "they contain no weights"),
    ):
        with pytest.raises(error, match=words):
            BERT(pretrained=path, **arguments)
    with pytest.raises(BuildError, match="the weights' text tower is a BERT of 2 layers .* Use chinese-clip:FILE"):
        CLIPText(pretrained=path)
    with pytest.raises(BuildError, match="the weights' text tower is CLIP's text transformer .* Use weights:"):
        BERT(pretrained=openai_file(openai_model(), tmp_path / "clip.pt"))
    (tmp_path / "vocab.txt").rename(tmp_path / "elsewhere.txt")
    with pytest.raises(BuildError, match="BERT: .*bert-base-chinese"):  # whose vocabulary is on the hub
        BERT(pretrained=path)
    (tmp_path / "other").mkdir()
    from transformers import BertConfig, BertTokenizer

    (tmp_path / "other" / "vocab.txt").write_text("\n".join(list(character_vocabulary())[:100]), encoding="utf-8")
    BertTokenizer(str(tmp_path / "other" / "vocab.txt")).save_pretrained(tmp_path / "other")
    BertConfig().save_pretrained(tmp_path / "other")
    with pytest.raises(
        BuildError, match="were trained with 7991 tokens, but the tokenizer of '.*other' has 100. Put the weights' own vocab.txt"
    ):
        BERT(name=str(tmp_path / "other"), pretrained=path)


def test_files_without_a_config_or_with_a_path_are_refused():
    with pytest.raises(ConfigError, match="files: config.json is missing"):
        BERT(pretrained=False, files={"vocab.txt": "a"})
    with pytest.raises(BuildError, match="'../x' must be a plain file name"):
        BERT(pretrained=False, files={"config.json": "{}", "../x": "a"})
    with pytest.raises(BuildError, match="its files are damaged") as raised:
        BERT(pretrained=False, files={"config.json": "{"})
    assert "\n" not in str(raised.value)
