"""Tests for clipzoo.datasets.file_dataset and what is digested of an image."""

import hashlib

import pytest
from PIL import Image

from clipzoo.datasets.base import Dataset
from clipzoo.datasets.captions import Captions
from clipzoo.datasets.file_dataset import FileDataset
from clipzoo.errors import DataError
from clipzoo.records.folds import Case


def captions_for(ids):
    captions = Captions()
    return {"captions": captions, "captions_of_case": {i: [captions.add(i)] for i in ids}}


@pytest.fixture
def dataset(tmp_path):
    for name, colour in (("b.png", "red"), ("a.png", "blue"), ("c.png", "red")):
        Image.new("RGB", (3, 2), colour).save(tmp_path / name)
    (tmp_path / "c.png").rename(tmp_path / "elsewhere.png")
    paths = {"b": str(tmp_path / "b.png"), "a": str(tmp_path / "a.png"), "c": str(tmp_path / "elsewhere.png")}
    return FileDataset([Case(i, None, i) for i in paths], (), paths=paths, **captions_for(paths))


def test_paths_follow_the_cases_into_their_order(dataset):
    assert [case.id for case in dataset.cases] == ["a", "b", "c"]
    assert [dataset.path_of(row).name for row in range(3)] == ["a.png", "b.png", "elsewhere.png"]
    assert [dataset.read_image(row).getpixel((0, 0)) for row in range(3)] == [(0, 0, 255), (255, 0, 0), (255, 0, 0)]


def test_content_digest_is_of_the_bytes(dataset, tmp_path):
    expected = hashlib.blake2b((tmp_path / "b.png").read_bytes(), digest_size=16).hexdigest()
    assert dataset.content_digest(1) == dataset.content_digest(2) == expected != dataset.content_digest(0)
    (tmp_path / "b.png").write_bytes(b"not an image")  # digested all the same
    assert dataset.content_digest(1) != expected
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png: no such file"):
        dataset.content_digest(1)


def test_a_subclass_with_images_of_its_own_is_digested_by_these(dataset):
    class Cropped(FileDataset):
        columns = 3

        def read_image(self, row):
            return super().read_image(row).crop((0, 0, self.columns, 2))

    dataset.__class__ = Cropped
    whole = dataset.content_digest(0)
    Cropped.columns = 2
    assert dataset.content_digest(0) != whole != dataset.content_digest(1)


class Made(Dataset):
    def __init__(self, images):
        super().__init__([Case(i, None, i) for i in images], (), **captions_for(images))
        self.images = [images[case.id] for case in self.cases]

    def read_image(self, row):
        return self.images[row]


def test_content_digest_of_images_without_files_is_of_size_and_pixels():
    wide, tall = Image.new("RGB", (6, 1), "red"), Image.new("RGB", (1, 6), "red")
    data = Made({"a": wide, "b": wide.copy(), "c": tall, "d": Image.new("RGB", (6, 1), (254, 0, 0))})
    digests = [data.content_digest(row) for row in range(4)]
    assert digests[0] == digests[1] and len(set(digests)) == 3
    assert all(len(digest) == 32 and int(digest, 16) >= 0 for digest in digests)
