"""The hub when it is not there, and repositories that bring code."""

import builtins
import json
import time
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.pretrained import _PRETRAINED, _pcfg
from safetensors.torch import save_file
from small_towers import bert_folder
from torch import nn

from clipzoo.errors import BuildError
from clipzoo.models.weights import hub
from clipzoo.registries import BACKBONES, TEXT_ENCODERS


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """A hub on a closed port, and an empty cache."""
    from huggingface_hub import close_session, constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    close_session()  # the client looks at the proxies when it is made
    yield tmp_path / "cache"
    close_session()


@pytest.fixture
def socks(no_hub, monkeypatch):
    """A proxy of a kind for which the client needs a package that is not installed."""
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    return no_hub


def put(cache: Path, repository: str) -> Path:
    """The folder of a repository in the cache of the hub."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    return folder / "snapshots" / ("0" * 40)


NAMES = [
    (BACKBONES, "resnet18:pretrained"),
    (BACKBONES, "timm:resnet10t.c3_in1k"),
    (BACKBONES, "clip:ViT-B/32"),
    (BACKBONES, "openclip:ViT-B-32/laion2b_s34b_b79k"),
    (TEXT_ENCODERS, "clip:ViT-B/32"),
    (TEXT_ENCODERS, "openclip:ViT-B-32/laion2b_s34b_b79k"),
    (TEXT_ENCODERS, "openclip:ViT-B-16-SigLIP"),
    (TEXT_ENCODERS, "bert-base-chinese"),
    (TEXT_ENCODERS, "hf:hfl/rbt3"),
]


def refused(table, name: str, words: str) -> None:
    with pytest.raises(BuildError, match=words) as raised:
        table.build(name)
    message = str(raised.value)
    assert "HF_ENDPOINT" in message and "local copy" in message and "random weights" in message and "\n" not in message


@pytest.mark.fast_cases(3)
@pytest.mark.parametrize(("table", "name"), NAMES)
def test_without_a_hub_the_message_names_three_ways_at_once(no_hub, table, name):
    from huggingface_hub import constants

    start = time.perf_counter()
    refused(table, name, "http://127.0.0.1:9 cannot be reached, and the weights are not in the local cache")
    assert time.perf_counter() - start < 10
    assert constants.HF_HUB_OFFLINE is False  # the switch was put back


@pytest.mark.fast_cases(3)
@pytest.mark.parametrize(("table", "name"), NAMES)
def test_a_proxy_that_the_client_cannot_use_is_one_line(socks, table, name):
    refused(table, name, "SOCKS|socks")


def test_the_offline_switch_is_named(no_hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(BACKBONES, "resnet18:pretrained", "HF_HUB_OFFLINE is set")


@pytest.fixture
def cache_only(socks, monkeypatch):
    """With a proxy that does not work, and the network must not even be asked for."""
    monkeypatch.setattr(hub, "_reachable", lambda _: pytest.fail("the network was asked before the cache"))
    return socks


def test_cached_weights_of_timm_come_before_the_network(cache_only):
    import timm

    network = timm.create_model("test_resnet")
    save_file(network.state_dict(), put(cache_only, "timm/test_resnet.r160_in1k") / "model.safetensors")
    tower = BACKBONES.build("timm:test_resnet:pretrained")
    assert tower.weights == "timm test_resnet.r160_in1k"
    assert tower.preprocessing.size == 160
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in tower.net.state_dict().items())


def test_cached_weights_of_open_clip_come_before_the_network(cache_only, monkeypatch):
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
    text = {"width": 32, "heads": 1, "layers": 1, "vocab_size": 49408, "context_length": 8}
    model, config = open_clip.CLIP(16, vision, text), {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    monkeypatch.setattr("open_clip.factory._MODEL_CONFIGS", {"tiny": config})
    monkeypatch.setitem(_PRETRAINED, "tiny", {"tag": _pcfg(hf_hub="somebody/tiny/")})
    torch.save(model.state_dict(), put(cache_only, "somebody/tiny") / "open_clip_pytorch_model.bin")
    for table, which in ((BACKBONES, "visual.proj"), (TEXT_ENCODERS, "token_embedding.weight")):
        tower = table.build("openclip:tiny/tag")
        assert tower.weights == "open_clip tiny/tag" and tower.space == "somebody/tiny/"
        assert torch.equal(tower.net.state_dict()[which.removeprefix("visual.")], model.state_dict()[which])


@pytest.mark.parametrize("saved", ["safetensors", "bin", "parts"])
def test_cached_weights_of_transformers_come_before_the_network(cache_only, saved):
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = bert_folder(put(cache_only, "somebody/bert"))
    BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    model = BertModel(BertConfig.from_pretrained(folder), add_pooling_layer=False)
    if saved == "bin":
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    else:
        model.save_pretrained(folder, max_shard_size="1MB" if saved == "parts" else "1GB")
    assert (folder / "model.safetensors.index.json").exists() == (saved == "parts")
    for name in ("hf:somebody/bert", {"type": "BERT", "name": "somebody/bert", "dropout": 0.25}):
        tower = TEXT_ENCODERS.build(name)
        assert tower.weights == "Hugging Face somebody/bert"
        network = getattr(tower, "bert", None) or tower.net
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in network.state_dict().items())
        assert len(tower.tokenizer(["髋关节"]).ids[0]) == 5
    assert network.config.hidden_dropout_prob == 0.25 and network.embeddings.dropout.p == 0.25


@pytest.mark.slow
def test_a_tokenizer_in_several_files_is_taken_from_the_cache_if_the_hub_fails(socks):
    """Whether the cache has all of its files cannot be known, so the hub is asked first."""
    folder = bert_folder(put(socks, "somebody/bert"))
    (folder / "tokenizer.json").unlink(missing_ok=True)
    assert TEXT_ENCODERS.build({"type": "HFText", "name": "somebody/bert", "pretrained": False}).tokenizer.vocab_size > 6000


def test_what_is_cached_is_verified(cache_only):
    import timm

    folder = put(cache_only, "timm/test_resnet.r160_in1k")
    state = timm.create_model("test_resnet").state_dict()
    state["layer1.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    save_file(state, folder / "model.safetensors")
    with pytest.raises(BuildError, match="1 of .* numbers of layer1.0.conv1.weight are NaN or infinite"):
        BACKBONES.build("timm:test_resnet:pretrained")


CODE = "from pathlib import Path\nPath({marker!r}).touch()\nfrom transformers import BertConfig\nclass A(BertConfig):\n    model_type = 'a'"


@pytest.fixture
def with_code(tmp_path, monkeypatch):
    """A folder of a BERT, and a function that puts ``auto_map`` into one of its files; whoever asks or runs the code fails."""
    folder = tmp_path / "model"
    folder.mkdir()
    bert_folder(folder)
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("a question on standard input"))

    def change(file: str, **values: object) -> Path:
        path = folder / file
        content = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**content, **values}))
        (folder / "code.py").write_text(CODE.format(marker=str(tmp_path / "executed")))
        return folder

    yield change
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("model_type", ["bert", "a"])
@pytest.mark.parametrize("kind", ["HFText", "BERT"])
def test_a_folder_that_needs_code_is_refused_without_a_question(with_code, model_type, kind):
    """Also where transformers has a model of that type: the weights are for another one."""
    folder = with_code("config.json", model_type=model_type, auto_map={"AutoConfig": "code.A", "AutoModel": "code.A"})
    for pretrained in (True, False) if kind == "HFText" else (True,):
        with pytest.raises(BuildError, match=r"requires custom Python code \(config.json: auto_map\)") as raised:
            TEXT_ENCODERS.build({"type": kind, "name": str(folder), "pretrained": pretrained})
        assert str(raised.value).startswith(f"{kind}: '{folder}' ") and "\n" not in str(raised.value)


def test_a_tokenizer_that_needs_code_is_refused_without_a_question(with_code):
    folder = with_code("tokenizer_config.json", auto_map={"AutoTokenizer": ["code.A", None]}, tokenizer_class="A")
    with pytest.raises(BuildError, match=r"requires custom Python code \(tokenizer_config.json: auto_map\)"):
        TEXT_ENCODERS.build({"type": "HFText", "name": str(folder), "pretrained": False})


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_open_clips_towers_run_no_code_either(with_code, file):
    """Whatever the configuration says."""
    folder = str(with_code(file, auto_map={"AutoConfig": "code.A", "AutoModel": "code.A", "AutoTokenizer": ["code.A", None]}))
    text = {"hf_model_name": folder, "hf_tokenizer_name": folder, "hf_pooler_type": "mean_pooler", "context_length": 30}
    text["tokenizer_kwargs"] = {"trust_remote_code": True}
    config = {"embed_dim": 24, "vision_cfg": {}, "text_cfg": text}
    with pytest.raises(BuildError, match=r"OpenCLIPText: .* requires custom Python code"):
        TEXT_ENCODERS.build({"type": "OpenCLIPText", "name": "small", "config": config})


def test_a_folder_asks_no_network(with_code, monkeypatch, socks):
    monkeypatch.setattr(hub, "_reachable", lambda _: pytest.fail("the network was asked"))
    folder = with_code("config.json")
    assert TEXT_ENCODERS.build({"type": "HFText", "name": str(folder), "pretrained": False}).num_features == 32
    with pytest.raises(BuildError, match="no weights next to config.json"):
        TEXT_ENCODERS.build({"type": "HFText", "name": str(folder)})


def test_a_transformers_folder_is_read_by_the_same_door(tmp_path):
    """Prefixes, names and checks are those of every file of weights."""
    from transformers import BertConfig, BertModel

    folder = bert_folder(tmp_path)
    model: nn.Module = BertModel(BertConfig.from_pretrained(folder), add_pooling_layer=False)
    state = {f"_orig_mod.module.{key}": value for key, value in model.state_dict().items()}
    save_file(state, folder / "pytorch_model.bin")  # safetensors under another name
    tower = TEXT_ENCODERS.build(f"hf:{folder}")
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in tower.net.state_dict().items())
    first = next(iter(state))
    state[first] = torch.full_like(state[first], float("nan"))
    save_file(state, folder / "pytorch_model.bin")
    with pytest.raises(BuildError, match="embeddings.word_embeddings.weight are NaN or infinite"):
        TEXT_ENCODERS.build(f"hf:{folder}")
