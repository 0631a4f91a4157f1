"""Tiny models as users load them, from checkpoints of untrained towers."""

from __future__ import annotations

import pytest
from checkpoint_files import saved
from tiny import tiny_config

import clipzoo
from clipzoo.config import Config

VIT = {"type": "CLIPVision", "image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "heads": 2, "output_dim": 32}


@pytest.fixture(scope="session")
def make_loaded(tmp_path_factory, class_folders):
    """``make_loaded(model={…})``: the loaded tiny CLIP with changed sections of its config, or ``whole_model`` in its place."""

    def make(whole_model=None, **sections):
        content = tiny_config(class_folders, **sections)
        content["model"] = whole_model or content["model"]
        path, _ = saved(tmp_path_factory.mktemp("models") / "checkpoint.pth", Config.from_dict(content, "tiny"))
        return clipzoo.load(path, device="cpu")

    return make


@pytest.fixture(scope="session")
def conv_clip(make_loaded):
    """timm's smallest ResNet and a small BERT; their weights are random."""
    return make_loaded()


@pytest.fixture(scope="session")
def vit_clip(make_loaded):
    """CLIP's transformer and a small BERT; their weights are random."""
    return make_loaded(model={"image_encoder": VIT})


@pytest.fixture(scope="session")
def classifier(make_loaded):
    """A classifier without a text side."""
    tower = {"type": "TimmBackbone", "name": "test_resnet", "image_size": 32}
    return make_loaded({"type": "ImageClassifier", "image_encoder": tower, "head": "LinearHead"})


@pytest.fixture(scope="session")
def files(class_folders):
    """Three images of every class."""
    return [path for folder in sorted(class_folders.iterdir()) for path in sorted(folder.iterdir())[:3]]
