"""Augmentation of whole batches: the same random numbers as image by image, and the same pixels up to rounding."""

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_config
from torchvision import transforms
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import affine

from clipzoo.config import Config
from clipzoo.datasets import ImageFolderDataset, Views
from clipzoo.datasets.augmentations import augmentation_of
from clipzoo.datasets.augmentations.batched import batched, inverse_affine, training_transform
from clipzoo.datasets.augmentations.images import Augmentation, StandardAugmentation
from clipzoo.datasets.batches.epochs import Draw
from clipzoo.datasets.batches.loader import CaseReader, Collate
from clipzoo.datasets.image_cache.cache import ImageCache
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.errors import ConfigError
from clipzoo.structures import Preprocessing

# Of values in [0, 1]. Coordinates of up to 32 pixels are rounded to 2e-6, and images of noise change by up to 1 between two pixels.
BOUND = 2e-5
EVERYTHING = [
    {"type": "ColorJitter", "brightness": 0.6, "contrast": [0.2, 3.0]},
    {
        "type": "RandomAffine",
        "degrees": 60,
        "translate": [0.3, 0.2],
        "scale": [0.4, 2.0],
        "shear": [-20, 20, -10, 30],
        "interpolation": "nearest",
    },
    "standard",
    {"type": "StandardAugmentation", "horizontal_flip": True, "contrast": 0},
    {"type": "RandomVerticalFlip"},
]
SPECS = ["none", "minimal", "standard", EVERYTHING[3], EVERYTHING[0], EVERYTHING[3:], ["minimal", "MixUp"]]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Noise of several shapes, two of them smaller than the tower."""
    folder = tmp_path_factory.mktemp("noise") / "a"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate([(64, 64), (70, 40), (33, 90), (32, 32), (20, 9), (1, 50), (64, 63), (48, 48)]):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return ImageFolderDataset(str(folder.parent))


def both(data, spec, preprocessing, draws=None):
    """Batches of the per-image path and of the batched one."""
    augmentation = augmentation_of(spec)
    on_device = batched(augmentation, preprocessing)
    draws = draws or [Draw(row, 100 * epoch + row) for epoch in range(3) for row in range(len(data))]
    made = []
    for transform in (augmentation.build(preprocessing), on_device.transform):
        reader = pickle.loads(pickle.dumps(CaseReader(data, transform, data.most_images)))  # worker processes get a pickle
        made.append(Collate(data, None)([reader[draw] for draw in draws]))
    assert made[1].images.dtype == torch.uint8 and made[1].draws.shape[0] == len(made[1].images)
    return made[0], on_device(made[1])


@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_it_equals_the_per_image_path_up_to_rounding(data, spec, fit):
    one_by_one, together = both(data, spec, Preprocessing(size=32, fit=fit))
    assert together.draws is None and together.images.dtype == torch.float32
    std = torch.tensor(Preprocessing().std).view(1, 3, 1, 1)
    assert ((together.images - one_by_one.images) * std).abs().max() <= BOUND
    if spec != "none":
        assert not torch.equal(one_by_one.images[:8], one_by_one.images[8:16]), "drawn anew in every epoch"


@pytest.mark.parametrize("size", [31, 189])  # torch sums more than 2**15 values in parallel
@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec != "none"], ids=str)
def test_a_pixel_depends_neither_on_its_batch_nor_on_threads(data, spec, size, monkeypatch):
    augmentation = batched(augmentation_of(spec), Preprocessing(size=size))
    reader, collate = CaseReader(data, augmentation.transform), Collate(data, None)
    samples = [reader[Draw(row % len(data), row)] for row in range(23)]
    alone = torch.cat([augmentation(collate([sample])).images for sample in samples])
    threads = torch.get_num_threads()
    try:
        for count, at_once in [(1, 1), (1, 5), (2, 2), (2, 23), (3, 7), (5, 23)]:
            torch.set_num_threads(count)
            monkeypatch.setattr("clipzoo.datasets.augmentations.batched._PIXELS", at_once * size**2 // count)
            assert torch.equal(augmentation(collate(samples)).images, alone), (count, at_once)
    finally:
        torch.set_num_threads(threads)


def test_pixels_that_are_not_interpolated_are_the_same_except_at_ties(data):
    """With the nearest pixel, rounding decides only where two are equally near."""
    one_by_one, together = both(data, EVERYTHING[1], Preprocessing(size=32))
    differing = (one_by_one.images - together.images).abs().amax(1) > 1e-5
    assert differing.float().mean() < 1e-3


def test_views_of_a_case_share_its_generator(data):
    grouped = ImageFolderDataset(data.roots[0])
    grouped.given_groups = {case.id: "p" if row < 5 else case.id for row, case in enumerate(grouped.cases)}
    views = Views(grouped, most=3)
    one_by_one, together = both(views, "standard", Preprocessing(size=32), [Draw(row, 7 + row) for row in range(len(views))])
    assert torch.equal(one_by_one.num_images, together.num_images) and len(together.images) == 3 + 3
    assert (one_by_one.images - together.images).abs().max() <= BOUND / min(Preprocessing().std)


def test_the_image_cache_serves_it(data, tmp_path):
    on_device, cache = batched(augmentation_of("standard"), Preprocessing(size=32)), ImageCache.of(str(tmp_path), 1)
    found = []
    for use in (None, cache, cache):
        reader = CaseReader(data, on_device.transform, cache=use)
        found.append(Collate(data, None)([reader[Draw(row, row)] for row in range(len(data))]))
        reader.after_batch()
    for batch in found[1:]:
        assert torch.equal(batch.images, found[0].images) and torch.equal(batch.draws, found[0].draws)


@pytest.mark.parametrize("case", [(30, (3, -2), 1.3, (0, 0)), (-170, (0, 5), 0.5, (20, 0)), (10, (1, 1), 1, (-15, 25))])
def test_the_matrix_is_torchvisions(case):
    angle, translate, scale, shear = case
    pixels = torch.rand(3, 40, 40)
    step = v2.RandomAffine(0, interpolation=v2.InterpolationMode.BILINEAR)
    augmentation = batched(_Steps([], [step]), Preprocessing(size=40, mean=(0, 0, 0), std=(1, 1, 1)))
    numbers = torch.tensor([[40.0, 40.0, *inverse_affine(*case)]])
    found = augmentation.square[0].apply(pixels[None], numbers[:, 2:], torch.ones(1, 1, 40, 40))[0]
    expected = affine(pixels, angle, list(translate), scale, list(shear), v2.InterpolationMode.BILINEAR, fill=[0.0])
    assert (found - expected).abs().max() <= BOUND


class _Steps(Augmentation):
    def __init__(self, colour, square):
        self.made = colour, square

    def steps(self, preprocessing):
        return self.made


class Invert:
    """A plugin's step, with a batched form of its own."""

    def __call__(self, image):
        return 1 - image if torch.rand(1) < 0.5 else image

    def batched(self):
        return _BatchedInvert()


