"""What every registered tower promises: it is made again without hub and files, and recomputing activations changes no number."""

import copy
import shutil
import socket

import hub_cache
import pytest
import torch
from safetensors.torch import save_file

from clipzoo.models.text_encoders.tokenizer import character_vocabulary
from clipzoo.registries import BACKBONES, TEXT_ENCODERS

SENTENCES = ["一张髋关节假体的图片", "a cat", "!", "膝关节 2", "w " * 90]
VIT = {"image_size": 32, "patch_size": 8, "width": 48, "layers": 3, "heads": 3, "output_dim": 24}
RESNET = {"image_size": 64, "width": 8, "layers": [1, 2, 1, 1], "heads": 4, "output_dim": 24}
SMALL_BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def clip_file(folder, marks=True):
    """A whole CLIP in OpenAI's layout."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    model = CLIP(
        24, CLIPVisionCfg(layers=2, width=64, patch_size=8, image_size=32), CLIPTextCfg(width=64, heads=1, layers=2), quick_gelu=True
    )
    said = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}
    torch.save({**model.state_dict(), **(said if marks else {})}, folder / "clip.pt")
    return str(folder / "clip.pt")


def resnet_file(folder):
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(layers=(1, 1, 1, 1), width=8, head_width=64, image_size=64)
    save_file(CLIP(24, vision, CLIPTextCfg(width=64, heads=1, layers=1), quick_gelu=True).state_dict(), folder / "rn.safetensors")
    return str(folder / "rn.safetensors")


def bert_folder(folder, kind="bert"):
    from transformers import BertConfig, BertModel, BertTokenizer, RobertaConfig, RobertaModel

    (folder / "vocab.txt").write_text("\n".join(character_vocabulary()), encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    config, model = (BertConfig, BertModel) if kind == "bert" else (RobertaConfig, RobertaModel)
    sizes = {**SMALL_BERT, "vocab_size": len(character_vocabulary()), "max_position_embeddings": 70}
    model(config(**sizes, dtype="float16")).save_pretrained(folder)
    return str(folder)


def chinese_clip_file(folder):
    from transformers import BertConfig, BertModel

    (folder / "vocab.txt").write_text("\n".join(character_vocabulary()), encoding="utf-8")
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    visual = CLIP(24, CLIPVisionCfg(layers=1, width=64, patch_size=8, image_size=32), CLIPTextCfg(width=64, heads=1, layers=1)).visual
    sizes = {**SMALL_BERT, "hidden_size": 64, "num_attention_heads": 1}
    bert = BertModel(BertConfig(**sizes, vocab_size=len(character_vocabulary())), add_pooling_layer=False)
    state = {f"module.visual.{key}": value for key, value in visual.state_dict().items()}
    state |= {f"module.bert.{key}": value for key, value in bert.state_dict().items()}
    state |= {"module.text_projection": torch.randn(64, 24), "module.logit_scale": torch.tensor(4.0)}
    torch.save({"state_dict": state, "epoch": 1}, folder / "chinese.pt")
    return str(folder / "chinese.pt")


def timm_file(folder):
    """Of 160 pixels, while random towers start at 224."""
    import timm

    torch.save(timm.create_model("test_vit").state_dict(), folder / "vit.pth")
    return str(folder / "vit.pth")


def open_clip_config(folder, name="tiny-vit"):
    """A model of each kind; the tokenizer or encoder of two of them lies in ``folder``."""
    vit = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8}
    text = {"width": 64, "heads": 2, "layers": 2, "context_length": 30}
    whole = {"hf_tokenizer_name": str(folder), "vocab_size": len(character_vocabulary()), "no_causal_mask": True, "pool_type": "last"}
    timm = {"timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "mlp", "image_size": 160}
    sections = {
        "tiny-vit": ({**vit, "patch_dropout": 0.25}, text),
        "tiny-timm": (timm, {**text, **whole}),
        "tiny-rn": (
            {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
            {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder), "hf_pooler_type": "mean_pooler", "context_length": 30},
        ),
    }
    return {"embed_dim": 24, "quick_gelu": True, "vision_cfg": sections[name][0], "text_cfg": sections[name][1]}


def open_clip_file(folder, kind, name):
    """A name in open_clip's list for the time of making the tower, and a file with weights."""
    import open_clip

    bert_folder(folder)
    open_clip.factory._MODEL_CONFIGS[name] = open_clip_config(folder, name)
    torch.save(open_clip.create_model(name, pretrained_text=False).state_dict(), folder / "model.pt")
    return {"type": kind, "name": name, "tag": str(folder / "model.pt")}


def saved(folder, model, *more, **arguments):
    """The folder, with what these functions save in it."""
    model(folder, **arguments)
    for save in more:
        save(folder)
    return str(folder)


