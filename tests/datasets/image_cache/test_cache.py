"""The image cache gives the tensors that decoding would give, to the last bit, for every kind of dataset, file and transform."""

import os
import shutil
from contextlib import closing

import numpy as np
import pytest
import torch
from dicom_files import write_dicom
from PIL import Image
from tiff_files import tiff
from tiny import write_class_folders, write_pairs
from tiny_imagenet_layout import write_tiny_imagenet

from clipzoo.datasets import ImageFolderDataset, PairsDataset, TableDataset, TinyImageNetDataset, Views
from clipzoo.datasets.augmentations import augmentation_of
from clipzoo.datasets.batches.epochs import Draw
from clipzoo.datasets.batches.loader import CaseReader, eval_loader
from clipzoo.datasets.files import images as reading
from clipzoo.datasets.image_cache import geometry
from clipzoo.datasets.image_cache.cache import ImageCache
from clipzoo.datasets.image_cache.geometry import geometry_digest
from clipzoo.datasets.transforms import evaluation_transform
from clipzoo.errors import DataError
from clipzoo.structures import Preprocessing

SMALL = Preprocessing(size=16)


@pytest.fixture
def cache(tmp_path):
    return ImageCache.of(str(tmp_path / "cache"), 1)


@pytest.fixture
def decoded(monkeypatch):
    """Sizes of the encoded images that were decoded."""
    calls = []
    original = reading.decode
    for module in ("clipzoo.datasets.files.images", "clipzoo.datasets.file_dataset"):
        monkeypatch.setattr(f"{module}.decode", lambda content, **more: calls.append(len(content)) or original(content, **more))
    return calls


