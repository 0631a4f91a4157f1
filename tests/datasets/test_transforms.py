import inspect
import pickle
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from clipzoo.config.checking import check
from clipzoo.datasets.augmentations import MinimalAugmentation, NoAugmentation, StandardAugmentation, augmentation_of, is_none
from clipzoo.datasets.transforms import evaluation_transform
from clipzoo.errors import ConfigError, RegistryError
from clipzoo.registries import AUGMENTATIONS
from clipzoo.structures import Preprocessing

NAMES = [
    *(name for name in AUGMENTATIONS if name != "TorchvisionAugmentation"),
    "RandAugment",
    "AugMix",
    "TrivialAugmentWide",
    "RandomResizedCrop",
]
PLAIN = Preprocessing(size=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear")


def picture(height=40, width=28, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def white(height, width):
    return Image.new("RGB", (width, height), (255, 255, 255))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
@pytest.mark.parametrize("shape", [(32, 32), (50, 20), (20, 50), (1, 300), (7, 7)])
def test_every_augmentation_gives_what_a_tower_wants(name, shape, fit):
    transform = pickle.loads(
        pickle.dumps(AUGMENTATIONS.build(name).build(Preprocessing(size=32, fit=fit)))
    )  # worker processes get a pickle
    image = picture(*shape)
    before = image.tobytes()
    tensor = transform(image)
    assert tensor.shape == (3, 32, 32) and tensor.dtype == torch.float32 and torch.isfinite(tensor).all()
    assert image.tobytes() == before


@pytest.mark.parametrize("name", NAMES)
def test_torchs_generator_alone_decides(name):
    transform = AUGMENTATIONS.build(name).build(PLAIN)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        np.random.seed(len(results))
        results.append(transform(picture()))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2]) == (name in ("NoAugmentation", "MixUp", "CutMix")), "the last two change whole batches"


def test_evaluation_shows_the_whole_image_with_its_proportions():
    tensor = evaluation_transform(PLAIN)(white(64, 32))
    assert (tensor[:, :, 8:24] == 1).all() and (tensor[:, :, :8] == 0).all() and (tensor[:, :, 24:] == 0).all()
    tensor = evaluation_transform(PLAIN)(white(16, 64))
    assert (tensor[:, 12:20] == 1).all() and tensor.sum() == 3 * 8 * 32


