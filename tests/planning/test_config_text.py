"""The written config: loads back equal, whatever is in names and notes."""

import pytest

from clipzoo.config import Config
from clipzoo.planning.config_text import config_text
from clipzoo.planning.plan import Decision, Plan

VALUES = {
    "model": {"type": "CLIP", "image_encoder": {"type": "ResNet", "depth": 18}, "text_encoder": "bert"},
    "data": {"dataset": {"type": "ImageFolderDataset", "root": "数据/a'b\"c\\d"}, "batch_size": 8, "sampler": None},
    "train": {"epochs": 3},
}


def written(tmp_path, decisions=(), title="配置", notes=()):
    (tmp_path / "made.py").write_text(config_text(Plan(Config.from_dict(VALUES), decisions), title, notes), encoding="utf-8")
    return (tmp_path / "made.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ['"""', "\\", "\\N{x}", "a\nb = 1", "\u202e", "'", '"', "x" * 300, "路径 " * 80])
def test_it_loads_equal_whatever_the_words(tmp_path, text):
    decisions = Decision("towers", text, text, ("model.type",)), Decision("a", "b", text, ("data.batch_size",))
    assert "\u202e" not in written(tmp_path, decisions, text, (text,))  # would turn the direction of what follows it
    assert Config.load(tmp_path / "made.py").plain() == VALUES


def test_comments_stand_above_their_keys(tmp_path):
    decisions = (
        Decision("towers", "small", "no GPU", ("model.type", "model.image_encoder.type")),
        Decision("depth", "18", "fast", ("model.image_encoder.depth",)),
        Decision("text tower", "all", "nothing is known", ()),
    )
    text = written(tmp_path, decisions)
    assert "\n# towers: small; no GPU\nmodel = dict(\n" in text
    assert "        # depth: 18; fast\n        depth=18,\n" in text and "text tower" not in text
    assert 'data = dict(dataset=dict(type="ImageFolderDataset"' not in text or len(text.splitlines()) < 40
    assert "\ntrain = dict(epochs=3)\n" in text
