"""The folder for onnxruntime: compared with the model before it is kept, and usable with numpy alone."""

import json

import numpy as np
import pytest
from checkpoint_files import saved
from PIL import Image

import clipzoo
from clipzoo.config import Config
from clipzoo.errors import BuildError
from clipzoo.inference import onnx_folder
from clipzoo.inference.onnx_folder import CLASSES, TOLERANCE, Deviations, probabilities, write_onnx
from clipzoo.models.export.pixels import Pixels

CLASSIFIER = {"type": "ImageClassifier", "image_encoder": {"type": "TimmBackbone", "name": "test_vit", "image_size": 32}}


def loaded(config: Config, folder, **changes):
    path, _ = saved(folder / "checkpoint_best.pth", config, **changes)
    return clipzoo.load(path, device="cpu", precision="fp32")


@pytest.fixture
def classifier(config_of, tmp_path):
    """A classifier, calibrated; with flipped test views."""
    plain = {**config_of(evaluation={"tta": ["flip"]}).plain(), "model": CLASSIFIER}
    return loaded(Config.from_dict(plain, "tiny"), tmp_path, calibration={"temperature": 1.7})


@pytest.mark.slow
def test_a_trained_clip_classifies_without_torch(config_of, class_folders, tmp_path):
    """Only numpy, tokenizers and onnxruntime: what the docs show."""
    import onnxruntime
    from tokenizers import Tokenizer

    clip = loaded(config_of(), tmp_path, calibration={"temperature": 0.8})
    files = sorted(class_folders.glob("*/*.png"))[::9]
    found = write_onnx(clip, tmp_path / "out", files)
    assert found.largest <= 1e-5 and found.num_images == 4 + len(files) and found.num_sentences == 4 + 3
    stored = json.loads((tmp_path / "out" / CLASSES).read_text(encoding="utf-8"))
    assert stored["classes"] == list(clip.classes) and stored["calibration"] == 0.8
    image = onnxruntime.InferenceSession(str(tmp_path / "out" / "image.onnx"))
    features = np.concatenate([image.run(None, {"image": np.asarray(Image.open(file).convert("RGB"))[None]})[0] for file in files])
    expected = clip.classify(files).probabilities.numpy()
    np.testing.assert_allclose(probabilities(features, stored), expected, rtol=0, atol=1e-5)
    text = onnxruntime.InferenceSession(str(tmp_path / "out" / "text.onnx"))
    encoded = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")).encode_batch(["一张圆的图片", "圆"])
    ids, mask = (np.array([getattr(each, name) for each in encoded]) for name in ("ids", "attention_mask"))
    sentences = text.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    np.testing.assert_allclose(sentences, clip.encode_text(["一张圆的图片", "圆"]).numpy(), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_test_views_and_calibration_of_a_classifier_are_inside(classifier, tmp_path):
    found = write_onnx(classifier, tmp_path / "out")
    assert found.largest <= 1e-5 and found.text is None
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["classes.json", "image.onnx"]
    stored = json.loads((tmp_path / "out" / CLASSES).read_text(encoding="utf-8"))
    assert (stored["calibration"], stored["prototypes"], stored["scale"]) == (1.7, None, 1.0)


@pytest.mark.slow
def test_a_graph_that_deviates_is_not_kept(classifier, tmp_path, monkeypatch):
    """A graph with the colours exchanged."""
    forward = Pixels.forward
    monkeypatch.setattr(Pixels, "forward", lambda self, images: forward(self, images.flip(-1)))
    with pytest.raises(BuildError, match="deviate from the model by .*, more than 0.0001"):
        write_onnx(classifier, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_best.pth"]


def test_a_deviation_that_is_not_a_number_is_refused(classifier, tmp_path, monkeypatch):
    for name in ("write_image_graph", "write_text_graph", "check_packages"):
        monkeypatch.setattr(onnx_folder, name, lambda *_: None)
    monkeypatch.setattr(onnx_folder, "compare", lambda *_: Deviations(float("nan"), None, 0.0, 4, 0))
    with pytest.raises(BuildError, match="deviate from the model by nan"):
        write_onnx(classifier, tmp_path / "out")
    monkeypatch.setattr(onnx_folder, "compare", lambda *_: Deviations(TOLERANCE / 2, None, 0.0, 4, 0))
    write_onnx(classifier, tmp_path / "out")
    assert (tmp_path / "out" / CLASSES).is_file()


def test_views_that_cannot_be_expressed_are_left_out_with_a_warning(classifier, tmp_path, monkeypatch):
    seen = []
    for name in ("write_image_graph", "check_packages"):
        monkeypatch.setattr(onnx_folder, name, lambda *given: seen.append(given[0].image_tower.test_views if len(given) > 1 else None))
    monkeypatch.setattr(onnx_folder, "compare", lambda *_: Deviations(0.0, None, 0.0, 4, 0))
    classifier.model.image_tower.average_over(["flip", "zooms"])
    with pytest.warns(UserWarning, match=r"evaluation.tta \(flip, zooms\), which the graph does not include"):
        write_onnx(classifier, tmp_path / "out")
    assert seen == [None, ()] and classifier.model.image_tower.test_views == ("flip", "zooms")


def test_probabilities_follow_from_the_file():
    stored = {"prototypes": [[1.0, 0.0], [0.0, 1.0]], "scale": 10.0, "bias": -1.0, "calibration": 2.0, "multi_label": True}
    found = probabilities(np.array([[0.6, 0.8]]), stored)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-np.array([[2.5, 3.5]]))))
    found = probabilities(np.array([[0.6, 0.8]]), {**stored, "multi_label": False})
    np.testing.assert_allclose(found, np.exp([[0.0, 1.0]]) / (1 + np.e))
