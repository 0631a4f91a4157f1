"""The config language: inheritance, origins, overrides, freezing, dumping, and messages."""

import copy
import json
import os
import pickle
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
        ("modle = dict()", "unknown section 'modle'. Did you mean 'model'?"),
        ("optim_wrapper = dict()", "In clipzoo, 'optim_wrapper' is 'optimizer'"),
        ("model = dict(x=object())", "model.x: a config holds plain data"),
        ("model = dict(x=float('nan'))", "is not allowed in a config"),
        ("model = dict(", "not valid Python"),
        ("x = 1 / 0", r"a.py:1: ZeroDivisionError"),
        ("_base_ = 'a.py'", "inherits from itself"),
        ("_base_ = 'missing.py'", "missing.py: no such config file"),
        ("_x = []\n_x.append(_x)\nmodel = dict(x=_x)", r"model.x.0: nested more than 50 levels deep, or contains itself"),
        ("train = {}\nfor _ in range(60): train = dict(x=train)", "nested more than 50 levels deep"),
        ("train = dict(x=" + "[" * 3000 + "]" * 3000 + ")", "a.py:1: not valid Python"),
        ("train = dict(x=" + "-" * 100_000 + "1)", "a.py"),
        ("train = dict(epochs=10**5000)", "train.epochs: a number with thousands of digits does not fit a 64-bit integer"),
        ("train = dict(epochs=2**63)", "train.epochs: 9223372036854775808 does not fit a 64-bit integer"),
        (r"data = dict(x='\ud800')", r"data.x: '\\ud800' is not valid text"),
        ("data = {3: 1}", "data: the key 3 is not a string"),
        (r"_base_ = 'a\0b.py'", r"cannot be read"),
        ("_base_ = 'x' * 5000", "cannot be read"),
        ("_base_ = '~nobody-of-this-name/a.py'", "the home folder for '~nobody-of-this-name' is unknown"),
        ("raise ValueError('two\\nlines')", "a.py:1: ValueError: two$"),
    ],
)
def test_a_wrong_file_is_one_clear_line(write, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        Config.load(write("a.py", text))
    assert "\n" not in str(caught.value)


GBK = '# -*- coding: gbk -*-\ndata = dict(\n    template="这是一张{class_name}的图片")\n'


def test_a_config_in_gbk_is_read_as_python_reads_it(tmp_path):
    (tmp_path / "a.py").write_bytes(GBK.encode("gbk"))
    config = Config.load(tmp_path / "a.py")
    assert config.data.template == "这是一张{class_name}的图片" and config.origin("data.template") == f"{tmp_path / 'a.py'}:3"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GBK.partition("\n")[2].encode("gbk"), r"a.py: not valid Python \(.*(utf-8|unicode).*\)|a.py:\d: not valid Python"),
        (GBK.encode("utf-16"), "a.py: encoded as UTF-16, which Python does not support. Save the file as UTF-8"),
        (b"\xef\xbb\xbftrain = dict(epochs=3)\n", None),
        (b"# -*- coding: no-such -*-\n", "a.py: not valid Python .*no-such"),
        (b"train = dict()\0", "a.py: .*null"),
        (b"train = dict(epochs=3)\r\n", None),
    ],
)  # fmt: skip
def test_other_encodings_are_read_as_python_reads_them_or_one_clear_line(tmp_path, content, message):
    (tmp_path / "a.py").write_bytes(content)
    if message is None:
        assert Config.load(tmp_path / "a.py").train.epochs == 3
        return
    with pytest.raises(ConfigError, match=message) as caught:
        Config.load(tmp_path / "a.py")
    assert "\n" not in str(caught.value)


def test_only_regular_files_are_configs(tmp_path):
    os.mkfifo(tmp_path / "fifo.py")
    for path, what in ((tmp_path / "fifo.py", "a FIFO"), (tmp_path, "a folder"), (tmp_path / "a\0.py", "cannot be read")):
        with pytest.raises(ConfigError, match=what):
            Config.load(path)


