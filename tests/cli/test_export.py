"""``tools/export.py``: from a trained checkpoint, and from other libraries' files, to what other libraries load."""

import open_clip
import pytest
import torch
from checkpoint_files import saved
from clip_files import SENTENCES, open_clip_model, output_of, pictures
from safetensors.torch import save_file
from torch.nn import functional as F

import clipzoo
from clipzoo.config import Config
from clipzoo.engine import build, checkpoint
from clipzoo.models.backbones import CLIPVision
from clipzoo.models.text_encoders import CLIPText
from clipzoo.models.weights import read_clip

# Towers of width 24 in a space of 32: the export multiplies the projections into the towers' own.
MODEL = {
    "image_encoder": {"type": "CLIPVision", "image_size": 32, "patch_size": 8, "width": 64, "layers": 1, "heads": 2, "output_dim": 24},
    "text_encoder": {"type": "CLIPText", "width": 64, "layers": 1, "heads": 2, "output_dim": 24},
}


@pytest.fixture
def trained(command, write_config, tmp_path):
    """The checkpoint of one fold of a tiny CLIP with CLIP's towers, and the model with those weights."""
    config = write_config(model=MODEL, train={"epochs": 1})
    ended = command("train", config, "--fold", 1, "--work-dir", tmp_path / "work")
    assert ended.status == 0, ended.err
    path = tmp_path / "work" / "fold_1" / "checkpoint_latest.pth"
    content = checkpoint.read(path)
    model = build.model(Config.load(config), torch.device("cpu"), num_classes=len(content["classes"]), towers=content["towers"])
    model.load_state_dict(content["model"])
    return path, model.eval()


