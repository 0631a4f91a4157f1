"""Reading and loading weights, and the hub when it is not there."""

import time

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from clipzoo.errors import BuildError
from clipzoo.models.pretrained import load_strictly, read_state_dict
from clipzoo.registries import BACKBONES, TEXT_ENCODERS


def test_state_dicts_are_read_from_both_formats(tmp_path):
    state = {"weight": torch.ones(2, 2, dtype=torch.float16), "count": torch.tensor(3)}
    save_file(state, tmp_path / "a.safetensors")
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        read = read_state_dict(tmp_path / name, "X")
        assert read["weight"].dtype == torch.float32 and read["count"].dtype == torch.int64 and set(read) == set(state)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.pth", None, "no weights file"),
        ("text.pth", b"hello", "cannot be read as weights"),
        ("text.safetensors", b"hello", "cannot be read as weights"),
        ("empty.pth", b"", "cannot be read as weights"),
    ],
)
def test_unreadable_weights_are_one_clear_line(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BuildError, match=words) as raised:
        read_state_dict(tmp_path / name, "ResNet")
    assert str(raised.value).startswith("ResNet: ") and "\n" not in str(raised.value)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_code_in_a_weights_file_is_not_run(tmp_path, capsys):
    torch.save({"weight": torch.ones(1), "evil": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(BuildError, match="cannot be read as weights"):
        read_state_dict(tmp_path / "evil.pth", "X")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
def test_a_torchscript_archive_is_named(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "script.pt")
    with pytest.raises(BuildError, match="is a TorchScript archive"):
        read_state_dict(tmp_path / "script.pt", "X")


def test_loading_lists_what_does_not_fit_and_changes_nothing():
    module = nn.Linear(2, 3)
    before = module.weight.clone()
    with pytest.raises(BuildError, match=r"1 missing: bias; 1 unexpected: b; 1 of another shape: weight \[3, 3\] instead of \[3, 2\]"):
        load_strictly(module, {"weight": torch.zeros(3, 3), "b": torch.zeros(3)}, "X")
    assert torch.equal(module.weight, before)


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """A hub on a closed port, and an empty cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (BACKBONES, "resnet18:pretrained"),
        (BACKBONES, "timm:resnet10t.c3_in1k"),
        (BACKBONES, "clip:ViT-B/32"),
        (BACKBONES, "openclip:ViT-B-32/laion2b_s34b_b79k"),
        (TEXT_ENCODERS, "clip:ViT-B/32"),
        (TEXT_ENCODERS, "openclip:ViT-B-32/laion2b_s34b_b79k"),
        (TEXT_ENCODERS, "openclip:ViT-B-16-SigLIP"),
        (TEXT_ENCODERS, "bert-base-chinese"),
        (TEXT_ENCODERS, "hf:hfl/rbt3"),
    ],
)
def test_without_a_hub_the_message_names_three_ways_at_once(no_hub, table, name):
    from huggingface_hub import constants

    start = time.perf_counter()
    with pytest.raises(BuildError) as raised:
        table.build(name)
    assert time.perf_counter() - start < 10
    message = str(raised.value)
    assert "http://127.0.0.1:9 cannot be reached" in message and "HF_ENDPOINT" in message and "\n" not in message
    assert "local copy" in message and "random weights" in message
    assert constants.HF_HUB_OFFLINE is False  # the switch was put back


def test_the_offline_switch_is_named(no_hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BuildError, match="HF_HUB_OFFLINE is set"):
        BACKBONES.build("resnet18:pretrained")


def test_cached_weights_are_used_without_a_hub(no_hub):
    import timm

    network = timm.create_model("test_resnet")
    folder = no_hub / "models--timm--test_resnet.r160_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(network.state_dict(), folder / "snapshots" / ("0" * 40) / "model.safetensors")
    tower = BACKBONES.build("timm:test_resnet:pretrained")
    assert tower.weights == "timm test_resnet.r160_in1k"
    assert tower.preprocessing.size == 160
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in tower.net.state_dict().items())
