import numpy as np
import pytest

from clipzoo.errors import DataError
from clipzoo.records.mapped_array import map_array, write_array


def test_an_array_comes_back_as_a_map_that_nobody_else_sees(tmp_path):
    array = np.arange(60, dtype=np.uint16).reshape(12, 5)
    write_array(tmp_path / "new" / "a.npy", array)
    found = map_array(tmp_path / "new" / "a.npy", ("uint16",))
    assert isinstance(found, np.memmap) and np.array_equal(found, array) and found.dtype == np.uint16
    found[:] = 0
    assert np.array_equal(map_array(tmp_path / "new" / "a.npy", ("uint16",)), array)
    assert np.array_equal(np.load(tmp_path / "new" / "a.npy"), array), "other programs read it, too"


def test_every_flipped_byte_and_every_cut_is_found(tmp_path):
    path = tmp_path / "a.npy"
    write_array(path, np.arange(9, dtype=np.int32).reshape(3, 3))
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(DataError, match="damaged"):
            map_array(path, ("int32",))
        path.write_bytes(content[:place])
        with pytest.raises(DataError, match="damaged"):
            map_array(path, ("int32",))


def test_another_array_and_no_file(tmp_path):
    write_array(tmp_path / "a.npy", np.zeros((2, 2)))
    with pytest.raises(DataError, match="does not contain the expected array .it has float64"):
        map_array(tmp_path / "a.npy", ("uint16", "int32"))
    with pytest.raises(DataError, match="no such file"):
        map_array(tmp_path / "b.npy", ("uint16",))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_array(tmp_path / "file" / "a.npy", np.zeros((1, 1), np.uint16))
