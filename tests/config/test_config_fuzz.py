"""Whatever stands in a config file or on the command line: a config, or one clear line for each problem, and nothing else."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tiny import tiny_config

from clipzoo.config import SECTIONS, Config
from clipzoo.config.checking import check
from clipzoo.errors import ClipzooError

BASE = "\n".join(f"{name} = {value!r}" for name, value in tiny_config(Path("/nowhere")).items())


def leaves(value: object, path: str = "") -> list[str]:
    """Dotted paths of everything in a config."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [p for key, child in items for p in leaves(child, f"{path}.{key}" if path else str(key))]


def fuzz(examples: int):
    return settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


PATHS = leaves(tiny_config(Path("/nowhere")))
WORDS = st.sampled_from(["", "²", "0", "-1", "type", "_delete_", "__class__", "x", "items", "\0", "\n", "９", "a b", "\udcff", "'"])
KEYS = st.builds(
    lambda path, more: ".".join([path, *more]),
    st.sampled_from([*PATHS, *SECTIONS, "", "nothing"]),
    st.lists(WORDS, max_size=3),
)
TEXTS = st.one_of(
    st.sampled_from(
        [
            *("{[]:1}", "{1:2}", "{'type': []}", "[" * 200, "(" * 60 + ")" * 60, "-" * 3000 + "1", "1" * 5000, "1e308", "-1e308", "1e999"),
            *(
                "None",
                "True",
                "''",
                "'\\ud800'",
                "b'x'",
                "1j",
                "...",
                "{...}",
                "dict(",
                "dict(a=1)",
                str(2**63),
                str(-(2**63)),
                "0",
                "-0.0",
            ),
            *(
                "~",
                "~nobody-of-this-name",
                "a\0b",
                "x" * 5000,
                "'\\d'",
                "[[[[]]]]",
                "{'type': 'CLIP'}",
                "['Accuracy', 3]",
                "{'a': {'b': 1}}",
            ),
        ]
    ),
    st.text(max_size=20),
    st.integers().map(str),
    st.floats().map(repr),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
        max_leaves=6,
    ).map(repr),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "base.py"
    path.write_text(BASE, encoding="utf-8")
    return path


def held(make) -> None:
    """``make`` gives a config that survives its own text, or a message of lines that can be printed."""
    try:
        config = make()
    except ClipzooError as error:
        assert str(error).encode() and len(str(error)) < 100_000
        return
    plain = config.plain()
    text = config.dump()
    namespace: dict = {}
    exec(text, namespace)
    assert {key: value for key, value in namespace.items() if key != "__builtins__"} == plain
    with contextlib.suppress(ClipzooError):
        check(config)
    config.overridden(), config.dropped()


def overrides_hold(base, overrides):
    held(lambda: Config.load(base, overrides))


OVERRIDES = st.lists(st.builds(lambda key, text: f"{key}={text}", KEYS, TEXTS), min_size=1, max_size=3)


@fuzz(60)
@given(overrides=OVERRIDES)
@example(overrides=["model.x={[]:1}"])
@example(overrides=["hooks.²=1"])
@example(overrides=["train.x=" + "-" * 3000 + "1"])
def test_overrides_give_a_config_or_one_clear_line(base, overrides):
    overrides_hold(base, overrides)


@pytest.mark.slow
@fuzz(2000)
@given(overrides=OVERRIDES)
def test_2000_overrides(base, overrides):
    overrides_hold(base, overrides)


VALUES = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=3), st.just(object), st.just(1j)),
        st.just(5000).map(lambda digits: 10**digits),
        st.sampled_from([2**63, "\ud800", "a\0b", "x" * 5000, "~nobody-of-this-name"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(
            st.one_of(st.text(max_size=5), st.sampled_from(["type", "loss", "head", "lora"]), st.integers()), inner, max_size=3
        ),
    ),
    max_leaves=8,
)
SECTION_VALUES = st.dictionaries(st.sampled_from(SECTIONS), VALUES, min_size=1, max_size=4)


def values_hold(values):
    held(lambda: Config.from_dict({**tiny_config(Path("/nowhere")), **values}))


@fuzz(60)
@given(values=SECTION_VALUES)
def test_values_of_a_file_give_a_config_or_one_clear_line(values):
    values_hold(values)


@pytest.mark.slow
@fuzz(2000)
@given(values=SECTION_VALUES)
def test_2000_values_of_a_file(values):
    values_hold(values)


def content_holds(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed.py"
    path.write_bytes(content)
    held(lambda: Config.load(path))


CONTENTS = st.one_of(
    st.binary(max_size=60),
    st.text(alphabet="trainmodel =dict()[]{}'\"\\:.,0123-#\n\t\0é²", max_size=60).map(lambda text: text.encode()),
    st.tuples(st.integers(0, len(BASE) - 1), st.binary(max_size=3)).map(
        lambda cut: BASE.encode()[: cut[0]] + cut[1] + BASE.encode()[cut[0] + 1 :]
    ),
)


@fuzz(60)
@given(content=CONTENTS)
def test_bytes_of_a_file_give_a_config_or_one_clear_line(tmp_path_factory, content):
    content_holds(tmp_path_factory, content)


@pytest.mark.slow
@fuzz(2000)
@given(content=CONTENTS)
def test_2000_contents_of_a_file(tmp_path_factory, content):
    content_holds(tmp_path_factory, content)