def write_odd_images(folder):
    """Every way to store an image that decoding treats in its own way."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    gray, colour = rng.integers(0, 4096, (30, 50)).astype(np.uint16), rng.integers(0, 256, (41, 23, 3), dtype=np.uint8)
    Image.fromarray(gray).save(folder / "deep.png")
    (folder / "deep.tif").write_bytes(tiff(gray))
    (folder / "pages.tif").write_bytes(tiff(gray[:, ::-1].copy(), 0))
    write_dicom(folder / "ray.dcm", gray, WindowCenter=900, WindowWidth=700)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colour).save(folder / "turned.jpg", exif=exif)
    Image.fromarray(colour).convert("P").save(folder / "palette.png")
    Image.fromarray(np.dstack([colour, colour[..., :1]])).save(folder / "alpha.png")
    Image.fromarray(colour).convert("CMYK").save(folder / "print.jpg")
    Image.fromarray(colour[:16, :16]).save(folder / "exact.png")
    Image.fromarray(colour[:3, :2]).save(folder / "tiny.png")
    Image.fromarray(colour[:40, :1]).save(folder / "line.png")
    return folder.parent


def dataset(kind, folder):
    """A dataset of files in ``folder``."""
    if kind == "pairs":
        return PairsDataset(str(write_pairs(folder / "pairs", 6, size=40) / "data.json"))
    if kind == "tiny_imagenet":
        return TinyImageNetDataset(str(write_tiny_imagenet(folder / "net")), split="trainval", num_classes=2)
    if kind.startswith("frame"):
        (folder / "rays" / "a").mkdir(parents=True, exist_ok=True)
        frames = np.random.default_rng(1).integers(0, 4096, (2, 40, 30)).astype(np.uint16)
        write_dicom(folder / "rays" / "a" / "two.dcm", frames, NumberOfFrames=2)
        return ImageFolderDataset(str(folder / "rays"), frame=int(kind[-1]))
    root = write_odd_images(folder / "odd" / "a")
    if kind == "folders":
        return ImageFolderDataset(str(root))
    names = sorted(path.name for path in (root / "a").iterdir())
    lines = ["path,label,patient", *(f"odd/a/{name},x,p{number // 4}" for number, name in enumerate(names))]
    (folder / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    table = TableDataset(str(folder / "table.csv"), group_key="patient")
    return table if kind == "table" else Views(table, most=2)


def samples(data, transform, cache, **more):
    reader = CaseReader(data, transform, data.most_images, cache, **more)
    found = [reader[Draw(row, 7 * row)][1] for row in range(len(data))]
    reader.after_batch()
    return found, reader


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b) and a.dtype == b.dtype and a.stride() == b.stride()


@pytest.mark.parametrize("kind", ["folders", "table", "views", "pairs", "tiny_imagenet", "frame1", "frame2"])
def test_tensors_are_equal_to_the_last_bit_for_every_kind_of_dataset(kind, tmp_path, cache, decoded):
    data = dataset(kind, tmp_path)
    preprocessing = Preprocessing(size=6) if kind == "tiny_imagenet" else SMALL
    for transform in (evaluation_transform(preprocessing), augmentation_of("standard").build(preprocessing)):
        plain, _ = samples(data, transform, None)
        for _ in range(3):  # decoded, and found by this object and another
            found, reader = samples(data, transform, cache)
            assert_equal(found, plain)
    decoded.clear()
    samples(data, transform, cache)
    small = {row for row in range(len(data.single_images)) if data.single_images.cases[row].id.endswith("tiny.png")}
    assert len(decoded) == sum(row in small for row in reader_rows(data))
    other = dataset(f"frame{3 - int(kind[-1])}", tmp_path) if kind.startswith("frame") else None
    if other is not None:
        assert not torch.equal(samples(other, transform, cache)[0][0], plain[0]), "another frame of the same file"


def reader_rows(data):
    reader = CaseReader(data, lambda image: image, data.most_images)
    return [row for number in range(len(data)) for row in reader._chosen(Draw(number, 7 * number))]


SEVERAL = [{"type": "RandAugment"}, {"type": "RandomErasing", "p": 1.0}]


@pytest.mark.fast_cases(1)
@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("augmentation", ["minimal", SEVERAL, {"type": "RandomResizedCrop"}])
def test_tensors_are_equal_for_every_geometry_and_augmentation(fit, interpolation, augmentation, tmp_path, cache):
    data = dataset("folders", tmp_path)
    for size in (16, 7, 1):
        transform = augmentation_of(augmentation).build(Preprocessing(size=size, fit=fit, interpolation=interpolation))
        plain, _ = samples(data, transform, None)
        assert_equal(samples(data, transform, cache)[0], plain)
        assert_equal(samples(data, transform, cache)[0], plain)


def test_workers_fill_and_use_one_cache(tmp_path, cache):
    data = ImageFolderDataset(str(write_class_folders(tmp_path / "images", per_class=8, size=40)))
    options = {"batch_size": 4, "pin_memory": False}
    transform, batches = evaluation_transform(SMALL), []
    for workers, use in ((0, None), (2, cache), (2, cache), (0, cache)):
        with closing(eval_loader(data, np.arange(24), transform, num_workers=workers, cache=use, **options)) as loader:
            batches.append(torch.cat([batch.images for batch in loader]))
    assert all(torch.equal(batches[0], other) for other in batches[1:])
    images = cache.images(data, SMALL)
    assert all(bytes.fromhex(data.encoded_digest(row)) in images.packs for row in range(24))


def test_a_changed_file_is_decoded_again_and_a_copy_is_not(tmp_path, cache, decoded):
    root = write_class_folders(tmp_path / "images", per_class=2, size=40)
    for path in root.rglob("*.png"):
        os.utime(path, ns=(1, 1))
    data = ImageFolderDataset(str(root))
    transform = evaluation_transform(SMALL)
    first, reader = samples(data, transform, cache)
    path = data.path_of(0)
    picture = np.asarray(Image.open(path)).copy()
    picture[:] = 255 - picture
    Image.fromarray(picture).save(path)
    os.utime(path, ns=(1, 1))
    decoded.clear()
    changed = reader[Draw(0, 0)][1]
    assert len(decoded) == 1 and torch.equal(changed, transform(reading.read_image(path))) and not torch.equal(changed, first[0])
    reader.after_batch()
    shutil.copytree(root, tmp_path / "copy")
    copied = ImageFolderDataset(str(tmp_path / "copy"))
    decoded.clear()
    assert torch.equal(samples(copied, transform, cache)[0][0], changed) and decoded == []


def test_a_file_replaced_while_it_is_read_is_kept_under_its_own_bytes(tmp_path, cache, monkeypatch):
    """The digest of a missing image is that of the very bytes that were decoded."""
    root = write_class_folders(tmp_path / "images", per_class=2, size=40)
    data = ImageFolderDataset(str(root))
    old, new = data.path_of(0).read_bytes(), data.path_of(1).read_bytes()
    original = type(data).encoded_digest

    def replaced_afterwards(self, row):
        digest = original(self, row)
        data.path_of(0).write_bytes(new)
        return digest

    with monkeypatch.context() as patch:
        patch.setattr(type(data), "encoded_digest", replaced_afterwards)
        samples(data, evaluation_transform(SMALL), cache)
    data.path_of(0).write_bytes(old)
    transform = evaluation_transform(SMALL)
    assert torch.equal(samples(data, transform, cache)[0][0], transform(reading.read_image(data.path_of(0))))


def test_errors_are_those_of_reading(tmp_path, cache):
    data = ImageFolderDataset(str(write_class_folders(tmp_path / "images", per_class=3, size=40)))
    data.path_of(0).unlink()
    data.path_of(1).write_bytes(data.path_of(1).read_bytes()[:60])
    data.path_of(2).write_bytes(b"")
    transform = evaluation_transform(SMALL)
    for row in range(3):
        messages = []
        for use in (None, cache):
            with pytest.raises(DataError) as caught:
                CaseReader(data, transform, cache=use)[Draw(row, 0)]
            messages.append(str(caught.value))
        assert messages[0] == messages[1] and str(data.path_of(row)) in messages[0]


def test_images_that_are_not_the_content_of_files_are_not_kept(tmp_path, cache):
    class Inverted(ImageFolderDataset):
        def read_image(self, row):
            return Image.eval(super().read_image(row), lambda value: 255 - value)

    data = Inverted(str(write_class_folders(tmp_path / "images", per_class=2, size=40)))
    assert cache.images(data, SMALL) is None and CaseReader(data, evaluation_transform(SMALL), cache=cache).cached is None
    plain = ImageFolderDataset(data.roots[0])
    assert CaseReader(plain, lambda image: torch.zeros(3, 16, 16), cache=cache).cached is None, "a transform of a plugin begins as it likes"


def test_the_geometry_covers_everything_between_file_and_pixels(monkeypatch):
    digests = {geometry_digest(SMALL)}
    for other in (Preprocessing(size=17), Preprocessing(size=16, fit="crop"), Preprocessing(size=16, interpolation="bilinear")):
        digests.add(geometry_digest(other))
    digests.add(geometry_digest(SMALL, frame=1))
    for name in ("code_of", "version_of"):
        with monkeypatch.context() as patch:
            patch.setattr(geometry, name, lambda name: "another")
            digests.add(geometry_digest(SMALL))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another")
    digests.add(geometry_digest(SMALL))
    assert len(digests) == 8
    monkeypatch.undo()
    assert geometry_digest(SMALL) == geometry_digest(Preprocessing(size=16, mean=(0, 0, 0), std=(1, 1, 1)))


def test_no_folder_is_no_cache(monkeypatch, tmp_path):
    notes = []
    assert ImageCache.of(None, 1, notes.append).budget is None and notes == []
    monkeypatch.setenv("CLIPZOO_CACHE", str(tmp_path))
    assert ImageCache.of("auto", 0.5).budget.root == tmp_path / "images" and ImageCache.of("auto", 0.5).budget.size == 1 << 29
    monkeypatch.setenv("CLIPZOO_CACHE", "~nobody-of-this-name/x")
    assert ImageCache.of("auto", 1, notes.append).budget is None and "no home folder" in notes[0]
