"""The page of promises names tests that exist, one or more for each of its lines."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PAGE = (TESTS.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([\w/]+\.py)::(test_\w+)`", PAGE)


def test_every_test_that_the_page_names_exists():
    files = {file: ast.parse((TESTS / file).read_text(encoding="utf-8")) for file in {file for file, _ in NAMED}}
    known = {(file, node.name) for file, tree in files.items() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert set(NAMED) <= known and len(NAMED) > 60


def test_every_line_names_a_test():
    rows = [line for line in PAGE.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row.split("|")[1]) for row in rows] == list(range(1, len(rows) + 1)) and len(rows) > 40
    assert all("::test_" in row for row in rows)
