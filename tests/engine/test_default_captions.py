"""The sentence of a class for which none is given is in the language of the text tower, in training, baselines and inference."""

import logging

import pytest
import torch
from checkpoint_files import saved
from tiny import write_class_folders

import clipzoo
from clipzoo.baselines.towers import build_tower, class_texts
from clipzoo.config.settings import DataSettings
from clipzoo.engine import build, inputs

ENGLISH = {"type": "CLIPText", "width": 32, "layers": 1, "heads": 2, "output_dim": 16}


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@pytest.fixture
def heard():
    log, handler = logging.Logger("x"), Lines()
    log.addHandler(handler)
    return log, handler.lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [(ENGLISH, "a photo of a 圆"), (None, "这是一张圆的图片")],
    ids=["OpenAI's byte pairs", "a Chinese BERT"],
)
def test_training_takes_the_template_of_the_towers_language(config_of, heard, text, expected, tmp_path):
    config = config_of(**({} if text is None else {"model": {"text_encoder": text}}))
    path, net = saved(tmp_path / "x.pth", config)
    data = build.dataset(config)
    log, lines = heard
    tokens = inputs.tokens_of(net, data, DataSettings.of(config), log)
    row = data.classes.index("圆")
    assert torch.equal(tokens.take(torch.tensor([row])).ids, net.tokenizer([expected]).ids)
    assert lines[0] == f"captions: '{expected.replace('圆', '{class_name}')}', as the text tower reads {'English' if text else 'Chinese'}"
    foreign = [line for line in lines if "class names are not English" in line]
    assert len(foreign) == (1 if text else 0)
    loaded = clipzoo.load(path, device="cpu")
    assert loaded.class_captions[row] == (expected,), "and the checkpoint remembers it"


def test_tokens_are_kept_in_the_folder_of_the_feature_cache(heard, monkeypatch, tmp_path):
    log, lines = heard
    monkeypatch.setenv("CLIPZOO_CACHE", str(tmp_path / "cache"))
    assert inputs.token_cache(None, log) is None
    assert inputs.token_cache("auto", log).folder == tmp_path / "cache" / "tokens"
    kept = inputs.token_cache(str(tmp_path / "own"), log)
    assert kept.folder == tmp_path / "own" / "tokens" and kept.writes
    kept.note("something")
    assert lines[-1] == "note: something"


def test_baselines_ask_the_tower_that_reads(config_of, heard, monkeypatch, tmp_path):
    """The same data, and two text towers: each gets its own language."""
    root = write_class_folders(tmp_path / "images", classes=("disc", "square"), per_class=2)
    log, lines = heard
    for text, expected in ((ENGLISH, "'a photo of a {class_name}'"), (None, "'这是一张{class_name}的图片'")):
        config = config_of(root=root, **({} if text is None else {"model": {"text_encoder": text}}))
        tower = build_tower(config, "image_encoder", None, torch.device("cpu"))
        reader = build_tower(config, "text_encoder", None, torch.device("cpu"))
        tower.space = reader.space = "one"
        monkeypatch.setattr("clipzoo.baselines.towers.build_tower", lambda *_, reader=reader: reader)
        lines.clear()
        class_texts(config, tower, build.dataset(config), log, text_encoder=None, templates=())
        assert lines[0].startswith(f"captions: {expected}")
        assert any("2 of 2 class names are not Chinese" in line for line in lines) == (text is None)


def test_a_loaded_model_words_class_names_in_its_language(config_of, tmp_path):
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for text, sentence in ((ENGLISH, "a photo of a {}"), (None, "这是一张{}的图片")):
        torch.manual_seed(0)
        loaded = clipzoo.load(saved(tmp_path / "x.pth", config_of(**({} if text is None else {"model": {"text_encoder": text}})))[0])
        names = ["cat", "dog"]
        found = loaded.classify(pictures, names, templates="auto").probabilities
        assert torch.equal(found, loaded.classify(pictures, names, templates=sentence.format("{class_name}")).probabilities)
        assert not torch.equal(found, loaded.classify(pictures, names).probabilities), "texts alone are taken as they are"
