"""The folder for the hub: loaded again with the same numbers, described, and uploaded to a server that answers as the hub."""

import json
import shutil
import warnings

import open_clip
import pytest
import torch
from checkpoint_files import saved
from hub_server import Hub, serving
from huggingface_hub import ModelCard

import clipzoo
from clipzoo.config import Config
from clipzoo.engine import checkpoint
from clipzoo.errors import BuildError, CheckpointError, ClipzooError
from clipzoo.inference.hub_checkpoint import CONFIG, WEIGHTS
from clipzoo.inference.hub_classes import CLASSES
from clipzoo.inference.hub_folder import push, write_hub

CLASSIFIER = {"type": "ImageClassifier", "image_encoder": {"type": "TimmBackbone", "name": "test_vit", "image_size": 32}}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub at HF_ENDPOINT, and an empty cache."""
    from huggingface_hub import close_session, constants, hf_api

    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with serving(Hub()) as hub:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setattr(hf_api.api, "endpoint", hub.address)
        close_session()
        yield hub
    close_session()


@pytest.fixture
def classifier(config_of, tmp_path):
    config = Config.from_dict({**config_of().plain(), "model": CLASSIFIER}, "tiny")
    return saved(tmp_path / "checkpoint_best.pth", config, calibration={"temperature": 1.7})[0]


def test_a_clip_is_written_for_open_clip(config_of, class_folders, tmp_path):
    path, _ = saved(tmp_path / "checkpoint_best.pth", config_of())
    assert write_hub(path, tmp_path / "out", repository="someone/model") == "open_clip"
    files = {file.name for file in (tmp_path / "out").iterdir()}
    assert files == {
        *("README.md", "classes.json", "config.json", "open_clip_config.json", "open_clip_model.safetensors"),
        *("tokenizer_config.json", "vocab.txt"),
    }
    images = sorted(class_folders.glob("*/*.png"))[::9]
    torch.testing.assert_close(
        clipzoo.load(tmp_path / "out").encode_image(images), clipzoo.load(path).encode_image(images), rtol=0, atol=1e-5
    )
    card = ModelCard((tmp_path / "out" / "README.md").read_text(encoding="utf-8"))
    assert card.data.library_name == "open_clip" and "hf-hub:someone/model" in card.text


def test_an_open_clip_folder_keeps_its_classes_and_can_be_moved(config_of, class_folders, tmp_path, monkeypatch):
    path, _ = saved(tmp_path / "checkpoint_best.pth", config_of(), calibration={"temperature": 1.7})
    assert write_hub(path, tmp_path / "first") == "open_clip"
    folder = shutil.move(tmp_path / "first", tmp_path / "out")
    images = sorted(class_folders.glob("*/*.png"))[::9]
    found, expected = clipzoo.load(folder), clipzoo.load(path)
    assert (found.classes, found.class_captions) == (expected.classes, expected.class_captions)
    torch.testing.assert_close(found.classify(images).probabilities, expected.classify(images).probabilities, rtol=0, atol=1e-5)
    text = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"]["text_cfg"]
    assert text["hf_model_name"] == text["hf_tokenizer_name"] == "."
    monkeypatch.chdir(folder)
    tower, tokenizer = open_clip.create_model("local-dir:.").eval(), open_clip.get_tokenizer("local-dir:.")
    with torch.no_grad():
        torch.testing.assert_close(tower.encode_text(tokenizer(["圆"]), normalize=True), expected.encode_text(["圆"]), rtol=0, atol=1e-5)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "'local-dir:.'" in card and "Run it in this folder" in card and "model.classify(['image.png']).top(3)" in card
    classes = json.loads((folder / CLASSES).read_text(encoding="utf-8"))
    damage = (({"captions": [["a"]]}, "every class needs"), ({"calibration": 0.0}, "calibration=0.0"), ({"classes": 3}, "classes"))
    for change, problem in damage:
        (folder / CLASSES).write_text(json.dumps({**classes, **change}), encoding="utf-8")
        with pytest.raises(CheckpointError, match=problem):
            clipzoo.load(folder)
    (folder / CLASSES).write_text('["of another tool"]')
    assert clipzoo.load(folder).classes == ()


@pytest.mark.parametrize("layout", ["open_clip", "clipzoo"])
def test_no_file_holds_a_path_of_this_machine(config_of, class_folders, tmp_path, layout):
    """An absolute root, and relative ones with a name in them; in the model, the data and the hooks."""
    config = config_of().plain() if layout == "open_clip" else {**config_of().plain(), "model": CLASSIFIER}
    private = json.loads(json.dumps(config))
    private["data"]["dataset"] |= {"root": str(class_folders), "class_texts": "zhang_san/texts.json", "val_root": "zhang_san"}
    private["data"]["views"] = None
    private["model"]["image_encoder"] |= {"pretrained": "weights:zhang_san/own"}
    private["hooks"] = [{"type": "MLflowHook", "tracking_uri": "file:///home/zhang_san/runs"}]
    path, _ = saved(tmp_path / "checkpoint_best.pth", Config.from_dict(config, "tiny"))
    checkpoint.write(path, {**checkpoint.read(path), "config": private})
    assert write_hub(path, tmp_path / "out") == layout
    for file in (tmp_path / "out").iterdir():
        content, private = file.read_bytes(), ("zhang_san", str(tmp_path), str(class_folders), class_folders.parent.name)
        assert not any(part.encode() in content for part in private), file
    assert clipzoo.load(tmp_path / "out").classes == clipzoo.load(path).classes


def test_test_views_are_kept_in_our_own_layout_and_warned_of_in_open_clips(config_of, tmp_path):
    views = {"evaluation": {"tta": ["flip"]}}
    path, _ = saved(tmp_path / "a.pth", Config.from_dict({**config_of(**views).plain(), "model": CLASSIFIER}, "tiny"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert write_hub(path, tmp_path / "own") == "clipzoo"
    assert clipzoo.load(tmp_path / "own").model.image_tower.test_views == ("flip",)
    path, _ = saved(tmp_path / "b.pth", config_of(**views))
    with pytest.warns(UserWarning, match="evaluation.tta, which the exported weights do not include"):
        assert write_hub(path, tmp_path / "other") == "open_clip"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *((("state",), {}), (("state", "epoch"), "three"), (("preprocessing", "mean"), None), (("preprocessing",), {"size": 32})),
        *((("config", "data"), []), (("config", "runtime"), {"nonsense": 1}), (("config", "evaluation"), {"tta": 3})),
        *((("config", "model"), {}), (("config", "model"), "CLIP"), (("config", "nonsense"), {}), (("config",), {})),
        *((("towers", "image_encoder"), "x"), (("towers", "nonsense"), {}), (("towers", "image_encoder"), {"image_size": -4})),
        *((("class_captions",), [["a"]]), (("classes",), {"a": 1}), (("provenance",), None), (("calibration",), {"temperature": "hot"})),
    ],
)
def test_a_damaged_configuration_is_one_clear_line(classifier, tmp_path, place, value):
    write_hub(classifier, tmp_path / "out")
    path = tmp_path / "out" / CONFIG
    content = json.loads(path.read_text(encoding="utf-8"))
    *outer, last = place
    inside = content
    for key in outer:
        inside = inside[key]
    inside[last] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ClipzooError, match=r".+") as refused:
        clipzoo.load(tmp_path / "out")
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 600


def test_files_have_the_permissions_of_any_new_file(classifier, tmp_path):
    write_hub(classifier, tmp_path / "out")
    (tmp_path / "other").touch()
    assert {file.stat().st_mode for file in (tmp_path / "out").iterdir()} == {(tmp_path / "other").stat().st_mode}


def test_any_other_model_is_a_checkpoint_without_pickle(classifier, class_folders, tmp_path):
    assert write_hub(classifier, tmp_path / "out", lang="zh") == "clipzoo"
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"README.md", "classes.json", CONFIG, WEIGHTS}
    images = sorted(class_folders.glob("*/*.png"))[::9]
    one, other = clipzoo.load(classifier), clipzoo.load(tmp_path / "out")
    assert one.digest == other.digest and one.classes == other.classes
    assert torch.equal(one.classify(images).probabilities, other.classify(images).probabilities)
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "不可用于诊断" in text and ModelCard(text).data.pipeline_tag == "image-classification"


def test_damaged_and_foreign_folders_are_refused(classifier, tmp_path):
    write_hub(classifier, tmp_path / "out")
    (tmp_path / "out" / WEIGHTS).write_bytes((tmp_path / "out" / WEIGHTS).read_bytes()[:-4] + b"abcd")
    with pytest.raises(CheckpointError, match="missing, damaged, or of another model"):
        clipzoo.load(tmp_path / "out")
    (tmp_path / "out" / CONFIG).write_text('{"format": "another"}')
    with pytest.raises(CheckpointError, match="not a model of clipzoo"):
        clipzoo.load(tmp_path / "out")
    with pytest.raises(BuildError, match="is no checkpoint of clipzoo"):
        write_hub(tmp_path / "out", tmp_path / "other")


def test_a_folder_is_uploaded_privately_and_loaded_by_its_name(hub, classifier, class_folders, tmp_path):
    write_hub(classifier, tmp_path / "out", repository="someone/model")
    assert push(tmp_path / "out", "someone/model") == f"{hub.address}/someone/model"
    assert [(asked["organization"], asked["name"], asked.get("private", asked.get("visibility"))) for asked in hub.created] in (
        [("someone", "model", True)],
        [("someone", "model", "private")],
    )
    sent = hub.uploaded["someone/model"]
    assert sent == {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    hub.repositories["someone/model"] = shutil.move(tmp_path / "out", tmp_path / "served")
    loaded = clipzoo.load("clipzoo:someone/model")
    assert loaded.source.startswith("clipzoo:someone/model") and loaded.digest == clipzoo.load(classifier).digest


def test_a_refused_upload_is_one_clear_line_and_keeps_the_folder(hub, classifier, tmp_path, monkeypatch):
    from huggingface_hub import constants

    write_hub(classifier, tmp_path / "out")
    hub.is_open = False
    with pytest.raises(BuildError, match=r"refused someone/model \(status 401\). Log in with 'hf auth login'") as refused:
        push(tmp_path / "out", "someone/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BuildError, match="cannot upload to") as offline:
        push(tmp_path / "out", "someone/model")
    with pytest.raises(BuildError, match="is not a name ORGANISATION/NAME"):
        push(tmp_path / "out", "a/b/c")
    assert all("\n" not in str(error.value) and "is complete" in str(error.value) for error in (refused, offline))
    assert (tmp_path / "out" / WEIGHTS).is_file() and not hub.uploaded
