"""Freezing by depth: exactly the last blocks learn, and what is frozen does not move by a bit, running statistics included."""

import re
from pathlib import Path

import pytest
import torch
from small_towers import IMAGES, NAMES, TEXTS, build, inputs_of
from torch import nn

from clipzoo.errors import ConfigError
from clipzoo.models.names import _IMAGE
from clipzoo.models.tower import Tower
from clipzoo.registries import BACKBONES, TEXT_ENCODERS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "fine_tuning.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("towers")


def test_every_registered_kind_of_tower_is_tested_here():
    texts = {name for name in TEXT_ENCODERS if TEXT_ENCODERS.get(name).__module__.startswith("clipzoo.")}
    assert {name.partition(" ")[0] for name in TEXTS} == texts
    images = {name for name in BACKBONES if BACKBONES.get(name).__module__.startswith("clipzoo.")}
    assert {name.partition(" ")[0] for name in IMAGES} == images - {"TimmBackbone"}


@pytest.mark.parametrize("name", NAMES)
def test_depth_groups_are_a_partition_from_stem_to_last_block(folder, name):
    tower = build(name, folder)
    groups = tower.depth_groups()
    assert sorted(sum(groups, [])) == sorted(key for key, _ in tower.named_parameters()) and all(groups)
    assert tower.depth == len(groups) == DEPTHS[name]
    order = [inner for group in groups for inner in group]
    stem = ("conv1", "stem", "patch_embed", "embedding")
    assert any(word in key for key in groups[0] for word in stem)
    assert not any("embedding" in key for key in order[len(groups[0]) :] if "attnpool" not in key)
    numbers = [[int(number) for number in re.findall(r"\d+(?=\.)", key)] for group in groups[1:] for key in group[:1]]
    assert numbers == sorted(numbers)  # the order of the blocks' own numbers, stage first
    last = [key for key in order if re.search(r"(^|\.)(ln_post|ln_final|proj|attnpool.*|text_projection|head\..*)$", key)]
    assert set(last) <= set(groups[-1])


DEPTHS = {
    "ResNet": 5, "StarNet": 11, "EfficientNet": 6, "ConvNeXt": 10, "VisionTransformer": 7, "HFVision": 4, "HFVision siglip": 4,
    "CLIPVision": 4,
    "CLIPVision resnet": 6,
    "OpenCLIPBackbone": 4, "OpenCLIPBackbone resnet": 6, "OpenCLIPBackbone timm": 7,
    "BERT": 4, "CLIPText": 4, "HFText": 4, "OpenCLIPText": 4, "OpenCLIPText bert": 4,
}  # fmt: skip


@pytest.mark.fast_cases(6)
@pytest.mark.parametrize("name", NAMES)
def test_exactly_the_last_blocks_move_in_training(folder, name):
    tower = build(name, folder, unfreeze_blocks=2)
    learning = set(sum(tower.depth_groups()[-2:], []))
    assert {key for key, p in tower.named_parameters() if p.requires_grad} == learning and not tower.frozen
    assert f"last 2 of {tower.depth} blocks learn" in tower.describe()
    nn.ModuleDict({"tower": tower}).train()
    for module in tower.modules():
        own = list(module.parameters())
        if own and not any(p.requires_grad for p in own):
            assert not any(part.training for part in module.modules())
    before = {key: value.clone() for key, value in tower.state_dict().items()}
    optimizer = torch.optim.AdamW(tower.parameters(), lr=0.01, weight_decay=0.5)  # it skips what has no gradient
    inputs = inputs_of(tower)
    for _ in range(3):
        optimizer.zero_grad()
        tower(inputs).sin().sum().backward()
        optimizer.step()
    moved = {key for key, value in tower.state_dict().items() if not torch.equal(before[key], value)}
    statistics = {key for key, _ in tower.named_buffers()}
    assert moved - statistics == learning
    of_learning = {key for key in statistics if "running" in key and f"{key.rpartition('.')[0]}.weight" in learning}
    assert {key for key in moved & statistics if "running" in key} == of_learning
    assert name != "ResNet" or len(of_learning) > 0


def test_a_tower_is_unfrozen_and_frozen_later(folder):
    tower = build("BERT", folder, freeze="all")
    assert tower.frozen and tower.first_blocks == 0
    groups = tower.depth_groups()
    for blocks in (1, 4, None, 2, 0):
        tower.unfreeze(blocks)
        expected = groups[len(groups) - blocks :] if blocks is not None else groups
        assert {key for key, p in tower.named_parameters() if p.requires_grad} == set(sum(expected, []))
        assert tower.frozen == (blocks == 0)
    tower.train()
    assert not any(module.training for module in tower.modules())
    assert build("BERT", folder, freeze="all", unfreeze_blocks=4).describe() == build("BERT", folder).describe()