class _BatchedInvert:
    count = 1

    def draw(self, image):
        return [float(torch.rand(1) < 0.5)]

    def apply(self, images, numbers, inside):
        return torch.where(numbers.view(-1, 1, 1, 1) > 0, 1 - images @ torch.eye(images.shape[-1]), images)


def test_a_plugin_may_offer_a_batched_form(data):
    augmentation, preprocessing = _Steps([], [v2.RandomHorizontalFlip(), Invert()]), Preprocessing(size=32)
    on_device = batched(augmentation, preprocessing)
    made = [[CaseReader(data, t)[Draw(row, row)] for row in range(8)] for t in (augmentation.build(preprocessing), on_device.transform)]
    expected, found = (Collate(data, None)(samples) for samples in made)
    with torch.autocast("cpu", torch.bfloat16):  # as with train.grad_cache
        finished = on_device(found).images
    assert (finished - expected.images).abs().max() <= BOUND / min(preprocessing.std)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("RandAugment", "RandAugment"),
        (["standard", {"type": "RandomErasing"}], "RandomErasing"),
        ({"type": "ColorJitter", "hue": 0.1}, "ColorJitter with these arguments"),
        ({"type": "RandomAffine", "degrees": 5, "fill": 1}, "RandomAffine with these arguments"),
    ],
)
def test_an_augmentation_without_a_batched_form_is_one_clear_line(spec, name, class_folders, tmp_path, quiet):
    config = tiny_config(class_folders, data={"augmentation": spec, "augment_on_device": True})
    with pytest.raises(ConfigError, match=rf"^data.augment_on_device: {name} has no batched form\. Remove[^\n]*$"):
        CrossValidation(Config.from_dict(config, "tiny"), tmp_path / "run", console=quiet).train(fold=1)
    assert not (tmp_path / "run").exists()


class OfItsOwn(StandardAugmentation):
    """A plugin that does more than its steps."""

    def build(self, preprocessing):
        return lambda image: torch.full((3, preprocessing.size, preprocessing.size), 7.0)


class OnlyBuild(Augmentation):
    """A plugin without steps."""

    build = OfItsOwn.build


@pytest.mark.parametrize(
    "augmentation", [OfItsOwn(), OnlyBuild(), SimpleNamespace(steps=3, build=OnlyBuild().build)], ids=lambda made: type(made).__name__
)
def test_an_augmentation_that_builds_its_own_transform_is_applied_image_by_image(augmentation, data):
    transform, augment = training_transform(augmentation, Preprocessing(size=8))
    assert augment is None and (CaseReader(data, transform)[Draw(0, 0)][1] == 7).all()


def test_transforms_of_the_first_version_are_applied_image_by_image(data):
    steps = _Steps([transforms.ColorJitter(0.2, 0.2)], [transforms.RandomAffine(10)])
    transform, augment = training_transform(steps, Preprocessing(size=8))
    assert augment is None and CaseReader(data, transform)[Draw(0, 0)][1].shape == (3, 8, 8)


def test_a_class_without_steps_is_one_clear_line():
    with pytest.raises(ConfigError, match="data.augment_on_device: object has no batched form"):
        batched(object(), Preprocessing())
