"""Staged unfreezing: what learns later is untouched until then, restarts are bitwise, and two processes train as one.

This file is also the program that the processes run.
"""

import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from processes import in_processes, launch
from tiny import tiny_config

from clipzoo.config import Config
from clipzoo.config.checking import check
from clipzoo.engine import build, checkpoint, loop
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.loop import Interrupted
from clipzoo.engine.runner import Runner
from clipzoo.engine.steps import unfreezing
from clipzoo.errors import BuildError, ConfigError
from clipzoo.hooks import Hook
from clipzoo.records.folds import Split
from clipzoo.registries import BACKBONES
from clipzoo.runtime import distributed
from clipzoo.runtime.log import make_console, make_log

RESNET = {"type": "TimmBackbone", "name": "test_resnet", "image_size": 32, "freeze": "all"}
BERT = {"type": "BERT", "pretrained": False, "hidden_size": 32, "num_layers": 2, "num_heads": 2, "unfreeze_blocks": 1}
STAGES = [{"epoch": 1, "image_encoder": 2}, {"epoch": 2, "image_encoder": "all", "text_encoder": 2}]
SECTIONS = {"model": {"image_encoder": RESNET, "text_encoder": BERT}, "train": {"epochs": 4, "unfreeze": STAGES}}


class Snapshots(Hook):
    """Everything the model holds, after every epoch."""

    def __init__(self):
        self.states = []

    def before_fit(self, run):
        self.after_epoch(run)

    def after_epoch(self, run):
        self.states.append({name: value.clone() for name, value in run.model.state_dict().items()})


@pytest.fixture
def make_run(config_of, tmp_path, quiet):
    """A run on 24 cases, 3 steps per epoch."""

    def make(log=None, **sections):
        config = config_of(hooks=[], **{**SECTIONS, **sections})
        check(config)
        data = build.dataset(config)
        ids = tuple(case.id for case in data.cases[:24])
        split = Split("fold_1", train=ids, val=(), test=ids[:6])
        (tmp_path / "run").mkdir(exist_ok=True)
        return Runner(config, data, split, tmp_path / "run", log=log or make_log(quiet, None), console=quiet).run

    return make


def learning_in(model, epoch):
    """Names of the parameters that learn in an epoch, by the depth groups."""
    image, text = ([[f"{tower}.{name}" for name in group] for group in getattr(model, tower).depth_groups()] for tower in SECTIONS["model"])
    assert (len(image), len(text)) == (5, 3)
    parts = [*(image[-2:] if epoch == 1 else image if epoch >= 2 else []), *(text[-1:] if epoch < 2 else text[-2:])]
    towers = {name for group in parts for name in group}
    return towers | {name for name, _ in model.named_parameters() if not name.startswith(("image_encoder", "text_encoder"))}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "ema_decay"), [({"type": "AdamW", "weight_decay": 0.3}, None), ({"type": "SGD", "layer_decay": 0.9}, 0.5)]
)
def test_what_learns_later_is_bit_identical_until_its_epoch(make_run, optimizer, ema_decay):
    run = make_run(optimizer={"lr": 0.02, **optimizer}, train={**SECTIONS["train"], "ema_decay": ema_decay})
    run.hooks = [Snapshots()]
    held = {id(p) for group in run.optimizer.param_groups for p in group["params"]}
    later = learning_in(run.model, 3)
    assert {name for name, p in run.model.named_parameters() if id(p) in held} == later
    loop.fit(run)
    states = run.hooks[0].states
    statistics = [name for name, _ in run.model.named_buffers() if name.startswith("image_encoder") and "running" in name]
    for epoch in range(4):
        learning = learning_in(run.model, epoch)
        moved = {name for name in states[0] if not torch.equal(states[epoch][name], states[epoch + 1][name])}
        moved_parameters = moved & dict(run.model.named_parameters()).keys()
        assert moved_parameters == learning if optimizer["type"] == "AdamW" else moved_parameters <= learning
        of_learning = {n for n in statistics if f"{n.rpartition('.')[0]}.weight" in learning}
        assert moved.intersection(statistics) == of_learning and (len(of_learning) > 0) == (epoch > 0)


