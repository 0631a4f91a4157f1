import os
import threading

import pytest

from clipzoo.datasets import pseudonyms
from clipzoo.datasets.pseudonyms import SALT_FILE, pseudonym, read_salt
from clipzoo.errors import DataError


def test_equal_patients_have_equal_names_that_do_not_show_them():
    salt = "s" * 64
    names = {pseudonym(f"P{i:04d}", salt) for i in range(2000)}
    assert len(names) == 2000 and all(name.startswith("patient-") and len(name) == 24 for name in names)
    assert pseudonym(" Müller", salt) == pseudonym("MU\u0308LLER ", salt) != pseudonym("Möller", salt)
    assert pseudonym("P1", salt) != pseudonym("P1", "t" * 64)


def test_the_salt_is_made_once_beside_the_data(tmp_path):
    salt = read_salt(tmp_path)
    assert len(salt) == 64 and read_salt(tmp_path) == salt == (tmp_path / SALT_FILE).read_text().strip()
    assert os.listdir(tmp_path) == [SALT_FILE]
    (tmp_path / "b").mkdir()
    assert read_salt(tmp_path / "b") != salt


def test_a_folder_that_cannot_be_written_has_its_salt_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPZOO_CACHE", str(tmp_path / "cache"))
    make = pseudonyms._make

    def refuse(path):
        if path.name == SALT_FILE:
            raise PermissionError(13, "Permission denied")
        make(path)

    monkeypatch.setattr(pseudonyms, "_make", refuse)
    salt = read_salt(tmp_path)
    (kept,) = (tmp_path / "cache" / "salts").iterdir()
    assert kept.read_text().strip() == salt == read_salt(str(tmp_path) + "/.") and not (tmp_path / SALT_FILE).exists()
    monkeypatch.setattr(pseudonyms, "_make", make)
    assert read_salt(tmp_path) == salt, "as long as it exists, also after the folder has become writable"


def test_without_any_place_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(pseudonyms, "cache_folder", lambda: None)
    monkeypatch.setattr(pseudonyms, "_make", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(DataError, match=r"cannot be kept there \(Permission denied\) nor in the cache folder\. Set data\.dataset\.salt"):
        read_salt(tmp_path)


def test_an_emptied_salt_is_refused(tmp_path):
    (tmp_path / SALT_FILE).write_text("")
    with pytest.raises(
        DataError, match="too short for the secret of pseudonyms: 0 characters, at least 16 required. Restore it, or delete it"
    ):
        read_salt(tmp_path)


@pytest.mark.parametrize("links", [True, False])
def test_processes_that_start_at_once_agree(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(95, "Operation not supported")))
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(read_salt(tmp_path))) for _ in range(8 if links else 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and os.listdir(tmp_path) == [SALT_FILE]