# Every registered tower at least once, and every way in which weights decide something: name -> spec, given a folder to save files in.
IMAGES = {
    "ResNet": lambda folder: {"type": "resnet18", "image_size": 32},
    "StarNet": lambda folder: {"type": "starnet_s050", "image_size": 32},
    "EfficientNet": lambda folder: {"type": "efficientnet-b0", "image_size": 32},
    "ConvNeXt": lambda folder: {"type": "convnext-tiny", "image_size": 32},
    "VisionTransformer": lambda folder: {"type": "vit-tiny", "image_size": 32},
    "TimmBackbone": lambda folder: {"type": "TimmBackbone", "name": "test_vit"},
    "TimmBackbone file": lambda folder: {"type": "TimmBackbone", "name": "test_vit", "pretrained": timm_file(folder)},
    "CLIPVision": lambda folder: {"type": "CLIPVision", **VIT, "patch_dropout": 0.25},
    "CLIPVision resnet": lambda folder: {"type": "CLIPVision", **RESNET},
    "CLIPVision file": lambda folder: {"type": "CLIPVision", "pretrained": clip_file(folder)},
    "CLIPVision other size": lambda folder: {"type": "CLIPVision", "pretrained": clip_file(folder), "image_size": 48, "fit": "pad"},
    "CLIPVision said": lambda folder: {
        "type": "CLIPVision", "pretrained": clip_file(folder, marks=False), "quick_gelu": False, "mean": [0.5, 0.4, 0.3],
    },
    "OpenCLIPBackbone": lambda folder: {"type": "OpenCLIPBackbone", "name": "x", "config": open_clip_config(folder)},
    "OpenCLIPBackbone file": lambda folder: open_clip_file(folder, "OpenCLIPBackbone", "tiny-vit"),
    "OpenCLIPBackbone timm": lambda folder: {**open_clip_file(folder, "OpenCLIPBackbone", "tiny-timm"), "image_size": 192, "fit": "squash"},
    "OpenCLIPBackbone resnet": lambda folder: open_clip_file(folder, "OpenCLIPBackbone", "tiny-rn"),
    "CLIPVision resnet file": lambda folder: {"type": "CLIPVision", "pretrained": resnet_file(folder)},
    "HFVision": lambda folder: {"type": "HFVision", "name": saved(folder, hub_cache.image_model, kind="ViT", **hub_cache.VISION)},
    "HFVision other size": lambda folder: {"type": "HFVision", "name": saved(folder, hub_cache.siglip), "image_size": 48, "fit": "pad"},
    "HFVision clip": lambda folder: {"type": "HFVision", "name": saved(folder, hub_cache.chinese_clip)},
    "TimmBackbone folder": lambda folder: {"type": f"timm:{saved(folder, hub_cache.timm_repository, architecture='test_vit', depth=3)}"},
}  # fmt: skip
TEXTS = {
    "BERT": lambda folder: {"type": "BERT", "pretrained": False, "hidden_size": 32, "num_layers": 2, "num_heads": 2},
    "BERT projected": lambda folder: {"type": "bert", "hidden_size": 32, "num_layers": 1, "num_heads": 2, "projection": 20},
    "BERT folder": lambda folder: {"type": "BERT", "name": bert_folder(folder), "max_length": 20, "pooling": "mean"},
    "BERT chinese-clip": lambda folder: {"type": "BERT", "pretrained": chinese_clip_file(folder)},
    "CLIPText": lambda folder: {"type": "CLIPText", "width": 32, "layers": 2, "heads": 2, "output_dim": 16},
    "CLIPText file": lambda folder: {"type": "CLIPText", "pretrained": clip_file(folder), "context_length": 40},
    "OpenCLIPText": lambda folder: {"type": "OpenCLIPText", "name": "x", "config": open_clip_config(folder)},
    "OpenCLIPText file": lambda folder: open_clip_file(folder, "OpenCLIPText", "tiny-vit"),
    "OpenCLIPText tokenizer": lambda folder: open_clip_file(folder, "OpenCLIPText", "tiny-timm"),
    "OpenCLIPText bert": lambda folder: open_clip_file(folder, "OpenCLIPText", "tiny-rn"),
    "HFText": lambda folder: {"type": "HFText", "name": bert_folder(folder)},
    "HFText clip": lambda folder: {"type": "HFText", "name": saved(folder, hub_cache.clip)},
    "HFText chinese-clip": lambda folder: {"type": "HFText", "name": saved(folder, hub_cache.chinese_clip), "max_length": 30},
    "HFText siglip": lambda folder: {"type": "HFText", "name": saved(folder, hub_cache.siglip, hub_cache.sentence_pieces)},
    "HFText roberta": lambda folder: {"type": "HFText", "name": bert_folder(folder, "roberta"), "pretrained": False},
}
TOWERS = [*((BACKBONES, name, make) for name, make in IMAGES.items()), *((TEXT_ENCODERS, name, make) for name, make in TEXTS.items())]
EVERY = pytest.mark.parametrize(("table", "name", "make"), TOWERS, ids=[name for _, name, _ in TOWERS])


