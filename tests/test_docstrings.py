"""The examples in docstrings say what the code does."""

import doctest
import importlib


def test_examples(repo):
    tried, failed = 0, []
    for path in sorted((repo / "clipzoo").rglob("*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            name = ".".join(path.relative_to(repo).with_suffix("").parts).removesuffix(".__init__")
            result = doctest.testmod(importlib.import_module(name))
            tried += result.attempted
            failed += [name] * bool(result.failed)
    assert not failed and tried > 80
