"""Tests for clipzoo.datasets.tiny_imagenet, on a layout made in code and on a piece of the collection where there is one."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_imagenet_layout import NAMES, write_tiny_imagenet

import clipzoo
from clipzoo.config import Config
from clipzoo.datasets import TinyImageNetDataset, create_dataloaders
from clipzoo.datasets.tiny_imagenet import CLIP_MEAN, CLIP_STD
from clipzoo.errors import ConfigError, DataError
from clipzoo.registries import DATASETS, SPLITTERS
from clipzoo.structures import Preprocessing

MINI = Path(__file__).parents[3] / "shared" / "data" / "tiny-imagenet-mini"
mini = pytest.mark.skipif(not MINI.is_dir(), reason="the piece of Tiny ImageNet is not here")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Six classes with 4 train and 2 val images each, and 5 test images."""
    return write_tiny_imagenet(tmp_path_factory.mktemp("tiny") / "tiny-imagenet-200")


@pytest.fixture
def root(made, tmp_path):
    """A copy to spoil."""
    return Path(shutil.copytree(made, tmp_path / "tiny"))


def test_labels_follow_wnids_and_names_follow_words(made):
    data = TinyImageNetDataset(str(made), num_classes=6)
    assert data.wnids == tuple(NAMES) == tuple(data.get_wnid(label) for label in range(6))
    assert data.classes == ("Egyptian cat", "crane, Grus", "crane, lifting device", "slug", "dam", "torch")
    assert data.get_class_name(0) == "Egyptian cat" and data.get_class_name(np.int64(4)) == "dam"
    assert len(data) == 24
    for row, case in enumerate(data.cases):
        _, wnid, images, name = case.id.split("/")
        assert images == "images" and name.startswith(wnid) and case.label == list(NAMES).index(wnid) and case.part is None
        assert data[row][1] == case.label and type(data[row][1]) is int


def test_names_that_are_all_alike_get_the_id(root):
    words = (root / "words.txt").read_text().replace("crane, Grus", "crane, lifting device")
    (root / "words.txt").write_text(words)
    names = TinyImageNetDataset(str(root), num_classes=6).classes
    assert names[1:3] == ("crane, lifting device (n02)", "crane, lifting device (n09)")


def test_items_are_images_and_labels(made):
    data = TinyImageNetDataset(str(made), "val", num_classes=6)
    image, label = data[3]
    assert image.mode == "RGB" and image.size == (8, 6) and data.path_of(3).name == "val_11.JPEG" and label == 5
    assert image.tobytes() == Image.open(data.path_of(3)).tobytes()
    assert len(list(data)) == len(data) == 12 and data[-1][1] == data[11][1]
    with pytest.raises(IndexError):
        data[12]
    sizes = TinyImageNetDataset(str(made), "val", transform=lambda image: image.size, num_classes=6)
    assert sizes[0] == ((8, 6), data[0][1])


def test_val_labels_are_those_of_the_annotations(made):
    data = TinyImageNetDataset(str(made), "val", num_classes=6)
    lines = (made / "val" / "val_annotations.txt").read_text().splitlines()
    expected = {f"val/images/{line.split(chr(9))[0]}": list(NAMES).index(line.split("\t")[1]) for line in lines}
    assert {case.id: case.label for case in data.cases} == expected


def test_test_images_have_no_label_and_are_all_there(made):
    data = TinyImageNetDataset(str(made), "test", num_classes=2)
    assert len(data) == 5 and [label for _, label in data] == [-1] * 5 and {case.label for case in data.cases} == {None}
    with pytest.raises(DataError, match="label -1: unknown class; the test images have no label"):
        data.get_class_name(-1)
    with pytest.raises(DataError, match=r"labels are 0 … 1"):
        data.get_wnid(2)


def test_nothing_is_trained_on_images_without_labels(made):
    from clipzoo.engine import build

    config = Config({"splits": {"type": "KFold", "num_folds": 2}})
    with pytest.raises(DataError, match=r"data\.dataset: no image has a label"):
        build.folds(config, TinyImageNetDataset(str(made), "test", num_classes=6))
    assert len(build.folds(config, TinyImageNetDataset(str(made), "val", num_classes=6)).splits) == 2


