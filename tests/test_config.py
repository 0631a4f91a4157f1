"""The config language: inheritance, origins, overrides, freezing, dumping, and messages."""

import textwrap

import pytest

from clipzoo.config import Config, differences
from clipzoo.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    def make(name: str, text: str):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return make


def test_child_is_merged_into_base_and_lists_are_replaced(write):
    write("base.py", "model = dict(type='CLIP', embed_dim=512, loss=dict(type='A', t=1))\nhooks = ['X', 'Y']")
    config = Config.load(write("leaf.py", "_base_ = 'base.py'\nmodel = dict(embed_dim=64, loss=dict(t=2))\nhooks = ['Z']"))
    assert config.plain() == {"model": {"type": "CLIP", "embed_dim": 64, "loss": {"type": "A", "t": 2}}, "hooks": ["Z"]}
    assert config.name == "leaf" and config.model.loss.t == 2


@pytest.mark.parametrize("child", ["dict(type='B', s=3)", "dict(_delete_=True, type='B', s=3)"])
def test_another_type_or_delete_replaces_the_dict(write, child):
    write("base.py", "model = dict(loss=dict(type='A', t=1))")
    config = Config.load(write("leaf.py", f"_base_ = ['base.py']\nmodel = dict(loss={child})"))
    assert config.model.loss == {"type": "B", "s": 3}


def test_same_type_with_delete_drops_the_bases_arguments(write):
    write("base.py", "model = dict(loss=dict(type='A', t=1))")
    config = Config.load(write("leaf.py", "_base_ = ['base.py']\nmodel = dict(loss=dict(_delete_=True, type='A'))"))
    assert config.model.loss == {"type": "A"}


def test_two_bases_may_agree_but_not_differ(write):
    write("a.py", "train = dict(epochs=3)\nruntime = dict(seed=1)")
    write("b.py", "train = dict(epochs=3, clip_grad=1.0)")
    assert Config.load(write("ok.py", "_base_ = ['a.py', 'b.py']")).train == {"epochs": 3, "clip_grad": 1.0}
    write("c.py", "train = dict(epochs=4)")
    with pytest.raises(ConfigError, match=r"train.epochs: two bases disagree, 3 \(.*a.py:1\) and 4 \(.*c.py:1\)"):
        Config.load(write("bad.py", "_base_ = ['a.py', 'c.py']"))


def test_every_key_knows_its_line(write):
    base = write("base.py", "model = dict(\n    type='CLIP',\n    embed_dim=512,\n)")
    leaf = write("leaf.py", "_base_ = 'base.py'\n\nmodel = {\n    'embed_dim': 64,\n}")
    config = Config.load(leaf, ["model.temperature=0.1"])
    assert config.origin("model.type") == f"{base}:2"
    assert config.origin("model.embed_dim") == f"{leaf}:4"
    assert config.origin("model.temperature") == "--cfg-options"
    assert config.origin("train.epochs") == "default"
    assert config.overridden() == [("model.temperature", 0.1)]


def test_dump_reads_back_equal(write, tmp_path):
    text = "model = dict(type='CLIP', name='髋', t=(1, 2.5, None, True))\ntrain = dict(epochs=3)\nhooks = [dict(type='A', x=[])]"
    config = Config.load(write("a.py", text))
    again = Config.load(write("b.py", config.dump()))
    assert again.plain() == config.plain() and again.dump() == config.dump()


