"""Checking a config against signatures: what fits, how it is said, where it comes from, and everything at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Union

import pytest
from tiny import tiny_config

from clipzoo.config import Config
from clipzoo.config.annotations import described, fits
from clipzoo.config.checking import Problem, check, check_spec
from clipzoo.config.registry import Registry
from clipzoo.errors import ConfigError

OLD_OPTIONAL = Union[int, None]  # noqa: UP007 (plugins may spell it so)


def problems_of(config: Config) -> list[str]:
    """The lines that ``check`` raises; none where the config is right."""
    try:
        check(config)
    except ConfigError as error:
        return str(error).splitlines()
    return []


# --- values and annotations ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (3, int, True), (3.0, int, False), (True, int, False), ("3", int, False), (None, int, False),
        (3, float, True), (0.5, float, True), (True, float, False), ("0.5", float, False),
        (True, bool, True), (1, bool, False), ("True", bool, False),
        ("x", str, True), (3, str, False), ("x", Path, True), (3, Path, False),
        (None, int | None, True), (3, int | None, True), ("3", int | None, False), (3, OLD_OPTIONAL, True),
        ("x", Literal["x", "y"], True), ("z", Literal["x", "y"], False), (True, Literal[1, 2], False), (1, Literal[1, 2], True),
        ([1, 2], list[int], True), ([1, "2"], list[int], False), ((1, 2), list[int], True), (3, list[int], False), ([], list[int], True),
        ("ab", list[str], False), ([1, "x"], list, True), ([[1], [2]], list[list[int]], True),
        ((1, 2), tuple[int, int], True), ([1, 2, 3], tuple[int, int], False), ([1, 2, 3], tuple[int, ...], True),
        ((1, "x"), tuple[int, str], True), (("x", 1), tuple[int, str], False), ("ab", tuple, False),
        ({"a": 1}, dict, True), ({"a": 1}, dict[str, int], True), ([1], dict, False), ("x", str | dict, True),
        (None, None, True), (3, None, False), (3, Any, True), (None, Any, True), ("x", object, True), ("anything", Registry, True),
    ],
)  # fmt: skip
def test_fits(value, annotation, expected):
    assert fits(value, annotation) is expected


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "a whole number"),
        (float | None, "a number or None"),
        (OLD_OPTIONAL, "a whole number or None"),
        (Literal["a", "b"], "one of 'a', 'b'"),
        (list[str], "a list of strings"),
        (tuple[float, ...], "a list of numbers"),
        (tuple[float, float], "a list of 2 numbers"),
        (tuple[int, str], "a list of a whole number, a string"),
        (list[int | None], "a list of whole numbers or None"),
        (list[dict], "a list of dicts"),
        (bool | str, "True or False or a string"),
        (Path, "a path"),
        (Registry, "Registry"),
    ],
)
def test_described(annotation, words):
    assert described(annotation) == words


# --- one spec --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tables():
    """A table with one class of each kind of signature."""
    table = Registry("part", home=None, runtime=("device",))

    @table.register_module()
    class Plain:
        def __init__(self, device: str, size: int, name: str = "x", ratio: float | None = None):
            pass

    @table.register_module()
    class Open:
        def __init__(self, size: int = 1, **more):
            pass

    @table.register_module()
    class Bare:
        pass

    return table


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({"type": "Plain", "size": 3}, []),
        ({"type": "Plain", "size": 3, "ratio": 1}, []),
        ({"type": "Plain"}, ["here: Plain requires 'size'. Plain(size, name, ratio)"]),
        ({"type": "Plain", "size": 1, "device": "cpu"}, ["here: 'device' is passed to Plain by clipzoo. Remove it"]),
        (
            {"type": "Plain", "sise": 1},
            ["here: Plain has no argument 'sise'. Did you mean 'size'? Plain(size, name, ratio)", "here: Plain requires 'size'."],
        ),
        ({"type": "Plain", "size": 1, "learning_rate": 1}, ["In clipzoo, 'learning_rate' is 'optimizer.lr'."]),
        ({"type": "Plain", "size": "1", "ratio": "x"}, ["here.size: '1' is not a whole number", "here.ratio: 'x' is not a number or None"]),
        ({"type": "Open", "size": 2, "whatever": 3}, []),
        ({"type": "Open", "size": "x", "whatever": 3}, ["here.size: 'x' is not a whole number"]),
        ("Bare", []),
        ({"type": "Bare", "x": 1}, ["here: Bare has no argument 'x'."]),
        ("Plan", ["here: unknown part 'Plan'. Did you mean 'Plain'? Known: Bare, Open, Plain"]),
        ({"size": 3}, ["here: part: expected a name or a dict with 'type', not {'size': 3}"]),
        ({"type": 3}, ["here: part: expected a name or a dict with 'type'"]),
        (3, ["here: part: expected a name or a dict with 'type', not 3"]),
    ],
)
def test_a_spec_is_checked_against_its_signature(tables, spec, found):
    problems: list[Problem] = []
    check_spec(tables, spec, "here", problems)
    lines = [problem.line(Config.from_dict({})) for problem in problems]
    assert len(lines) == len(found) and all(part in line for part, line in zip(found, lines, strict=True)), lines


# --- whole configs ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "found"),
    [
        ({}, []),
        ({"model": {"loss": None}}, []),
        ({"data": {"augmentation": {"type": "StandardAugmentation", "horizontal_flip": True}}}, []),
        ({"model": {"image_encoder": "resnet18:pretrained", "text_encoder": "hf:any/thing"}}, []),
        ({"hooks": []}, []),
        (
            {"model": {"loss": {"type": "ContrastiveLoss", "temprature": 0.1}}},
            ["model.loss: ContrastiveLoss has no argument 'temprature'."],
        ),
        ({"model": {"type": "CLIPP"}}, ["model: unknown model 'CLIPP'. Did you mean 'CLIP'?"]),
        ({"model": {"embed_dim": 0.5}}, ["model.embed_dim: 0.5 is not a whole number"]),
        ({"model": {"image_encoder": None}}, ["model.image_encoder: None is not allowed; an image encoder is required"]),
        ({"model": {"text_encoder": ["bert"]}}, ["model.text_encoder: expected one text encoder, not a list of 1"]),
        ({"model": {"text_encoder": 3}}, ["model.text_encoder: text encoder: expected a name or a dict with 'type', not 3"]),
        (
            {"model": {"image_encoder": {"type": "resnet18", "depht": 3}}},
            ["model.image_encoder: ResNet has no argument 'depht'. Did you mean 'depth'?"],
        ),
        (
            {"model": {"image_encoder": "efficientnet-b9"}},
            ["model.image_encoder: unknown image encoder 'efficientnet-b9'. Did you mean"],
        ),
        ({"model": 3}, ["model: model: expected a name or a dict with 'type', not 3"]),
        ({"data": {"dataset": {"type": "ImageFolderDataset"}}}, ["data.dataset: ImageFolderDataset requires 'root'."]),
        (
            {"data": {"batchsize": 3}},
            ["data: section 'data' has no argument 'batchsize'. Did you mean 'batch_size'? Known: dataset, batch_size"],
        ),
        ({"data": {"batch_size": 0}}, ["data.batch_size: 0 is not a whole number from 1 to 1048576"]),
        ({"data": {"sampler": "Weighted"}}, ["data.sampler: unknown sampler 'Weighted'. Did you mean 'WeightedSampler'?"]),
        ({"data": {"augmentation": "strong"}}, ["data.augmentation: unknown augmentation 'strong'."]),
        ({"data": []}, ["data: expected a dict, not []"]),
        ({"splits": {"type": "KFolds"}}, ["splits: unknown splitter 'KFolds'. Did you mean 'KFold'?"]),
        ({"splits": {"n_splits": 5}}, ["has no argument 'n_splits'. In clipzoo, 'n_splits' is 'splits.num_folds'."]),
        ({"optimizer": {"lr": "fast"}}, ["optimizer.lr: 'fast' is not a number"]),
        ({"train": {"clip_grad": -1}}, ["train.clip_grad: -1 is not a number above 0 or None"]),
        ({"evaluation": {"metrics": "Accuracy"}}, ["evaluation.metrics: expected a list, not 'Accuracy'"]),
        ({"evaluation": {"metrics": ["Accuracy", "AUC"]}}, ["evaluation.metrics.1: unknown metric 'AUC'."]),
        ({"hooks": "HistoryHook"}, ["hooks: expected a list, not 'HistoryHook'"]),
        ({"hooks": [{"type": "HistoryHok"}]}, ["hooks.0: unknown hook 'HistoryHok'. Did you mean 'HistoryHook'?"]),
        ({"runtime": {"precision": "fp8"}}, ["runtime.precision: 'fp8' is not one of 'auto', 'fp32', 'bf16', 'fp16'"]),
        ({"plugins": "my_package"}, ["plugins: 'my_package' is not a list of module names"]),
    ],
)
def test_a_config_is_checked(class_folders, sections, found):
    lines = problems_of(Config.from_dict(tiny_config(class_folders, **sections)))
    assert len(lines) == len(found) and all(part in line for part, line in zip(found, lines, strict=True)), lines


def test_everything_is_reported_at_once_and_in_order(class_folders):
    sections = {
        "model": {"embed_dim": "x", "loss": "ContrastivLoss"},
        "splits": {"num_folds": "five"},
        "train": {"epoch": 3},
        "hooks": ["HistoryHok", "HistoryHook", "ConsolHook"],
        "runtime": {"device": 0, "seed": 1.5},
    }
    lines = problems_of(Config.from_dict(tiny_config(class_folders, **sections)))
    places = [line.partition(":")[0] for line in lines]
    assert places == ["model.embed_dim", "model.loss", "splits.num_folds", "train", "hooks.0", "hooks.2", "runtime.device", "runtime.seed"]


def test_the_needed_sections(class_folders):
    config = tiny_config(class_folders)
    lines = problems_of(Config.from_dict({key: config[key] for key in ("model", "train")}))
    assert [line.partition(":")[0] for line in lines] == ["data", "splits"] and "_base_" in lines[0]


def test_some_sections_alone(class_folders):
    config = Config.from_dict(tiny_config(class_folders, model={"embed_dim": "x"}, splits={"num_folds": "x"}))
    with pytest.raises(ConfigError, match=r"^splits.num_folds: 'x' is not a whole number of 2 or more$"):
        check(config, ("data", "splits"))


def test_every_problem_shows_the_line_it_comes_from(tmp_path, class_folders):
    path = tmp_path / "bad.py"
    path.write_text(
        f"""model = dict(
    type="CLIP",
    image_encoder="resnet19",
    text_encoder=dict(
        type="BERT",
        widht=3,
    ),
)
data = dict(dataset=dict(type="ImageFolderDataset", root={str(class_folders)!r}))
splits = dict(
    type="KFold",
    num_folds="five",
)
""",
        encoding="utf-8",
    )
    lines = problems_of(Config.load(path, ["train.epochs=many"]))
    assert [line.rpartition("  [")[2] for line in lines] == [f"{path}:3]", f"{path}:6]", f"{path}:12]", "--cfg-options]"]