def test_a_stage_is_put_in_force_once_and_logged(make_run, tmp_path, quiet):
    log = make_log(quiet, tmp_path / "train.log")
    run = make_run(log)
    for epoch in (0, 0, 1, 1, 2, 3):
        run.state.epoch = epoch
        loop.begin_stage(run)
        loop.begin_stage(run)
        assert {name for name, p in run.model.named_parameters() if p.requires_grad} == learning_in(run.model, epoch)
    said = [line.partition("on image")[2] for line in (tmp_path / "train.log").read_text(encoding="utf-8").splitlines() if "epoch" in line]
    assert said == [
        "_encoder: none of 5 blocks learns; text_encoder: last 1 of 3 blocks learn",
        "_encoder: last 2 of 5 blocks learn; text_encoder: last 1 of 3 blocks learn",
        "_encoder: all 5 blocks learn; text_encoder: last 2 of 3 blocks learn",
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, class_folders):
    """The stages, trained through without a stop."""
    folder = tmp_path_factory.mktemp("whole")
    config = Config.from_dict(tiny_config(class_folders, **SECTIONS), "tiny")
    CrossValidation(config, folder, console=make_console(quiet=True)).train(fold=1)
    return config, folder / "fold_1"


@pytest.mark.slow
@pytest.mark.parametrize("steps", [3, *(pytest.param(other, marks=pytest.mark.slow) for other in (1, 5, 7))])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(whole, tmp_path, quiet, monkeypatch, steps):
    """Three steps per epoch: stopped in the first stage, at its end, and in the middle of the second and of the third."""
    config, finished = whole

    def step_then_signal(run, group):
        original(run, group)
        if run.state.step + 1 == steps:
            run.interrupt.signal = 15

    original = loop.step
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(loop, "step", step_then_signal)
        CrossValidation(config, tmp_path, console=quiet).train(fold=1)
    assert checkpoint.read(tmp_path / "fold_1" / checkpoint.LATEST)["state"]["step"] == steps
    CrossValidation(config, tmp_path, console=quiet).train(fold=1)
    for name in ("checkpoint_latest.pth", "checkpoint_best.pth", "history.json", "predictions.csv"):
        assert (finished / name).read_bytes() == (tmp_path / "fold_1" / name).read_bytes(), name


def test_a_text_tower_that_learns_later_is_no_table(make_run):
    frozen = {**BERT, "unfreeze_blocks": 0}
    stages = [{"epoch": 1, "text_encoder": 1}]
    model = {"text_encoder": frozen}
    later = make_run(model=model, train={"epochs": 2, "unfreeze": stages})
    assert later.model.text_table is None
    loop.train_epoch(later)
    assert later.model.text_encoder.frozen and not later.model.text_encoder.training
    loop.train_epoch(later)
    assert not later.model.text_encoder.frozen
    assert make_run(model=model, train={"epochs": 2}).model.text_table is not None


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (
            [{"epoch": 1, "image_encodr": 2}],
            "CLIP has no tower 'image_encodr'. Did you mean 'image_encoder'\\? Available: image_encoder, text_enc",
        ),
        ([{"epoch": 1, "image_encoder": 6}], "epoch 1: image_encoder=6 is beyond its depth: test_resnet has 5 blocks, the stem included"),
        ([{"epoch": 3, "text_encoder": 0}], "epoch 3: text_encoder=0, but 1 of its 3 blocks are trained before"),
        ([{"epoch": 2, "image_projection": 1}], "has no tower 'image_projection'"),
    ],
)
def test_stages_that_do_not_fit_the_model_are_refused(make_run, stages, words):
    with pytest.raises(ConfigError, match=f"train.unfreeze: .*{words}") as raised:
        make_run(train={"unfreeze": stages})
    assert "\n" not in str(raised.value)


