"""Short names lead to the full key, which follows from the types that a config names."""

from __future__ import annotations

import pytest
from tiny import tiny_config

from clipzoo.config import Config
from clipzoo.config.checking import check
from clipzoo.config.keys import all_keys, full_key_hint, keys_of
from clipzoo.errors import ConfigError
from clipzoo.registries import OPTIMIZERS, TABLES

TINY = tiny_config("images")
BERT = "clip/r18_bertzh_digits_5fold"


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("lr", "optimizer.lr"),
        ("epochs", "train.epochs"),
        ("batch_size", "data.batch_size"),
        ("num_workers", "data.num_workers"),
        ("weight_decay", "optimizer.weight_decay"),
        ("image_size", "model.image_encoder.image_size"),
        ("warmup_epochs", "schedule.warmup_epochs"),
        ("root", "data.dataset.root"),
        ("dataset.root", "data.dataset.root"),
        ("image_encoder.image_size", "model.image_encoder.image_size"),
        ("lora.rank", "model.image_encoder.lora.rank' or 'model.text_encoder.lora.rank"),
        ("seed", "splits.seed' or 'runtime.seed"),
        ("epoch", "train.epochs"),
        ("Batch_Size", "data.batch_size"),
        ("pretrained", "model.image_encoder.pretrained' or 'model.text_encoder.pretrained"),
    ],
)
def test_a_short_name_gives_the_full_key(typed, key):
    with pytest.raises(ConfigError, match=rf"^--cfg-options: unknown section '{typed.partition('.')[0]}'\. Did you mean ") as caught:
        Config.load(BERT, [f"{typed}=3"])
    assert str(caught.value).endswith(f" Did you mean '{key}'?")


def test_the_types_of_the_config_decide():
    assert full_key_hint("momentum", TINY) == ""
    sgd = {**TINY, "optimizer": {"type": "SGD", "lr": 0.1}}
    assert full_key_hint("momentum", sgd) == " Did you mean 'optimizer.momentum'?"
    assert full_key_hint("hidden_size", TINY) == " Did you mean 'model.text_encoder.hidden_size'?"
    assert "hooks.0.every" not in keys_of(TINY) and "hooks.0.type" in keys_of(TINY)


def test_many_candidates_are_shortened_and_nothing_is_invented():
    assert full_key_hint("type", TINY).count("'") == 12 and " more?" in full_key_hint("type", TINY)
    assert full_key_hint("nonsense", TINY) == "" == full_key_hint("nonsense.lr", TINY)
    broken = {"model": {"type": "Nowhere"}, "data": 3, "hooks": "x"}
    assert full_key_hint("lr", broken) == " Did you mean 'optimizer.lr'?", "sections that are wrong are skipped"


def test_an_argument_in_the_wrong_section_gives_the_full_key():
    with pytest.raises(ConfigError) as caught:
        check(Config.from_dict({**TINY, "train": {"lr": 0.1, "epoch": 3, "nonsense": 1}}))
    lr, epoch, nonsense = str(caught.value).splitlines()
    assert "section 'train' has no argument 'lr'. Did you mean 'optimizer.lr'? Known: epochs, " in lr
    assert "'epoch'. Did you mean 'epochs'? Known" in epoch, "a near name of the same section comes first"
    assert "has no argument 'nonsense'. Known: epochs" in nonsense


def test_a_name_at_the_top_of_a_file_gives_the_full_key(tmp_path):
    (tmp_path / "a.py").write_text("epochs = 3\n")
    with pytest.raises(ConfigError, match=r"unknown section 'epochs'\. Did you mean 'train\.epochs'\? Sections: "):
        Config.load(tmp_path / "a.py")


def test_every_key_is_one_that_the_check_accepts(tmp_path):
    """Whatever is wrong with the value, the key itself is never refused."""
    keys = [key for key in keys_of(TINY) if key.count(".") and not key.startswith("hooks")]
    (tmp_path / "tiny.py").write_text(Config.from_dict(TINY).dump())
    for key in keys:
        try:
            check(Config.load(tmp_path / "tiny.py", [f"{key}={{'no': {{'such': ['value']}}}}"]))
        except ConfigError as error:
            assert f"has no argument '{key.rpartition('.')[2]}'" not in str(error)
    assert len(keys) > 60


def test_all_keys_are_those_of_all_classes():
    found = all_keys()
    for name in OPTIMIZERS:
        mine = {key for key in keys_of({"optimizer": {"type": name}}) if key.startswith("optimizer.")}
        assert "optimizer.lr" in mine and mine <= found.keys()
    assert found["optimizer.type"].registry is OPTIMIZERS and found["model.loss.type"].registry is TABLES["LOSSES"]
    assert "model.num_classes" not in found, "the builder passes it"