@pytest.mark.slow
@torch.no_grad()
def test_what_was_trained_computes_the_same_elsewhere(command, trained, tmp_path):
    from transformers import CLIPModel

    path, model = trained
    images, texts = model.encode_image(pictures(32)), model.encode_text(model.tokenizer(SENTENCES))
    ids = open_clip.tokenize(SENTENCES)

    ended = command("export", path, "--format", "open_clip", "--out", tmp_path / "a")
    assert ended.status == 0, ended.err
    assert f"open_clip.create_model_and_transforms('local-dir:{tmp_path / 'a'}')" in ended.out and "quick_gelu=False" in ended.out
    loaded = open_clip.create_model(f"local-dir:{tmp_path / 'a'}").eval()
    torch.testing.assert_close(loaded.encode_image(pictures(32), normalize=True), images, rtol=0, atol=1e-5)
    torch.testing.assert_close(loaded.encode_text(ids, normalize=True), texts, rtol=0, atol=1e-5)
    assert loaded.logit_scale.item() == model.logit_scale.item()
    assert command("export", path.parent, "--format", "open_clip", "--out", tmp_path / "same").status == 0
    one, other = ((tmp_path / name / "open_clip_model.safetensors").read_bytes() for name in ("a", "same"))
    assert one == other

    ended = command("export", path, "--format", "transformers", "--out", tmp_path / "b")
    assert ended.status == 2 and "Pass fit='crop' or fit='squash'" in ended.err and not (tmp_path / "b").exists()
    ended = command("export", path, "--format", "transformers", "--out", tmp_path / "b", "--fit", "crop")
    assert ended.status == 0 and f"transformers.CLIPModel.from_pretrained('{tmp_path / 'b'}')" in ended.out
    loaded = CLIPModel.from_pretrained(tmp_path / "b").eval()
    torch.testing.assert_close(F.normalize(output_of(loaded.get_image_features(pictures(32))), dim=-1), images, rtol=0, atol=1e-5)
    torch.testing.assert_close(F.normalize(output_of(loaded.get_text_features(ids)), dim=-1), texts, rtol=0, atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_adapters_are_merged(command, write_config, tmp_path):
    lora = {"rank": 2, "alpha": 8.0}
    towers = {name: {**spec, "lora": lora} for name, spec in MODEL.items()}
    config = Config.load(write_config(model=towers))
    path, model = saved(tmp_path / "checkpoint_best.pth", config)
    content = checkpoint.read(path)
    generator = torch.Generator().manual_seed(0)
    for name, value in content["model"].items():
        if "lora_B" in name:
            value.copy_(torch.randn(value.shape, generator=generator) / 10)
    before = model.encode_image(pictures(32))
    model.load_state_dict(content["model"])
    checkpoint.write(path, content)
    images, texts = model.eval().encode_image(pictures(32)), model.encode_text(model.tokenizer(SENTENCES))
    assert (images - before).abs().max() > 0.01

    ended = command("export", path, "--format", "open_clip", "--out", tmp_path / "a")
    assert ended.status == 0, ended.err
    loaded = open_clip.create_model(f"local-dir:{tmp_path / 'a'}").eval()
    torch.testing.assert_close(loaded.encode_image(pictures(32), normalize=True), images, rtol=0, atol=1e-5)
    torch.testing.assert_close(loaded.encode_text(open_clip.tokenize(SENTENCES), normalize=True), texts, rtol=0, atol=1e-5)
    assert read_clip(path, "X").visual.keys() == loaded.visual.state_dict().keys()
    towers_alone = CLIPVision(pretrained=str(path)), CLIPText(pretrained=str(path))  # weights:<checkpoint>
    torch.testing.assert_close(F.normalize(towers_alone[0].eval()(pictures(32)), dim=-1), images, rtol=0, atol=1e-5)
    torch.testing.assert_close(F.normalize(towers_alone[1](model.tokenizer(SENTENCES)), dim=-1), texts, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_other_libraries_files_are_converted_too(command, tmp_path):
    save_file(open_clip_model(quick_gelu=True).state_dict(), tmp_path / "a.safetensors")
    arguments = ("export", tmp_path / "a.safetensors", "--format", "transformers", "--out", tmp_path / "b")
    ended = command(*arguments)
    assert (
        ended.status == 2
        and "a.safetensors does not define the activation that its weights were trained with. Pass --quick-gelu yes" in ended.err
    )
    assert command(*arguments, "--quick-gelu", "yes").status == 0
    assert read_clip(tmp_path / "b", "X").quick_gelu is True
    ended = command(*arguments, "--quick-gelu", "yes")
    assert ended.status == 2 and "already exists and will not be overwritten" in ended.err
    ended = command("export", tmp_path / "b", "--format", "open_clip", "--out", tmp_path / "c.safetensors")
    assert ended.status == 0 and "open_clip has no name for a model of these sizes" in ended.out
    ended = command("export", tmp_path / "b", "--format", "open_clip", "--out", tmp_path / "d", "--quick-gelu", "no")
    assert ended.status == 2 and "quick_gelu=False, but the transformers weights were trained with quick_gelu=True" in ended.err


def test_what_is_no_clip_is_one_clear_line(command, finished, tmp_path):
    for path, words in (
        (finished, "contains the checkpoints of 3 folds. Pass one of them"),
        (tmp_path / "nothing.pth", "nothing.pth: no such file or folder"),
        (tmp_path, "neither open_clip_config.json"),
    ):
        ended = command("export", path, "--format", "open_clip", "--out", tmp_path / "a")
        assert ended.status == 2 and ended.err.startswith("error: ") and words in ended.err and ended.err.count("\n") == 1
    ended = command("export", tmp_path, "--format", "open_clip", "--out", tmp_path / "a", "--fit", "crop")
    assert ended.status == 2 and "--fit is for --format transformers only. Remove it: open_clip can pad" in ended.err
    for options, words in (
        (("transformers",), "cannot export TimmBackbone test_resnet, as other libraries' CLIPs have no such image tower"),
        (("transformers", "--images", "a.png"), "--images is for --format onnx only"),
        (("onnx", "--push", "a/b"), "--push is for --format hub only"),
        (("hub", "--push", "model"), "--push 'model' is not a repository's name. Write it as ORGANISATION/NAME"),
        (("hub", "--quick-gelu", "yes"), "--quick-gelu is for weights that do not define their activation"),
        (("onnx", "--images", tmp_path / "none.png"), "none.png: no such file"),
    ):
        ended = command("export", finished / "fold_1", "--out", tmp_path / "a", "--format", *options)
        assert ended.status == 2 and words in ended.err and ended.err.count("\n") == 1
    assert not (tmp_path / "a").exists()


@torch.no_grad()
def test_a_resnet_and_a_bert_go_to_open_clip(command, finished, tmp_path):
    ended = command("export", finished / "fold_1", "--format", "open_clip", "--out", tmp_path / "a")
    assert ended.status == 0, ended.err
    assert f"open_clip.create_model_and_transforms('local-dir:{tmp_path / 'a'}')" in ended.out and "text_cfg.hf_model_name" in ended.out
    images = pictures(32)
    expected = clipzoo.load(finished / "fold_1").model.encode_image(images)
    loaded = open_clip.create_model(f"local-dir:{tmp_path / 'a'}").eval()
    torch.testing.assert_close(loaded.encode_image(images, normalize=True), expected, rtol=0, atol=1e-5)


def test_the_folder_for_the_hub_has_the_card_of_the_fold(command, finished, tmp_path):
    ended = command("export", finished / "fold_2", "--format", "hub", "--out", tmp_path / "a", "--lang", "zh")
    assert ended.status == 0, ended.err
    assert "weights for open_clip, and README.md. Read it, and choose a licence" in ended.out
    text = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    assert "`fold_2`" in text and "不可用于诊断" in text
    ended = command("export", finished / "fold_2", "--format", "hub", "--out", tmp_path / "b", "--push", "someone/model")
    assert ended.status == 2 and "cannot upload to" in ended.err and ended.err.count("error: ") == 1  # the tests are offline
    assert "someone/model" in (tmp_path / "b" / "open_clip_config.json").read_text()


@pytest.mark.slow
def test_onnx_is_compared_with_the_given_images(command, finished, class_folders, tmp_path):
    images = sorted(class_folders.glob("*/*.png"))[:3]
    ended = command("export", finished / "fold_1", "--format", "onnx", "--out", tmp_path / "a", "--images", *images)
    assert ended.status == 0, ended.err
    assert "compared with the model in onnxruntime" in ended.out and "7 images" in ended.out and "8 sentences" in ended.out
    assert ended.err == ""
    ended = command("export", finished / "fold_1", "--format", "onnx", "--out", tmp_path / "a")
    assert ended.status == 2 and "already exists and will not be overwritten" in ended.err
