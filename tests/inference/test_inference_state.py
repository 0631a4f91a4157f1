"""Inference changes nothing in a model, so threads may share one."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from checkpoint_files import saved

import clipzoo
from clipzoo.features.store import FeatureStore
from clipzoo.inference.files import encode_files
from clipzoo.models.modules import evaluating

FROZEN = {"type": "BERT", "pretrained": False, "hidden_size": 32, "num_layers": 1, "num_heads": 2, "freeze": "all"}


@pytest.fixture(scope="module", params=["none", "all"], ids=["the text tower learns", "the text tower is frozen"])
def loaded(request, tmp_path_factory, class_folders):
    from tiny import tiny_config

    from clipzoo.config import Config

    torch.manual_seed(0)
    config = Config.from_dict(tiny_config(class_folders, model={"text_encoder": {**FROZEN, "freeze": request.param}}), "tiny")
    return clipzoo.load(saved(tmp_path_factory.mktemp("loaded") / "x.pth", config)[0], device="cpu")


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def state_of(model):
    """All that the parts of a model hold, copied: attributes, parameters, buffers, modes."""
    return {
        name: {key: copy.copy(value) if isinstance(value, (dict, list, set)) else value for key, value in vars(part).items()}
        for name, part in model.named_modules()
    } | {"tensors": {name: tensor.clone() for name, tensor in [*model.named_parameters(), *model.named_buffers()]}}


def same(before, after):
    tensors, others = before.pop("tensors"), after.pop("tensors")
    assert tensors.keys() == others.keys() and all(torch.equal(tensors[name], others[name]) for name in tensors)
    assert before.keys() == after.keys()
    for name, attributes in before.items():
        assert attributes.keys() == after[name].keys(), name
        for key, value in attributes.items():
            now = after[name][key]
            if isinstance(value, (dict, list, set)):
                assert list(value) == list(now), (name, key)
            else:
                assert now is value or now == value, (name, key)


def test_no_public_method_changes_the_model(loaded, pictures, class_folders):
    before = state_of(loaded.model)
    calls = [
        lambda: loaded.encode_text(["一个圆", "方块"]),
        lambda: loaded.encode_image(pictures),
        lambda: loaded.similarity(pictures, ["圆", "方块"]),
        lambda: loaded.classify(pictures),
        lambda: loaded.classify(pictures, ["圆", "一个方块"], templates="auto"),
        lambda: loaded.image_features(torch.stack([loaded.preprocess(_picture()) for _ in range(2)])),
        lambda: (loaded.digest, loaded.describe(), loaded.temperature, repr(loaded)),
        lambda: encode_files(loaded, sorted(class_folders.rglob("00*.png")), FeatureStore(None)),
    ]
    for call in calls:
        call()
    same(before, state_of(loaded.model))


def _picture():
    from PIL import Image

    return Image.new("RGB", (16, 16), "red")


@pytest.mark.slow
def test_threads_with_other_texts_get_what_each_gets_alone(loaded, pictures):
    questions = [[f"{noun}{number}" for noun in ("圆", "方块", "条纹")[: 2 + number % 2]] for number in range(8)]
    alone = [(loaded.classify(pictures, texts).probabilities, loaded.encode_text(texts)) for texts in questions]

    def ask(number):
        texts = questions[number % len(questions)]
        return loaded.classify(pictures, texts).probabilities, loaded.encode_text(texts)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(64)))
    for number, (probabilities, features) in enumerate(answers):
        expected = alone[number % len(questions)]
        assert torch.equal(probabilities, expected[0]) and torch.equal(features, expected[1])


def test_a_model_in_training_gets_every_mode_back():
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout()))
    model[1][0].eval()
    with evaluating(model):
        assert not any(part.training for part in model.modules())
    assert [part.training for part in model.modules()] == [True, True, True, False, True]