def test_imports_and_private_names_are_the_files_own(write):
    config = Config.load(write("a.py", "import math\n_width = int(math.sqrt(16))\nmodel = dict(embed_dim=_width)"))
    assert config.plain() == {"model": {"embed_dim": 4}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle = dict()", "there is no section 'modle'. Did you mean 'model'?"),
        ("optim_wrapper = dict()", "clipzoo calls 'optim_wrapper' 'optimizer'"),
        ("model = dict(x=object())", "model.x: a config holds plain data"),
        ("model = dict(x=float('nan'))", "cannot be kept in a config"),
        ("model = dict(", "not valid Python"),
        ("x = 1 / 0", r"a.py:1: ZeroDivisionError"),
        ("_base_ = 'a.py'", "inherits from itself"),
        ("_base_ = 'missing.py'", "missing.py: no such config file"),
    ],
)
def test_a_wrong_file_is_one_clear_line(write, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Config.load(write("a.py", text))
    assert "\n" not in str(caught.value)


def test_missing_file_suggests_a_neighbour(write, tmp_path):
    write("r18_bertzh_digits_5fold.py", "")
    with pytest.raises(ConfigError, match="Did you mean 'r18_bertzh_digits_5fold.py'"):
        Config.load(tmp_path / "r18_bertzh_digit_5fold.py")


def test_overrides_reach_lists_spellings_and_new_keys(write):
    path = write(
        "a.py",
        "model = dict(image_encoder='resnet18', loss=dict(type='A', t=1))\nhooks = [dict(type='H', every=1)]\ndata = dict(sampler=None)",
    )
    config = Config.load(
        path,
        [
            "model.image_encoder.image_size=64",
            "hooks.0.every=5",
            "data.sampler.type=WeightedSampler",
            "model.loss.t=2",
            "model.loss.type=B",
            "data.x=[1, 'b']",
        ],
    )
    assert config.model.image_encoder == {"type": "resnet18", "image_size": 64}
    assert config.model.loss == {"type": "B"}, "another type takes none of the old one's arguments"
    assert ("model.loss.type", "B") in config.overridden()
    assert config.dropped() == [("model.loss.t", 2)]
    assert config.hooks[0]["every"] == 5 and config.data.sampler == {"type": "WeightedSampler"} and config.data.x == [1, "b"]


@pytest.mark.parametrize(
    ("overrides", "dropped"),
    [
        (["model.image_encoder=vit"], [("model.image_encoder.freeze", "all")]),
        (["model.image_encoder.type=vit"], [("model.image_encoder.freeze", "all")]),
        (["model.image_encoder={'type': 'vit'}"], [("model.image_encoder.freeze", "all")]),
        (["model.image_encoder.type=vit", "model.image_encoder.freeze=none"], []),
        (["model.image_encoder.type=resnet18"], []),
        (["model.image_encoder.freeze=none"], []),
        (["data.sampler=None"], []),
    ],
)
def test_what_another_type_leaves_out_is_known(write, overrides, dropped):
    path = write("a.py", "model = dict(image_encoder=dict(type='resnet18', freeze='all'))\ndata = dict(sampler=dict(type='S', k=1))")
    assert Config.load(path, overrides).dropped() == dropped


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "not of the form key.path=value"),
        ("trian.epochs=3", "Did you mean 'train'"),
        ("hooks.7.every=3", "positions 0 … 0"),
        ("train.epochs.x=3", "train.epochs is 3 and has no 'x'"),
        ("train=dict(epochs=3)", "is not a literal. Write {'type': …}"),
    ],
)
def test_a_wrong_override_is_refused(write, override, message):
    path = write("a.py", "train = dict(epochs=3)\nhooks = [dict(type='H')]")
    with pytest.raises(ConfigError, match=message):
        Config.load(path, [override])


def test_a_loaded_config_is_frozen_and_never_invents_keys():
    config = Config.from_dict({"train": {"epochs": 3}})
    with pytest.raises(ConfigError, match="frozen"):
        config.train.epochs = 4
    with pytest.raises(ConfigError, match="frozen"):
        del config["train"]
    with pytest.raises(AttributeError, match="Did you mean 'epochs'"):
        _ = config.train.epoch
    assert config.train.epochs == 3


def test_differences_name_both_values():
    old = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert differences(old, {"a": {"b": 2, "c": [1, 2]}, "e": 1}) == ["a.b: 1 -> 2", "d: 1 -> (not set)", "e: (not set) -> 1"]
    assert differences(old, old) == []


def test_arguments_join_a_short_spelling_in_files_as_on_the_command_line(write):
    write("base.py", "model = dict(text_encoder='bert-base-chinese', image_encoder='resnet18')")
    leaf = write(
        "leaf.py", "_base_ = 'base.py'\nmodel = dict(text_encoder=dict(freeze='all'), image_encoder=dict(type='ResNet', depth=34))"
    )
    assert Config.load(leaf).plain()["model"] == {
        "text_encoder": {"type": "bert-base-chinese", "freeze": "all"},
        "image_encoder": {"type": "ResNet", "depth": 34},
    }


def test_nested_keys_may_be_called_as_properties_of_a_config_and_lists_are_frozen_too():
    config = Config.from_dict({"model": {"image_encoder": {"type": "TimmBackbone", "name": "x"}}, "hooks": [{"type": "H"}]})
    assert config.model.image_encoder.name == "x" and config.name == "config"
    with pytest.raises(ConfigError, match="frozen"):
        config.hooks[0]["type"] = "other"
    with pytest.raises(ConfigError, match="frozen"):
        config.model.pop("image_encoder")


def test_delete_belongs_into_files(write):
    with pytest.raises(ConfigError, match="_delete_ works in config files only"):
        Config.load(write("a.py", "train = dict(epochs=3)"), ["train._delete_=True"])
