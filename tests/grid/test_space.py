"""The search space: what can be written, and what is refused before anything is trained."""

from __future__ import annotations

import json

import pytest
from tiny import tiny_config

from clipzoo.config import Config
from clipzoo.errors import ClipzooError, ConfigError
from clipzoo.grid.space import Choice, Range, overrides, parse_space


@pytest.fixture
def config(tmp_path) -> str:
    path = tmp_path / "tiny.py"
    path.write_text(Config.from_dict(tiny_config("images")).dump(), encoding="utf-8")
    return str(path)


def test_ranges_and_choices(config):
    words = [
        "optimizer.lr=1e-5..1e-3:log",
        "train.epochs=2..9",
        "train.clip_grad=1..5",
        "data.batch_size=8, 16",
        "data.augmentation=none,minimal",
    ]
    assert parse_space(words, config) == [
        Range("optimizer.lr", 1e-5, 1e-3, is_log=True, is_whole=False),
        Range("train.epochs", 2, 9, is_log=False, is_whole=True),
        Range("train.clip_grad", 1.0, 5.0, is_log=False, is_whole=False),
        Choice("data.batch_size", ("8", "16")),
        Choice("data.augmentation", ("none", "minimal")),
    ]
    again = [str(dimension) for dimension in parse_space(words, config)]
    assert parse_space(again, config) == parse_space(words, config), "what is stored reads back equal"


def test_values_become_overrides_of_the_right_type(config):
    options = overrides({"optimizer.lr": 1e-05, "data.batch_size": "16", "optimizer.betas": "[0.9, 0.99]", "train.ema_decay": "None"})
    found = Config.load(config, options)
    assert (found.optimizer.lr, found.data.batch_size, found.optimizer.betas, found.train.ema_decay) == (1e-5, 16, [0.9, 0.99], None)


def test_a_choice_of_lists_and_types_is_split_outside_brackets(config):
    found = parse_space(["optimizer.betas=[0.9, 0.99],[0.8, 0.9]", "optimizer.type=AdamW,SGD"], config)
    assert found[0].ends == ("[0.9, 0.99]", "[0.8, 0.9]") and found[1].ends == ("AdamW", "SGD")


@pytest.mark.parametrize("name", ["space.json", "空间.py"])
def test_a_file_holds_the_same(config, tmp_path, name):
    space = {"optimizer.lr": "1e-5..1e-3:log", "data.batch_size": [8, 16], "data.augmentation": ["none", "minimal"]}
    text = json.dumps(space) if name.endswith(".json") else f"space = {space!r}\n"
    (tmp_path / name).write_text(text, encoding="utf-8")
    words = ["optimizer.lr=1e-5..1e-3:log", "data.batch_size=8,16", "data.augmentation='none','minimal'"]
    assert parse_space([str(tmp_path / name)], config) == parse_space(words, config)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lr=1e-5..1e-3"], "--space lr=1e-05..0.001: unknown section 'lr'. Did you mean 'optimizer.lr'?"),
        (["optimizer.lrr=1e-5..1e-3"], "optimizer: AdamW has no argument 'lrr'. Did you mean 'lr'? "),
        (["optimizer.lr=1e-3..1e-5"], "--space optimizer.lr=1e-3..1e-5: empty range, 0.001 is not below 1e-05"),
        (["optimizer.lr=1..1"], "empty range, 1 is not below 1"),
        (["optimizer.lr=-1..1"], "--space optimizer.lr=-1..1: optimizer.lr: -1 is not a number above 0"),
        (["train.epochs=2..9999999"], "train.epochs: 9999999 is not a whole number from 1 to 1000000"),
        (["optimizer.lr=0..1:log"], "a logarithmic range must start above 0, not at 0"),
        (["optimizer.lr=a..b"], "'a' is not a number. Write KEY=low..high"),
        (["optimizer.lr=1.."], "'' is not a number. Write KEY=low..high"),
        (["data.batch_size=8"], "'8' is not two or more different values. Write KEY=low..high"),
        (["data.batch_size=8,8"], "'8,8' is not two or more different values"),
        (["data.batch_size=8,many"], "--space data.batch_size=8,many: data.batch_size: 'many' is not a whole number"),
        (["optimizer.type=AdamW,Adamm"], "optimizer: unknown optimizer 'Adamm'. Did you mean 'AdamW'?"),
        (["splits.seed=1..9"], "'splits.seed' cannot be tuned: the trials must be scored on the same cases in the same way"),
        (["runtime.seed=1..9"], "'runtime.seed' cannot be tuned"),
        (["evaluation.select=accuracy,auroc"], "'evaluation.select' cannot be tuned"),
        (["optimizer.lr=1..2", "optimizer.lr=2..3"], "'optimizer.lr' is given twice"),
        (["space.txt"], "--space space.txt: neither KEY=… nor a .json or .py file. Write KEY=low..high"),
        (["nowhere.py"], "nowhere.py: no such config file"),
        (["nowhere.json"], "nowhere.json: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(config, words, message):
    with pytest.raises(ClipzooError) as caught:
        parse_space(words, config)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("space = 3", "a.py: expected space = {'KEY': "),
        ("x = {}", "a.py: expected space = {'KEY': "),
        ("space = {'optimizer.lr': 3}", "a.py: optimizer.lr: 3 is neither a range such as '1e-5..1e-3:log' nor a list of values"),
        ("space = {", "a.py:1: not valid Python"),
    ],
)
def test_a_wrong_file_is_one_line(config, tmp_path, content, message):
    (tmp_path / "a.py").write_text(content)
    with pytest.raises(ConfigError) as caught:
        parse_space([str(tmp_path / "a.py")], config)
    assert message in str(caught.value) and "\n" not in str(caught.value)
