"""Imports go downwards only, and in no circle. Read from the source, so that nothing needs to be installed."""

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "clipzoo"
# A wing imports from the lines above its own; those of one line do not know each other. The table in docs/architecture.md says the same.
HOUSE = (
    ("errors", "commands", "signals", "balance", "text", "files", "structures", "text_tables", "watching", "lean_imports"),
    ("config", "registries"),
    ("records",),
    ("statistics",),
    ("datasets", "models", "metrics", "probes", "optim", "pictures"),
    ("scoring",),
    ("runtime",),
    ("features",),
    ("engine",),
    ("hooks",),
    ("inference",),
    ("explain",),
    ("baselines", "fewshot", "grid", "planning", "doctor"),
    ("report", "serving"),
    ("cli",),
)
STOREY = {wing: storey for storey, wings in enumerate(HOUSE) for wing in wings}
TOGETHER = HOUSE[:2]  # words and config are each one wing of several modules
WORDS = {wing for wings in HOUSE[:4] for wing in wings}
MOST_LINES, MOST_FILES = 400, 16
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Dotted, as it is imported."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


@cache
def imports(path: Path, *, lazy: bool = True) -> frozenset[str]:
    """Absolute names of what a file imports, except for type checkers; ``lazy=False`` leaves out imports inside functions."""
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
    return frozenset(names)


def wing_of(name: str) -> str:
    """The module or package directly below clipzoo that a dotted name belongs to; empty for clipzoo itself."""
    return name.split(".")[1] if "." in name else ""


def modules_imported(path: Path) -> set[str]:
    """Those of this package. Of ``from clipzoo.a import b`` it is ``clipzoo.a.b`` where that is a module, and ``clipzoo.a`` elsewhere."""
    names = {name for name in imports(path) if name.startswith("clipzoo.")}
    found = {name for name in names if name in MODULES}
    parents = {name.rpartition(".")[0] for name in names if name in MODULES}
    only_a_way = {p for p in parents if all(name in MODULES for name in names if name.rpartition(".")[0] == p)}
    return (found | {name.rpartition(".")[0] for name in names if name not in MODULES} & MODULES.keys()) - only_a_way


def test_the_house_is_the_one_that_is_described():
    assert {wing_of(name) for name in MODULES} - {""} == STOREY.keys()


@pytest.mark.parametrize("wing", STOREY)
def test_no_wing_imports_upwards(wing):
    """Nor from its own storey, except within words and config."""
    wrong = [
        f"{name} imports {used}"
        for name, path in MODULES.items()
        if wing_of(name) == wing
        for used in sorted(modules_imported(path))
        if wing_of(used) not in (wing, "")
        and not (STOREY[wing_of(used)] < STOREY[wing] or any({wing, wing_of(used)} <= set(together) for together in TOGETHER))
    ]
    assert not wrong


def test_no_circle_among_modules():
    """Imports inside functions included."""
    graph = {name: modules_imported(path) - {name} for name, path in MODULES.items()}
    while True:
        leaves = {name for name, used in graph.items() if not used}
        if not leaves:
            break
        graph = {name: used - leaves for name, used in graph.items() if name not in leaves}
    assert not graph, "each of these imports another of them"


def test_the_table_in_the_docs_is_the_house():
    """Row by row, from the top."""
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## How data flows")[0]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert [{name.removesuffix("/").removesuffix(".py") for name in re.findall("`([^`]+)`", row)} for row in rows] == [
        *map(set, reversed(HOUSE))
    ]


def test_every_folder_says_what_it_is_for():
    for path in FILES:
        if path.name == "__init__.py":
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            assert len(text.splitlines()[0]) > 10, path


def test_files_and_folders_are_short():
    long = {name: n for name, path in MODULES.items() if (n := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES}
    assert not long
    folders = {folder: len(list(folder.glob("*.py"))) for folder in {path.parent for path in FILES}}
    assert not {folder: n for folder, n in folders.items() if n > MOST_FILES and folder.name != "cli"}  # a module for every command


@pytest.mark.parametrize("path", [path for name, path in MODULES.items() if wing_of(name) in WORDS], ids=lambda p: p.name)
def test_words_need_only_numpy_addict_and_annotated_types(path):
    """And the standard library; inside functions, torch in structures and scipy in statistics."""
    allowed = {*sys.stdlib_module_names, "numpy", "addict", "annotated_types", "clipzoo"}
    assert {name.split(".")[0] for name in imports(path, lazy=False)} <= allowed
    inside = {name.split(".")[0] for name in imports(path)} - allowed
    assert inside <= {"structures": {"torch"}, "statistics": {"scipy", "cleanlab"}}.get(wing_of(name_of(path)), set())


def test_few_modules_know_data_and_model():
    both = {name for name, path in MODULES.items() if {"datasets", "models"} <= {wing_of(used) for used in modules_imported(path)}}
    assert {name for name in both if wing_of(name) != "cli"} <= {
        "clipzoo.engine.build",
        "clipzoo.features.dataset",
        "clipzoo.inference.files",
        "clipzoo.baselines.towers",
        "clipzoo.inference.model",
    }


def test_a_model_is_asked_through_what_it_declares():
    """Above models nobody looks whether a model happens to have an attribute: ``Model`` says what there may be."""
    probed = []
    for name, path in MODULES.items():
        if STOREY.get(wing_of(name), 0) <= STOREY["models"]:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("hasattr", "getattr"):
                if ast.unparse(node.args[0]).split(".")[-1] in ("net", "model"):
                    probed.append(f"{name}:{node.lineno} {ast.unparse(node)}")
    assert not probed


def test_one_module_reads_and_writes_csv():
    """Whatever goes round it might not come back, or be a formula in a spreadsheet."""
    assert [path.name for path in FILES if "csv" in imports(path)] == ["text.py"]
