"""TorchScript archives are read as torch reads them, and nothing in them runs."""

import pickle
import warnings

import pytest
import torch
from archive_files import entries, save_script, write
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from clipzoo.errors import BuildError, DataError
from clipzoo.models.weights import read_clip
from clipzoo.models.weights.files import read_state_dict
from clipzoo.models.weights.torchscript import script_state

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")


class Everything(nn.Module):
    """Parameters and buffers of every type and layout, beside attributes that are neither."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        base = torch.randn(6, 5, generator=generator)
        self.shared = nn.Linear(3, 4)
        self.blocks = nn.ModuleList([nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4), self.shared])
        self.transposed = nn.Parameter(base.T)
        self.part = nn.Parameter(base[2:4, 1::2])
        for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.int8, torch.uint8, torch.int16, torch.int32):
            values = (10 * torch.randn(3, generator=generator)).abs()
            self.register_buffer(f"as_{str(dtype)[6:]}", values.to(dtype))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("scalar", torch.tensor(7))
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("passing", torch.ones(2), persistent=False)
        self.plain = torch.ones(3)
        self.names, self.numbers, self.table = ["a", "b"], [1, 2], {"k": torch.ones(1)}

    def forward(self, hidden: Tensor) -> Tensor:
        for block in self.blocks:
            hidden = block(hidden)
        return hidden + self.plain.sum() + self.passing.sum()


def assert_equal_to_torchs(path) -> None:
    expected, found = torch.jit.load(str(path)).state_dict(), script_state(path)
    assert list(found) == list(expected) and len(found) > 1
    for key, value in expected.items():
        assert found[key].dtype == value.dtype and found[key].stride() == value.stride() and torch.equal(found[key], value), key


def test_a_scripted_module_is_what_torch_jit_load_gives(tmp_path):
    assert_equal_to_torchs(save_script(Everything(), tmp_path / "a.pt"))
    assert "plain" not in script_state(tmp_path / "a.pt")


def test_a_traced_module_is_what_torch_jit_load_gives(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 2)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, torch.zeros(1, 3, 4, 4)).half().save(str(tmp_path / "a.pt"))
    assert_equal_to_torchs(tmp_path / "a.pt")
    read = read_state_dict(tmp_path / "a.pt", "X")
    assert read.keys() == network.state_dict().keys() and read["0.weight"].dtype == torch.float32


def test_an_archive_of_a_machine_with_the_other_byte_order(tmp_path):
    class Small(nn.Linear):
        pass

    module = Small(3, 2)
    parts = entries(save_script(module, tmp_path / "a.pt"))
    parts = {name: value for name, value in parts.items() if not name.endswith("byteorder")}
    assert script_state(write(tmp_path / "old.pt", parts.items())).keys() == {"weight", "bias"}  # older archives do not say it
    swapped = {
        name: torch.frombuffer(bytearray(value), dtype=torch.uint8).view(-1, 4).flip(1).numpy().tobytes() if "/data/" in name else value
        for name, value in parts.items()
    }
    read = script_state(write(tmp_path / "big.pt", [*swapped.items(), ("a/byteorder", b"big")]))
    assert torch.equal(read["weight"], module.weight) and torch.equal(read["bias"], module.bias)


class Restored(nn.Module):
    """Its TorchScript archive calls ``__setstate__`` when it is loaded."""

    def __init__(self):
        super().__init__()
        self.visual = nn.Linear(2, 2)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.visual(hidden)

    @torch.jit.export
    def __getstate__(self):
        return (self.training,)

    @torch.jit.export
    def __setstate__(self, state: tuple[bool]):
        self.training = state[0]
        print("executed")


def runs_in_torch(path, capfd) -> bool:
    capfd.readouterr()
    try:
        torch.jit.load(str(path))
    except RuntimeError:
        pass
    return "executed" in capfd.readouterr().out


@pytest.mark.parametrize("how", ["as it is", "other case", "twice"])
def test_code_in_an_archive_is_not_run(tmp_path, capfd, how):
    """torch ignores the case of names, and of two entries of one name it may choose another than Python does."""
    parts = list(entries(save_script(Restored(), tmp_path / "a.pt")).items())
    if how == "other case":
        parts = [(name.replace("/code/", "/CODE/").replace(".py", ".PY") if "/code/" in name else name, value) for name, value in parts]
    if how == "twice":
        harmless = entries(save_script(nn.Linear(2, 2), tmp_path / "b.pt"))
        text = next(value for name, value in harmless.items() if "/code/" in name and name.endswith(".py"))
        parts += [(name, text) for name, _ in parts if name.endswith("test_torchscript.py")]
    write(tmp_path / "a.pt", parts)
    if how != "twice":  # which of two it takes is torch's affair
        assert runs_in_torch(tmp_path / "a.pt", capfd)
    for name in ("a.pt", "a.bin", "a.safetensors"):
        (tmp_path / name).write_bytes((tmp_path / "a.pt").read_bytes())
        for read in (read_clip, read_state_dict):
            with pytest.raises(BuildError, match="__setstate__|source of .* is missing|occurs twice") as raised:
                read(tmp_path / name, "X")
            assert "\n" not in str(raised.value)
    assert "executed" not in capfd.readouterr().out


def test_torch_jit_is_called_nowhere():
    from pathlib import Path

    import clipzoo

    for path in Path(clipzoo.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8").replace("``torch.jit.load`` would run", "").replace("``torch.jit.load(path, map", "")
        assert "jit.load" not in text, path


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pickled: pickle.dumps(Evil(), protocol=2), "it contains __builtin__.print, which is not supported"),
        (lambda pickled: pickle.dumps(Evil(), protocol=4), "operation"),
        (lambda pickled: pickle.dumps({"weight": 3}, protocol=2), "its data.pkl contains no module"),
        (lambda pickled: pickled[:-20], "its pickle is (damaged|truncated)"),
        (lambda pickled: pickled.replace(b"FloatStorage", b"DoubleStorage"), "not a multiple of the size|not 6 of torch.float64"),
        (lambda pickled: pickled.replace(b"K\x03K\x02t", b"K\x03K\x09t"), r"shape \[3, 9\] does not fit into its 6 numbers"),
        (lambda pickled: pickled.replace(b"K\x02K\x01t", b"K\x09K\x01t"), r"shape \[3, 2\] does not fit into its 6 numbers"),
        (lambda pickled: pickled.replace(b"K\x03K\x02t", b"K\x03J\xfe\xff\xff\xfft"), "the shape .3, -2."),
        (lambda pickled: pickled.replace(b"c__torch__.", b"c__torch__.other.", 1), "source of __torch__.other.* is missing"),
    ],
)
def test_a_pickle_of_another_kind_is_one_line(tmp_path, capsys, change, words):
    parts = entries(save_script(nn.Linear(2, 3), tmp_path / "a.pt"))
    before = parts["a/data.pkl"]
    parts["a/data.pkl"] = change(before)
    assert parts["a/data.pkl"] != before
    with pytest.raises(DataError, match=words) as raised:
        script_state(write(tmp_path / "a.pt", parts.items()))
    assert "\n" not in str(raised.value) and "executed" not in capsys.readouterr().out


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return entries(save_script(Everything(), tmp_path_factory.mktemp("script") / "a.pt"))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(data=st.data())
def test_mutated_pickles_are_one_line(tmp_path_factory, parts, data):
    mutated(tmp_path_factory.getbasetemp() / "mutated.pt", parts, data)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None, derandomize=True)
@given(data=st.data())
def test_many_mutated_pickles_are_one_line(tmp_path_factory, parts, data):
    mutated(tmp_path_factory.getbasetemp() / "mutated.pt", parts, data)


def mutated(path, parts, data) -> None:
    """An archive whose checksums are right, and whose pickle or source is not."""
    name = data.draw(st.sampled_from(["a/data.pkl", "a/data.pkl", next(name for name in parts if name.endswith("test_torchscript.py"))]))
    content = parts[name]
    start = data.draw(st.integers(0, len(content)))
    content = content[:start] + data.draw(st.binary(max_size=8)) + content[start + data.draw(st.integers(0, 8)) :]
    write(path, {**parts, name: content}.items())
    try:
        state = script_state(path)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(value, Tensor) for value in state.values())