def test_the_subset_is_the_seeds_the_same_in_every_split_and_in_order(made):
    chosen = [TinyImageNetDataset(str(made), split, num_classes=3, random_seed=7) for split in ("train", "val", "test", "trainval")]
    assert len({data.wnids for data in chosen}) == 1 and [len(data) for data in chosen] == [12, 6, 5, 18]
    assert list(chosen[0].wnids) == [wnid for wnid in NAMES if wnid in chosen[0].wnids]
    draws = {TinyImageNetDataset(str(made), num_classes=3, random_seed=seed).wnids for seed in range(12)}
    assert len(draws) > 3
    assert chosen[0].labels.tolist() == [chosen[0].wnids.index(case.id.split("/")[1]) for case in chosen[0].cases]


def test_captions(made):
    data = TinyImageNetDataset(str(made), num_classes=6, template="一张{class_name}")
    assert data.captions.sentences[1] == "一张crane, Grus" and data.class_captions() == [[i] for i in range(6)]
    every = TinyImageNetDataset(str(made), num_classes=6, all_names=True)
    of_class = [[every.captions.sentences[i].removeprefix("a photo of a ") for i in ids] for ids in every.class_captions()]
    assert of_class[0] == ["Egyptian cat"] and of_class[4] == ["dam", "dike", "dyke"]
    assert of_class[1:3] == [["Grus"], ["lifting device"]]  # 'crane' describes none of the two
    row = every.rows["train/n07/images/n07_2.JPEG"]
    assert every.captions_of(row) == every.class_captions()[4]
    with pytest.raises(ConfigError, match="does not contain {class_name}"):
        TinyImageNetDataset(str(made), num_classes=6, template="a photo")


def copy(root, source, target):
    shutil.copy(root / source, root / target)


def test_copies_within_a_part_are_one_group(root):
    copy(root, "train/n05/images/n05_0.JPEG", "train/n05/images/n05_3.JPEG")
    copy(root, "train/n05/images/n05_1.JPEG", "train/n01/images/n01_1.JPEG")  # in two classes
    data = TinyImageNetDataset(str(root), num_classes=6)
    group = {case.id: case.group for case in data.cases}
    assert group["train/n05/images/n05_0.JPEG"] == group["train/n05/images/n05_3.JPEG"] != group["train/n05/images/n05_1.JPEG"]
    assert group["train/n05/images/n05_1.JPEG"] == group["train/n01/images/n01_1.JPEG"] and len(set(group.values())) == 22
    notes = " | ".join(data.notes)
    assert "2 sets of byte-identical images" in notes and "1 of these sets are in several classes" in notes
    folds = SPLITTERS.build({"type": "StratifiedGroupKFold", "num_folds": 2}).split(data.cases, data.classes)
    assert len(folds.splits) == 2


def test_trainval_has_parts_that_as_given_follows(made):
    data = TinyImageNetDataset(str(made), "trainval", num_classes=6)
    assert {case.part for case in data.cases} == {"train", "val"} and all(case.id.startswith(case.part) for case in data.cases)
    assert "; train 24  val 12" in data.describe()[1]
    (split,) = SPLITTERS.build({"type": "AsGiven"}).split(data.cases, data.classes).splits
    assert len(split.train) == 24 and len(split.test) == 12 and not split.val


def test_trainval_leaves_out_train_images_that_are_val_images(root):
    copy(root, "val/images/val_0.JPEG", "train/n05/images/n05_2.JPEG")
    copy(root, "val/images/val_0.JPEG", "train/n01/images/n01_0.JPEG")
    assert len(TinyImageNetDataset(str(root), "train", num_classes=6)) == 24
    data = TinyImageNetDataset(str(root), "trainval", num_classes=6)
    assert len(data) == 34 and "train/n05/images/n05_2.JPEG" not in data.rows and "val/images/val_0.JPEG" in data.rows
    assert any("2 train images have the bytes of a val image and are left out" in note for note in data.notes)
    SPLITTERS.build({"type": "AsGiven"}).split(data.cases, data.classes)
    kept = TinyImageNetDataset(str(root), "trainval", num_classes=6, allow_copies=True)
    assert len(kept) == 36 and any("no honest test" in note for note in kept.notes)
    (split,) = SPLITTERS.build({"type": "AsGiven"}).split(kept.cases, kept.classes).splits
    assert len(split.train) == 24 and len(split.test) == 12