def test_something_must_learn_from_the_start():
    model = torch.nn.ModuleDict({"image_encoder": BACKBONES.build(RESNET)})
    with pytest.raises(BuildError, match="train.unfreeze: nothing is trained before the first stage"):
        unfreezing.to_last_stage(model, STAGES[:1])
    model["head"] = torch.nn.Linear(2, 2)
    unfreezing.to_last_stage(model, STAGES[:1])
    assert not model["image_encoder"].frozen


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([], "1 or more"),
        ([{"image_encoder": 2}], "must name a tower, and an epoch after 0"),
        ([{"epoch": 1}], "must name a tower"),
        ([{"epoch": 0, "image_encoder": 2}], "an epoch after 0"),
        ([{"epoch": 2, "image_encoder": 1}, {"epoch": 2, "image_encoder": 2}], "an epoch after 2"),
        ([{"epoch": 1.5, "image_encoder": 2}], "1.5 is not a whole number of 0 or more or one of 'all'"),
        ([{"epoch": 1, "image_encoder": "al"}], "'al' is not a whole number of 0 or more or one of 'all'. Did you mean 'all'"),
        ([{"epoch": 1, "image_encoder": -1}], "-1 is not a whole number of 0 or more"),
        ([{"epoch": 1, "image_encoder": True}], "True is not a whole number"),
        ([{"epoch": 1, "image_encoder": "all"}, {"epoch": 2, "image_encoder": 3}], "a stage cannot freeze a block again"),
        ("all", "not a list"),
        ([3], "3 is not a dict"),
    ],
)
def test_stages_that_do_not_follow_one_another_are_found_before_anything_is_built(config_of, stages, words):
    with pytest.raises(ConfigError, match=rf"^train.unfreeze[.\w]*: .*{words}"):
        check(config_of(train={"unfreeze": stages}))


def test_shared_weights_and_stages_do_not_go_together(make_run):
    with pytest.raises(ConfigError, match="train.unfreeze: not supported with runtime.strategy='fsdp'"):
        make_run(runtime={"strategy": "fsdp"})


def test_a_stage_that_never_begins_is_noted(make_run):
    run = make_run(train={"epochs": 2, "unfreeze": STAGES})
    assert "note: train.unfreeze: the stage of epoch 2 never starts, as the run has 2 epochs" in build.describe(run)


def make_runner(images: Path, folder: Path) -> Runner:
    """A run on 32 cases, 8 in each step of all processes together, of towers whose features do not depend on the batch."""
    text = {"type": "CLIPText", "width": 16, "layers": 2, "heads": 2, "output_dim": 16, "context_length": 48, "freeze": "all"}
    model = {"image_encoder": {**RESNET, "name": "test_vit"}, "text_encoder": text}
    stages = [{"epoch": 1, "image_encoder": 3}, {"epoch": 2, "text_encoder": "all"}]
    data = {"batch_size": 8 // distributed.world_size(), "augmentation": "none"}
    config = tiny_config(images, model=model, data=data, train={"epochs": 3, "unfreeze": stages}, hooks=[])
    config["optimizer"] = {"type": "AdamW", "lr": 1e-3, "eps": 1e-5}  # rounding of gradients near zero is no step of full length then
    loaded = Config.from_dict(config, "tiny")
    dataset = build.dataset(loaded)
    ids = [case.id for case in dataset.cases]
    console = make_console(quiet=True)
    split = Split("fold_1", train=tuple(ids[:32]), val=(), test=tuple(ids[3:10]))
    return Runner(loaded, dataset, split, folder / f"world-{distributed.world_size()}", log=make_log(console, None), console=console)


def train(images: Path, folder: Path, rank: int) -> None:
    """One of the processes."""
    make_runner(images, folder).fit()


@pytest.mark.slow
def test_two_processes_train_as_one(class_folders, tmp_path):
    launch(__file__, class_folders, tmp_path)
    train(class_folders, tmp_path, 0)
    one, two = (checkpoint.read(tmp_path / f"world-{n}" / checkpoint.LATEST) for n in (1, 2))
    assert one["state"]["step"] == two["state"]["step"] == 12
    for name, value in one["model"].items():
        torch.testing.assert_close(two["model"][name], value, rtol=1e-4, atol=2e-6, msg=name)
    fresh = make_runner(class_folders, tmp_path / "fresh").run.model
    still = {f"image_encoder.{name}" for group in fresh.image_encoder.depth_groups()[:-3] for name in group}
    assert {name for name, value in fresh.state_dict().items() if torch.equal(one["model"][name], value)} == still


if __name__ == "__main__":
    in_processes(2, partial(train, Path(sys.argv[1]), Path(sys.argv[2])), Path(sys.argv[2]))
