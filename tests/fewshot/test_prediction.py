"""Few-shot prediction: what the probes are given, and what becomes of what they say."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from few_shot_files import write_tasks

import clipzoo
from clipzoo.errors import BuildError, ConfigError
from clipzoo.features.store import FeatureStore
from clipzoo.fewshot import prediction
from clipzoo.fewshot.prediction import Predicted, TaskResult
from clipzoo.fewshot.tasks import read_tasks
from clipzoo.probes import FittedProbe, Probe, TipAdapter


@pytest.fixture(scope="module")
def loaded(tmp_path_factory, class_folders):
    """A CLIP with its first weights."""
    from checkpoint_files import saved
    from tiny import tiny_config

    from clipzoo.config import Config

    torch.manual_seed(0)
    path, _ = saved(tmp_path_factory.mktemp("loaded") / "clip.pth", Config.from_dict(tiny_config(class_folders), "tiny"))
    return clipzoo.load(path, device="cpu")


@pytest.fixture
def folder(tmp_path, class_folders):
    return write_tasks(tmp_path / "testB", class_folders)


class Spy(Probe):
    """Keeps what it is given; says the last class."""

    name = "spy"
    needs_text = True

    def __init__(self):
        self.seen = []

    def learn(self, examples):
        self.seen.append(examples)
        return FittedProbe(lambda features: np.tile(np.eye(examples.num_classes)[-1], (len(features), 1)), {"x": len(self.seen)}, ("n",))


def test_a_probe_gets_the_support_and_the_texts_of_its_task_alone(loaded, folder):
    images = sorted((folder / "task2" / "support" / "圆").iterdir())
    shutil.copy(images[0], images[0].with_name("copy.png"))
    shutil.rmtree(folder / "task2" / "support" / "方块")
    tasks = read_tasks(folder)
    sentences = {"圆": ["一个圆", "圆"], "方块": ["方块"], "条纹": ["条纹", "一些条纹", "线"]}
    spy = Spy()
    found = prediction.predict(loaded, tasks, spy, FeatureStore(None), sentences=sentences)
    assert len(spy.seen) == 2 and [examples.num_classes for examples in spy.seen] == [3, 2]
    for task, examples in zip(tasks, spy.seen, strict=True):
        expected = loaded.encode_image([image.path for image in task.support]).numpy()
        assert np.allclose(examples.features, expected, atol=1e-5)
        assert examples.labels.tolist() == [image.label for image in task.support]
        assert examples.logit_scale == pytest.approx(1 / loaded.temperature) and abs(examples.logit_scale - 100) > 1
        for name, row in zip(task.classes, examples.text, strict=True):
            mean = loaded.encode_text(sentences[name]).numpy().mean(axis=0)
            assert np.allclose(row, mean / np.linalg.norm(mean), atol=1e-5)
    groups = spy.seen[1].groups
    assert len(groups) == 7 and len(set(groups)) == 6, "copies are one group"
    assert [(r.task, len(r.rows), r.chosen) for r in found.results] == [("task1", 6, {"x": 1}), ("task2", 6, {"x": 2})]
    assert {row[1:] for row in found.results[1].rows} == {("条纹", 1.0)}
    assert found.notes() == ["task1, task2: n"] and found.chosen() == ["x=1 (1 task)", "x=2 (1 task)"]


def test_the_table_quotes_names_and_keeps_all_digits():
    rows = (("a,b.png", 'say "圆"', float(np.float32(1 / 3))),)
    found = Predicted((TaskResult("task1", rows, {}, ()),), (), 0)
    assert found.csv_content().decode() == 'task,image,label,score\ntask1,"a,b.png","say ""圆""",0.333333343\n'
    assert found.chosen() == []


def test_sentences_of_classes():
    assert prediction.class_sentences(["猫"], None, None) is None, "the text tower decides"
    for language, expected in (("zh", "这是一张猫的图片"), ("en", "a photo of a 猫")):
        reader = SimpleNamespace(tokenizer=SimpleNamespace(languages=(language,)))
        assert prediction.default_sentences(reader, ["猫"]) == [[expected]]
    assert prediction.class_sentences(["a", "b"], None, ["{class_name}", "x {class_name}"]) == [["a", "x a"], ["b", "x b"]]
    with pytest.raises(ConfigError, match="--class-texts: cannot be combined with --template"):
        prediction.class_sentences(["a"], "x.json", ["{class_name}"])


def test_a_model_without_a_text_side_has_no_scale_and_no_texts():
    classifier = SimpleNamespace(source="a classifier")
    assert prediction.logit_scale_of(classifier) == 100.0
    with pytest.raises(
        BuildError, match="a classifier: has no text tower, which the method tip requires. Methods that do not: knn, linear"
    ):
        prediction.require_text_side(classifier, [TipAdapter()])


def test_a_submission_says_which_of_its_names_are_guarded():
    """Numbers and lone signs are no formulas, so a grader reads them as they are."""
    rows = (("=1.png", "-", 0.5), ("b.png", "-1", 1.0), ("c.png", "@x", 0.25))
    found = prediction.Predicted((prediction.TaskResult("task1", rows, {}, ()),), (), 0)
    assert found.csv_content().decode() == "task,image,label,score\ntask1,'=1.png,-,0.5\ntask1,b.png,-1,1\ntask1,c.png,'@x,0.25\n"
    assert found.notes() == ["=1.png, @x: a spreadsheet would run this as a formula, so a ' stands before it"]
