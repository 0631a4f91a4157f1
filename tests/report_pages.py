"""Drawn runs with ordinary and hostile names, and the pages of their reports."""

from __future__ import annotations

import json
from pathlib import Path

from run_files import table_of, write_run

from clipzoo.records.tables import PredictionTable
from clipzoo.report.content.records import RunRecords
from clipzoo.report.content.whole import comparison_content, run_content
from clipzoo.report.page import comparison_page, run_page
from clipzoo.report.pictures import Pictures
from clipzoo.report.words import Words

HOSTILE = ("<script>alert(1)</script>", "\u202egnp.exe", "=cmd|' /C calc'!A0", "长" * 300)


def hostile_table() -> PredictionTable:
    """Names that want to be markup, change the direction of text, be formulas, or be long."""
    table = table_of(right=0.7)
    ids = list(table.case_ids)
    for name, row in zip(HOSTILE, range(0, len(ids), 2), strict=False):  # the worst mistakes, of one patient each, which are shown
        ids[row] = name
        table.probabilities[row] = [0.001, 0.999] if table.labels[row] == 0 else [0.999, 0.001]
    return PredictionTable(HOSTILE[:2], tuple(ids), table.groups, table.folds, table.labels, table.probabilities)


def contents_of(root: Path) -> dict[str, dict]:
    """The contents of the reports of runs made in ``root``, as read from JSON: ``plain``, ``hostile``, ``other``, and ``both`` compared."""
    write_run(root / "plain", table_of())
    write_run(root / "hostile", hostile_table())
    write_run(root / "other", table_of(right=0.6, seed=3))
    records = {name: RunRecords.read(root / name, name) for name in ("plain", "hostile", "other")}
    both = json.loads(json.dumps(comparison_content([records["plain"], records["other"]])))
    return {**{name: json.loads(json.dumps(run_content(run))) for name, run in records.items()}, "both": both}


def page_of(content: dict, language: str = "en") -> str:
    """The page, without pictures."""
    kind = comparison_page if "leaderboard" in content else run_page
    return kind(content, Words(language), Pictures(None))
