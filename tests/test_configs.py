"""Every file in configs/ is loaded, checked, dumped, read back equal, built tiny and stepped once; and its name is true."""

import json
import re
from pathlib import Path

import pytest
from tiny import write_pairs

from clipzoo.checking import check
from clipzoo.config import Config
from clipzoo.registries import BACKBONES, TEXT_ENCODERS

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
    protocol = {"holdout": "Holdout", "given": "AsGiven"}.get(path.stem.split("_")[3])
    assert bool(folds) != bool(protocol) and (not protocol or config.splits.type == protocol)
    data = next((word for word in ("digits", "hip", "pairs", "csv") if f"_{word}_" in path.stem), None)
    if data:
        dataset = config.data.dataset
        assert f"data/{data}/" in dataset.get("root", dataset.get("path")) + "/"
    assert ("openai" in path.stem) == ("openai" in origins(config))


def origins(config) -> str:
    """Which published CLIPs the towers start from."""
    towers = [BACKBONES.expand(config.model.image_encoder), TEXT_ENCODERS.expand(config.model.text_encoder)]
    return " ".join("openai" for t in towers if t["type"] == "CLIPVision" and t.get("pretrained") is True)


def tiny_data(dataset: dict, class_folders: Path, pairs: Path) -> dict:
    """The same dataset on tiny files."""
    if dataset["type"] == "ImageFolderDataset":
        return {**dataset, "root": str(class_folders), "class_texts": None, "groups": None}
    if "test_path" in dataset:
        return {**dataset, "path": str(pairs / "train.csv"), "test_path": str(pairs / "val.csv")}
    return {**dataset, "path": str(pairs)}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """Tiny pairs as a JSON list, and as two tables."""
    folder = write_pairs(tmp_path_factory.mktemp("pairs"), num_images=40)
    rows = [(pair["image_path"], pair["caption"][0]) for pair in json.loads((folder / "data.json").read_text(encoding="utf-8"))]
    for name, part in (("train.csv", rows[:32]), ("val.csv", rows[32:])):
        lines = ["filepath\ttitle", *("\t".join(row) for row in part)]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("path", LEAVES, ids=name_of)
def test_config_is_built_tiny_and_makes_one_step(path, class_folders, pairs, tmp_path, quiet):
    from clipzoo.engine.cross_validation import CrossValidation

    values = Config.load(path).plain()
    values["model"] = {**values["model"], "image_encoder": TINY_IMAGE, "text_encoder": TINY_TEXT, "embed_dim": 16}
    values["data"] = {**values["data"], "batch_size": 6, "num_workers": 0}
    values["data"]["dataset"] = tiny_data(values["data"]["dataset"], class_folders, pairs)
    values["runtime"] = {**values.get("runtime", {}), "device": "cpu", "threads": 1}
    lines = CrossValidation(Config.from_dict(values, path.stem), tmp_path / "none", console=quiet).dry_run()
    assert any(line.startswith("one step of 6 cases: loss") for line in lines)
    assert not (tmp_path / "none").exists()
