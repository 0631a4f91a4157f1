"""Every trainable parameter in exactly one group, and only weights decayed."""

import pytest
import timm
import torch
from torch import nn

from clipzoo.errors import BuildError
from clipzoo.optim.parameter_groups import parameter_groups


class Text(nn.Module):
    """Parameters under the names that text transformers give them."""

    def __init__(self):
        super().__init__()
        self.token_embedding = nn.Embedding(10, 4)
        self.positional_embedding = nn.Parameter(torch.zeros(6, 4))
        self.position_embeddings = nn.Embedding(6, 4)
        self.attention = nn.MultiheadAttention(4, 2, add_bias_kv=True)
        self.ln_final = nn.LayerNorm([6, 4])
        self.text_projection = nn.Parameter(torch.zeros(4, 4))
        self.queries = nn.Parameter(torch.zeros(4, 4))

    def no_weight_decay(self):
        return {"queries"}


class Model(nn.Module):
    """A CLIP model in outline."""

    def __init__(self):
        super().__init__()
        self.image = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4))
        self.text = Text()
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.tied = self.text.token_embedding
        self.logit_scale = nn.Parameter(torch.tensor(1.0))
        self.logit_bias = nn.Parameter(torch.tensor(1.0))


DECAYED = {
    "image.0.weight",
    "image.2.weight",
    "text.token_embedding.weight",
    "text.attention.in_proj_weight",
    "text.attention.out_proj.weight",
    "text.text_projection",
}


def names_by_group(model, groups):
    names = {id(p): name for name, p in model.named_parameters()}
    return {group["name"]: [names[id(p)] for p in group["params"]] for group in groups}


def test_only_weights_are_decayed_and_nothing_is_lost():
    model = Model()
    groups = parameter_groups(model, lr=0.1, weight_decay=0.3)
    names = names_by_group(model, groups)
    assert set(names["decay"]) == DECAYED
    assert set(names["no_decay"]) == {name for name, p in model.named_parameters() if p.requires_grad} - DECAYED
    assert len(names["decay"]) == len(DECAYED) and len(names["no_decay"]) == len(set(names["no_decay"]))
    assert {g["name"]: (g["lr"], g["initial_lr"], g["weight_decay"]) for g in groups} == {
        "decay": (0.1, 0.1, 0.3),
        "no_decay": (0.1, 0.1, 0.0),
    }


def test_timm_models_say_what_is_not_decayed():
    model = nn.ModuleDict({"image": timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=0)})
    names = names_by_group(model, parameter_groups(model, lr=0.1, weight_decay=0.3))
    assert {"image.pos_embed", "image.cls_token"} <= set(names["no_decay"])
    assert all(name.endswith("weight") for name in names["decay"])
    swin = timm.create_model("swin_tiny_patch4_window7_224", img_size=32, window_size=1, depths=(1, 1), num_heads=(2, 2), embed_dim=8)
    names = names_by_group(swin, parameter_groups(swin, lr=0.1, weight_decay=0.3))
    assert any("relative_position_bias_table" in name for name in names["no_decay"])


def test_empty_groups_are_left_out_and_a_frozen_model_is_refused():
    assert [g["name"] for g in parameter_groups(nn.Linear(2, 2, bias=False), 0.1, 0.1)] == ["decay"]
    with pytest.raises(BuildError, match="no trainable parameter"):
        parameter_groups(nn.Linear(2, 2).requires_grad_(False), 0.1, 0.1)
