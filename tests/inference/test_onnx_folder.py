"""The folder for onnxruntime: compared with the model before it is kept, and usable with numpy alone."""

import json

import numpy as np
import pytest
import small_towers
from checkpoint_files import saved
from PIL import Image

import clipzoo
from clipzoo.config import Config
from clipzoo.errors import BuildError
from clipzoo.files import write_json
from clipzoo.inference import onnx_folder
from clipzoo.inference.clip import LoadedCLIP
from clipzoo.inference.onnx_folder import CLASSES, TOLERANCE, Deviations, probabilities, write_onnx
from clipzoo.inference.restore import Restored
from clipzoo.models import CLIP
from clipzoo.models.export.pixels import Pixels
from clipzoo.registries import LOSSES

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
    assert found.largest <= 1e-5 and found.num_images == 4 + len(files) and found.num_sentences == 5 + 3
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


class Session:
    """What onnxruntime would compute for a classifier, with an error in one place."""

    def __init__(self, classifier, error):
        self.classifier, self.error = classifier, error

    def run(self, _, inputs):
        images = [Image.fromarray(each) for each in inputs["image"]]
        return [self.error(onnx_folder._logits(self.classifier, images))]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1.0])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_wrong_number_in_any_batch_is_seen(classifier, tmp_path, monkeypatch, bad, batch):
    """In the images one by one, and in the batch of two different ones, of which the second is the first of the others."""

    def error(logits):
        return np.where(np.arange(len(logits))[:, None] == batch - 1, bad, logits) if len(logits) == batch else logits

    write_json(tmp_path / CLASSES, {**onnx_folder._classes(classifier), "classes": []})
    images = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (10, 200)]
    monkeypatch.setattr(onnx_folder, "_session", lambda _: Session(classifier, lambda logits: logits))
    assert onnx_folder.compare(classifier, tmp_path, images).largest <= 1e-6
    monkeypatch.setattr(onnx_folder, "_session", lambda _: Session(classifier, error))
    assert not onnx_folder.compare(classifier, tmp_path, images).largest <= TOLERANCE


def test_the_images_of_a_batch_differ(classifier, tmp_path, monkeypatch):
    """A graph that gives every image of a batch the features of the last."""
    write_json(tmp_path / CLASSES, {**onnx_folder._classes(classifier), "classes": []})
    monkeypatch.setattr(onnx_folder, "_session", lambda _: Session(classifier, lambda logits: logits[[-1] * len(logits)]))
    assert onnx_folder.compare(classifier, tmp_path, [Image.new("RGB", (8, 8), "navy")]).image > TOLERANCE


def test_a_message_names_the_part_that_deviates():
    assert Deviations(0.5, 0.0, 0.25, 4, 5, "a").describe() == "image graph by 0.5, class probabilities by 0.25"
    alone = Deviations(0.0, 0.5, 0.0, 4, 5, "the patient’s\x1b").describe()
    assert alone.startswith("text graph alone, most for the sentence 'the patient’s") and "\x1b" not in alone
    assert "text graph by nan" in Deviations(float("nan"), float("nan"), None, 4, 5, "a").describe()


@pytest.mark.filterwarnings("error")
def test_the_bias_of_findings_is_read_without_a_gradient(tmp_path):
    towers = small_towers.build("CLIPVision", tmp_path), small_towers.build("CLIPText", tmp_path)
    model = CLIP(*towers, embed_dim=16, loss=LOSSES.build({"type": "ClassSigmoidLoss"})).eval()
    stored = onnx_folder._classes(LoadedCLIP(Restored(model, "x", ("a", "b"), (("a",), ("b",)))))
    assert stored["multi_label"] and stored["bias"] == pytest.approx(float(model.criterion.logit_bias.detach()))


def test_probabilities_follow_from_the_file():
    stored = {"prototypes": [[1.0, 0.0], [0.0, 1.0]], "scale": 10.0, "bias": -1.0, "calibration": 2.0, "multi_label": True}
    found = probabilities(np.array([[0.6, 0.8]]), stored)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-np.array([[2.5, 3.5]]))))
    found = probabilities(np.array([[0.6, 0.8]]), {**stored, "multi_label": False})
    np.testing.assert_allclose(found, np.exp([[0.0, 1.0]]) / (1 + np.e))
