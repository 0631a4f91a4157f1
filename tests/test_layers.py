"""Imports go one way: words, parts, run, command line. Read from the source, so that nothing needs to be installed."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "clipzoo"
PARTS = ("datasets", "models", "metrics", "optim", "hooks", "probes")
RUN = ("engine",)
DOORS = ("cli",)
FILES = sorted(PACKAGE.rglob("*.py"))


def unit(path: Path) -> str:
    """The module or package directly below clipzoo that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, *, lazy: bool = True) -> set[str]:
    """Absolute names of what a file imports, without what is for type checkers only; ``lazy=False`` leaves out imports inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        id(child)
        for node in ast.walk(tree)
        if (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        or (not lazy and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
        for child in ast.walk(node)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def units_imported(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("clipzoo.")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_go_one_way(path):
    own, used = unit(path), units_imported(path)
    if own in DOORS:
        return
    forbidden = set(DOORS)
    if own not in RUN:
        forbidden |= set(RUN)
        forbidden |= set(PARTS) - {own}
    if own == "__init__":
        return
    assert not used & forbidden, f"{own} must not import {sorted(used & forbidden)}"


@pytest.mark.parametrize("path", [p for p in FILES if unit(p) not in (*PARTS, *RUN, *DOORS)], ids=lambda p: p.name)
def test_words_need_only_numpy_addict_and_annotated_types(path):
    """Layer 0 imports the standard library, numpy, addict and annotated-types; torch only inside a method of structures."""
    allowed = {*sys.stdlib_module_names, "numpy", "addict", "annotated_types", "clipzoo"}
    assert {name.split(".")[0] for name in imports(path, lazy=False)} <= allowed
    inside = {name.split(".")[0] for name in imports(path)} - allowed
    assert inside <= ({"torch"} if path.name == "structures.py" else set())


def test_only_build_and_its_readers_know_data_and_model():
    both = {
        path.name
        for path in FILES
        if {"datasets", "models"} <= units_imported(path) and unit(path) not in DOORS
    }  # fmt: skip
    assert both <= {"build.py"}


def test_one_module_reads_and_writes_csv():
    """Whatever goes round it might not come back, or be a formula in a spreadsheet."""
    assert [path.name for path in FILES if "csv" in imports(path)] == ["text.py"]
