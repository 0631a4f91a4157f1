"""A report as text for the terminal and as JSON."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from clipzoo.doctor.check import Report
from clipzoo.doctor.findings import LEVELS, Finding
from clipzoo.files import make_folder, write_json, write_text
from clipzoo.text import visible
from clipzoo.text_tables import aligned

JSON_FILE, PAGE_FILE = "data_report.json", "data_report.html"
MOST_CASES = 1000  # of a finding, in the JSON file
_COLUMNS = ("name", "images", "groups", "unreadable", "in_pairs")
_SHOWN = 5  # of a finding, on the terminal


def text(report: Report) -> str:
    """The report for a terminal: facts, one row per class, and the findings with their first images."""
    words = report.words
    lines = [f"{label}: {value}" for label, value in report.lines]
    if report.table:
        lines += ["", aligned(header(report), report.table)]
    lines.append("")
    for finding in report.findings:
        lines.append(f"{words(finding.level)}: {visible(finding.what)}  [{finding.check}]")
        lines += [f"    {case}" for case in _cases(report, finding)]
    lines += [] if report.findings else [words("nothing")]
    return "\n".join([*lines, "", counts(report)])


def header(report: Report) -> list[str]:
    """Column names of ``Report.table``."""
    return [report.words(key) for key in ("class", "images", "groups", "unreadable_column", "repeated_column")]


def counts(report: Report) -> str:
    """The number of findings of every level."""
    found = Counter(finding.level for finding in report.findings)
    return report.words("counts", **{f"{level}s": found[level] for level in LEVELS})


def _cases(report: Report, finding: Finding) -> list[str]:
    lines = []
    for case in finding.cases[:_SHOWN]:
        names = " = ".join(visible(report.facts[row].id) for row in case.rows)
        lines.append(f"{names}: {visible(case.detail)}" if case.detail else names)
    if len(finding.cases) > _SHOWN:
        lines.append(report.words("more", n=len(finding.cases) - _SHOWN, file=JSON_FILE))
    return lines


def plain(report: Report) -> dict:
    """The content of ``data_report.json``. Names are as they are, and may contain anything."""
    found = Counter(finding.level for finding in report.findings)
    return {
        "version": 1,
        "config": report.name,
        "counts": {level: found[level] for level in LEVELS},
        "facts": dict(report.lines),
        "classes": [dict(zip(_COLUMNS, (row[0], *map(int, row[1:])), strict=True)) for row in report.table],
        "findings": [
            {
                "level": finding.level,
                "check": finding.check,
                "what": finding.what,
                "num_cases": len(finding.cases),
                "cases": [
                    {"images": [report.facts[row].id for row in case.rows], "detail": case.detail} for case in finding.cases[:MOST_CASES]
                ],
            }
            for finding in report.findings
        ],
    }


def write(report: Report, folder: Path, page: str) -> None:
    """Write the JSON file and the page.

    Raises:
        DataError: They cannot be written.
    """
    make_folder(folder)
    write_json(folder / JSON_FILE, plain(report))
    write_text(folder / PAGE_FILE, page)
