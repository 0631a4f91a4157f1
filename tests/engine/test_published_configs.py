"""The configs that start from Chinese-CLIP and BiomedCLIP, with small models under its name in a cache laid out as the hub's."""

from pathlib import Path

import hub_cache
import pytest
from small_towers import bert_folder

from clipzoo.config import Config
from clipzoo.engine.cross_validation import CrossValidation
from clipzoo.engine.dry_run import dry_run

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LEAVES = sorted(path for path in CONFIGS.rglob("*_folders_5fold_*.py") if "-cnclip_" in path.name or "-biomed_" in path.name)
BIOMED = {
    "embed_dim": 24,
    "vision_cfg": {
        "timm_model_name": "test_vit",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 160,
    },
    "text_cfg": {
        **{"hf_model_name": "someone/bert", "hf_tokenizer_name": "someone/bert", "hf_pooler_type": "cls_last_hidden_state_pooler"},
        "hf_proj_type": "mlp",
        "context_length": 30,
    },
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A Chinese-CLIP and a BiomedCLIP, both small and random, and no network."""
    from huggingface_hub import constants

    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        patch.setattr(constants, "HF_HUB_CACHE", str(folder))
        hub_cache.chinese_clip(hub_cache.put(folder, "OFA-Sys/chinese-clip-vit-base-patch16"))
        bert_folder(hub_cache.put(folder, "someone/bert"))
        biomed = hub_cache.put(folder, "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224")
        hub_cache.save_open_clip(hub_cache.open_clip_model(BIOMED), biomed, BIOMED)
        yield


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(LEAVES, key=lambda path: "lora" not in path.name), ids=lambda path: path.stem)
def test_it_makes_one_step(path, class_folders, tmp_path, quiet):
    values = Config.load(path).plain()
    values["data"] |= {"batch_size": 6, "num_workers": 0, "dataset": {**values["data"]["dataset"], "root": str(class_folders)}}
    values["runtime"] |= {"device": "cpu", "threads": 1, "feature_cache": str(tmp_path / "features")}
    lines = dry_run(CrossValidation(Config.from_dict(values, path.stem), tmp_path / "none", console=quiet))
    assert any(line.startswith("one step of 6 cases: loss") for line in lines)


def test_there_are_three_of_each():
    assert len(LEAVES) == 6
