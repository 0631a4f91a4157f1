"""Batches of one case: refused before anything is written where the model cannot learn from them, and never advised then."""

import numpy as np
import pytest
import torch
from torch import nn

from clipzoo.datasets.base import Dataset
from clipzoo.datasets.batches.epochs import EpochBatches
from clipzoo.datasets.batches.samplers import DistinctCaptionSampler, RandomSampler
from clipzoo.datasets.captions import Captions
from clipzoo.engine import build, loop
from clipzoo.engine.checks import single_cases
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.runner import Runner
from clipzoo.errors import ConfigError, TrainingError
from clipzoo.records.folds import Case, Split
from clipzoo.runtime.log import make_log

IMAGE = {"type": "TimmBackbone", "name": "test_resnet", "image_size": 32}
LOSS = {"type": "CaptionCrossEntropyLoss"}


@pytest.fixture
def make_run(config_of, tmp_path, quiet):
    """``make_run(num_cases, image={...}, batch_size=1)``: a run of a loss that contrasts nothing within a batch."""

    def make(num_cases: int = 4, image: dict | None = None, batch_size: int = 1, loss: dict | None = None, **sections):
        config = config_of(
            model={"image_encoder": {**IMAGE, **(image or {})}, "loss": loss or LOSS}, data={"batch_size": batch_size}, hooks=[], **sections
        )
        data = build.dataset(config)
        ids = tuple(case.id for case in data.cases[:num_cases])
        split = Split("fold_1", train=ids, val=(), test=ids)
        return Runner(config, data, split, tmp_path / "run", log=make_log(quiet, None), console=quiet).run

    return make


@pytest.mark.parametrize("accumulation", [1, 4])
def test_one_value_per_channel_is_refused_before_anything_is_written(config_of, tmp_path, quiet, accumulation):
    config = config_of(model={"loss": LOSS}, data={"batch_size": 1}, train={"accumulation": accumulation})
    with pytest.raises(ConfigError) as caught:
        CrossValidation(config, tmp_path / "run", console=quiet).train()
    words = str(caught.value)
    assert (
        words.startswith("data.batch_size: in a batch of one case, batch normalisation sees a single value per channel")
        and "\n" not in words
    )
    assert "image_encoder." in words and "Use data.batch_size=2 or more" in words and not (tmp_path / "run").exists()


def test_a_single_training_case_cannot_be_made_two_by_a_larger_batch(make_run):
    with pytest.raises(ConfigError, match="There is one training case for each process: use more training cases, or a model without"):
        make_run(num_cases=1, batch_size=8)


@pytest.mark.parametrize("image", [{"image_size": 64}, {"unfreeze_blocks": 0}])
def test_several_values_per_channel_and_frozen_towers_train(make_run, image):
    run = make_run(image=image, train={"epochs": 1})
    run.folder.mkdir(parents=True)
    loop.fit(run)
    assert run.state.step == 4 and all(torch.isfinite(p).all() for p in run.model.parameters())


def test_looking_changes_neither_the_model_nor_a_random_number(make_run):
    run = make_run(batch_size=2)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    drawn, modes = torch.get_rng_state(), [module.training for module in run.model.modules()]
    batch = run.train_loader.collate([run.train_loader.dataset[draw] for draw in next(iter(run.batches))[:1]])
    names = single_cases.single_valued(run.model, batch)
    assert names and len(set(names)) == len(names) < len(single_cases.learning_norms(run.model))
    after = run.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before) and torch.equal(drawn, torch.get_rng_state())
    assert modes == [module.training for module in run.model.modules()]


def test_the_named_layers_are_those_that_torch_refuses(make_run):
    run = make_run(batch_size=2)
    batch = run.train_loader.collate([run.train_loader.dataset[draw] for draw in next(iter(run.batches))[:1]])
    first = single_cases.single_valued(run.model, batch)[0]
    seen = []
    for name, module in run.model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _, inputs, name=name: seen.append(name))
    run.model.train()
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        run.model(batch)
    assert seen[-1] == first


@pytest.mark.parametrize(
    ("image", "loss", "batch_size", "advised"),
    [
        ({}, LOSS, 3, True),
        ({}, LOSS, 2, False),
        ({"unfreeze_blocks": 0}, LOSS, 2, True),
        ({"unfreeze_blocks": 0}, {"type": "ContrastiveLoss"}, 2, False),
        ({"unfreeze_blocks": 0}, {"type": "ContrastiveLoss"}, 3, True),
    ],
)
def test_what_is_advised_when_memory_runs_out_is_possible(make_run, image, loss, batch_size, advised):
    run = make_run(image=image, loss=loss, batch_size=batch_size)
    with pytest.raises(TrainingError) as caught, loop.memory_advice(run):
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert ("data.batch_size" in str(caught.value)) is advised and "image_size" in str(caught.value)


def test_one_distinct_caption_gives_no_advice_that_cannot_be_followed():
    captions = Captions()
    captions.add("one")
    cases = [Case(id=str(i), label=0, group=str(i)) for i in range(6)]
    data = Dataset(cases, ["a"], captions=captions, captions_of_case={case.id: (0,) for case in cases})
    with pytest.raises(ConfigError, match=r"does not repeat a caption in a batch. Use RandomSampler with a loss") as caught:
        len(EpochBatches(data, np.arange(6), DistinctCaptionSampler(), batch_size=4, seed=0))
    assert "1 or less" not in str(caught.value)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_the_smallest_batch_is_known(batch_size, world_size):
    for num_cases in range(world_size, 14):
        cases = [Case(id=f"{i:02d}", label=0, group=str(i)) for i in range(num_cases)]
        captions = Captions()
        captions.add("one")
        data = Dataset(cases, ["a"], captions=captions, captions_of_case={case.id: (0,) for case in cases})
        batches = EpochBatches(data, np.arange(num_cases), RandomSampler(), batch_size=batch_size, seed=0, world_size=world_size)
        assert min(2, *map(len, batches)) == batches.smallest if len(batches) > 1 else min(2, len(next(iter(batches)))) == batches.smallest
