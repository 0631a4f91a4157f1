"""What cannot be read, or contradicts itself, is one clear line; nothing is loaded partially."""

import json
from dataclasses import replace

import pytest
import torch
from clip_files import (
    EMBED_DIM,
    TEXT,
    VISION,
    ChineseCLIP,
    open_clip_model,
    save_open_clip_folder,
    save_script,
    transformers_clip,
    vocabulary_text,
)
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file
from torch import nn

from clipzoo.errors import BuildError
from clipzoo.models.weights import read_clip

CONFIG = {"embed_dim": EMBED_DIM, "vision_cfg": VISION["vit"], "text_cfg": TEXT}


@pytest.fixture(scope="module")
def clip_state():
    return open_clip_model().state_dict()


def refused(path, words: str, where: str = "CLIPText") -> None:
    with pytest.raises(BuildError, match=words) as raised:
        read_clip(path, where)
    assert str(raised.value).startswith(f"{where}: ") and "\n" not in str(raised.value)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_files_that_are_no_weights(tmp_path, clip_state, capsys):
    refused(tmp_path / "no.pt", "no weights file")
    refused(tmp_path, "neither open_clip_config.json .open_clip. nor config.json")
    save_file(clip_state, tmp_path / "whole.safetensors")
    torch.save(clip_state, tmp_path / "whole.pt")
    for name in ("whole.safetensors", "whole.pt"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / f"cut_{name}").write_bytes(content[: len(content) // 2])
        refused(tmp_path / f"cut_{name}", "cannot be read as weights")
    torch.save({**clip_state, "evil": Evil()}, tmp_path / "evil.pt")
    refused(tmp_path / "evil.pt", "cannot be read as weights .it contains Python objects besides tensors, whose code is not run")
    (tmp_path / "fold_1").mkdir()
    (tmp_path / "fold_1" / "checkpoint_latest.pth").touch()
    refused(tmp_path / "fold_1", "is a fold's folder. Pass its checkpoint, .*checkpoint_latest.pth")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_archives(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "linear.pt"))
    refused(tmp_path / "linear.pt", "is a TorchScript archive, but not of a CLIP: its tensors are weight, bias")
    save_script(open_clip_model(quick_gelu=True), tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: len(content) // 2])
    refused(tmp_path / "cut.pt", "cannot be read as weights")


def test_other_networks_say_what_they_are(tmp_path):
    import timm
    from transformers import BertConfig, BertModel

    bert = BertModel(BertConfig(vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16))
    for model, words in (
        (timm.create_model("resnet18"), "does not contain a CLIP: it is a ResNet for classification"),
        (timm.create_model("test_vit"), "it is a timm vision transformer"),
        (bert, "it is a BERT, with one tower only"),
        (open_clip_model().visual, "it is only CLIP's vision transformer"),
        (transformers_clip(), f"it is in transformers' layout. Pass its folder, {tmp_path}"),
        (nn.Linear(2, 2), "no tensors visual.*, but bias, weight"),
    ):
        save_file(model.state_dict(), tmp_path / "a.safetensors")
        refused(tmp_path / "a.safetensors", words)


def test_every_tensor_is_accounted_for(tmp_path, clip_state):
    def write(changes: dict, without: tuple = ()) -> None:
        state = {key: value for key, value in {**clip_state, **changes}.items() if key not in without}
        save_file(state, tmp_path / "a.safetensors")

    write({}, without=("visual.ln_pre.weight", "visual.transformer.resblocks.1.mlp.c_fc.bias"))
    refused(
        tmp_path / "a.safetensors", "the image tower is not a plain CLIP tower. 2 missing: ln_pre.weight, transformer.resblocks.1.mlp.c_fc"
    )
    write({}, without=("ln_final.weight",))
    refused(tmp_path / "a.safetensors", "the text tower is not a plain CLIP tower. 1 missing: ln_final.weight")
    write({"visual.attn_pool.query": torch.zeros(2)})
    refused(tmp_path / "a.safetensors", "1 unexpected: attn_pool.query")
    write({"text_decoder.weight": torch.zeros(2)})
    refused(tmp_path / "a.safetensors", "1 tensors belong to no part of a CLIP: text_decoder.weight")
    write({}, without=("logit_scale",))
    refused(tmp_path / "a.safetensors", "logit_scale is missing")
    write({"text_projection": torch.zeros(64, 10)})
    refused(tmp_path / "a.safetensors", "the image tower has 24 outputs, the text tower 10")
    write({"visual.positional_embedding": torch.zeros(18, 128)})
    refused(tmp_path / "a.safetensors", "positional_embedding has 18 rows, which is not a square grid plus a class token")
    write({"token_embedding.weight": torch.zeros(1000, 64)})
    refused(tmp_path / "a.safetensors", "a vocabulary of 1000 tokens, not OpenAI's 49408 byte pairs")
    for name in ("token_embedding.weight", "positional_embedding", "text_projection", "visual.positional_embedding", "visual.proj"):
        for shape in ((), (5,), (0, 64)):
            write({name: torch.zeros(shape)})
            refused(tmp_path / "a.safetensors", f"{name.removeprefix('visual.')} has the shape")
    write({"attn_mask": torch.zeros(77, 77)})
    read_clip(tmp_path / "a.safetensors", "X")  # the same for every CLIP, and left out knowingly


def test_open_clips_other_towers(tmp_path):
    vision = {"timm_model_name": "test_vit", "image_size": 160}
    save_file(CustomTextCLIP(EMBED_DIM, vision, TEXT).state_dict(), tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "the image tower is a timm network inside open_clip")
    state = {key: value for key, value in open_clip_model(kind=CustomTextCLIP).state_dict().items() if not key.startswith("text.")}
    save_file({**state, "text.transformer.embeddings.word_embeddings.weight": torch.zeros(9, 4)}, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "the text tower is a Hugging Face network inside open_clip")


def test_openais_numbers_must_fit(tmp_path, clip_state):
    torch.save({**clip_state, "input_resolution": torch.tensor(224)}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "contradicts itself: input_resolution is 224, but the tensors have 32")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"embed_dim": 512}, "embed_dim is 512, but the tensors have 24"),
        ({"vision_cfg": {**VISION["vit"], "image_size": 64}}, "vision_cfg.image_size is 64, but the tensors have 32"),
        ({"text_cfg": {**TEXT, "context_length": 32}}, "text_cfg.context_length is 32, but the tensors have 77"),
        ({"text_cfg": {**TEXT, "pool_type": "last"}}, "text_cfg.pool_type='last' is not supported in a plain CLIP"),
        ({"text_cfg": {**TEXT, "hf_model_name": "bert-base-chinese"}}, "text_cfg.hf_model_name='bert-base-chinese'"),
        ({"vision_cfg": {**VISION["vit"], "pool_type": "avg"}}, "vision_cfg.pool_type='avg'"),
        ({"vision_cfg": {**VISION["vit"], "act_kwargs": {"approximate": "tanh"}}}, "vision_cfg.act_kwargs"),
        ({"multimodal_cfg": {"width": 64}}, "model_cfg.multimodal_cfg"),
        ({"text_cfg": None}, "text_cfg is missing"),
        ({"vision_cfg": {**VISION["vit"], "head_width": 0}}, "vision_cfg.head_width=0 must be a whole number"),
        ({"text_cfg": {**TEXT, "heads": "2"}}, "text_cfg.heads='2' must be a whole number"),
    ],
)
def test_an_open_clip_config_must_fit(tmp_path, clip_state, change, words):
    (tmp_path / "folder").mkdir()
    save_file(clip_state, tmp_path / "folder" / "open_clip_model.safetensors")
    (tmp_path / "folder" / "open_clip_config.json").write_text(json.dumps({"model_cfg": {**CONFIG, **change}}))
    refused(tmp_path / "folder", words)


