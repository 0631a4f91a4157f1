"""Work dirs by name, and what their configs say about them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clipzoo.records.json_records import read_plain
from clipzoo.records.results import Summary


def names_of(folders: Sequence[Path]) -> list[str]:
    """Short distinct names: the last part of each path, with the work dir's before a baseline's, and as many more as needed."""
    parts = [folder.resolve().parts for folder in folders]
    lengths = [3 if path[-2:-1] == ("baselines",) else 1 for path in parts]
    while True:
        names = ["/".join(path[-length:]).replace("/baselines/", "/") for path, length in zip(parts, lengths, strict=True)]
        folders_of = {name: {path for path, other in zip(parts, names, strict=True) if other == name} for name in names}
        twice = {name for name, found in folders_of.items() if len(found) > 1}
        longer = [i for i, name in enumerate(names) if name in twice and lengths[i] < len(parts[i])]
        if not longer:
            break
        for i in longer:
            lengths[i] += 1
    return [name if names.index(name) == i else f"{name} ({names[:i].count(name) + 1})" for i, name in enumerate(names)]


def deciding_metric(folder: Path, summary: Summary) -> str:
    """``evaluation.select`` of the run's config, or the default of its kind."""
    for place in (folder, folder.parent.parent):  # a baseline lies two folders below its work dir
        if (place / "config.json").exists():
            content = read_plain(place / "config.json", f"Restore it, or train again in a folder other than {place}")
            select = content.get("config", {}).get("evaluation", {}).get("select")
            if select in summary.pooled:
                return select
            break
    return "mean_auroc" if summary.findings else "balanced_accuracy" if summary.classes else "rsum"