def test_normalisation_and_scale_against_numpy():
    preprocessing = Preprocessing(size=24, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    image = picture(24, 24)
    expected = ((np.asarray(image) / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]).transpose(2, 0, 1)
    np.testing.assert_allclose(evaluation_transform(preprocessing)(image), expected, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resize_is_antialiased_like_pillow(interpolation):
    image = picture(96, 96)
    preprocessing = Preprocessing(size=32, mean=(0.0,) * 3, std=(1.0,) * 3, interpolation=interpolation)
    expected = np.asarray(image.resize((32, 32), getattr(Image.Resampling, interpolation.upper()))).transpose(2, 0, 1)
    np.testing.assert_allclose(evaluation_transform(preprocessing)(image) * 255, expected, atol=1.01)


def test_none_is_the_evaluation_transform():
    assert torch.equal(NoAugmentation().build(PLAIN)(picture()), evaluation_transform(PLAIN)(picture()))


def test_without_strength_augmentation_changes_nothing():
    still = StandardAugmentation(rotation=0, translation=0, scale=0, brightness=0, contrast=0).build(PLAIN)
    torch.testing.assert_close(still(picture()), evaluation_transform(PLAIN)(picture()), atol=1e-5, rtol=0)
    still = MinimalAugmentation(translation=0, brightness=0, contrast=0).build(PLAIN)
    assert torch.equal(still(picture()), evaluation_transform(PLAIN)(picture()))


@pytest.mark.parametrize("augmentation", [MinimalAugmentation(), StandardAugmentation(), StandardAugmentation(horizontal_flip=True)])
def test_left_stays_left_unless_asked(augmentation):
    image = Image.new("RGB", (64, 64))
    image.paste((255, 255, 255), (0, 0, 20, 64))  # the left third
    transform = augmentation.build(PLAIN)
    torch.manual_seed(0)
    on_the_left = [bool((t := transform(image))[:, :, :16].sum() > t[:, :, 16:].sum()) for _ in range(60)]
    if getattr(augmentation, "horizontal_flip", False):
        assert 15 < sum(on_the_left) < 45
    else:
        assert all(on_the_left)


def test_bars_stay_black_under_every_exposure():
    torch.manual_seed(0)
    transform = StandardAugmentation(rotation=0, translation=0, scale=0, brightness=0.5, contrast=0.5).build(PLAIN)
    for _ in range(20):
        assert transform(picture(64, 32))[:, :, :8].abs().max() < 1e-6


def test_spellings():
    for text, cls in (("none", NoAugmentation), ("minimal", MinimalAugmentation), ("standard", StandardAugmentation)):
        assert type(AUGMENTATIONS.build(text)) is cls
    assert AUGMENTATIONS.build({"type": "standard", "horizontal_flip": True}).horizontal_flip
    with pytest.raises(RegistryError, match="Did you mean 'standard'"):
        AUGMENTATIONS.build("standrad")
    with pytest.raises(RegistryError, match="Did you mean 'NoAugmentation'"):
        AUGMENTATIONS.build("NoAugmentaton")


SHAPES = [(40, 28), (28, 40), (61, 200), (300, 33), (32, 32), (32, 50), (20, 17), (1, 7), (64, 64), (32, 47), (47, 32)]


@pytest.mark.parametrize(("fit", "mode"), [("crop", "shortest"), ("squash", "squash")])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", SHAPES)
def test_crop_and_squash_are_open_clips_to_the_pixel(fit, mode, interpolation, shape):
    from open_clip.transform import image_transform

    image = picture(*shape)
    mean, std = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
    expected = image_transform(32, is_train=False, mean=mean, std=std, resize_mode=mode, interpolation=interpolation)(image)
    got = evaluation_transform(Preprocessing(32, mean, std, interpolation, fit))(image)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def test_pad_is_open_clips_longest_to_a_grey_level():
    from open_clip.transform import image_transform

    for shape in ((61, 200), (300, 33), (64, 64)):
        expected = image_transform(32, is_train=False, mean=(0, 0, 0), std=(1, 1, 1), resize_mode="longest")(picture(*shape))
        got = evaluation_transform(Preprocessing(32, (0.0,) * 3, (1.0,) * 3))(picture(*shape))
        assert (got - expected).abs().max() * 255 < 1.01


@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("name", ["MinimalAugmentation", "StandardAugmentation"])
def test_augmentation_starts_from_the_same_geometry(fit, name):
    cls = AUGMENTATIONS.get(name)
    strengths = {key: 0 for key in ("rotation", "translation", "scale", "brightness", "contrast")}
    known = inspect.signature(cls).parameters
    still = cls(**{key: value for key, value in strengths.items() if key in known})
    preprocessing = replace(PLAIN, fit=fit)
    for shape in ((61, 200), (300, 33)):
        torch.testing.assert_close(
            still.build(preprocessing)(picture(*shape)), evaluation_transform(preprocessing)(picture(*shape)), rtol=0, atol=1e-5
        )
        torch.manual_seed(0)
        assert cls().build(preprocessing)(picture(*shape)).shape == (3, 32, 32)
    assert not torch.equal(*(evaluation_transform(replace(PLAIN, fit=f))(picture(61, 200)) for f in (fit, "pad")))


def test_bad_arguments():
    with pytest.raises(ConfigError, match="unknown fit 'stretch'. Known: pad, crop, squash"):
        evaluation_transform(Preprocessing(fit="stretch"))
    with pytest.raises(ConfigError, match="lanczos"):
        evaluation_transform(Preprocessing(interpolation="lanczos", fit="crop"))
    with pytest.raises(ConfigError, match="translation"):
        StandardAugmentation(translation=2)
    with pytest.raises(ConfigError, match="rotation"):
        StandardAugmentation(rotation=-1)
    with pytest.raises(ConfigError, match="lanczos"):
        evaluation_transform(Preprocessing(interpolation="lanczos"))


def test_torchvisions_transforms_are_found_by_name_with_their_arguments():
    from torchvision.transforms import v2

    image = picture(32, 32)
    torch.manual_seed(3)
    found = AUGMENTATIONS.build({"type": "RandomErasing", "p": 1.0, "scale": (0.2, 0.3)}).build(PLAIN)(image)
    torch.manual_seed(3)
    expected = v2.RandomErasing(p=1.0, scale=(0.2, 0.3))(evaluation_transform(PLAIN)(image))
    assert torch.equal(found, expected) and (found == 0).all(dim=0).sum() >= 100


def test_a_list_applies_its_members_one_after_the_other():
    from torchvision.transforms import v2

    spec = ["minimal", {"type": "RandomHorizontalFlip", "p": 1.0}, "RandAugment"]
    image = picture(32, 20)
    torch.manual_seed(5)
    found = augmentation_of(spec).build(PLAIN)(image)
    torch.manual_seed(5)
    shifted = AUGMENTATIONS.build("minimal").build(PLAIN)(image)
    assert torch.equal(found, v2.RandAugment()(v2.RandomHorizontalFlip(1.0)(shifted)))
    assert is_none(["none", "none"]) and is_none([]) and not is_none(["none", "minimal"]) and not is_none({"type": "RandAugment"})
    assert torch.equal(augmentation_of(["none"]).build(PLAIN)(image), evaluation_transform(PLAIN)(image))


@pytest.mark.parametrize(
    "spec,message",
    [
        ("RandAugmentt", "data.augmentation: unknown augmentation 'RandAugmentt'. Did you mean 'RandAugment'?"),
        ({"type": "RandomErasing", "prob": 1}, "data.augmentation.prob: RandomErasing has no argument 'prob'.* RandomErasing\\(p, scale"),
        ([{"type": "RandomErasing", "p": 3}], "data.augmentation.0.type: RandomErasing refuses {'p': 3}: .*interval"),
        (
            [{"type": "Resize", "size": 7}],
            r"data.augmentation.0.type: Resize makes \[3, 7, 7\] torch.float32 of an image of \[3",
        ),
        (["minimal", {"type": "Pad"}], "data.augmentation.1.type: Pad refuses to work without arguments"),
        (["minimal", 3], "data.augmentation.1: .*expected a name or a dict"),
    ],
)
def test_what_torchvision_would_refuse_later_is_refused_by_the_check(config_of, spec, message):
    with pytest.raises(ConfigError, match=message):
        check(config_of(data={"augmentation": spec}))


def test_a_plugins_own_augmentation_may_only_stand_alone():
    with pytest.raises(ConfigError, match="data.augmentation.1: SimpleNamespace can only be used alone, not in a list"):
        augmentation_of(["minimal", SimpleNamespace(build=None)])
