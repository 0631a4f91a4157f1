"""Archives that are damaged or ambiguous are refused, before torch sees them."""

import os
import random
import zipfile

import pytest
import torch
from archive_files import entries, flipped, write
from hypothesis import given, settings
from hypothesis import strategies as st

from clipzoo.errors import BuildError, DataError
from clipzoo.models.weights.files import read_state_dict
from clipzoo.models.weights.torch_archive import verify_archive

STATE = {"weight": torch.arange(12.0).view(3, 4), "bias": torch.tensor([0.5, -1.0, 2.0])}


@pytest.fixture
def archive(tmp_path):
    torch.save(STATE, tmp_path / "a.pt")
    return tmp_path / "a.pt"


def refused(path, words: str) -> None:
    with pytest.raises(DataError, match=words) as raised:
        verify_archive(path)
    assert str(raised.value).startswith(f"{path}: ") and "\n" not in str(raised.value)


def test_torchs_own_archives_pass(archive):
    verify_archive(archive)
    write(archive, entries(archive).items(), packed=True)
    verify_archive(archive)


def test_a_flipped_weight_is_refused_where_torch_loads_it(archive):
    place = archive.read_bytes().index(STATE["bias"].numpy().tobytes())
    archive.write_bytes(flipped(archive, 8 * place))
    assert not torch.equal(torch.load(archive, weights_only=True)["bias"], STATE["bias"])  # without a word
    refused(archive, "Bad CRC-32 for file 'a/data/1'")
    with pytest.raises(BuildError, match="a.pt cannot be read as weights .damaged, or not an archive of torch .Bad CRC-32"):
        read_state_dict(archive, "X")


def read_or_refused(path) -> bool:
    """Is the state refused? If not, it must be what was written."""
    try:
        state = read_state_dict(path, "X")
    except BuildError as error:
        assert "\n" not in str(error)
        return True
    assert state.keys() == STATE.keys() and all(torch.equal(state[key], STATE[key]) for key in STATE)
    return False


@pytest.mark.parametrize("count", [200, pytest.param(4000, marks=pytest.mark.slow)])
def test_flipped_bits_are_refused_or_change_nothing(archive, tmp_path, count):
    bits = random.Random(0).sample(range(8 * archive.stat().st_size), count)
    outcomes = []
    for bit in bits:
        (tmp_path / "b.pt").write_bytes(flipped(archive, bit))
        outcomes.append(read_or_refused(tmp_path / "b.pt"))
    assert 0.2 < sum(outcomes) / count < 1  # padding between entries may change


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_damaged_archives_are_one_line(tmp_path_factory, data):
    damaged_archives(tmp_path_factory.mktemp("damaged"), data)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None, derandomize=True)
@given(data=st.data())
def test_many_damaged_archives_are_one_line(tmp_path_factory, data):
    damaged_archives(tmp_path_factory.getbasetemp(), data)


def damaged_archives(folder, data) -> None:
    """Bytes cut out, put in or overwritten, most of them in the directory at the end."""
    torch.save(STATE, folder / "a.pt")
    content = (folder / "a.pt").read_bytes()
    end = len(content)
    start = data.draw(st.one_of(st.integers(0, end), st.integers(end - 600, end)))
    length, new = data.draw(st.integers(0, 40)), data.draw(st.binary(max_size=40))
    (folder / "b.pt").write_bytes(content[:start] + new + content[start + length :])
    read_or_refused(folder / "b.pt")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a/data/1", "the entry 'a/data/1' occurs twice"),
        ("A/DATA.PKL", "is not in its folder 'a'"),
        ("a/DATA.PKL", "the entry 'a/DATA.PKL' occurs twice"),
        ("a/../data", "points outside the archive"),
        ("/etc/passwd", "points outside the archive"),
        ("a/./data", "points outside the archive"),
        ("a\\data", "points outside the archive"),
        ("C:/data", "points outside the archive"),
        ("b/data", "is not in its folder 'a'"),
    ],
)
def test_ambiguous_names_are_refused(archive, name, words):
    write(archive, [*entries(archive).items(), (name, b"x")])
    refused(archive, words)


def test_what_is_no_archive_is_refused(tmp_path, archive):
    whole = archive.read_bytes()
    for name, content in (("empty", b""), ("text", b"hello"), ("cut", whole[: len(whole) // 2])):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "damaged, or not an archive of torch")
    with zipfile.ZipFile(tmp_path / "nothing.zip", "w"):
        pass
    refused(tmp_path / "nothing.zip", "it is empty")
    (tmp_path / "longer").write_bytes(whole + b"x")
    refused(tmp_path / "longer", "there are bytes after its end|not a zip file")
    refused(tmp_path / "missing", "no such file")
    os.mkfifo(tmp_path / "fifo")
    refused(tmp_path / "fifo", "a FIFO, not a regular file")


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path):
    write(tmp_path / "a.pt", [("a/data.pkl", bytes(1 << 20))] * 1, packed=True)
    content = (tmp_path / "a.pt").read_bytes()
    size = (1 << 20).to_bytes(4, "little")
    (tmp_path / "a.pt").write_bytes(content.replace(size, (3 << 30).to_bytes(4, "little")))  # what it says of itself
    refused(tmp_path / "a.pt", "would expand to 3072 MiB")
