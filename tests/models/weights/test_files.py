"""Files of weights: what they are, reading them under any name and prefix, and loading them strictly."""

import pytest
import torch
from archive_files import save_script
from safetensors.torch import save_file
from torch import nn

from clipzoo.errors import BuildError
from clipzoo.models.layout.states import check_finite, load_strictly
from clipzoo.models.weights.files import kind_of_weights, read_state_dict


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


def test_loading_lists_what_does_not_fit_and_changes_nothing():
    module = nn.Linear(2, 3)
    before = module.weight.clone()
    with pytest.raises(BuildError, match=r"1 missing: bias; 1 unexpected: b; 1 of another shape: weight \[3, 3\] instead of \[3, 2\]"):
        load_strictly(module, {"weight": torch.zeros(3, 3), "b": torch.zeros(3)}, "X")
    assert torch.equal(module.weight, before)


KEYS = ("visual.conv1.weight", "visual.bias", "logit_scale")


def named(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.full((2,), float(number)) for number, name in enumerate(names)}


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin", "a.pt", "a.pth", "a", "a.txt"])
@pytest.mark.parametrize("kind", ["safetensors", "archive", "pickle", "script"])
def test_what_a_file_is_is_decided_by_its_bytes(tmp_path, kind, name):
    module = nn.Linear(2, 3)
    path = tmp_path / name
    if kind == "safetensors":
        save_file(module.state_dict(), path)
    elif kind == "script":
        save_script(module, path)
    else:
        torch.save(module.state_dict(), path, _use_new_zipfile_serialization=kind == "archive")
    assert kind_of_weights(path) == kind
    read = read_state_dict(path, "X")
    assert read.keys() == {"weight", "bias"} and all(torch.equal(read[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"hello", b"<!doctype html>", b"version https://git-lfs.github.com/spec/v1\n", bytes(64), b"{}"])
def test_what_is_no_weights_is_refused_under_any_name(tmp_path, content):
    for name in ("a.safetensors", "a.bin", "a.pth"):
        (tmp_path / name).write_bytes(content)
        assert kind_of_weights(tmp_path / name) is None
        with pytest.raises(BuildError, match="cannot be read as weights .it is neither safetensors nor a torch file"):
            read_state_dict(tmp_path / name, "X")
    assert kind_of_weights(tmp_path) is None and kind_of_weights(tmp_path / "missing") is None


@pytest.mark.parametrize(
    "renamed",
    [
        lambda key: f"_orig_mod.{key}",
        lambda key: f"module.{key}",
        lambda key: f"module._orig_mod.{key}",
        lambda key: f"_orig_mod.module._orig_mod.module.{key}",
        lambda key: key.replace("visual.", "visual._orig_mod."),
        lambda key: "module." + key.replace("visual.", "visual.module._orig_mod.module."),
    ],
)
@pytest.mark.parametrize("containers", ["", "state_dict", "model", "model_state_dict", "model state_dict", "state_dict model"])
def test_prefixes_and_containers_in_any_nesting(tmp_path, renamed, containers):
    content = {renamed(key): value for key, value in named(*KEYS).items()}
    for key in reversed(containers.split()):
        content = {key: content, "epoch": 3, "args": {"lr": 0.1}}
    torch.save(content, tmp_path / "a.pt")
    read = read_state_dict(tmp_path / "a.pt", "X")
    assert read.keys() == set(KEYS) and all(torch.equal(read[key], value) for key, value in named(*KEYS).items())


@pytest.mark.slow
def test_a_compiled_network_is_read(tmp_path):
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    network[0] = torch.compile(network[0])
    state = torch.compile(network).state_dict()
    assert "_orig_mod.0._orig_mod.weight" in state
    torch.save({"model_state_dict": state, "val_acc": 91.5}, tmp_path / "best.pth")
    plain = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    load_strictly(plain, read_state_dict(tmp_path / "best.pth", "X"), "X")


def test_two_tensors_of_one_name_are_refused(tmp_path):
    torch.save(named("module.weight", "weight"), tmp_path / "a.pt")
    with pytest.raises(BuildError, match="the tensors module.weight and weight are both weight without their prefixes"):
        read_state_dict(tmp_path / "a.pt", "X")
    torch.save({"model": named("weight"), "state_dict": named("weight")}, tmp_path / "a.pt")
    with pytest.raises(BuildError, match="contains several state dicts of tensors"):
        read_state_dict(tmp_path / "a.pt", "X")


def test_a_module_whose_name_is_like_a_prefix_stays(tmp_path):
    torch.save(named("submodule.weight", "head.module.weight", "my_orig_mod.weight"), tmp_path / "a.pt")
    assert read_state_dict(tmp_path / "a.pt", "X").keys() == {"submodule.weight", "head.module.weight", "my_orig_mod.weight"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_weights_that_are_not_finite_are_refused_with_the_tensors_name(tmp_path, value, dtype):
    state = {**named(*KEYS), "visual.proj": torch.tensor([[1.0, value], [0.0, 2.0]], dtype=dtype)}
    for name in ("a.pt", "a.safetensors"):
        (torch.save if name == "a.pt" else save_file)(state, tmp_path / name)
        with pytest.raises(BuildError, match=rf"^X: .*{name}: 1 of 4 numbers of visual.proj are NaN or infinite") as raised:
            read_state_dict(tmp_path / name, "X")
        assert "\n" not in str(raised.value)


def test_numbers_that_single_precision_cannot_hold_are_refused(tmp_path):
    save_file({"weight": torch.tensor([1e300, 1.0], dtype=torch.float64)}, tmp_path / "a.safetensors")
    with pytest.raises(BuildError, match="1 of 2 numbers of weight are NaN or infinite"):
        read_state_dict(tmp_path / "a.safetensors", "X")


def test_the_masks_of_attention_may_be_infinite():
    mask = torch.full((2, 2), float("-inf")).triu(1)
    check_finite({"attn_mask": mask, "text.attn_mask": mask, "weight": torch.ones(1)}, "X")
    with pytest.raises(BuildError, match="X: 1 of 4 numbers of proj are NaN or infinite"):
        check_finite({"attn_mask": mask, "proj": mask}, "X")
