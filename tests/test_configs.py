"""Every file in configs/ is loaded, checked, dumped, read back equal, built tiny and stepped once; and its name is true."""

import json
import re
from pathlib import Path

import pytest
import torch
from clip_files import open_clip_model
from finding_files import FINDINGS, write_findings
from tiny import write_class_folders, write_pairs
from tiny_imagenet_layout import write_tiny_imagenet

from clipzoo.config import Config
from clipzoo.config.checking import check
from clipzoo.registries import BACKBONES, TEXT_ENCODERS

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
LEAVES = sorted(p for p in CONFIGS.rglob("*.py") if "_base_" not in p.parts)

# What makes a config small and local: towers, images and texts that need no network and no data of the user's.
TINY_IMAGE = {"type": "TimmBackbone", "name": "test_resnet", "image_size": 32}
TINY_TEXT = {"type": "BERT", "pretrained": False, "hidden_size": 16, "num_layers": 1, "num_heads": 1}
# The second field of a classifier's name.
HEAD_NAMES = {"linear": "LinearHead", "resmlp": "ResidualMLPHead", "cosine": "CosineHead"}


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
    dataset = config.data.dataset
    data = next((word for word in ("digits", "hip", "pairs", "csv") if f"_{word}_" in path.stem), None)
    if data:
        assert f"data/{data}/" in dataset.get("root", dataset.get("path")) + "/"
    findings = "_hip-findings_" in path.stem
    assert findings == (dataset.get("path") == "data/hip/findings.csv") == bool(dataset.get("findings"))
    tiny_imagenet = re.search(r"_tinyimagenet(\d+)_", path.stem)
    assert bool(tiny_imagenet) == (dataset.type == "TinyImageNetDataset")
    assert not tiny_imagenet or dataset.num_classes == int(tiny_imagenet.group(1))
    assert {word for word in ("openai", "cnclip", "biomed") if word in path.stem} == origins(config)
    if path.parent.name == "fewshot":
        last = re.search(r"_last(\d+)$", path.stem)
        assert HEAD_NAMES[path.stem.split("_")[1]] == config.model.head.type
        assert towers_of(config)[0].get("unfreeze_blocks") == (int(last.group(1)) if last else None)
    if path.parent.name == "classification":
        assert HEAD_NAMES[path.stem.split("_")[1]] == config.model.head.type
        assert path.stem.endswith("_balanced") == (config.model.loss.get("class_weights") == "balanced")
        assert ("_cosine_" in path.stem) == ("text_encoder" in config.model), "the head starts from the captions"
    if path.parent.name == "clip":
        image = towers_of(config)[0]
        assert path.stem.endswith("_last2") == (image.get("unfreeze_blocks") == 2)
        assert path.stem.endswith("_lora") == ("lora" in image)
    if "frozen" in path.stem.split("_")[-1].split("-"):
        assert "all" in [tower.get("freeze") for tower in towers_of(config)]


def towers_of(config) -> list[dict]:
    """The image tower, and the text tower where there is one."""
    model = config.model
    return [BACKBONES.expand(model.image_encoder), *([TEXT_ENCODERS.expand(model.text_encoder)] if "text_encoder" in model else [])]


def origins(config) -> set[str]:
    """Which published CLIPs the towers start from."""
    found = set()
    for tower in towers_of(config):
        source = f"{tower['type']} {tower.get('name', '')} {tower.get('pretrained')}"
        found |= {
            word for word, mark in {"openai": "CLIPVision  True", "cnclip": "OFA-Sys/", "biomed": "BiomedCLIP"}.items() if mark in source
        }
    return found


def tiny_model(model: dict, clip: Path) -> dict:
    """The same composition with tiny towers: those of one CLIP where the head starts from texts."""
    image = model["image_encoder"] if isinstance(model["image_encoder"], dict) else {}
    freezing = {key: image[key] for key in ("freeze", "lora") if key in image}
    freezing |= {"unfreeze_blocks": 1} if image.get("unfreeze_blocks") else {}  # the tiny tower is not as deep
    if model["type"] == "CLIP":
        return {**model, "image_encoder": {**TINY_IMAGE, **freezing}, "text_encoder": TINY_TEXT, "embed_dim": 16}
    if "text_encoder" in model:
        return {**model, "image_encoder": {"type": f"weights:{clip}", **freezing}, "text_encoder": f"weights:{clip}"}
    return {**model, "image_encoder": {**TINY_IMAGE, **freezing}}


def tiny_data(dataset: dict, class_folders: Path, pairs: Path, others: Path) -> dict:
    """The same dataset on tiny files."""
    if dataset["type"] == "TinyImageNetDataset":
        return {**dataset, "root": str(others / "tiny-imagenet-200"), "num_classes": 6}
    if dataset["type"] == "ImageFolderDataset":
        parts = {key: str(others / key) for key in ("val_root", "test_root") if dataset.get(key)}
        return {**dataset, "root": str(class_folders), "class_texts": None, "groups": None, **parts}
    if dataset["type"] == "TableDataset":
        return {**dataset, "path": str(others / "findings" / "标注.csv"), "findings": list(FINDINGS)}
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


@pytest.fixture(scope="module")
def others(tmp_path_factory) -> Path:
    """Tiny ImageNet in small, images for val and test folders, and a CLIP as OpenAI saves one."""
    folder = tmp_path_factory.mktemp("others")
    write_tiny_imagenet(folder / "tiny-imagenet-200")
    write_findings(folder / "findings")
    for seed, name in enumerate(("val_root", "test_root"), start=1):
        write_class_folders(folder / name, per_class=4, seed=seed)
    marks = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}
    torch.save({**open_clip_model("vit", quick_gelu=True).state_dict(), **marks}, folder / "clip.pt")
    return folder


@pytest.mark.fast_cases(5)
@pytest.mark.parametrize("path", LEAVES, ids=name_of)
def test_config_is_built_tiny_and_makes_one_step(path, class_folders, pairs, others, tmp_path, quiet):
    from clipzoo.engine.cross_validation import CrossValidation
    from clipzoo.engine.dry_run import dry_run

    values = Config.load(path).plain()
    values["model"] = tiny_model(values["model"], others / "clip.pt")
    values["data"] = {**values["data"], "batch_size": 6, "num_workers": 0}
    values["data"]["dataset"] = tiny_data(values["data"]["dataset"], class_folders, pairs, others)
    values["runtime"] = {**values.get("runtime", {}), "device": "cpu", "threads": 1}
    lines = dry_run(CrossValidation(Config.from_dict(values, path.stem), tmp_path / "none", console=quiet))
    assert any(line.startswith("one step of 6 cases: loss") for line in lines)
    assert not (tmp_path / "none").exists()