def test_an_open_clip_folder_must_be_whole(tmp_path):
    save_open_clip_folder(open_clip_model(), tmp_path / "a", CONFIG, {"resize_mode": "longest", "fill_color": 128})
    refused(tmp_path / "a", "fill_color=128 is not supported; images are always padded with black")
    save_open_clip_folder(open_clip_model(), tmp_path / "b", CONFIG, {"size": 224})
    refused(tmp_path / "b", "size=224, but the weights are for 32 px")
    (tmp_path / "b" / "open_clip_model.safetensors").unlink()
    refused(tmp_path / "b", "the folder must contain one weights file, such as open_clip_model.safetensors, but none exists")
    (tmp_path / "b" / "open_clip_config.json").write_text("{")
    refused(tmp_path / "b", "not valid JSON")


@pytest.mark.fast_cases(3)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "siglip"}, "config.json is of a siglip model, not of a CLIP"),
        ({"model_type": None}, "config.json has no model_type, so it is not from transformers"),
        ({"projection_dim": 8}, "projection_dim is 8, but the tensors have 24"),
        ({"vision_config": {"image_size": 64}}, "vision_config.image_size is 64, but the tensors have 32"),
        ({"text_config": {"hidden_act": "gelu"}}, "two activations, quick_gelu and gelu"),
        ({"text_config": {"hidden_act": "relu"}}, "text_config.hidden_act='relu' is not supported"),
        ({"text_config": {"eos_token_id": 7}}, "text_config.eos_token_id=7, but OpenAI's end of text is 49407"),
        ({"vision_config": {"layer_norm_eps": 1e-6}}, "vision_config.layer_norm_eps=1e-06"),
        ({"vision_config": {"hidden_size": "wide"}}, "config.json cannot be read"),
    ],
)
def test_a_transformers_config_must_fit(tmp_path, change, words):
    transformers_clip().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for key, value in change.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    (tmp_path / "config.json").write_text(json.dumps(config))
    refused(tmp_path, words)


