"""One digest of a tower or a model: it changes with whatever makes a feature, and with nothing else."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import small_towers
import torch
from checkpoint_files import saved

import clipzoo
from clipzoo.baselines.towers import class_texts
from clipzoo.engine import build
from clipzoo.features import digest
from clipzoo.features.digest import feature_digest
from clipzoo.inference import index
from clipzoo.inference.clip import LoadedCLIP
from clipzoo.inference.restore import Restored
from clipzoo.models.text_encoders import CLIPText
from clipzoo.registries import BACKBONES, MODELS, TEXT_ENCODERS

VISION = {"type": "CLIPVision", "image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "heads": 2, "output_dim": 16}
TEXT = {"type": "CLIPText", "width": 32, "heads": 2, "layers": 1, "output_dim": 16}


def a_clip(quick_gelu: bool = False, **arguments) -> LoadedCLIP:
    """A CLIP with its first weights, always the same."""
    torch.manual_seed(0)
    towers = BACKBONES.build({**VISION, "quick_gelu": quick_gelu}), TEXT_ENCODERS.build({**TEXT, "quick_gelu": quick_gelu})
    return LoadedCLIP(Restored(MODELS.get("CLIP")(*towers, **arguments).eval(), "a clip"))


def test_two_clips_that_differ_in_their_activation_share_no_index(class_folders, tmp_path):
    first, same, other = a_clip(), a_clip(), a_clip(quick_gelu=True)
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), other.model.parameters(), strict=True))
    assert first.digest == same.digest != other.digest and len(first.digest) == 32
    folder = shutil.copytree(class_folders / "圆", tmp_path / "images")
    assert index.update(folder, first).encoded == 12 == index.update(folder, same).kept
    assert index.update(folder, other).encoded == 12


@pytest.mark.parametrize(
    "change", ["weights", "buffer", "precision", "preprocessing", "context", "attribute", "class", "tokenizer", "eps", "code", "library"]
)
def test_it_changes_with_what_makes_a_feature(change, monkeypatch):
    loaded = a_clip()
    before, model = loaded.digest, loaded.model
    if change == "weights":
        model.text_encoder.text_projection.data[0, 0] += 1e-6
    elif change == "buffer":
        model.image_encoder.register_buffer("table", torch.zeros(2), persistent=False)
    elif change == "precision":
        loaded.precision = "bf16"
    elif change == "preprocessing":
        loaded.preprocess.preprocessing = replace(loaded.preprocess.preprocessing, fit="squash")
    elif change == "context":
        model.tokenizer.context_length = 20
    elif change == "attribute":
        model.image_encoder.pooling = "mean"
    elif change == "class":
        model.text_encoder.__class__ = type("Other", (CLIPText,), {})
    elif change == "tokenizer":
        model.tokenizer.__class__ = type("Other", (type(model.tokenizer),), {})
    elif change == "eps":
        next(part for part in model.modules() if isinstance(part, torch.nn.LayerNorm)).eps = 1e-3
    else:
        monkeypatch.setattr(digest, {"code": "code_of", "library": "version_of"}[change], lambda name: "another")
    assert loaded.digest != before


def test_it_does_not_change_with_how_a_model_learns_or_where_it_comes_from(config_of, tmp_path):
    from clipzoo.models.losses import SigmoidContrastiveLoss

    first, other = a_clip(), a_clip(loss=SigmoidContrastiveLoss(), in_batch_measures=True)
    assert first.digest == other.digest, "a loss makes no feature"
    net = other.model
    net.image_encoder.freeze, net.image_encoder.weights, net.image_encoder.name, net.text_encoder.space = "all", "of x", "y", "z"
    net.image_encoder.unfreeze(0)
    net.train()
    assert other.digest == first.digest
    other.precision = first.precision = "bf16"
    assert other.digest != first.digest, "but a frozen tower works in full precision beside one that does not"
    text = {"type": "BERT", "pretrained": False, "hidden_size": 32, "num_layers": 1, "num_heads": 2}
    found = []
    for dropout in (0.0, 0.3):
        torch.manual_seed(0)
        found.append(clipzoo.load(saved(tmp_path / "x.pth", config_of(model={"text_encoder": {**text, "dropout": dropout}}))[0]).digest)
    assert found[0] == found[1], "nothing is dropped in evaluation"


@pytest.mark.fast_cases(6)
@pytest.mark.parametrize("name", small_towers.NAMES)
def test_equal_towers_have_equal_digests_also_from_a_checkpoint(tmp_path, name):
    tower = small_towers.build(name, tmp_path)
    registry = BACKBONES if name in small_towers.IMAGES else TEXT_ENCODERS
    again = registry.build({**small_towers.spec_of(name, tmp_path), **tower.blueprint()})
    assert feature_digest(again) != feature_digest(tower)
    again.load_state_dict(tower.state_dict())
    assert feature_digest(again) == feature_digest(tower) == feature_digest(small_towers.build(name, tmp_path, freeze="all"))


def test_the_digest_of_class_texts_is_the_towers_with_the_sentences(config_of, monkeypatch):
    found = []
    for quick_gelu in (False, True):
        torch.manual_seed(0)
        reader = TEXT_ENCODERS.build({**TEXT, "quick_gelu": quick_gelu}).eval()
        reader.space = "one"
        monkeypatch.setattr("clipzoo.baselines.towers.build_tower", lambda *_, reader=reader: reader)
        tower = SimpleNamespace(space="one", parameters=reader.parameters, name="x", weights="y")
        config = config_of()
        texts = [["a {class_name}"], ["a {class_name}"], ["b {class_name}"]]
        silent = SimpleNamespace(warning=lambda *_: None, info=lambda *_: None)
        found.append([class_texts(config, tower, build.dataset(config), silent, text_encoder=None, templates=t).digest for t in texts])
    for same, equal, other in found:
        assert same == equal != other
    assert found[0][0] != found[1][0]