def test_every_registered_tower_is_tested_here():
    for table, made in ((BACKBONES, IMAGES), (TEXT_ENCODERS, TEXTS)):
        assert {name for name in table if table.get(name).__module__.startswith("clipzoo.")} == {name.partition(" ")[0] for name in made}


def build(table, make, folder):
    torch.manual_seed(3)
    folder.mkdir()
    spec = table.expand(make(folder))
    return spec, table.build(spec)


def forget_open_clips_names():
    import open_clip

    for name in ("tiny-vit", "tiny-timm", "tiny-rn"):
        open_clip.factory._MODEL_CONFIGS.pop(name, None)


def inputs_of(tower):
    torch.manual_seed(1)
    if hasattr(tower, "tokenizer"):
        return tower.tokenizer(SENTENCES)
    return torch.randn(4, 3, tower.preprocessing.size, tower.preprocessing.size)


def plain(value):
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(item) for key, item in value.items())
    return all(map(plain, value)) if isinstance(value, list) else value is None or type(value) in (bool, int, float, str)


@pytest.mark.fast_cases(8)
@EVERY
def test_a_tower_is_made_again_without_hub_and_files(table, name, make, tmp_path, monkeypatch):
    spec, tower = build(table, make, tmp_path / "files")
    blueprint = copy.deepcopy(tower.blueprint())
    assert plain(blueprint) and str(tmp_path) not in str(blueprint)
    forget_open_clips_names()
    state = {key: value.clone() for key, value in tower.state_dict().items()}
    inputs = inputs_of(tower)
    with torch.no_grad():
        features = tower.eval()(inputs)
    shutil.rmtree(tmp_path / "files")
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("the hub was asked"))
    torch.manual_seed(4)
    again = table.build({**spec, **blueprint})
    again.load_state_dict(state, strict=True)
    assert again.blueprint() == blueprint
    assert (again.num_features, again.projected, again.quick_gelu) == (tower.num_features, tower.projected, tower.quick_gelu)
    assert again.depth_groups() == tower.depth_groups()
    if table is TEXT_ENCODERS:
        tokens = again.tokenizer(SENTENCES)
        assert torch.equal(tokens.ids, inputs.ids) and torch.equal(tokens.lengths, inputs.lengths)
        assert again.context_length == tower.context_length
        assert [again.tokenizer.count(s) for s in SENTENCES] == [tower.tokenizer.count(s) for s in SENTENCES]
    else:
        assert again.preprocessing == tower.preprocessing
    with torch.no_grad():
        assert torch.equal(again.eval()(inputs), features)


HEAVY = ("ConvNeXt", "ResNet", "EfficientNet", "VisionTransformer")
RECOMPUTED = [
    pytest.param(*tower, id=tower[1], marks=pytest.mark.slow if tower[1] in HEAVY or tower[1].endswith("file") else ()) for tower in TOWERS
]


@pytest.mark.fast_cases(6)
@pytest.mark.parametrize(("table", "name", "make"), RECOMPUTED)
def test_recomputing_activations_changes_no_gradient_and_no_statistic(table, name, make, tmp_path):
    _, tower = build(table, make, tmp_path / "files")
    forget_open_clips_names()
    tower.train()
    other = copy.deepcopy(tower)
    other.checkpoint_gradients()
    inputs, results, kept = inputs_of(tower), [], []
    copies = [copy.deepcopy(other)] if len(other.state_dict()) < 150 else []  # as the moving average of the weights makes them
    for each in (tower, other, *copies):
        torch.manual_seed(2)
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
            loss = each(inputs).square().sum()
        kept.append(None)
        loss.backward()
        results.append((loss, dict(each.named_parameters()), dict(each.named_buffers())))
    for loss, parameters, buffers in results[1:]:
        torch.testing.assert_close(loss, results[0][0], rtol=1e-6, atol=0)
        for key, parameter in results[0][1].items():
            torch.testing.assert_close(parameters[key].grad, parameter.grad, rtol=1e-5, atol=1e-6)
        assert all(torch.equal(buffers[key], value) for key, value in results[0][2].items())
    first = kept.index(None)
    assert sum(kept[first + 1 : kept.index(None, first + 1)]) < sum(kept[:first])  # activations really are not kept