def test_a_transformers_folder_must_be_whole(tmp_path):
    transformers_clip().save_pretrained(tmp_path)
    processor = {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    refused(tmp_path, "cropped to .*224.*, but the weights are for 32 px")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 32}, "do_center_crop": False}))
    refused(tmp_path, "does not produce a square image")
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "vocab.json").write_text(json.dumps({"!": 3}))
    refused(tmp_path, "vocab.json is not OpenAI's vocabulary .'!' is 3 there")
    (tmp_path / "vocab.json").unlink()
    (tmp_path / "model.safetensors").unlink()
    refused(tmp_path, "no weights next to config.json")


def test_chinese_clips_files(tmp_path):
    model = ChineseCLIP(len(vocabulary_text().split()))
    flash = {key.replace("attn.in_proj_weight", "attn.Wqkv.weight"): value for key, value in model.state_dict().items()}
    torch.save({"state_dict": flash}, tmp_path / "flash.pt")
    refused(tmp_path / "flash.pt", "was saved with flash attention, .* cn_clip's convert_state_dict")
    torch.save({"state_dict": {**model.state_dict(), "head.weight": torch.zeros(1)}}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "1 tensors belong to no part of a Chinese-CLIP: head.weight")
    torch.save({"state_dict": model.state_dict()}, tmp_path / "a.pt")
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n", encoding="utf-8")
    refused(tmp_path / "a.pt", "vocab.txt in its folder has 2 tokens, but the weights were trained with")


def test_the_activation_must_be_known_and_agree(tmp_path, clip_state):
    save_file(clip_state, tmp_path / "a.safetensors")
    weights = read_clip(tmp_path / "a.safetensors", "X")
    with pytest.raises(BuildError, match=r"X: the file does not define the activation .* Pass quick_gelu=True \(OpenAI's weights\)"):
        weights.activation(None, "X")
    assert weights.activation(True, "X") is True and weights.activation(False, "X") is False
    said = replace(weights, quick_gelu=True)
    assert said.activation(None, "X") is True and said.activation(True, "X") is True
    with pytest.raises(BuildError, match="quick_gelu=False, but the open_clip weights were trained with quick_gelu=True"):
        said.activation(False, "X")


def test_another_kind_of_tower_is_named(tmp_path, clip_state):
    save_file(clip_state, tmp_path / "a.safetensors")
    weights = read_clip(tmp_path / "a.safetensors", "X")
    weights.require("X", vision="vit", text="clip")
    with pytest.raises(
        BuildError, match="image tower is a vision transformer of 2 layers of width 128, 32 px, patch 8, but CLIP's ResNet is"
    ):
        weights.require("X", vision="resnet")
    bert = replace(weights, text_kind="bert")
    with pytest.raises(
        BuildError, match="text tower is a BERT of 2 layers of width 64, 49408 tokens, but CLIP's text transformer is required"
    ):
        bert.require("X", text="clip")
