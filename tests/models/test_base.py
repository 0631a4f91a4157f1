"""Freezing, depth groups by layer, and the checks of arguments."""

import pytest
import torch
from torch import nn

from clipzoo.errors import BuildError, ConfigError
from clipzoo.models.modules import describe_parameters
from clipzoo.models.recompute import let_timm_recompute
from clipzoo.models.tower import Tower, groups_by_layer


class Small(Tower):
    def __init__(self, freeze="none"):
        super().__init__(freeze)
        self.name, self.num_features = "small", 4
        self.net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.apply_freeze()


def test_a_frozen_tower_stays_in_evaluation_mode_inside_a_training_model():
    model = nn.ModuleDict({"frozen": Small("all"), "trained": Small()})
    model.train()
    assert not any(m.training for m in model["frozen"].modules())
    assert all(m.training for m in model["trained"].modules())
    assert not any(p.requires_grad for p in model["frozen"].parameters())


def test_what_a_tower_does_unless_it_knows_better():
    class Published(Small):
        def __init__(self, pretrained: bool = True):
            super().__init__()

    assert Small().blueprint() == {} and Published().blueprint() == {"pretrained": False}
    with pytest.raises(BuildError, match="train.gradient_checkpointing: Small does not support gradient checkpointing"):
        Small().checkpoint_gradients()
    assert (Small().space, Small().logit_scale, Small().logit_bias, Small().quick_gelu) == (None,) * 4


def test_a_network_of_timms_without_checkpoints_is_named():
    class Without(nn.Linear):
        def set_grad_checkpointing(self, enable):
            assert not enable, "gradient checkpointing not supported"

    for network in (Without(1, 1), nn.Linear(1, 1)):
        with pytest.raises(BuildError, match="the timm network in X does not support it"):
            let_timm_recompute(network, "X")


def test_freeze_is_one_of_two_words():
    with pytest.raises(ConfigError, match=r"Small.freeze: 'al' is not one of 'none', 'all'. Did you mean 'all'\?"):
        Small("al")


def test_groups_by_layer_put_the_rest_behind_the_last_layer():
    names = ["projection", "embed.weight", "layer.10.a", "layer.2.a", "layer.2.b", "norm.weight"]
    groups = groups_by_layer(names, r"layer\.(\d+)\.", "embed")
    assert groups == [["embed.weight"], ["layer.2.a", "layer.2.b"], ["layer.10.a", "projection", "norm.weight"]]


def test_parameter_words_count_trained_and_frozen():
    module = nn.Linear(100, 200)
    module.bias.requires_grad_(False)
    assert describe_parameters(module) == "0.02 M parameters trained, 200 frozen"


def test_batch_norm_of_a_frozen_tower_does_not_move():
    tower = Small("all").train()
    before = {key: value.clone() for key, value in tower.state_dict().items()}
    tower.net(torch.randn(8, 4))
    assert all(torch.equal(before[key], value) for key, value in tower.state_dict().items())