def test_dropout_rests_in_frozen_blocks_only(folder):
    tower = build("BERT", folder, unfreeze_blocks=1).train()
    drops = {key: part.training for key, part in tower.named_modules() if isinstance(part, nn.Dropout)}
    assert set(drops.values()) == {True, False}
    assert all(mode == ("layer.2" in key) for key, mode in drops.items())


class Partly(Tower):
    """A plugin of one block, with a part that has no parameters below it."""

    def __init__(self, freeze="none", **more):
        super().__init__(freeze, **more)
        self.name, self.num_features = "partly", 4
        self.stem, self.drop, self.last = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), nn.Dropout(0.5), nn.Linear(4, 4)
        self.apply_freeze()


class Known(Partly):
    def depth_groups(self):
        return [["stem.0.weight", "stem.0.bias"], ["last.weight", "last.bias"]]


def test_a_part_without_parameters_follows_the_part_it_stands_in():
    tower = Known(unfreeze_blocks=1).train()
    assert [part.training for part in (tower, tower.drop, tower.last, tower.stem, tower.stem[1])] == [True, True, True, False, False]
    assert not any(part.training for part in tower.eval().modules())


def test_what_the_network_itself_never_trains_is_left_so(folder):
    config = {"embed_dim": 24, "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8, "pos_embed_type": "sin_cos_2d"}}
    spec = {"type": "OpenCLIPBackbone", "name": "x", "config": {**config, "text_cfg": {}}}
    for arguments in ({"unfreeze_blocks": 2}, {"freeze": "all"}, {"lora": {"rank": 1}}):
        tower = BACKBONES.build({**spec, **arguments})
        tower.unfreeze(None)
        assert [key for key, p in tower.named_parameters() if not p.requires_grad] == ["net.positional_embedding"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"unfreeze_blocks": 3}, r"Known: unfreeze_blocks=3 exceeds its depth: partly has 2 blocks, including the stem"),
        ({"unfreeze_blocks": -1}, "Known.unfreeze_blocks: -1 is not a whole number of 0 or more"),
        ({"unfreeze_blocks": True}, "unfreeze_blocks: True is not a whole number"),
        ({"unfreeze_blocks": 1.0}, "unfreeze_blocks: 1.0 is not a whole number"),
        ({"freeze": "al", "unfreeze_blocks": 1}, "Did you mean 'all'"),
        ({"freeze": "all", "lora": {}}, "freeze='all' conflicts with lora, which trains adapters"),
    ],
)
def test_mistakes_are_one_clear_line(arguments, words):
    with pytest.raises(ConfigError, match=words) as raised:
        Known(**arguments)
    assert "\n" not in str(raised.value)


def test_a_plugin_without_depth_groups_is_frozen_as_a_whole_only():
    assert Partly("all").frozen and not Partly(unfreeze_blocks=None).frozen and Partly(unfreeze_blocks=0).frozen
    with pytest.raises(ConfigError, match="Partly: unfreeze_blocks=1, but Partly has no method 'depth_groups'. Define one, or use freeze"):
        Partly(unfreeze_blocks=1)
    assert "blocks" not in Partly("all").describe()


@pytest.mark.slow
@pytest.mark.parametrize("rows", ["some", pytest.param("all", marks=pytest.mark.slow)])
def test_the_depths_in_the_documentation_are_true(rows):
    table = DOCS.read_text(encoding="utf-8").partition("## Depths")[2]
    found = [
        dict(zip(names.split("`, `"), map(int, depths.split(", ")), strict=True))
        for names, depths in re.findall(r"^\| `([^|]+)` \| ([^|]+) \|", table, flags=re.MULTILINE)
    ]
    assert {name for name in _IMAGE if name != "vit"} <= {name for row in found for name in row}
    texts = {"clip": {"type": "CLIPText", "variant": "ViT-B/32"}, "bert": {"type": "BERT", "pretrained": False}}
    with torch.device("meta"):
        for name, depth in [pair for row in found for pair in list(row.items())[: 1 if rows == "some" else None]]:
            kind = name.removesuffix(" (text)")
            tower = BACKBONES.build(f"{kind}:scratch") if kind == name else TEXT_ENCODERS.build(texts.get(kind, f"{kind}:scratch"))
            assert tower.depth == depth, name
