"""Every file in configs/ is loaded, checked, dumped, read back equal, built tiny and stepped once; and its name is true."""

import re
from pathlib import Path

import pytest

from clipzoo.checking import check
from clipzoo.config import Config

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
LEAVES = sorted(p for p in CONFIGS.rglob("*.py") if "_base_" not in p.parts)

# What makes a config small and local: towers, images and texts that need no network and no data of the user's.
TINY_IMAGE = {"type": "TimmBackbone", "name": "test_resnet", "image_size": 32}
TINY_TEXT = {"type": "BERT", "pretrained": False, "hidden_size": 16, "num_layers": 1, "num_heads": 1}


def name_of(path: Path) -> str:
    return path.relative_to(CONFIGS).as_posix()


def test_there_are_configs_and_each_is_tested():
    assert len(LEAVES) == len(set(LEAVES)) and {"clip/r18_bertzh_digits_5fold.py", "clip/r18_bertzh_hip_5fold.py"} <= {
        name_of(p) for p in LEAVES
    }


@pytest.mark.parametrize("path", LEAVES, ids=name_of)
def test_config_is_checked_and_reads_back_equal(path, tmp_path):
    config = Config.load(path)
    check(config)
    copy = tmp_path / path.name
    copy.write_text(config.dump(), encoding="utf-8")
    assert Config.load(copy).plain() == config.plain()


@pytest.mark.parametrize("path", LEAVES, ids=name_of)
def test_config_says_what_it_is_and_how_to_run_it(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith('"""') and f"python tools/train.py configs/{name_of(path)}" in text and "Expected" in text
    assert len(_levels(path)) <= 3, "at most two levels of base"


def _levels(path: Path) -> list[Path]:
    bases = re.findall(r'"(\.\.?/[^"]+\.py)"', path.read_text(encoding="utf-8"))
    deepest = max((_levels(path.parent / b) for b in bases), key=len, default=[])
    return [path, *deepest]


@pytest.mark.parametrize("path", LEAVES, ids=name_of)
def test_name_is_true(path):
    config = Config.load(path)
    folds = re.search(r"_(\d+)fold", path.stem)
    if folds:
        assert config.splits.num_folds == int(folds.group(1))
    data = next((word for word in ("digits", "hip") if f"_{word}_" in path.stem), None)
    if data:
        assert f"data/{data}/" in config.data.dataset.root + "/"


@pytest.mark.parametrize("path", LEAVES, ids=name_of)
def test_config_is_built_tiny_and_makes_one_step(path, class_folders, tmp_path, quiet):
    from clipzoo.engine.cross_validation import CrossValidation

    values = Config.load(path).plain()
    values["model"] = {**values["model"], "image_encoder": TINY_IMAGE, "text_encoder": TINY_TEXT, "embed_dim": 16}
    values["data"] = {**values["data"], "batch_size": 6, "num_workers": 0}
    values["data"]["dataset"] = {**values["data"]["dataset"], "root": str(class_folders), "class_texts": None, "groups": None}
    values["runtime"] = {**values.get("runtime", {}), "device": "cpu", "threads": 1}
    lines = CrossValidation(Config.from_dict(values, path.stem), tmp_path / "none", console=quiet).dry_run()
    assert any(line.startswith("one step of 6 cases: loss") for line in lines)
    assert not (tmp_path / "none").exists()