def test_dataloaders(made):
    train, val, test = create_dataloaders(str(made), 10, 6, image_size=32)
    assert [len(loader.dataset) for loader in (train, val, test)] == [24, 12, 5]
    batches = [[(images.shape, labels.shape) for images, labels in loader] for loader in (train, val, test)]
    assert batches[0] == [((n, 3, 32, 32), (n,)) for n in (10, 10, 4)] and len(batches[1]) == 2
    images, labels = next(iter(test))
    assert images.dtype == torch.float32 and labels.dtype == torch.int64 and labels.tolist() == [-1] * 5
    black = (-torch.tensor(CLIP_MEAN) / torch.tensor(CLIP_STD)).view(3, 1)
    torch.testing.assert_close(images[0, :, 0], black.expand(3, 32))  # the letterbox of an 8 x 6 image


def test_the_order_of_the_train_loader_is_the_seeds(made):
    def order(seed, loader=0):
        return torch.cat([labels for _, labels in create_dataloaders(str(made), 10, 6, 16, random_seed=seed)[loader]]).tolist()

    assert order(1) == order(1) != order(2) and sorted(order(1)) == [label for label in range(6) for _ in range(4)]
    assert order(1, loader=1) == order(2, loader=1) == TinyImageNetDataset(str(made), "val", num_classes=6).labels.tolist()


def test_dataloaders_take_a_towers_preprocessing_and_an_augmentation(made):
    preprocessing = Preprocessing(size=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), fit="squash")
    loaders = create_dataloaders(str(made), 24, 6, 16, preprocessing=preprocessing, augmentation="standard")
    assert all(next(iter(loader))[0].shape[1:] == (3, 16, 16) for loader in loaders)
    assert all(-1 <= next(iter(loader))[0].min() and next(iter(loader))[0].max() <= 1 for loader in loaders)
    train, val = loaders[0].dataset, loaders[1].dataset
    assert not torch.equal(train[0][0], train[0][0]) and torch.equal(val[0][0], val[0][0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, r"TinyImageNetDataset.num_classes: 0 is not a whole number of 1 or more"),
        ({"num_classes": 201}, r"num_classes: 201 cannot be drawn; .* lists 6 classes"),
        ({}, r"num_classes: 200 cannot be drawn; .* lists 6 classes"),
        ({"split": "tain", "num_classes": 6}, r"split: 'tain' is not one of 'train', 'val', 'test', 'trainval'. Did you mean 'train'\?"),
    ],
)
def test_wrong_arguments_are_one_line(made, arguments, message):
    with pytest.raises(ConfigError, match=message) as caught:
        TinyImageNetDataset(str(made), **arguments)
    assert "\n" not in str(caught.value)


def drop(path):
    return lambda root: shutil.rmtree(root / path) if (root / path).is_dir() else (root / path).unlink()


def edit(path, old, new):
    return lambda root: (root / path).write_text((root / path).read_text().replace(old, new))


