"""Tiny ImageNet in its original layout: 200 classes of 500 train and 50 val images, and 10 000 test images without labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from clipzoo.config.arguments import Count, FilePath, Seed, Whole, Width, checked
from clipzoo.datasets.captions import Captions
from clipzoo.datasets.file_dataset import FileDataset
from clipzoo.datasets.files.class_texts import texts_from_template
from clipzoo.datasets.files.tiny_imagenet import draw, files_of, grouped, read_wnids, read_words
from clipzoo.errors import DataError
from clipzoo.records.folds import Case
from clipzoo.registries import DATASETS
from clipzoo.structures import Preprocessing

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from clipzoo.datasets.batches.workers import Loader

SPLITS = {"train": ("train",), "val": ("val",), "test": ("test",), "trainval": ("train", "val")}

# The normalisation of OpenAI's CLIP models (Radford et al., 2021).
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@DATASETS.register_module()
class TinyImageNetDataset(FileDataset):
    """Tiny ImageNet-200, or some of its classes, for use in a config, or from Python as a dataset of ``(image, label)``.

    Labels are the positions of the chosen classes in ``wnids.txt``, the same in every split. A class is named after its first name in
    ``words.txt``, or after all of its names if two classes share the first. Test images have no label: -1 from Python, ``None`` in a
    case; all of them are included, whatever the number of classes.

    Case ids are paths below ``root``. Byte-identical images become one group, with a note, even if they are in two classes.
    With ``split='trainval'`` every case has a part, which ``splits.type='AsGiven'`` follows. Train images that are copies of a val image
    are then omitted, with a note: no training image may be tested.

    Files are located when the dataset is created, but not verified; damage is detected when an image is read.

    Args:
        root: Folder that contains ``wnids.txt``.
        split: ``'train'``, ``'val'``, ``'test'``, or ``'trainval'`` for both labelled ones.
        transform: Function that ``dataset[i]`` applies to a Pillow image; ``None`` for none. A config uses ``data.augmentation`` instead.
        num_classes: Number of classes to draw from those in ``wnids.txt``.
        random_seed: Seed of that draw.
        template: Caption of a class; ``{class_name}`` stands for its name. ``None``: in the language of the text tower.
        all_names: Whether to use a caption for every name of a class in ``words.txt``, averaged in evaluation, instead of only the first.
        allow_copies: Whether to keep the train images that ``'trainval'`` would omit: the parts exactly as published.

    Raises:
        ConfigError: The split or number of classes is invalid, or the template is malformed.
        DataError: The folder is not as described above; the message gives the location.

    Example:
        ``dict(type='TinyImageNetDataset', root='data/tiny-imagenet-200', split='trainval', num_classes=50)``
    """

    def __init__(
        self,
        root: FilePath,
        split: Literal["train", "val", "test", "trainval"] = "train",
        transform: Callable | None = None,
        num_classes: Count = 200,
        random_seed: Seed = 42,
        *,
        template: str | None = None,
        all_names: bool = False,
        allow_copies: bool = False,
    ):
        self.root, self.split, self.transform = root, split, transform
        listed = read_wnids(self.root)
        self.wnids: tuple[str, ...] = draw(listed, num_classes, random_seed, self.root)
        words = read_words(self.root, listed)
        name_of = _class_names(words)
        names = [name_of[wnid] for wnid in self.wnids]
        parts = {part: files_of(part, self.root, self.wnids, listed) for part in SPLITS[split]}
        parts, groups, notes = grouped(parts, allow_copies)
        captions, of_class = _captions([words[wnid] for wnid in self.wnids] if all_names else [[name] for name in names], names, template)
        label_of: dict[str, int | None] = {wnid: label for label, wnid in enumerate(self.wnids)}
        labelled = {file.id: label_of.get(file.class_name) for files in parts.values() for file in files}
        super().__init__(
            [
                Case(file.id, labelled[file.id], groups[file.id], part if len(parts) > 1 else None)
                for part, files in parts.items()
                for file in files
            ],
            names,
            paths={file.id: file.path for files in parts.values() for file in files},
            captions=captions,
            captions_of_case={case_id: [] if label is None else of_class[label] for case_id, label in labelled.items()},
            captions_of_class=of_class,
            notes=notes,
        )

    def __getitem__(self, index: int) -> tuple[Image.Image | Tensor, int]:
        """The image of a row (after ``transform``) and its label; -1 for a test image."""
        row = range(len(self))[index]  # supports negative indices, and ends iteration
        image = self.read_image(row)
        return image if self.transform is None else self.transform(image), int(self.labels[row])

    def get_class_name(self, label: int) -> str:
        """The name of a class, such as ``'Egyptian cat'``.

        Raises:
            DataError: The label does not exist.
        """
        return self.classes[self._known(label)]

    def get_wnid(self, label: int) -> str:
        """The WordNet id of a class, such as ``'n02124075'``.

        Raises:
            DataError: The label does not exist.
        """
        return self.wnids[self._known(label)]

    def describe(self) -> list[str]:
        """See ``Dataset.describe``."""
        return [f"{type(self).__name__} {self.root}, {self.split}", *super().describe()]

    def _known(self, label: int) -> int:
        if not 0 <= label < len(self.classes):
            what = "the test images have no label" if label == -1 else f"labels are 0 … {len(self.classes) - 1}"
            raise DataError(f"label {label}: unknown class; {what}")
        return int(label)


@checked
def create_dataloaders(
    root: FilePath,
    batch_size: Count,
    num_classes: Count,
    image_size: Width = 64,
    *,
    num_workers: Whole = 0,
    random_seed: Seed = 42,
    preprocessing: Preprocessing | None = None,
    augmentation: str | dict | list = "none",
) -> tuple[Loader, Loader, Loader]:
    """Loaders of the train, val and test split, for a custom training loop.

    Args:
        root: See ``TinyImageNetDataset``.
        batch_size: Images per batch; the last, partial batch is kept.
        num_classes: See ``TinyImageNetDataset``.
        image_size: Height and width of the tensors.
        num_workers: Worker processes that read images; 0 reads in this process.
        random_seed: Seed of the drawn classes, and of the order of the train images.
        preprocessing: Normalisation and squaring of images, such as a tower's; ``None`` uses the mean and deviation of CLIP.
        augmentation: Augmentation of the train images: ``'none'``, ``'minimal'``, ``'standard'`` or a spec for AUGMENTATIONS. Uses
            torch's global generator.

    Returns:
        Loaders of ``(images, labels)``: ``[B, 3, image_size, image_size]`` float32, normalised, and ``[B]`` int64, -1 for test images.

    Raises:
        ConfigError: A number is too small; or see ``TinyImageNetDataset``.
        DataError: See ``TinyImageNetDataset``.
    """
    import torch
    from torch.utils.data import default_collate

    from clipzoo.datasets.augmentations import augmentation_of
    from clipzoo.datasets.batches.workers import Loader
    from clipzoo.datasets.transforms import evaluation_transform

    square = replace(preprocessing or Preprocessing(mean=CLIP_MEAN, std=CLIP_STD), size=image_size)
    plain = evaluation_transform(square)
    transforms = {"train": augmentation_of(augmentation).build(square), "val": plain, "test": plain}
    train, val, test = (
        Loader(
            TinyImageNetDataset(root, split, transform, num_classes, random_seed),
            default_collate,
            num_workers,
            name=f"{split} images",
            batch_size=batch_size,
            shuffle=split == "train",
            generator=torch.Generator().manual_seed(random_seed),
        )
        for split, transform in transforms.items()
    )
    return train, val, test


def _class_names(words: dict[str, list[str]]) -> dict[str, str]:
    """The shortest unique name of every class: the first name, all of them, or these and the WordNet id."""
    spellings = [{wnid: spell(wnid, names) for wnid, names in words.items()} for spell in (_first, _all, _with_id)]
    counts = [Counter(spelling.values()) for spelling in spellings]
    return {wnid: next(s[wnid] for s, n in zip(spellings, counts, strict=True) if n[s[wnid]] == 1) for wnid in words}


def _first(_: str, names: list[str]) -> str:
    return names[0]


def _all(_: str, names: list[str]) -> str:
    return ", ".join(names)


def _with_id(wnid: str, names: list[str]) -> str:
    return f"{_all(wnid, names)} ({wnid})"


def _captions(words: list[list[str]], names: list[str], template: str | None) -> tuple[Captions, list[list[int]]]:
    """The caption table, and the captions of every class. Names shared by several classes are not used."""
    of_names = Counter(name for group in words for name in dict.fromkeys(group))
    captions = Captions(names_only=template is None)
    of_class = []
    for label, group in enumerate(words):
        own = [name for name in group if of_names[name] == 1] or [names[label]]
        texts = texts_from_template("{class_name}" if template is None else template, own)
        of_class.append([captions.add(sentence, label) for (sentence,) in texts])
    return captions, of_class
