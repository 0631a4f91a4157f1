"""Learning rates per module and per depth: every trainable parameter has one, and it is the one that is written down."""

import itertools

import pytest
import torch
from torch import nn

from clipzoo.errors import BuildError, ConfigError
from clipzoo.optim import SGD, AdamW
from clipzoo.optim.parameter_groups import parameter_groups


class Tower(nn.Module):
    """Four depth groups, by duck typing: optimizers know no towers."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(3, 4)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(3))
        self.norm = nn.LayerNorm(4)

    def depth_groups(self):
        names = [name for name, _ in self.named_parameters()]
        stem = [name for name in names if name.startswith("stem")]
        groups = [[name for name in names if name.startswith(f"blocks.{k}.")] for k in range(3)]
        return [stem, *groups[:-1], groups[-1] + [name for name in names if name.startswith("norm")]]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.image_encoder, self.text_encoder = Tower(), Tower()
        self.head = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        self.logit_scale = nn.Parameter(torch.tensor(1.0))


def by_name(model, groups):
    """Parameter name → (lr, initial_lr, weight_decay, group)."""
    names = {id(p): name for name, p in model.named_parameters()}
    found = [(names[id(p)], (g["lr"], g["initial_lr"], g["weight_decay"], g["name"])) for g in groups for p in g["params"]]
    assert len(found) == len(dict(found))  # in one group only
    return dict(found)


MODULE_LRS = [None, {"head": 0.5}, {"image_encoder": 0.01, "image_encoder.blocks.1": 0.2, "head.1.weight": 3.0, "logit_scale": 0.7}]


@pytest.mark.parametrize(("module_lr", "layer_decay"), list(itertools.product(MODULE_LRS, [None, 1.0, 0.5])))
def test_every_trainable_parameter_is_in_one_group_at_its_rate(module_lr, layer_decay):
    model = Model()
    model.image_encoder.blocks[0].requires_grad_(False)
    groups = parameter_groups(model, 0.1, 0.3, module_lr, layer_decay)
    found = by_name(model, groups)
    assert set(found) == {name for name, p in model.named_parameters() if p.requires_grad}
    assert len({g["name"] for g in groups}) == len(groups) and all(g["params"] for g in groups)
    for name, (lr, initial_lr, weight_decay, _) in found.items():
        expected = 0.1
        for key in sorted(module_lr or {}, key=len):
            if f"{name}.".startswith(f"{key}."):
                expected = module_lr[key]
        tower, _, inner = name.partition(".")
        if layer_decay and tower.endswith("encoder"):
            k = next(k for k, group in enumerate(model.image_encoder.depth_groups()) if inner in group)
            expected *= layer_decay ** (3 - k)
        assert lr == initial_lr == pytest.approx(expected, rel=1e-12)
        assert weight_decay == (0.3 if dict(model.named_parameters())[name].ndim == 2 else 0.0)


def test_rates_of_a_tower_of_four_groups_by_hand():
    model = Model()
    found = by_name(model, parameter_groups(model, 1.0, 0.0, {"text_encoder": 8.0}, 0.5))
    assert [found[f"image_encoder.{name}.weight"][0] for name in ("stem", "blocks.0.0", "blocks.1.0", "blocks.2.0", "norm")] == [
        0.125, 0.25, 0.5, 1.0, 1.0,
    ]  # fmt: skip
    assert found["text_encoder.stem.weight"][0] == 1.0 and found["text_encoder.norm.bias"][0] == 8.0
    assert found["head.0.weight"][0] == found["logit_scale"][0] == 1.0
    assert found["image_encoder.stem.weight"][3] == "image_encoder block 0 decay" and found["head.0.bias"][3] == "no_decay"


def test_without_the_new_arguments_the_groups_are_what_they_were():
    model = Model()
    groups = parameter_groups(model, 0.1, 0.3)
    weights, rest = ([id(p) for p in model.parameters() if (p.ndim == 2) is decayed] for decayed in (True, False))
    found = [(g["name"], g["weight_decay"], [id(p) for p in g["params"]]) for g in groups]
    assert found == [("decay", 0.3, weights), ("no_decay", 0.0, rest)]
    assert {key for g in groups for key in g} == {"name", "params", "weight_decay", "lr", "initial_lr"}
    saved = AdamW(lr=0.1).build(model).state_dict()["param_groups"]
    assert [(g["name"], len(g["params"])) for g in saved] == [("decay", 10), ("no_decay", 27)]


@pytest.mark.parametrize("cls", [AdamW, SGD])
def test_torch_uses_each_groups_own_rate(cls):
    model = Model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    more = {"momentum": 0.0} if cls is SGD else {}
    built = cls(lr=0.1, weight_decay=0.0, module_lr={"head": 0.2}, layer_decay=0.5, **more).build(model)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    built.step()
    moved = {name: (before[name] - p).max().item() for name, p in model.named_parameters()}
    rates = {"image_encoder.stem.weight": 0.0125, "text_encoder.norm.weight": 0.1, "head.1.bias": 0.2, "logit_scale": 0.1}
    for name, rate in rates.items():
        assert moved[name] == pytest.approx(rate, rel=1e-4)


@pytest.mark.parametrize(
    ("module_lr", "words"),
    [
        ({"image_encodr": 1e-3}, r"optimizer.module_lr: no parameter name starts with 'image_encodr'\. Did you mean 'image_encoder'\?"),
        ({"image_encoder.block": 1e-3}, r"Did you mean 'image_encoder.blocks'\? Available: logit_scale, image_encoder, head, and"),
        ({"image": 1e-3}, "no parameter name starts with 'image'"),
        ({"text_encoder": 1e-3}, "everything in 'text_encoder' is frozen"),
        ({"": 1e-3}, "no parameter name starts with ''"),
    ],
)
def test_a_rate_for_nothing_is_refused(module_lr, words):
    model = Model()
    model.text_encoder.requires_grad_(False)
    with pytest.raises(BuildError, match=words) as raised:
        AdamW(module_lr=module_lr).build(model)
    assert "\n" not in str(raised.value)


def test_a_decay_over_depth_needs_a_tower_that_knows_its_depth():
    with pytest.raises(BuildError, match="optimizer.layer_decay: Linear has no tower with depth groups. Remove it"):
        AdamW(layer_decay=0.9).build(nn.Linear(2, 2))

    class Plugin(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def depth_groups(self):
            raise NotImplementedError("Plugin has no method 'depth_groups'")

    with pytest.raises(BuildError, match="optimizer.layer_decay: Plugin has no method 'depth_groups'. Define one, or remove layer_decay"):
        AdamW(layer_decay=0.9).build(nn.ModuleDict({"image_encoder": Plugin()}))


@pytest.mark.parametrize(
    "make",
    [
        lambda: AdamW(layer_decay=0.0),
        lambda: SGD(layer_decay=1.1),
        lambda: AdamW(module_lr={"head": 0}),
        lambda: SGD(module_lr={"head": "fast"}),
        lambda: AdamW(module_lr={"head": True}),
    ],
)
def test_arguments_out_of_range_are_refused(make):
    with pytest.raises(ConfigError, match=" is not a number "):
        make()


@pytest.mark.parametrize("shared", [False, True])
def test_sgd_is_fused_only_where_no_parameter_is_shared(shared):
    """torch's fused SGD refuses a DTensor in its first step."""
    model = nn.Linear(2, 2)
    if shared:
        model.weight.full_tensor = lambda: model.weight
    assert bool(SGD().build(model).defaults["fused"]) is not shared
