"""The JSON Schema accepts what clipzoo accepts, and refuses a wrong value at its key."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator
from tiny import tiny_config

from clipzoo.config import Config, shipped
from clipzoo.config.checking import check
from clipzoo.config.schema import config_schema
from clipzoo.errors import ConfigError
from clipzoo.registries import TABLES

TINY = Config.from_dict(tiny_config("images"))
LORA = {"rank": 4}


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    found = config_schema()
    Draft202012Validator.check_schema(found)
    return Draft202012Validator(json.loads(json.dumps(found)))


def places(validator: Draft202012Validator, config: dict) -> list[str]:
    """Dotted path of every wrong value; of an unknown or missing key, that of the dict."""
    return [".".join(map(str, error.absolute_path)) for error in validator.iter_errors(config)]


@pytest.mark.parametrize("name", shipped.names())
def test_every_shipped_config_is_valid(validator, name):
    assert places(validator, json.loads(json.dumps(Config.load(name).plain()))) == []


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"optimizer.lr": -1}, "optimizer.lr"),
        ({"optimizer.learn_rate": 1}, "optimizer"),
        ({"optimizer.betas": [0.9, 1]}, "optimizer.betas.1"),
        ({"schedule.type": "CosineV"}, "schedule.type"),
        ({"schedule": "CosineV"}, "schedule"),
        ({"train.epochs": 0}, "train.epochs"),
        ({"train.epochs": "many"}, "train.epochs"),
        ({"train.epoch": 3}, "train"),
        ({"runtime.precision": "fp8"}, "runtime.precision"),
        ({"data.batch_size": None}, "data.batch_size"),
        ({"data.dataset.type": "Nowhere"}, "data.dataset.type"),
        ({"model.embed_dim": 1.5}, "model.embed_dim"),
        ({"model.text_encoder.num_layers": 0}, "model.text_encoder.num_layers"),
        ({"model.image_encoder.lora": {"rnk": 4}}, "model.image_encoder.lora"),
        ({"splits.num_folds": 1}, "splits.num_folds"),
        ({"hooks": [{"type": "HistoryHook", "evry": 1}]}, "hooks.0"),
        ({"plugins": "my_package"}, "plugins"),
        ({"modle": {}}, ""),
        ({"evaluation.metrics": ["Accuracy", "Accurate"]}, "evaluation.metrics.1"),
    ],
)
def test_a_wrong_value_is_refused_at_its_key_by_both(validator, changes, place):
    plain = TINY.plain()
    for path, value in changes.items():
        *parents, last = path.split(".")
        inner = plain
        for key in parents:
            inner = inner.setdefault(key, {})
        inner[last] = value
    assert places(validator, plain) == [place]
    with pytest.raises(ConfigError) as caught:
        check(Config.from_dict(plain))
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_missing_is_named(validator):
    assert [error.message for error in validator.iter_errors({"model": "CLIP"})] == [
        "'data' is a required property",
        "'splits' is a required property",
    ]
    plain = TINY.plain()
    del plain["model"]["image_encoder"]
    assert [error.message for error in validator.iter_errors(plain)] == ["'image_encoder' is a required property"]
    del plain["model"]["type"]
    assert places(validator, plain) == ["model"]


@pytest.mark.parametrize(
    "changes",
    [
        {"model.image_encoder": "resnet18"},
        {"model.image_encoder": {"type": "resnet18", "pretrained": False}},
        {"model.image_encoder.lora": LORA},
        {"data.augmentation": "none"},
        {"data.sampler": "WeightedSampler"},
        {"optimizer": "SGD"},
        {"evaluation": {"operating_point": {"sensitivity": 0.9}}},
        {"train.unfreeze": [{"epoch": 1, "image_encoder": "all"}]},
        {"splits.val_fraction": 0},
    ],
)
def test_short_forms_are_valid_for_both(validator, changes):
    config = TINY.with_values(changes)
    check(config)
    assert places(validator, config.plain()) == []


def test_every_argument_of_every_class_is_described(validator):
    """As list_modules shows it: each class, its arguments without those that the builder passes, with the words of its docstring."""
    definitions = validator.schema["$defs"]
    for table, registry in TABLES.items():
        for name in registry:
            found = definitions[f"{table}.{name}"]
            assert found["description"] and not found["properties"].keys() & set(registry.runtime)
    adam = definitions["OPTIMIZERS.AdamW"]["properties"]["lr"]
    assert adam == {"description": adam["description"], "type": "number", "exclusiveMinimum": 0, "default": 0.0001} and adam["description"]
    assert all(argument.get("description") for argument in validator.schema["properties"]["runtime"]["properties"].values())


def test_the_command_prints_it_and_knows_plugins(tmp_path, monkeypatch, capsys):
    from clipzoo.cli import main

    (tmp_path / "schema_plugin.py").write_text(
        "from clipzoo.registries import LOSSES\n@LOSSES.register_module()\nclass SchemaLoss:\n    '''Mine.'''\n"
        "    def __init__(self, 温度: float = 0.5): ...\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["schema", "--plugins", "schema_plugin"])
    assert not end.value.code
    mine = json.loads(capsys.readouterr().out)["$defs"]["LOSSES.SchemaLoss"]
    TABLES["LOSSES"]._classes.pop("SchemaLoss")
    assert mine["properties"]["温度"] == {"type": "number", "default": 0.5} and mine["description"] == "Mine."
