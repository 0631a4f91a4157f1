"""The table of rules: complete, consistent, and every plan that it makes is a valid config."""

import itertools

import pytest

from clipzoo.config.checking import check
from clipzoo.models.catalogue import CATALOGUE
from clipzoo.planning.plan import make_plan
from clipzoo.planning.rules import CLIPS, FACTS, IMAGE_TOWERS, RULES, Found, table

FOLDERS = {"type": "ImageFolderDataset", "root": "data"}
PAIRS = {"type": "PairsDataset", "path": "data"}
USUAL = {
    **{"data": "class folders", "images": 300, "smallest": 30, "imbalance": 1.2, "repeated": "no", "mixed": "no", "pixels": 900},
    **{"start": "random weights", "model": None, "peft": "yes", "device": "CPU", "memory": 0.0, "num_workers": 2},
}
MODELS = {"random weights": None, "published CLIP": "chinese-clip:ViT-B-16", "published image tower": "timm:resnet18.a1_in1k"}


def plan(*overrides, **facts):
    facts = {**USUAL, **facts}
    spec = PAIRS if facts["data"] == "pairs" else FOLDERS
    return make_plan({**facts, "model": MODELS[facts["start"]]}, spec, overrides)


def test_every_topic_ends_with_a_rule_that_always_applies():
    topics = list(dict.fromkeys(rule.topic for rule in RULES))
    for topic in topics:
        *conditional, last = [rule for rule in RULES if rule.topic == topic]
        assert not last.when and all(rule.when for rule in conditional), topic
    assert [topic for topic, _ in itertools.groupby(rule.topic for rule in RULES)] == topics


def test_conditions_ask_for_what_can_be_known():
    """Facts of the data and the machine, or the choice of an earlier topic, by one of its names."""
    named: dict[str, set[str]] = {}
    for rule in RULES:
        for fact, _, value in rule.when:
            assert fact in FACTS
            assert fact not in named or value in named[fact]
            assert fact in named or fact in USUAL
        named.setdefault(rule.topic, set()).add(rule.name)
        assert all(value.fact in USUAL for value in rule.choice.values() if isinstance(value, Found))
        assert rule.reason and rule.name and rule.topic not in USUAL


def test_the_models_are_those_of_the_catalogue():
    known = {model.name for model in CATALOGUE}
    assert {name for names in CLIPS.values() for name in names} <= known
    published = {model.name: model.repository for model in CATALOGUE}
    assert all(published[name] == home for name, home in IMAGE_TOWERS if name in published) and len(IMAGE_TOWERS) == 7
    language = {model.name: model.language for model in CATALOGUE}
    assert all(language[name] in ("Chinese", "many languages") for name in CLIPS["Chinese"])


@pytest.mark.parametrize("start", MODELS)
def test_every_plan_is_a_valid_config(start):
    cases = itertools.product(
        ("class folders", "given parts", "table", "pairs"), (("CPU", 0.0), ("GPU", 6.0), ("GPU", 80.0)), (40, 800, 20_000), ("yes", "no")
    )
    for data, (device, memory), images, peft in cases:
        made = plan(start=start, data=data, device=device, memory=memory, images=images, peft=peft, repeated="yes")
        check(made.config)
        assert [decision.topic for decision in made.decisions] == list(dict.fromkeys(rule.topic for rule in RULES))


@pytest.mark.parametrize(
    ("facts", "key", "value"),
    [
        ({"smallest": 2}, "num_folds", 2),
        ({"smallest": 4}, "num_folds", 4),
        ({"smallest": 5}, "num_folds", 5),
        ({"smallest": 19}, "val_fraction", 0.2),
        ({"smallest": 20}, "val_fraction", 0.1),
        ({"data": "pairs", "images": 5000}, "type", "Holdout"),
        ({"data": "given parts"}, "type", "AsGiven"),
    ],
)
def test_folds(facts, key, value):
    assert plan(**facts).config.splits[key] == value


def test_patients_with_several_images_count_once_unless_their_classes_differ():
    assert plan(repeated="yes").config.evaluation == {"unit": "group"}
    assert "evaluation" not in plan(repeated="yes", mixed="yes").config
    assert "evaluation" not in plan(repeated="yes", data="pairs").config


def test_imbalance_is_corrected_once():
    config = plan(imbalance=2.0).config
    assert config.data.sampler == {"type": "WeightedSampler", "method": "inverse_freq"} and "loss" not in config.model
    assert "sampler" not in plan(imbalance=1.9).config.data


@pytest.mark.parametrize(
    ("facts", "towers"),
    [
        ({}, {"freeze": "all"}),
        ({"device": "GPU", "memory": 24}, {"lora": {"rank": 8}}),
        ({"device": "GPU", "memory": 24, "peft": "no"}, {"unfreeze_blocks": 2}),
        ({"device": "GPU", "memory": 24, "images": 3000}, {"unfreeze_blocks": 4}),
        ({"data": "pairs"}, {"unfreeze_blocks": 1}),
    ],
)
def test_a_published_clip_is_adapted_as_the_data_allow(facts, towers):
    config = plan(start="published CLIP", **facts).config
    assert config.model.image_encoder == {"type": "chinese-clip:ViT-B-16", **towers}


def test_a_tower_without_arguments_is_its_name():
    config = plan(start="published CLIP", device="GPU", memory=24.0, images=50_000).config
    assert config.model.image_encoder == "chinese-clip:ViT-B-16" and config.optimizer.lr == 1e-5


def test_nothing_mirrors():
    for facts in ({}, {"pixels": 20}, {"start": "published CLIP"}):
        assert plan(**facts).config.data.augmentation in ("none", "minimal", "standard")


def test_a_tower_of_ones_own_replaces_the_rules():
    made = plan("model.image_encoder=resnet50", "train.epochs=3")
    assert made.config.model.image_encoder == "resnet50" and made.config.train.epochs == 3
    decided = {decision.topic: decision for decision in made.decisions}
    assert "image size" not in decided and "epochs" not in decided
    assert "model.image_encoder" not in " ".join(decided["towers"].keys)
    assert decided["model.image_encoder"].reason == "set by hand" and decided["train.epochs"].choice == "3"


def test_the_table_has_a_row_for_every_rule():
    rows = table()
    assert len(rows) == len(RULES) and rows[-1] == (
        "workers",
        "otherwise",
        "one per core, at most 4",
        "reading and training at the same time",
    )
    assert all("|" not in cell for row in rows for cell in row)