def test_the_home_folder_is_expanded_for_files_and_bases_and_kept_in_values(write, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write("base.py", "data = dict(dataset=dict(root='~/images'))")
    write("leaf.py", "_base_ = '~/base.py'")
    config = Config.load("~/leaf.py")
    assert config.data.dataset.root == "~/images"
    again = write("again.py", config.dump())
    assert Config.load(again).plain() == config.plain()


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
        ("hooks.7.every=3", "indices 0 … 0"),
        ("train.epochs.x=3", "train.epochs is 3 and has no 'x'"),
        ("train=dict(epochs=3)", "is not a literal. Write {'type': …}"),
        ("train.x={[]:1}", r"'{\[\]:1}' is not a valid value \(unhashable type: 'list'\)"),
        ("hooks.²=1", "'²' is not one of its indices 0 … 0"),
        ("hooks.00.every=1", "'00' is not one of its indices"),
        ("train.x=" + "-" * 3000 + "1", "nested too deeply"),
        ("train.x=" + "[" * 80 + "]" * 80, "nested more than 50 levels deep"),
        ("train" + ".x" * 3000 + "=1", "'train.x…' is more than 50 levels deep"),
        ("train.x=1e999", "inf is not allowed in a config"),
        ("train.x={3: 1}", "the key 3 is not a string"),
        (f"train.x={2**63}", "9223372036854775808 does not fit a 64-bit integer"),
        ("train.x=\udcff", r"is not valid text"),
        ("two\nlines", r"'two\\nlines' is not of the form"),
    ],
)
def test_a_wrong_override_is_refused(write, override, message):
    path = write("a.py", "train = dict(epochs=3)\nhooks = [dict(type='H')]")
    with pytest.raises(ConfigError, match=message) as caught:
        Config.load(path, [override])
    assert "\n" not in str(caught.value)


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


CHANGES = {
    "clear": lambda c: c.train.clear(),
    "update": lambda c: c.update(train={}),
    "setdefault": lambda c: c.train.setdefault("steps", 3),
    "popitem": lambda c: c.train.popitem(),
    "pop": lambda c: c.pop("train"),
    "|=": lambda c: c.train.__ior__({"epochs": 4}),
    "set": lambda c: c.__setitem__("train", {}),
    "attribute": lambda c: setattr(c.train, "epochs", 4),
    "del": lambda c: delattr(c, "train"),
    "append": lambda c: c.hooks.append("x"),
    "extend": lambda c: c.hooks.extend(["x"]),
    "+=": lambda c: c.hooks.__iadd__(["x"]),
    "*=": lambda c: c.hooks.__imul__(2),
    "insert": lambda c: c.hooks.insert(0, "x"),
    "list item": lambda c: c.hooks.__setitem__(0, "x"),
    "list slice": lambda c: c.hooks.__delitem__(slice(None)),
    "remove": lambda c: c.hooks.remove("H"),
    "list pop": lambda c: c.hooks.pop(),
    "list clear": lambda c: c.hooks.clear(),
    "sort": lambda c: c.hooks[1].names.sort(),
    "reverse": lambda c: c.hooks[1].names.reverse(),
    "list in a list": lambda c: c.hooks[2][0].append(1),
    "dict in a list": lambda c: c.hooks[1].clear(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_changes_a_frozen_config(change):
    values = {"train": {"epochs": 3}, "hooks": ["H", {"names": ["b", "a"]}, [[1]]]}
    config = Config.from_dict(values)
    with pytest.raises(ConfigError, match="frozen"):
        CHANGES[change](config)
    assert config.plain() == values and type(config.plain()["hooks"]) is list


def test_copies_of_a_frozen_config_are_ordinary():
    config = Config.from_dict({"train": {"epochs": 3}, "hooks": ["H", {"names": ["a"]}]})
    for other in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert other == config
        other.hooks.append("x")
        other.hooks[1]["names"].append("b")
    assert config.plain() == {"train": {"epochs": 3}, "hooks": ["H", {"names": ["a"]}]}
    assert json.loads(json.dumps(config)) == config.plain()


def test_delete_belongs_into_files(write):
    with pytest.raises(ConfigError, match="_delete_ works in config files only"):
        Config.load(write("a.py", "train = dict(epochs=3)"), ["train._delete_=True"])