@pytest.mark.parametrize(
    ("split", "spoil", "message"),
    [
        ("val", drop("words.txt"), r"words\.txt: no such file\. Expected the content of .*/tiny-imagenet-200\.zip"),
        ("train", drop("wnids.txt"), r"no wnids\.txt in it\. Expected the content of http://cs231n\.stanford\.edu/tiny-imagenet-200\.zip"),
        ("train", edit("wnids.txt", "n02", "n05"), r"wnids\.txt: n05 is listed twice"),
        ("train", lambda root: (root / "wnids.txt").write_text("\n"), r"wnids\.txt: the file is empty"),
        ("train", edit("words.txt", "n07\t", "n77\t"), r"words\.txt: no name for n07, which wnids\.txt lists"),
        ("train", drop("train/n02"), r"train/n02/images: no such folder, but wnids\.txt lists the class"),
        ("val", drop("val/val_annotations.txt"), r"val_annotations\.txt: no such file\. Expected"),
        ("val", drop("val/images/val_3.JPEG"), r"val_annotations\.txt: 1 listed images are missing: val/images/val_3\.JPEG"),
        ("val", edit("val/val_annotations.txt", "val_4.JPEG\tn07", "val_3.JPEG\tn01"), r"1 images have no line: val/images/val_4\.JPEG"),
        ("val", edit("val/val_annotations.txt", "n07", "n0x7"), r"class 'n0x7' is not in wnids.txt\. Did you mean 'n07'\?"),
        ("test", drop("test/images"), r"test/images: cannot be read"),
        ("train", lambda root: (root / "train/n05/images/n05_1.JPEG").write_bytes(b""), r"n05_1\.JPEG: the file is empty \(zero bytes\)"),
    ],
)
def test_what_is_missing_is_said(root, split, spoil, message):
    spoil(root)
    with pytest.raises(DataError, match=message):
        TinyImageNetDataset(str(root), split, num_classes=6)


def test_an_empty_class_and_an_empty_test_folder(root):
    for path in (root / "train/n05/images").iterdir():
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(DataError, match=r"train/n05/images: no images in this folder\. Supported: png"):
        TinyImageNetDataset(str(root), num_classes=6)
    for path in (root / "test/images").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="test/images: no images in this folder"):
        TinyImageNetDataset(str(root), "test", num_classes=6)


def test_a_root_one_level_too_high_or_missing(made):
    with pytest.raises(DataError, match=r"no wnids\.txt in it\. Did you mean '.*tiny-imagenet-200'\?"):
        TinyImageNetDataset(str(made.parent))
    with pytest.raises(DataError, match="no such folder. Expected"):
        TinyImageNetDataset(str(made / "nowhere"))


def test_damage_shows_when_an_image_is_read(root):
    broken = root / "train/n05/images/n05_1.JPEG"
    broken.write_bytes(broken.read_bytes()[:200])
    data = TinyImageNetDataset(str(root), num_classes=6)
    with pytest.raises(DataError, match=r"n05_1\.JPEG: "):
        data[data.rows["train/n05/images/n05_1.JPEG"]]


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"image_size": 0}, {"num_workers": -1}])
def test_loader_numbers(made, arguments):
    (name,) = arguments
    with pytest.raises(ConfigError, match=f"create_dataloaders.{name}: .* is not a whole number"):
        create_dataloaders(**{"root": str(made), "batch_size": 4, "num_classes": 6, **arguments})


def test_public_names():
    assert clipzoo.TinyImageNetDataset is TinyImageNetDataset and clipzoo.create_dataloaders is create_dataloaders
    assert DATASETS.get("TinyImageNetDataset") is TinyImageNetDataset


@mini
def test_a_piece_of_the_collection():
    splits = {split: TinyImageNetDataset(str(MINI), split, num_classes=12) for split in ("train", "val", "test", "trainval")}
    assert {split: len(data) for split, data in splits.items()} == {"train": 720, "val": 180, "test": 24, "trainval": 900}
    data = splits["train"]
    assert np.bincount(data.labels).tolist() == [60] * 12 and np.bincount(splits["val"].labels).tolist() == [15] * 12
    assert data.get_wnid(0) == "n01945685" and data.get_class_name(2) == "brown bear" and data[0][0].size == (64, 64)
    train, val, test = create_dataloaders(str(MINI), batch_size=32, num_classes=5)
    assert [len(loader.dataset) for loader in (train, val, test)] == [300, 75, 24] and len(train) == 10
    images, labels = next(iter(train))
    assert images.shape == (32, 3, 64, 64) and 0 <= labels.min() and labels.max() <= 4
